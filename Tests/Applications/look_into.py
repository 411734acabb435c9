"""Looks into a process of the mesh as one who may not, and as root. Prints one line of JSON.

look_into.py trace PID        what ptrace and /proc/PID/mem say to this process, and whether they would let it into a
                              process of its own user at all
look_into.py search PID KEY…  how often the private keys of these PEM files are in the process's memory, in each shape
"""

import base64
import ctypes
import errno
import json
import os
import subprocess
import sys

PTRACE_ATTACH, PTRACE_DETACH = 16, 17
READ_AT_ONCE = 16 << 20
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def name(code):
    return errno.errorcode.get(code, str(code)) if code else "ok"


def attach(pid):
    if LIBC.ptrace(PTRACE_ATTACH, pid, None, None) < 0:
        return name(ctypes.get_errno())
    os.waitpid(pid, 0x40000000)  # __WALL
    LIBC.ptrace(PTRACE_DETACH, pid, None, None)
    return "ok"


def opens(path):
    try:
        with open(path, "rb", buffering=0) as file:
            return "ok" if file else "empty"
    except OSError as error:
        return name(error.errno)


def trace(pid):
    own = subprocess.Popen(["sleep", "60"])
    try:
        return {
            "ptrace": attach(pid),
            "memory": opens(f"/proc/{pid}/mem"),
            "environment": opens(f"/proc/{pid}/environ"),
            "ownPtrace": attach(own.pid),
            "ownMemory": opens(f"/proc/{own.pid}/mem"),
        }
    finally:
        own.kill()
        own.wait()


def shapes(path):
    """The key's number as in DER and as in a big integer's words, and a piece of its PEM text that is secret alone."""
    with open(path, encoding="ascii") as file:
        text = "".join(line.strip() for line in file if "-----" not in line)
    der = base64.b64decode(text)
    start = der.index(b"\x02\x01\x01\x04\x20") + 5
    number = der[start : start + 32]
    # Lines of 64 characters are 48 bytes: the second one begins inside the number.
    first = -(-start // 48) * 48
    last = start + 32 - (start + 32 - first) % 3
    piece = text[first // 3 * 4 : last // 3 * 4]
    return {"text": piece.encode(), "number": number, "words": number[::-1]}


def areas(pid):
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        for line in maps:
            fields = line.split()
            if "r" in fields[1] and not (len(fields) > 5 and fields[5] in ("[vvar]", "[vsyscall]")):
                first, last = (int(number, 16) for number in fields[0].split("-"))
                yield first, last


def search(pid, keys):
    wanted = [(kind, shape) for key in keys for kind, shape in shapes(key).items()]
    found = dict.fromkeys(("text", "number", "words"), 0)
    longest = max(len(shape) for _, shape in wanted)
    searched = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for first, last in areas(pid):
            while first < last:
                try:
                    memory.seek(first)
                    content = memory.read(min(READ_AT_ONCE, last - first))
                except (OSError, OverflowError):
                    break
                if not content:
                    break
                searched += len(content)
                for kind, shape in wanted:
                    found[kind] += content.count(shape)
                if first + len(content) >= last:
                    break
                first += max(1, len(content) - longest + 1)
    return found | {"keys": len(keys), "searched": searched}


verb, process = sys.argv[1], int(sys.argv[2])
print(json.dumps(trace(process) if verb == "trace" else search(process, sys.argv[3:])))
