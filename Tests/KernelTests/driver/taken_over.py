"""Plays a proxy that was taken over, for TakenOverTests: each attempt is a program of its own, with the proxy's user, filter
and sockets and nothing else of this script's. Answers are errnos, or `signal N`."""
import json
import os
import shutil
import socket
import struct
import subprocess
import sys

from play import (APPLICATION, LISTENER, MESH_SOL, PINS, PRESENT, PURPOSE, ROOT, TUNNEL, beat, dial, enter, listen,
                  mesh_listener, packed, results, tcp)

NOBODY = 65534
NAMES, ASKER = 4, 6
FIXTURE = f"/tmp/{os.path.basename(ROOT)}-fixture"


def attempt(name, *words, sockets=(), unfiltered=False):
    """As the proxy: its user, no group, no capability, in a cgroup that is no workload's and not the sockets'."""
    enter("outside")
    ended = subprocess.run(
        [FIXTURE, "try-unfiltered" if unfiltered else "try", *(str(word) for word in words)],
        pass_fds=[made.fileno() for made in sockets], user=NOBODY, group=NOBODY, extra_groups=[], timeout=20,
        check=False)
    results[name] = ended.returncode


def with_socket(name, made, verb, *words):
    made.settimeout(None)
    attempt(name, verb, made.fileno(), *words, sockets=[made])


def option(name, made, number, value):
    words = struct.unpack(f"={len(value) // 4}I", value)
    with_socket(name, made, "option", number, *words)


def presented(address):
    return packed(address) + struct.pack("!H", 1) + struct.pack("=HII", 0, 7, 1)


def cage():
    for call in ("open", "create", "inet", "inet6", "packet", "netlink", "unix-stream", "kill", "clone", "pidfd"):
        attempt(call, call)
    for call in ("execve", "bpf", "setns", "unshare", "ptrace", "mount", "io-uring", "pidfd-getfd", "read-memory",
                 "write-memory"):
        attempt(call, call)
    for map_name in ("mesh_verdicts", "mesh_egress", "mesh_vouches"):
        attempt(f"{map_name}", "map", f"{PINS}/map_{map_name}")
        attempt(f"{map_name} unfiltered", "map", f"{PINS}/map_{map_name}", unfiltered=True)
    for call in ("packet", "setns", "mount", "read-memory", "write-memory"):
        attempt(f"{call} unfiltered", call, unfiltered=True)
    attempt("open memory", "open", f"/proc/{os.getpid()}/mem")
    attempt("open memory unfiltered", "open", f"/proc/{os.getpid()}/mem", unfiltered=True)


def dials():
    enter("w2")
    application = listen(("10.9.0.2", 8080))
    strict = listen(("10.9.0.2", 9001))
    enter("w1")
    neighbour = listen(("127.0.0.1", 9002))
    enter("outside")
    outside = listen(("10.8.0.9", 9000))
    with_socket("application meant", dial(APPLICATION), "connect", "10.9.0.2", 8080)
    for name, address, port in (("strict port", "10.9.0.2", 9001), ("loopback", "127.0.0.1", 9002),
                                ("outside", "10.8.0.9", 9000), ("tunnel port", "10.9.0.3", 15008),
                                ("mesh's listener", "127.77.0.1", 15001), ("resolver", "127.0.0.53", 53)):
        with_socket(f"application to {name}", dial(APPLICATION), "connect", address, port)
    with_socket("application to outside by fast open", dial(APPLICATION), "fast-open", "10.8.0.9", 9000)
    with_socket("application to outside by IPv6", dial(APPLICATION, socket.AF_INET6), "connect", "fd98::9", 9000)
    for name, address, port in (("another port of a node", "10.9.0.3", 80), ("no node", "10.9.0.2", 15008)):
        with_socket(f"tunnel to {name}", dial(TUNNEL), "connect", address, port)
    for name, address, port in (("whom nobody asked", "127.0.0.54", 53), ("another port", "127.0.0.53", 54)):
        with_socket(f"names to {name}", dial(NAMES), "connect", address, port)
    enter("sockets")
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(MESH_SOL, PURPOSE, struct.pack("II", NAMES, 0))
    with_socket("datagram to outside", datagrams, "send", "10.8.0.9", 9000)
    for made in (application, strict, neighbour, outside, datagrams):
        made.close()


def claims():
    """Sockets made into something else than they are."""
    enter("sockets")
    listener = mesh_listener(("127.77.0.1", 15001))
    enter("w1")
    client = tcp()
    client.connect(("10.96.0.1", 80))
    accepted, _ = listener.accept()
    enter("w2")
    application = listen(("10.9.0.2", 8080))
    with_socket("accepted dials", accepted, "reconnect", "10.9.0.2", 8080)
    option("accepted given a purpose", accepted, PURPOSE, struct.pack("II", APPLICATION, 0))
    option("accepted beats", accepted, 3, struct.pack("II", 1, 0))
    for name, kind in (("dial", APPLICATION), ("tunnel", TUNNEL)):
        made = dial(kind)
        option(f"{name} given another purpose", made, PURPOSE, struct.pack("II", LISTENER, 0))
        option(f"{name} beats", made, 3, struct.pack("II", 1, 0))
        option(f"{name} asks", made, ASKER, struct.pack("II", 1, 0))
        with_socket(f"{name} bound", made, "bind", "10.9.0.2", 9009)
        with_socket(f"{name} listens", made, "listen")
    option("dial presents loopback", dial(APPLICATION), PRESENT, presented("127.0.0.1"))
    option("tunnel presents", dial(TUNNEL), PRESENT, presented("10.9.0.7"))
    with_socket("listener dials", listener, "connect", "10.9.0.2", 8080)
    option("listener given a purpose", listener, PURPOSE, struct.pack("II", APPLICATION, 0))
    option("listener beats", listener, 3, struct.pack("II", 1, 0))
    beat(listener)
    for made in (application, accepted, client, listener):
        made.close()


shutil.copy(sys.argv[3], FIXTURE)
os.chmod(FIXTURE, 0o755)
try:
    cage()
    dials()
    claims()
finally:
    os.unlink(FIXTURE)
print(json.dumps(results), flush=True)
