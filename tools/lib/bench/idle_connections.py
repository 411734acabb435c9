#!/usr/bin/python3
"""Idle connections: `serve PORT` accepts and keeps them; `hold HOST PORT COUNT FILE` opens COUNT of them, proves each
with one byte there and back, writes the number held to FILE and waits."""
import resource
import select
import signal
import socket
import sys


def raise_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(port):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    held = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                connection, _ = listener.accept()
                held[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                continue
            data = held[descriptor].recv(1)
            if data:
                held[descriptor].send(data)
            else:
                poll.unregister(descriptor)
                held.pop(descriptor).close()


def hold(host, port, count, result):
    held = []
    for _ in range(count):
        connection = socket.create_connection((host, port), timeout=20)
        connection.sendall(b"x")
        if connection.recv(1) != b"x":
            sys.exit("a connection did not echo")
        held.append(connection)
    with open(result, "w", encoding="ascii") as file:
        print(len(held), file=file)
    signal.pause()


raise_limit()
if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    hold(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
