"""TCP server of the end-to-end tests: the client's first line says what the connection is for.

usage: traffic_server.py PORT

  echo            sends back what comes, then closes its side
  source N        sends N bytes of payload, then closes
  sink            reads to the end, then answers "BYTES DIGEST"
  reset-after N   sends N bytes, then resets the connection
  watch TOKEN     reads to the end and remembers under TOKEN how the connection ended
  outcome TOKEN   answers what `watch TOKEN` saw: "eof BYTES", "reset BYTES", or "open"
  addresses       answers a line of JSON: this end's getpeername(), getsockname() and what accept() said
  stall           reads nothing more until the peer is gone
"""

import errno
import hashlib
import json
import socket
import struct
import sys
import threading

import payload

OUTCOMES = {}


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            return line.decode()
        line += byte
    return line.decode().strip()


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def echo(connection):
    while True:
        data = connection.recv(1 << 16)
        if not data:
            break
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def source(connection, count):
    for block in payload.blocks(count):
        connection.sendall(block)


def sink(connection):
    count, total = 0, hashlib.sha256()
    while True:
        data = connection.recv(1 << 18)
        if not data:
            break
        count += len(data)
        total.update(data)
    connection.sendall(f"{count} {total.hexdigest()}\n".encode())


def watch(connection, token):
    count = 0
    OUTCOMES[token] = "open"
    connection.sendall(b"watching\n")
    try:
        while True:
            data = connection.recv(1 << 16)
            if not data:
                OUTCOMES[token] = f"eof {count}"
                return
            count += len(data)
    except OSError as error:
        OUTCOMES[token] = f"{'reset' if error.errno == errno.ECONNRESET else error} {count}"


def describe(address):
    return {"address": address[0].removeprefix("::ffff:"), "port": address[1]}


def serve(connection, accepted):
    with connection:
        verb, _, argument = read_line(connection).partition(" ")
        if verb == "echo":
            echo(connection)
        elif verb == "source":
            source(connection, int(argument))
        elif verb == "sink":
            sink(connection)
        elif verb == "reset-after":
            source(connection, int(argument))
            reset(connection)
        elif verb == "watch":
            watch(connection, argument)
        elif verb == "outcome":
            connection.sendall((OUTCOMES.get(argument, "unknown") + "\n").encode())
        elif verb == "addresses":
            facts = {
                "accepted": describe(accepted),
                "getpeername": describe(connection.getpeername()),
                "getsockname": describe(connection.getsockname()),
            }
            connection.sendall((json.dumps(facts) + "\n").encode())
        elif verb == "stall":
            threading.Event().wait(120)


def guarded(connection, accepted):
    try:
        serve(connection, accepted)
    except OSError:
        pass


def main():
    threading.stack_size(256 * 1024)
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", int(sys.argv[1])))
    listener.listen(4096)
    while True:
        connection, accepted = listener.accept()
        threading.Thread(target=guarded, args=(connection, accepted), daemon=True).start()


main()
