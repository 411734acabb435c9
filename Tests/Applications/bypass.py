#!/usr/bin/python3
"""Tries to get around the mesh in one way: bypass.py WAY HOST PORT [CGROUP…]. Prints one JSON object: what the kernel
said, which local port the connection has, and the first line of the answer to an HTTP request, if any came."""
import ctypes
import errno
import json
import mmap
import os
import socket
import struct
import sys
import time

MPTCP, SCTP, UDP_LITE = 262, 132, 136
libc = ctypes.CDLL(None, use_errno=True)


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def stream(host, protocol=0):
    made = socket.socket(family(host), socket.SOCK_STREAM, protocol)
    made.settimeout(4)
    return made


def ask(connection, result):
    """What answers, if anything does."""
    result["port"] = connection.getsockname()[1]
    result["peer"] = connection.getpeername()[0]
    connection.sendall(b"GET /ok HTTP/1.0\r\n\r\n")
    answer = connection.recv(200)
    result["answer"] = answer.split(b"\r\n")[0].decode(errors="replace")


def plainly(host, port, result, protocol=0, prepare=lambda made: None):
    made = stream(host, protocol)
    prepare(made)
    made.connect((host, port))
    ask(made, result)


def mapped(host, port, result):
    plainly("::ffff:" + host if ":" not in host else host, port, result)


def marked(host, port, result):
    plainly(host, port, result, prepare=lambda made: made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x4D53))


def device(host, port, result):
    name = next(name for _, name in socket.if_nameindex() if name != "lo")
    plainly(host, port, result, prepare=lambda made: made.setsockopt(
        socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0"))


def fast_open(host, port, result):
    made = stream(host)
    made.settimeout(None)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 4, 0))
    made.sendto(b"GET /ok HTTP/1.0\r\n\r\n", socket.MSG_FASTOPEN, (host, port))
    result["port"] = made.getsockname()[1]
    result["answer"] = made.recv(200).split(b"\r\n")[0].decode(errors="replace")


def sockaddr(host, port):
    if family(host) == socket.AF_INET:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
    return (struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0) + socket.inet_pton(socket.AF_INET6, host) +
            bytes(4))


class Ring:
    """io_uring with one entry, by the bare system calls: setup 425, enter 426."""

    def __init__(self):
        parameters = ctypes.create_string_buffer(120)
        self.descriptor = libc.syscall(425, 1, parameters)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "io_uring_setup")
        words = struct.unpack_from("30I", parameters.raw)
        self.sq = dict(zip(("head", "tail", "mask", "entries", "flags", "dropped", "array"), words[10:17]))
        self.cq = dict(zip(("head", "tail", "mask", "entries", "overflow", "cqes"), words[20:26]))
        size = max(self.sq["array"] + 4 * words[0], self.cq["cqes"] + 16 * words[1])
        self.ring = mmap.mmap(self.descriptor, size, offset=0)
        self.entries = mmap.mmap(self.descriptor, 64 * words[0], offset=0x10000000)

    def word(self, offset, value=None):
        if value is not None:
            struct.pack_into("I", self.ring, offset, value)
        return struct.unpack_from("I", self.ring, offset)[0]

    def run(self, opcode, descriptor, offset, address=0, length=0):
        self.entries[0:64] = struct.pack("=BBHiQQIIQ", opcode, 0, 0, descriptor, offset, address, length, 0, 1) + bytes(24)
        tail = self.word(self.sq["tail"])
        self.word(self.sq["array"] + 4 * (tail & self.word(self.sq["mask"])), 0)
        self.word(self.sq["tail"], tail + 1)
        if libc.syscall(426, self.descriptor, 1, 1, 1, None, 0) < 0:
            raise OSError(ctypes.get_errno(), "io_uring_enter")
        head = self.word(self.cq["head"])
        _, code, _ = struct.unpack_from("=QiI", self.ring, self.cq["cqes"] + 16 * (head & self.word(self.cq["mask"])))
        self.word(self.cq["head"], head + 1)
        if code < 0:
            raise OSError(-code, os.strerror(-code))
        return code


def io_uring(host, port, result):
    made = stream(host)
    made.setblocking(True)
    address = ctypes.create_string_buffer(sockaddr(host, port))
    Ring().run(16, made.fileno(), len(address) - 1, ctypes.addressof(address))  # IORING_OP_CONNECT
    made.settimeout(4)
    ask(made, result)


def io_uring_socket(host, port, result):
    """A raw socket by IORING_OP_SOCKET."""
    made = Ring().run(45, socket.AF_INET, socket.SOCK_RAW, length=socket.IPPROTO_RAW)
    result["descriptor"] = made


def raw(host, port, result):
    """A SYN of one's own making."""
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    segment = struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 5 << 4, 2, 1024, 0, 0)
    made.sendto(segment, (host, 0))


def packet(host, port, result):
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    result["descriptor"] = made.fileno()
    time.sleep(port if port < 60 else 0)


def datagram(host, port, result):
    made = socket.socket(family(host), socket.SOCK_DGRAM)
    made.sendto(b"plain", (host, port))


def bind_port(host, port, result):
    stream(host).bind((host, port))


def autobind(host, port, result):
    """listen() without bind(): the kernel chooses; none of the mesh's may be among them."""
    made = [stream(host) for _ in range(500)]
    for each in made:
        each.listen(1)
    result["taken"] = sorted({each.getsockname()[1] for each in made} & {15001, 15006, 15008, 15053})


def enter(cgroup):
    with open(cgroup + "/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))


def other_cgroup(host, port, result):
    """Leaves the workload's cgroup and connects with a socket that was made in it."""
    carried = stream(host)
    enter(sys.argv[4])
    carried.connect((host, port))
    ask(carried, result)


def brought_in(host, port, result):
    """The other way round: a socket that was made in the first cgroup is connected in the second."""
    enter(sys.argv[4])
    made = stream(host)
    enter(sys.argv[5])
    made.connect((host, port))
    ask(made, result)


def serve(host, port, result):
    """Listens in the first cgroup, answers in the others: a listener that is given to them."""
    cgroups = sys.argv[4:]
    if cgroups:
        enter(cgroups[0])
    listener = socket.create_server((host, port), family=family(host))
    for cgroup in cgroups[1:]:
        enter(cgroup)
    print(json.dumps({"outcome": "listening"}), flush=True)
    listener.settimeout(60)
    held = []
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        held.append(connection)


def moved(host, port, result):
    """Was in the first cgroup, with a connection of its own, before it came to the second."""
    enter(sys.argv[4])
    plainly(host, port, {})
    enter(sys.argv[5])
    plainly(host, port, result)


def hold(host, port, result):
    """Connects in the first cgroup, enters the others, and sends until something ends that, for half a minute at most.
    Says on a line of its own when it is connected."""
    cgroups = sys.argv[4:]
    if cgroups:
        enter(cgroups[0])
    made = stream(host)
    made.connect((host, port))
    print(json.dumps({"outcome": "connected", "port": made.getsockname()[1]}), flush=True)
    for cgroup in cgroups[1:]:
        enter(cgroup)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        made.sendall(b"x")
        time.sleep(0.1)


def own_namespace(host, port, result):
    libc.unshare(0x40000000)  # CLONE_NEWNET
    os.system("ip link set lo up")
    plainly(host, port, result)


WAYS = {
    "plainly": plainly, "mapped": mapped, "mark": marked, "device": device, "fast-open": fast_open, "raw": raw,
    "mptcp": lambda host, port, result: plainly(host, port, result, MPTCP), "io_uring": io_uring,
    "sctp": lambda host, port, result: plainly(host, port, result, SCTP), "packet": packet, "datagram": datagram,
    "udp-lite": lambda host, port, result: socket.socket(family(host), socket.SOCK_DGRAM, UDP_LITE),
    "bind": bind_port, "autobind": autobind, "other-cgroup": other_cgroup, "brought-in": brought_in, "moved": moved, "serve": serve,
    "namespace": own_namespace, "hold": hold,
    "io_uring-raw": io_uring_socket,
}


def main():
    way, name, port = sys.argv[1:4]
    host = socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)[0][4][0]
    result = {"outcome": "passed"}
    try:
        WAYS[way](host, int(port), result)
    except TimeoutError:
        result["outcome"] = "silence"
    except OSError as error:
        result["outcome"] = errno.errorcode.get(error.errno, str(error))
    print(json.dumps(result), flush=True)


main()
