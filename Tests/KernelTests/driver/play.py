"""The words that the scenes of KernelTests are written in: moving between cgroups, sockets, the mesh's socket options."""
import ctypes
import os
import socket
import struct
import sys

ROOT, PINS = sys.argv[1:3]
MESH_SOL, ACCEPTED, PRESENT, BEAT, PURPOSE = 0x4D53, 1, 2, 3, 4
BPF_SYSCALL = 280 if os.uname().machine == "aarch64" else 321
LISTENER, APPLICATION, TUNNEL = 1, 2, 3
SERVICE, SERVICE6 = ("10.96.0.1", 80), ("fd96::1", 80)
results = {}
socket.setdefaulttimeout(5)  # nothing here waits for long


def enter(name):
    with open(f"{ROOT}/{name}/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))


def attempt(body):
    """0, or the errno that the call gave."""
    try:
        body()
        return 0
    except OSError as error:
        return error.errno


def tcp(family=socket.AF_INET):
    made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(3)
    return made


def packed(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    raw = socket.inet_pton(family, address)
    return raw if len(raw) == 16 else b"\0" * 10 + b"\xff\xff" + raw


def text(raw):
    if raw[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def accepted_info(connection):
    raw = connection.getsockopt(MESH_SOL, ACCEPTED, 136)
    workload, = struct.unpack_from("I", raw, 4)
    pid, = struct.unpack_from("I", raw, 12)
    port, = struct.unpack_from("!H", raw, 92)
    return {"role": raw[1], "workload": workload, "pid_is_mine": pid == os.getpid(),
            "destination": text(raw[76:92]), "port": port, "source": text(raw[56:72]),
            "source_port": struct.unpack_from("!H", raw, 72)[0],
            "command": raw[104:120].rstrip(b"\0").decode()}


def disconnect(connection):
    """connect() with AF_UNSPEC: the socket is as new again."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.connect(connection.fileno(), bytes(16), 16) != 0:
        raise OSError(ctypes.get_errno(), "connect AF_UNSPEC")


def listen(address, family=socket.AF_INET, shared=False):
    made = tcp(family)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(address)
    made.listen(16)
    return made


def beat(listener, state=1):
    listener.setsockopt(MESH_SOL, BEAT, struct.pack("II", state, 0))


def mesh_listener(address, family=socket.AF_INET):
    made = listen(address, family)
    made.setsockopt(MESH_SOL, PURPOSE, struct.pack("II", LISTENER, 0))
    beat(made)
    return made


def dial(purpose, family=socket.AF_INET):
    enter("sockets")
    made = tcp(family)
    made.setsockopt(MESH_SOL, PURPOSE, struct.pack("II", purpose, 0))
    return made


def present(made, address, port):
    made.setsockopt(MESH_SOL, PRESENT, packed(address) + struct.pack("!H", port) + struct.pack("=HII", 0, 7, 1))


def map_put(name, key, value):
    """Writes a pinned map, as meshd does with descriptors that only it has."""
    libc = ctypes.CDLL(None, use_errno=True)
    path = ctypes.create_string_buffer(f"{PINS}/map_{name}".encode())
    get = struct.pack("=QII", ctypes.addressof(path), 0, 0)
    descriptor = libc.syscall(BPF_SYSCALL, 7, get, len(get))
    key, value = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    put = struct.pack("=IIQQQ", descriptor, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
    if descriptor < 0 or libc.syscall(BPF_SYSCALL, 2, put, len(put)) != 0:
        raise OSError(ctypes.get_errno(), f"bpf {name}")
    os.close(descriptor)


def netns_cookie():
    return tcp().getsockopt(socket.SOL_SOCKET, 71, 8)


def receive_all(connection, count):
    while count:
        count -= len(connection.recv(count))
