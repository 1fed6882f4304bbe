"""A shell on a pseudo-terminal, for terminal.bats: what a person sees and types."""
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

CGSHIM = os.environ["CGSHIM"]
RESULT = os.environ["BATS_TEST_TMPDIR"] + "/result"
PATIENCE = 60


class Terminal:
    def __init__(self):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["PS1"] = "> "
            os.environ["TERM"] = "dumb"
            os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
        self.seen = ""
        self.expect("> ")

    def type(self, text):
        os.write(self.fd, text.encode())

    def run(self, flags, script, after=""):
        """Types a command that runs a bash script under cgshim."""
        self.type(f"{CGSHIM} --output {RESULT} {flags} -- bash -c '{script}' {after}\n")

    def read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
            except OSError:
                pass

    def expect(self, pattern):
        """Waits until it is on the screen, and forgets all up to it."""
        end = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.seen)):
            if time.monotonic() > end:
                sys.exit(f"no {pattern!r} in {self.seen!r}")
            self.read(0.1)
        self.seen = self.seen[match.end():]
        return match

    def quiet(self, seconds=0.5):
        """What comes within some time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(0.05)
        return self.seen

    def result(self):
        with open(RESULT) as file:
            return json.load(file)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self):
        os.close(self.fd)

    def end(self):
        self.type("exit\n")
        end = time.monotonic() + PATIENCE
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            self.read(0.05)
            if time.monotonic() > end:
                sys.exit("the shell does not end")


def children(pid):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                name, rest = file.read().rsplit(")", 1)
        except OSError:
            continue
        if rest.split()[1] == str(pid):
            found.append((int(entry), name.partition("(")[2]))
    return found


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def eventually(true):
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            sys.exit("it does not happen")
        time.sleep(0.02)


def check(true, *what):
    if not true:
        sys.exit(f"wrong: {what}")
