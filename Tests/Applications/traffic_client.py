"""TCP client of the end-to-end tests; prints one line of JSON about what it saw.

usage: traffic_client.py HOST PORT VERB [ARGUMENT…]

  download N            source: counts, digest, and how the connection ended
  download-after-end N  the same, but closes its own side before it reads
  upload N              sink: closes its side after N bytes and compares the answer
  half-close N          echo: sends N bytes, closes its side, then must still get all of them back
  truncated N           reset-after: what arrived and how the connection ended
  reset TOKEN N         watch: sends N bytes and resets; then asks for the outcome
  many N                N connections at once, each echoing its number, all held open together
  stopped N BYTES SECONDS   N readers that stop; another stream of BYTES meanwhile; then the N go on to their end
  crowd N               N connections kept open, each tried for itself: how each ended, how many work a second time
  hoard N SECONDS       N readers that stop and then read on: how each ended, every byte compared
  addresses             both ends' getpeername() and getsockname()
  connect [SECONDS]     connect() only: the errno's name or "ok", and the time
  first-byte            connect and read: how the connection ends when nothing is sent
  ping-pong N           N round trips of one byte: microseconds each
  hold SECONDS          an echo connection that must still work after SECONDS of silence
  chat SECONDS [DEVICE] echoes every 100 ms for SECONDS: how many worked, the longest pause; bound to DEVICE
  datagrams SECONDS     the same over a connected UDP socket, until one is not answered within 1 s
"""

import collections
import errno
import hashlib
import json
import resource
import socket
import struct
import sys
import threading
import time

import payload

HOST, PORT, VERB = sys.argv[1], int(sys.argv[2]), sys.argv[3]
ARGUMENTS = sys.argv[4:]
STOPPED_BYTES = 8 << 20


def connect(timeout=60, device=None):
    if not device:
        return socket.create_connection((HOST, PORT), timeout=timeout)
    family, kind, protocol, _, address = socket.getaddrinfo(HOST, PORT, type=socket.SOCK_STREAM)[0]
    connection = socket.socket(family, kind, protocol)
    connection.settimeout(timeout)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    connection.connect(address)
    return connection


def opened(line, device=None):
    connection = connect(device=device)
    connection.sendall(line.encode() + b"\n")
    return connection


def name_of(error):
    if isinstance(error, TimeoutError) and error.errno is None:
        return "timeout"
    return errno.errorcode.get(error.errno, str(error))


def drain(connection):
    """Reads to the end: (bytes, digest, "eof" or the errno's name)."""
    count, total = 0, hashlib.sha256()
    try:
        while data := connection.recv(1 << 18):
            count += len(data)
            total.update(data)
    except OSError as error:
        return count, total.hexdigest(), name_of(error)
    return count, total.hexdigest(), "eof"


def download(count, finishes_first=False):
    start = time.monotonic()
    with opened(f"source {count}") as connection:
        if finishes_first:
            connection.shutdown(socket.SHUT_WR)
        received, digest, end = drain(connection)
    return {
        "bytes": received,
        "intact": digest == payload.digest(count),
        "end": end,
        "seconds": time.monotonic() - start,
    }


def upload(count):
    start = time.monotonic()
    with opened("sink") as connection:
        for block in payload.blocks(count):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile().readline().split()
    return {
        "bytes": int(answer[0]) if answer else 0,
        "intact": len(answer) == 2 and answer[1] == payload.digest(count),
        "seconds": time.monotonic() - start,
    }


def half_close(count):
    with opened("echo") as connection:
        sender = threading.Thread(target=send_and_close, args=(connection, count))
        sender.start()
        received, digest, end = drain(connection)
        sender.join()
    return {"bytes": received, "intact": digest == payload.digest(count), "end": end}


def send_and_close(connection, count):
    for block in payload.blocks(count):
        connection.sendall(block)
    connection.shutdown(socket.SHUT_WR)


def truncated(count):
    with opened(f"reset-after {count}") as connection:
        received, _, end = drain(connection)
    return {"bytes": received, "end": end}


def reset(token, count):
    connection = opened(f"watch {token}")
    connection.recv(16)
    connection.sendall(b"x" * int(count))
    time.sleep(0.5)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    outcome = "open"
    for _ in range(50):
        with opened(f"outcome {token}") as question:
            outcome = question.makefile().readline().strip()
        if outcome != "open":
            break
        time.sleep(0.1)
    return {"outcome": outcome}


def many(count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, max(count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    connections = [opened("echo") for _ in range(count)]
    for number, connection in enumerate(connections):
        connection.sendall(f"{number}\n".encode())
    answered = sum(connection.makefile().readline() == f"{number}\n" for number, connection in enumerate(connections))
    for connection in connections:
        connection.shutdown(socket.SHUT_WR)
    ended = sum(drain(connection)[2] == "eof" for connection in connections)
    return {"answered": answered, "ended": ended}


def stopped(count, size, seconds):
    readers = [opened(f"source {STOPPED_BYTES}") for _ in range(count)]
    for reader in readers:
        reader.recv(1, socket.MSG_PEEK)
    start = time.monotonic()
    meanwhile = download(size)
    time.sleep(max(0, start + seconds - time.monotonic()))
    expected = payload.digest(STOPPED_BYTES)
    results = []
    threads = [threading.Thread(target=lambda reader=reader: results.append(drain(reader))) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    intact = sum(result == (STOPPED_BYTES, expected, "eof") for result in results)
    return {"meanwhile": meanwhile, "intact": intact, "ends": sorted({result[2] for result in results})}


def crowd(count):
    outcomes, kept = collections.Counter(), []
    for number in range(count):
        try:
            connection = opened("echo")
            lines = connection.makefile()
            connection.sendall(f"{number}\n".encode())
            outcome = "ok" if (answer := lines.readline()) == f"{number}\n" else f"answered {answer!r}"
        except OSError as error:
            outcome = name_of(error)
        outcomes[outcome] += 1
        if outcome == "ok":
            kept.append((connection, lines))
    worked = 0
    for connection, lines in kept:
        connection.sendall(b"again\n")
        worked += lines.readline() == "again\n"
    return {"outcomes": outcomes, "worked": worked}


def follow(connection, count):
    """Compares every byte on the way: "eof" after all of them, the errno's name after a true beginning, or what is wrong."""
    blocks, rest = payload.blocks(count), memoryview(b"")
    try:
        while data := memoryview(connection.recv(1 << 18)):
            while data:
                rest = rest or memoryview(next(blocks, b""))
                size = min(len(rest), len(data))
                if size == 0 or data[:size] != rest[:size]:
                    return "corrupt"
                data, rest = data[size:], rest[size:]
    except OSError as error:
        return name_of(error)
    return "short" if rest or next(blocks, None) else "eof"


def hoard(count, seconds):
    outcomes, readers = collections.Counter(), []
    for _ in range(count):
        try:
            reader = opened(f"source {STOPPED_BYTES}")
            reader.recv(1, socket.MSG_PEEK)
            readers.append(reader)
        except OSError as error:
            outcomes[name_of(error)] += 1
    time.sleep(seconds)
    threads = [
        threading.Thread(target=lambda reader=reader: outcomes.update([follow(reader, STOPPED_BYTES)])) for reader in readers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"outcomes": outcomes, "worked": len(readers)}


def addresses():
    with opened("addresses") as connection:
        answer = json.loads(connection.makefile().readline())
        peer, own = connection.getpeername(), connection.getsockname()
    return {
        "server": answer,
        "getpeername": {"address": peer[0], "port": peer[1]},
        "getsockname": {"address": own[0], "port": own[1]},
    }


def connect_only(timeout=30):
    start = time.monotonic()
    try:
        connect(float(timeout)).close()
        result = "ok"
    except OSError as error:
        result = name_of(error)
    return {"result": result, "seconds": time.monotonic() - start}


def first_byte():
    start = time.monotonic()
    try:
        with connect() as connection:
            received, _, end = drain(connection)
    except OSError as error:
        return {"connect": name_of(error), "seconds": time.monotonic() - start}
    return {"connect": "ok", "bytes": received, "end": end, "seconds": time.monotonic() - start}


def ping_pong(count):
    with opened("echo") as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.monotonic()
        for _ in range(count):
            connection.sendall(b"x")
            connection.recv(1)
        return {"microseconds": (time.monotonic() - start) / count * 1e6}


def hold(seconds):
    with opened("echo") as connection:
        connection.sendall(b"before\n")
        lines = connection.makefile()
        before = lines.readline()
        time.sleep(seconds)
        connection.sendall(b"after\n")
        return {"works": before == "before\n" and lines.readline() == "after\n"}


def chat(seconds, device=None):
    worked, longest, end = 0, 0.0, time.monotonic() + seconds
    with opened("echo", device) as connection:
        lines = connection.makefile()
        while time.monotonic() < end:
            start = time.monotonic()
            connection.sendall(f"{worked}\n".encode())
            if lines.readline() != f"{worked}\n":
                return {"worked": worked, "broken": True, "longest": longest}
            worked += 1
            longest = max(longest, time.monotonic() - start)
            time.sleep(0.1)
    return {"worked": worked, "broken": False, "longest": longest}


def datagrams(seconds):
    worked, end = 0, time.monotonic() + seconds
    family, kind, protocol, _, address = socket.getaddrinfo(HOST, PORT, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as peer:
        peer.settimeout(1)
        peer.connect(address)
        while time.monotonic() < end:
            try:
                peer.send(f"{worked}".encode())
                peer.recv(100)
            except OSError as problem:
                return {"worked": worked, "broken": True, "outcome": name_of(problem)}
            worked += 1
            time.sleep(0.1)
    return {"worked": worked, "broken": False}


VERBS = {
    "download": lambda count: download(int(count)),
    "download-after-end": lambda count: download(int(count), finishes_first=True),
    "upload": lambda count: upload(int(count)),
    "half-close": lambda count: half_close(int(count)),
    "truncated": lambda count: truncated(int(count)),
    "reset": reset,
    "many": lambda count: many(int(count)),
    "stopped": lambda count, size, seconds: stopped(int(count), int(size), float(seconds)),
    "crowd": lambda count: crowd(int(count)),
    "hoard": lambda count, seconds: hoard(int(count), float(seconds)),
    "addresses": addresses,
    "connect": connect_only,
    "first-byte": first_byte,
    "ping-pong": lambda count: ping_pong(int(count)),
    "hold": lambda seconds: hold(float(seconds)),
    "chat": lambda seconds, device=None: chat(float(seconds), device),
    "datagrams": lambda seconds: datagrams(float(seconds)),
}

try:
    print(json.dumps(VERBS[VERB](*ARGUMENTS)), flush=True)
except OSError as problem:
    sys.exit(f"{VERB} {HOST} {PORT}: {name_of(problem)}: {problem}")
