#!/usr/bin/python3
"""Names looked up by c-ares, both families: one line a name and family."""
import select
import socket
import sys

import pycares

channel = pycares.Channel(timeout=3, tries=1)


def look_up(name, family):
    def show(result, error):
        print(name, *(result.addresses if result else [pycares.errno.errorcode[error]]))
    channel.gethostbyname(name, family, show)
    while True:
        readable, writable = channel.getsock()
        if not readable and not writable:
            return
        readable, writable, _ = select.select(readable, writable, [], 1)
        for number in readable:
            channel.process_fd(number, pycares.ARES_SOCKET_BAD)
        for number in writable:
            channel.process_fd(pycares.ARES_SOCKET_BAD, number)
        if not readable and not writable:
            channel.process_fd(pycares.ARES_SOCKET_BAD, pycares.ARES_SOCKET_BAD)


for argument in sys.argv[1:]:
    look_up(argument, socket.AF_INET)
    look_up(argument, socket.AF_INET6)
