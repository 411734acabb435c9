"""Listens where the mesh's proxy would: prints "stolen" if a connection comes within three seconds, else "nothing".

usage: port_thief.py ADDRESS PORT
"""

import socket
import sys

with socket.create_server((sys.argv[1], int(sys.argv[2]))) as listener:
    listener.settimeout(3)
    try:
        listener.accept()
        print("stolen")
    except TimeoutError:
        print("nothing")
