#!/usr/bin/python3
"""UDP as applications use it with resolvers and with addresses of the mesh. `names_client.py SCENE ARGUMENT…` prints one
JSON value; what a call was refused with is its errno's name."""
import errno
import json
import socket
import struct
import sys
import time


def query(name, kind=1, number=0x4d53):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)


def udp(address):
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(5)
    return made


def attempt(body):
    """What it returns, or the name of its errno."""
    try:
        return body()
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode[error.errno]


def answered(answer, number):
    """The answer's code and number of records; None for what answers another question."""
    got, flags, _, records = struct.unpack_from("!4H", answer)
    return [flags & 0xF, records] if got == number else None


def several(name, *resolvers):
    """One unconnected socket asks all resolvers, then hears them: by resolver, whom the answer came from."""
    made = udp(resolvers[0])
    for number, resolver in enumerate(resolvers):
        sent = attempt(lambda n=number, r=resolver: made.sendto(query(name, number=n + 1), (r, 53)))
        if isinstance(sent, str):
            return {"refused": resolver, "with": sent}
    heard = {}
    for _ in resolvers:
        answer, sender = made.recvfrom(2048)
        resolver = resolvers[struct.unpack_from("!H", answer)[0] - 1]
        heard[resolver] = {"from": sender[0], "port": sender[1], "answer": answered(answer, struct.unpack_from("!H", answer)[0])}
    return heard


def connected(name, resolver):
    """A and AAAA over one connected socket, as glibc asks them; who the peer seems to be."""
    made = udp(resolver)
    made.connect((resolver, 53))
    made.send(query(name, 1, 1))
    made.send(query(name, 28, 2))
    answers = {}
    for _ in range(2):
        answer = made.recv(2048)
        number = struct.unpack_from("!H", answer)[0]
        answers[number] = answered(answer, number)
    return {"peer": made.getpeername()[0], "port": made.getpeername()[1], "own": made.getsockname()[0],
            "answers": [answers[1], answers[2]]}


def virtual(address):
    """What connecting and sending to a virtual address gives."""
    made = udp(address)
    facts = {"connect": attempt(lambda: made.connect((address, 80))), "peer": made.getpeername()[0],
             "own": made.getsockname()[0]}
    made.send(b"?")
    facts["answer"] = attempt(lambda: made.recv(1))
    facts["sendto"] = attempt(lambda: udp(address).sendto(b"?", (address, 80)))
    return facts


def mesh_ports():
    """Nobody speaks to the mesh's listeners by themselves, or takes their place."""
    return {
        "sendto": attempt(lambda: udp("127.0.0.1").sendto(query("web"), ("127.77.0.1", 15053))),
        "connect": attempt(lambda: udp("127.0.0.1").connect(("127.77.0.1", 15053))),
        "sendto6": attempt(lambda: udp("::1").sendto(query("web"), ("::1", 15056))),
        "bind": attempt(lambda: udp("127.0.0.1").bind(("127.0.0.1", 15053))),
    }


def exchange(how, address, port, count):
    """Datagrams of 100 bytes, echoed one by one: how many went and came, or the errno."""
    made = udp(address)
    target = (address, int(port))
    if how == "connected":
        refused = attempt(lambda: made.connect(target))
        if refused:
            return refused
    came = 0
    for _ in range(int(count)):
        sent = attempt(lambda: made.send(b"x" * 100) if how == "connected" else made.sendto(b"x" * 100, target))
        if isinstance(sent, str):
            return sent
        came += attempt(lambda: made.recvfrom(200)[0]) == b"x" * 100
    return [int(count), came]


def knock(address, port):
    """One datagram over a connected socket: `answered`, or the errno of who hears that nobody takes it."""
    made = udp(address)
    made.connect((address, int(port)))
    refused = attempt(lambda: made.send(b"x" * 100)) != 100
    answer = "refused" if refused else attempt(lambda: made.recv(200))
    return "answered" if answer == b"x" * 100 else answer


def keep_knocking(address, port):
    """Ten a second over one socket, for 30 s at most: how many were answered until one was not, and what became of that."""
    made = udp(address)
    made.settimeout(1)
    made.connect((address, int(port)))
    for count in range(300):
        sent = attempt(lambda: made.send(b"x" * 100))
        answer = attempt(lambda: made.recv(200)) if sent == 100 else sent
        if answer != b"x" * 100:
            return [count, answer]
        time.sleep(0.1)
    return [300, "answered"]


SCENES = {"knock": knock, "keep_knocking": keep_knocking, "exchange": exchange, "several": several, "connected": connected, "virtual": virtual, "mesh_ports": mesh_ports}
print(json.dumps(SCENES[sys.argv[1]](*sys.argv[2:])))
