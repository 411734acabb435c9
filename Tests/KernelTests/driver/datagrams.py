"""Plays what DatagramTests tries: datagrams to workloads from nobody, answers to what they sent, and what they send themselves."""
import json
import os
import socket
import struct
import sys
import time

from play import ROOT, attempt, enter, results

IPV6_DESTINATION_OPTIONS = 59  # asm-generic/in6.h
PADDING = bytes([0, 0, 1, 4, 0, 0, 0, 0])
GROUP = "239.7.7.7"
STRICT, OPEN = ("10.9.0.1", 9101), ("10.9.0.1", 9103)
STRICT6, OPEN6 = ("fd99::1", 9101), ("fd99::1", 9103)
STRANGER, DENIED = "10.9.0.3", "10.9.0.6"
kept = []


def udp(name, address=None):
    """A socket that is made in this cgroup, bound where an address is given."""
    enter(name)
    made = socket.socket(socket.AF_INET6 if address and ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(0.4)
    kept.append(made)
    if address:
        made.bind(address)
    return made


def send(name, made, data, target):
    """As a process of this cgroup: 0 or the errno."""
    enter(name)
    return attempt(lambda: made.sendto(data, target))


def comes(receiver):
    """From whom the next datagram comes; 0: none does."""
    try:
        return {"accept": list(receiver.recvfrom(100)[1][:2])}
    except TimeoutError:
        return 0


def ask(client, server):
    """The errno of a connected client's question: 0 where it came to the server."""
    code = attempt(lambda: client.send(b"question"))
    if code == 0 and comes(server):
        return 0
    return code or attempt(lambda: client.recv(100)) or -1


def stranger(target, source=None):
    client = udp("outside", source)
    if not source and ":" in target[0]:
        client = udp("outside", ("::", 0))
    client.connect(target)
    return client


def from_outside():
    strict, strict6 = udp("w1", STRICT), udp("w1", STRICT6)
    results["strict"] = ask(stranger(STRICT), strict)
    results["strict6"] = ask(stranger(STRICT6), strict6)
    opened, opened6 = udp("w1", OPEN), udp("w1", OPEN6)
    client = stranger(OPEN, (STRANGER, 0))
    results["open"] = ask(client, opened)
    send("w1", opened, b"answer", client.getsockname())
    results["open_answer"] = attempt(lambda: client.recv(100))
    results["open6"] = ask(stranger(OPEN6), opened6)
    results["denied_source"] = ask(stranger(OPEN, (DENIED, 0)), opened)
    for name, target, server in (("options_strict", STRICT6, strict6), ("options_open", OPEN6, opened6)):
        client = stranger(target)
        client.setsockopt(socket.IPPROTO_IPV6, IPV6_DESTINATION_OPTIONS, PADDING)
        results[name] = ask(client, server)
    results["neighbour"] = ask_of("w2", STRICT, strict)
    results["itself"] = ask_of("w1", STRICT, strict)
    results["unbound_port"] = ask(stranger(("10.9.0.1", 9199)), strict)
    return strict, opened


def ask_of(name, target, server):
    """Not connected, so that its own hooks judge each; 0 where it came."""
    client = udp(name)
    code = attempt(lambda: client.sendto(b"question", target))
    if code == 0:
        return 0 if comes(server) else -1
    return code


def answers():
    server, other = udp("outside", (STRANGER, 9104)), udp("outside", (STRANGER, 9105))
    for name, own in (("unbound", None), ("bound", ("10.9.0.1", 9106))):
        client = udp("w1", own)
        client.sendto(b"question", server.getsockname())
        _, address = server.recvfrom(100)
        send("outside", server, b"answer", address)
        results[f"{name}_answer"] = comes(client)
        send("outside", other, b"unasked", address)
        results[f"{name}_unasked"] = comes(client)
    connected = udp("w1")
    connected.connect(server.getsockname())
    connected.send(b"question")
    _, address = server.recvfrom(100)
    send("outside", server, b"answer", address)
    results["connected_answer"] = comes(connected)


def loopback():
    server = udp("w1", ("127.0.0.1", 9107))
    results["loopback_itself"] = ask_of("w1", server.getsockname(), server)
    results["loopback_neighbour"] = ask_of("w2", server.getsockname(), server)
    results["loopback_outside"] = ask(stranger(server.getsockname()), server)
    return server


def multicast():
    membership = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton("127.0.0.1"))
    for name, port in (("strict", 9101), ("open", 9103)):
        receiver = udp("w1")
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        receiver.bind((GROUP, port))
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        sender = udp("outside", ("127.0.0.1", 0))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sender.sendto(b"to all", (GROUP, port))
        results[f"multicast_{name}"] = comes(receiver)


def fenced():
    """Workload 7 may reach nothing outside, but answers."""
    server = udp("w7", ("10.9.0.7", 9109))
    client = stranger(("10.9.0.7", 9109), (STRANGER, 0))
    client.send(b"question")
    _, address = server.recvfrom(100)
    results["fenced_answers"] = send("w7", server, b"answer", address)
    results["fenced_answer"] = attempt(lambda: client.recv(100))
    results["fenced_begins"] = send("w7", server, b"news", (STRANGER, 9104))


def pending():
    os.mkdir(f"{ROOT}/made-later")
    server = udp("made-later", ("10.9.0.1", 9110))
    results["marked_cgroup"] = ask(stranger(("10.9.0.1", 9110)), server)


def wait(name):
    print(name, flush=True)
    sys.stdin.readline()


first, served = from_outside()
pushed = stranger(OPEN, (STRANGER, 0))
results["pushed"] = ask(pushed, served)
answers()
alone = loopback()
multicast()
fenced()
pending()
older = udp("w5", ("10.9.0.2", 9111))
results["older_before"] = ask(stranger(("10.9.0.2", 9111)), older)
wait("workload 5, and 1 alone")
# Port 9103 is closed by now, and its server goes on sending to whom it served.
results["closed"] = ask(pushed, served)
results["push"] = send("w1", served, b"news", pushed.getsockname())
enter("outside")
results["push_comes"] = attempt(lambda: pushed.recv(100))
results["closed_after_push"] = ask(pushed, served)
time.sleep(1.1)  # a socket of nobody's is looked at once a second
client = stranger(("10.9.0.2", 9111))
client.send(b"question")
results["older_after"] = comes(older)
results["loopback_of_one_alone"] = ask(stranger(alone.getsockname()), alone)
results["address_of_one_alone"] = ask(stranger(STRICT), first)
for made in kept:
    made.close()
print(json.dumps(results), flush=True)
