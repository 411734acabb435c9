"""Whom workloads ask for names, and what becomes of their UDP sockets: the proxy's names listeners are played here too."""
import socket
import struct
import time

from play import MESH_SOL, LISTENER, PURPOSE, accepted_info, attempt, beat, enter, packed, results, tcp, text

NAMES, QUESTION = 4, 5
RESOLVER, RESOLVER6 = ("192.0.2.53", 53), ("2001:db8::53", 53)


def udp(family=socket.AF_INET, address=None):
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.settimeout(2)
    if address:
        made.bind(address)
    return made


def names_listener(address, family=socket.AF_INET):
    made = udp(family, address)
    made.setsockopt(MESH_SOL, PURPOSE, struct.pack("II", LISTENER, 0))
    beat(made)
    return made


def endpoint(address):
    return packed(address[0]) + struct.pack("!H", address[1]) + b"\0\0"


def question(listener, client):
    """Who sent what came from `client`, and whom it meant."""
    listener.setsockopt(MESH_SOL, QUESTION, endpoint(client) + endpoint(listener.getsockname()) + bytes(4))
    raw = listener.getsockopt(MESH_SOL, QUESTION, 28)
    return {"workload": struct.unpack_from("I", raw, 4)[0], "destination": text(raw[8:24]),
            "port": struct.unpack_from("!H", raw, 24)[0]}


def answered(name, client, listener, send):
    """Sends by `send`, answers as the proxy would, and tells what both sides see."""
    results[name] = {"errno": attempt(send)}
    if results[name]["errno"]:
        return
    data, sender = listener.recvfrom(100)
    results[name].update(question(listener, sender))
    listener.sendto(data, sender)
    _, source = client.recvfrom(100)
    results[name]["accept"] = list(source[:2])


def asking(listener4, listener6):
    for name, family, resolver, listener, only6 in [
        ("asks", socket.AF_INET, RESOLVER, listener4, False),
        ("asks_ipv6", socket.AF_INET6, RESOLVER6, listener4, False),
        ("asks_ipv6_only", socket.AF_INET6, RESOLVER6, listener6, True),
        ("asks_mapped", socket.AF_INET6, ("::ffff:192.0.2.53", 53), listener4, False),
        ("asks_loopback", socket.AF_INET, ("127.0.0.53", 53), listener4, False),
    ]:
        client = udp(family)
        if only6:
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        client.connect(resolver)
        answered(name, client, listener, lambda c=client: c.send(b"?"))
        results[name].update(peer=list(client.getpeername()[:2]), own=client.getsockname()[0])
        client.close()
        if name != "asks_mapped":
            client = udp(family)
            target = listener6 if family == socket.AF_INET6 else listener4
            answered(name + "_unconnected", client, target, lambda c=client, r=resolver: c.sendto(b"?", r))
            client.close()


def scope(listener4):
    enter("sockets")
    dials = []
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        made = socket.socket(socket.AF_INET, kind)
        made.settimeout(1)
        made.setsockopt(MESH_SOL, PURPOSE, struct.pack("II", NAMES, 0))
        dials.append(made)
    enter("w1")
    results["names_dial"] = attempt(lambda: dials[0].connect(("127.0.0.53", 53)))
    results["names_dial_elsewhere"] = attempt(lambda: dials[0].connect(("127.0.0.54", 53)))
    results["names_dial_other_port"] = attempt(lambda: dials[0].connect(("127.0.0.53", 54)))
    results["names_stream_elsewhere"] = attempt(lambda: dials[1].connect(("127.0.0.54", 53)))
    # Nothing listens there: the kernel's own answer, not ours.
    results["names_stream"] = attempt(lambda: dials[1].connect(("127.0.0.53", 53)))
    results["listener_to_stranger"] = attempt(lambda: listener4.sendto(b"!", ("127.0.0.1", 9)))


def refusals(listener4):
    enter("w2")
    foreign = udp()
    enter("w1")
    results["names_socket_of_another"] = attempt(lambda: foreign.connect(RESOLVER))
    results["names_listener_called"] = attempt(lambda: udp().sendto(b"?", ("127.77.0.1", 15053)))
    results["names_port_bound"] = attempt(lambda: udp().bind(("0.0.0.0", 15055)))
    results["datagram_to_service"] = attempt(lambda: udp().sendto(b"?", ("10.96.0.1", 80)))
    client = udp()
    for number in range(2):
        results[f"names_resolver_{number}"] = attempt(lambda n=number: client.sendto(b"?", (f"192.0.2.{n + 1}", 53)))
    listener4.recvfrom(100)
    enter("w3")
    results["names_not_ready"] = attempt(lambda: udp().connect(RESOLVER))
    enter("outside")
    stranger = udp()
    stranger.sendto(b"?", ("127.77.0.1", 15053))
    listener4.settimeout(0.3)
    try:
        listener4.recvfrom(100)
        results["unasked_came"] = 1
    except TimeoutError:
        results["unasked_came"] = 0
    listener4.settimeout(2)
    enter("w1")


def virtual():
    for name, family, target in [("virtual", socket.AF_INET, ("10.96.0.1", 80)),
                                 ("virtual_ipv6", socket.AF_INET6, ("fd96::1", 80))]:
        client = udp(family)
        results[name] = {"errno": attempt(lambda c=client, t=target: c.connect(t))}
        results[name].update(peer=list(client.getpeername()[:2]), own=client.getsockname()[0])
        client.send(b"?")
        results[name + "_answer"] = attempt(lambda c=client: c.recv(1))
        client.close()


def by_tcp(listener4):
    client = tcp()
    results["asks_tcp"] = {"errno": attempt(lambda: client.connect(("127.0.0.53", 53)))}
    connection, _ = listener4.accept()
    results["asks_tcp"].update(accepted_info(connection), peer=client.getpeername()[0])
    connection.close()
    client.close()


def without_the_proxy():
    time.sleep(2.6)
    results["names_stale"] = attempt(lambda: udp().connect(RESOLVER))
    enter("w4")
    client = udp()
    results["names_failed_open"] = {"errno": attempt(lambda: client.connect(("10.9.0.1", 53))),
                                    "peer": client.getpeername()[0]}
    enter("w1")


def play(capture_listener):
    """Ends with stale names listeners and in w1."""
    enter("sockets")
    listener4 = names_listener(("127.77.0.1", 15053))
    listener6 = names_listener(("::1", 15053), socket.AF_INET6)
    enter("w1")
    asking(listener4, listener6)
    scope(listener4)
    beat(listener4)
    refusals(listener4)
    virtual()
    beat(capture_listener)
    by_tcp(capture_listener)
    without_the_proxy()
    listener4.close()
    results["names_no_listener"] = attempt(lambda: udp().connect(RESOLVER))
    listener6.close()
