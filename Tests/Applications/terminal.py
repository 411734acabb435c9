"""Runs a full-screen program on a pseudo-terminal as a person would, and prints what was to be seen as one JSON object.

usage: terminal.py COLUMNSxROWS STEP… -- COMMAND…

Steps, one after the other; each waits for its outcome for at most ten seconds:
  see TEXT        until the picture has TEXT
  miss TEXT       until the picture is without TEXT
  key TEXT        types it (Python escapes, as \\x1b[C for the right arrow)
  size WxH        resizes the terminal
  signal NAME     sends the program a signal
  end             until the program ends

The object: `pictures` (the lines that were there after each step), `failed` (the first step that did not come about, or
null), `status` (as a shell has it), `restored` (the terminal's modes are as before), `left` (cursor and first screen were
given back at the very end), `colours` (whether any were ever used).
"""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

LIMIT = 10.0


class Terminal:
    def __init__(self, size, command):
        self.columns, self.rows = (int(number) for number in size.split("x"))
        self.bytes = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            time.sleep(0.2)  # until the size is set
            os.execvp(command[0], command)
        self.resize(self.columns, self.rows)
        self.modes = termios.tcgetattr(self.master)

    def resize(self, columns, rows):
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def picture(self):
        """The last whole picture: every one begins at the home position and clears what is below it."""
        text = self.bytes.decode("utf-8", "replace")
        whole = [part.split("\x1b[J")[0] for part in text.split("\x1b[H")[1:] if "\x1b[J" in part]
        if not whole:
            return []
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in whole[-1].split("\r\n")]


def main():
    size, rest = sys.argv[1], sys.argv[2:]
    split = rest.index("--")
    terminal = Terminal(size, rest[split + 1:])
    result = {"pictures": [], "failed": None}
    status = None

    def reap():
        nonlocal status
        if status is None:
            pid, value = os.waitpid(terminal.pid, os.WNOHANG)
            if pid:
                status = value
        return status is not None

    def wait(holds):
        deadline = time.monotonic() + LIMIT
        while not holds():
            if time.monotonic() > deadline:
                return False
            if select.select([terminal.master], [], [], 0.05)[0]:
                try:
                    terminal.bytes += os.read(terminal.master, 65536)
                except OSError:
                    time.sleep(0.05)
        return True

    steps = iter(rest[:split])
    for step in steps:
        if step == "end":
            done = wait(reap)
        else:
            value = next(steps)
            if step == "see":
                done = wait(lambda: any(value in line for line in terminal.picture()))
            elif step == "miss":
                done = wait(lambda: terminal.picture() and not any(value in line for line in terminal.picture()))
            elif step == "key":
                done = os.write(terminal.master, value.encode().decode("unicode_escape").encode("latin-1")) > 0
            elif step == "size":
                terminal.resize(*(int(number) for number in value.split("x")))
                done = True
            elif step == "signal":
                os.kill(terminal.pid, getattr(signal, "SIG" + value))
                done = True
            else:
                sys.exit("unknown step " + step)
        result["pictures"].append(terminal.picture())
        if not done:
            result["failed"] = step if step == "end" else step + " " + value
            break
    if not reap():
        os.kill(terminal.pid, signal.SIGKILL)
        os.waitpid(terminal.pid, 0)
        result["status"] = -1
    else:
        result["status"] = os.waitstatus_to_exitcode(status)
    wait(lambda: not select.select([terminal.master], [], [], 0.1)[0] or closed(terminal))
    result["restored"] = termios.tcgetattr(terminal.master) == terminal.modes
    result["left"] = terminal.bytes.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")
    result["colours"] = re.search(rb"\x1b\[(3[0-7]|9[0-7]|2m)", terminal.bytes) is not None
    print(json.dumps(result))


def closed(terminal):
    try:
        data = os.read(terminal.master, 65536)
    except OSError:
        return True
    terminal.bytes += data
    return not data


main()
