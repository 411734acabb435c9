#!/usr/bin/python3
"""Echoes UDP datagrams at a port of every address of its own, over one unconnected socket for each family."""
import select
import socket
import sys

sockets = []
for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    made = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind((anywhere, int(sys.argv[1])))
    sockets.append(made)
while True:
    for ready in select.select(sockets, [], [])[0]:
        data, sender = ready.recvfrom(65536)
        ready.sendto(data, sender)
