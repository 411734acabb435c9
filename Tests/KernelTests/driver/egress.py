"""What workloads may send to destinations outside the mesh: w6's egress is listed, w7's denied, both are fenced; w8 may
have raw sockets. The server outside has 10.7.0.7 to 10.7.0.9, 10.8.0.9, 10.8.1.9 and fd98::9."""
import socket
import struct

from play import SERVICE, accepted_info, attempt, enter, listen, receive_all, results, tcp

UDP_LITE = 136
SCTP = 132
MPTCP = 262
OUTSIDE = ("10.8.0.9", 9000)


def connected(target, family=socket.AF_INET, protocol=0, prepare=None):
    client = socket.socket(family, socket.SOCK_STREAM, protocol)
    client.settimeout(3)
    if prepare:
        prepare(client)
    code = attempt(lambda: client.connect(target))
    client.close()
    return code


def sent(target, family=socket.AF_INET):
    client = socket.socket(family, socket.SOCK_DGRAM)
    code = attempt(lambda: client.sendto(b"datagram", target))
    client.close()
    return code


def fast_open():
    client = tcp()
    client.settimeout(None)
    code = attempt(lambda: client.sendto(b"early", socket.MSG_FASTOPEN, OUTSIDE))
    client.close()
    return code


def mark(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x77)


def bind_to_device(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")


def denied():
    enter("w7")
    results["denied"] = connected(OUTSIDE)
    results["denied_mapped"] = connected(("::ffff:10.8.0.9", 9000), socket.AF_INET6)
    results["denied_ipv6"] = connected(("fd98::9", 9000), socket.AF_INET6)
    results["denied_mptcp"] = connected(OUTSIDE, protocol=MPTCP)
    results["denied_fast_open"] = fast_open()
    results["denied_mark"] = connected(OUTSIDE, prepare=mark)
    results["denied_device"] = connected(OUTSIDE, prepare=bind_to_device)
    results["denied_datagram"] = sent(OUTSIDE)
    results["denied_loopback"] = connected(("127.0.0.1", 9000))
    results["denied_loopback_datagram"] = sent(("127.0.0.1", 9000))


def listed():
    enter("w6")
    results["listed_any_port"] = connected(OUTSIDE)
    results["listed_longer_prefix"] = connected(("10.8.1.9", 9000))
    results["listed_ipv6_port"] = connected(("fd98::9", 9001), socket.AF_INET6)
    results["not_listed_ipv6_port"] = connected(("fd98::9", 9000), socket.AF_INET6)
    results["listed_mapped"] = connected(("::ffff:10.8.0.9", 9000), socket.AF_INET6)
    results["listed_everything6"] = connected(("fd98::9", 9003), socket.AF_INET6)
    results["not_listed_ipv4"] = connected(("10.7.0.9", 9003))
    results["not_listed"] = connected(("10.7.0.9", 9000))
    results["expired"] = connected(("10.7.0.8", 9000))
    results["not_expired"] = connected(("10.7.0.7", 9000))
    results["listed_datagram"] = sent(OUTSIDE)
    results["listed_datagram_ipv6_port"] = sent(("fd98::9", 9001), socket.AF_INET6)
    results["not_listed_datagram"] = sent(("10.7.0.9", 9000))
    results["not_listed_datagram_ipv6"] = sent(("fd98::9", 9000), socket.AF_INET6)


def own_business(outside):
    """A fenced workload that serves, and that calls itself."""
    enter("w7")
    server = listen(("10.9.0.7", 8087))
    for name, cgroup in (("own_address", "w7"), ("from_outside", "outside")):
        enter(cgroup)
        client = tcp()
        client.connect(("10.9.0.7", 8087))
        connection, _ = server.accept()
        results[name] = attempt(lambda c=connection, d=client: (c.sendall(b"answer"), receive_all(d, 6)))
        connection.close()
        client.close()
    server.close()
    enter("w6")
    client = tcp()
    client.connect(OUTSIDE)
    connection, _ = outside.accept()
    connection.settimeout(3)
    results["listed_bytes"] = attempt(lambda: (client.sendall(b"question"), receive_all(connection, 8)))
    connection.close()
    client.close()


def other_sockets():
    for cgroup in ("w1", "w3", "w6", "w8"):
        enter(cgroup)
        for name, kind, protocol in (("raw", socket.SOCK_RAW, 255), ("sctp", socket.SOCK_STREAM, SCTP),
                                     ("lite", socket.SOCK_DGRAM, UDP_LITE),
                                     ("ping", socket.SOCK_RAW, socket.IPPROTO_ICMP)):
            results[f"{name}_{cgroup}"] = attempt(lambda k=kind, p=protocol: socket.socket(socket.AF_INET, k, p).close())
    enter("w1")
    carried = tcp()
    enter("outside")
    results["carried_out"] = attempt(lambda: carried.connect(OUTSIDE))
    carried.close()


def names_of_mptcp(listener):
    enter("w1")
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
    client.connect(SERVICE)
    connection, _ = listener.accept()
    results["mptcp_names"] = {"peer": list(client.getpeername()), "own": client.getsockname()[0],
                              "destination": accepted_info(connection)["destination"]}
    connection.close()
    client.close()


def play(listener):
    enter("outside")
    outside = listen(("0.0.0.0", 9000))
    also = [listen(("fd98::9", port), socket.AF_INET6) for port in (9000, 9001, 9003)]
    also.append(listen(("10.7.0.9", 9003)))
    denied()
    listed()
    outside.close()
    enter("outside")
    outside = listen(("0.0.0.0", 9000))
    own_business(outside)
    other_sockets()
    names_of_mptcp(listener)
    for server in (outside, *also):
        server.close()
    enter("w1")


def older_connections():
    """Two made in w5 while that is no workload's, and one made outside, by their ports."""
    made = {}
    for port, cgroup in ((9100, "w5"), (9101, "w5"), (9102, "outside")):
        enter("outside")
        server = listen(("0.0.0.0", port))
        enter(cgroup)
        client = tcp()
        client.connect(("10.8.0.9", port))
        enter("outside")
        connection, _ = server.accept()
        results[f"older_before_{port}"] = attempt(
            lambda c=client, d=connection: (c.sendall(b"before"), receive_all(d, 6)))
        server.close()
        made[port] = client, connection
    enter("w1")
    return made


def older_connections_found(made):
    """w5 is a fenced workload now, and the connections to 9101 and 9102 were ended."""
    client, connection = made[9100]
    attempt(lambda: client.sendall(b"after"))
    connection.settimeout(1)
    try:
        results["older_after"] = len(connection.recv(5))
    except socket.timeout:
        results["older_after"] = 0
    for port in (9101, 9102):
        results[f"older_ended_{port}"] = attempt(lambda p=port: made[p][0].sendall(b"after"))
        results[f"older_peer_{port}"] = attempt(lambda p=port: made[p][1].recv(5))
    for client, connection in made.values():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        client.close()
