"""Client of the upgrade tests: connections that must not notice anything; prints one line of JSON at its end.

usage: steady_client.py HOST PORT LONG RATE FILE

Holds LONG connections that echo blocks all the time and compares every byte that comes back; half of them are replaced by
new ones every few seconds, the other half lives to the end. Beside them it makes RATE new connections a second, each of
which echoes one line. Goes on until FILE is there.

`refused`: new connections that failed, by errno and step; `cut`: long ones that ended or came back wrong; `opened` and
`worked`: how many new ones there were and how many did all they should; `bytes`: what the long ones had echoed; `pause`:
the longest time between two new connections that worked.
"""

import errno
import hashlib
import json
import os
import socket
import sys
import threading
import time

HOST, PORT, LONG, RATE, FILE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
LIFETIME = 6.0
LOCK = threading.Lock()
FACTS = {"opened": 0, "worked": 0, "long": 0, "bytes": 0, "pause": 0.0, "refused": {}, "cut": []}
last_success = time.monotonic()


def is_over():
    return os.path.exists(FILE)


def name_of(error):
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno, str(error))
    return str(error)


def opened():
    connection = socket.create_connection((HOST, PORT), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"echo\n")
    return connection


def receive(connection, count):
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ValueError(f"ended after {len(data)} of {count} bytes")
        data += part
    return data


def echo_for(seconds, number):
    """One long connection: blocks whose content is different each time."""
    end = time.monotonic() + seconds
    count = 0
    with opened() as connection:
        while time.monotonic() < end and not is_over():
            block = hashlib.sha256(f"{number} {count}".encode()).digest() * (1 << (count % 10))
            connection.sendall(block)
            if receive(connection, len(block)) != block:
                raise ValueError("came back changed")
            count += 1
            with LOCK:
                FACTS["bytes"] += len(block)
            time.sleep(0.05)
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1):
            raise ValueError("more than was sent")


def long_lived(number):
    seconds = 1e9 if number % 2 == 0 else LIFETIME * (1 + number / LONG)
    while not is_over():
        with LOCK:
            FACTS["long"] += 1
        began = time.monotonic()
        try:
            echo_for(seconds, number)
        except (OSError, ValueError) as problem:
            with LOCK:
                FACTS["cut"].append(f"{name_of(problem)} after {time.monotonic() - began:.2f} s")
            time.sleep(0.2)


def short():
    global last_success
    step = "connect"
    try:
        with LOCK:
            FACTS["opened"] += 1
        with socket.create_connection((HOST, PORT), timeout=20) as connection:
            step = "write"
            connection.sendall(b"echo\nhello\n")
            step = "read"
            if receive(connection, 6) != b"hello\n":
                raise ValueError("wrong answer")
            step = "end"
            connection.shutdown(socket.SHUT_WR)
            if connection.recv(1):
                raise ValueError("more than was sent")
        with LOCK:
            now = time.monotonic()
            FACTS["worked"] += 1
            FACTS["pause"] = max(FACTS["pause"], now - last_success)
            last_success = now
    except (OSError, ValueError) as problem:
        with LOCK:
            name = f"{step}: {name_of(problem)}"
            FACTS["refused"][name] = FACTS["refused"].get(name, 0) + 1


def main():
    threading.stack_size(256 * 1024)
    keepers = [threading.Thread(target=long_lived, args=(number,)) for number in range(LONG)]
    for keeper in keepers:
        keeper.start()
    start, made = time.monotonic(), 0
    running = []
    while not is_over():
        running = [thread for thread in running if thread.is_alive()]
        while made < (time.monotonic() - start) * RATE and len(running) < 200:
            running.append(threading.Thread(target=short))
            running[-1].start()
            made += 1
        time.sleep(0.01)
    for thread in running + keepers:
        thread.join()
    print(json.dumps(FACTS), flush=True)


main()
