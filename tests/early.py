#!/usr/bin/env python3
"""Starts cgshim again and again, and sends it each time one signal in the first milliseconds: early.py WANT TIMES CGSHIM ARG...
Prints each time that it did not end as it should. WANT is

  cancelled  a result with that verdict on descriptor 3
  death      it dies of the signal, or exits with 128 and its number, and there is no result
  ignored    as cancelled, with the verdict ok: SIGHUP and SIGINT, which the caller ignores

Nothing can help before the kernel has executed the binary's first instructions. So the signal is sent a moment after /proc tells
that they have been executed: signals are caught."""
import os
import random
import signal
import sys
import time

want, times, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
# SIGUSR2 is caught last, and never ignored here.
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]
DEFAULT = list(SIGNALS)  # in the background, a shell has two of them ignored
if want == "ignored":
    SIGNALS = [signal.SIGHUP, signal.SIGINT]
    DEFAULT = [number for number in DEFAULT if number not in SIGNALS]
    for ignored in SIGNALS:
        signal.signal(ignored, signal.SIG_IGN)
else:
    SIGNALS = SIGNALS[:4]  # the other two cancel nothing


def ready(pid):
    """Whether cgshim catches signals; also if it has ended."""
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.split(":", 1) for line in file)
    if "SigCgt" not in status or status["State"].split()[0] == "Z":
        return True
    return status["Name"].strip() == "cgshim" and int(status["SigCgt"], 16) >> signal.SIGUSR2 - 1 & 1


def start():
    """A process, the reading end of its descriptor 3, and the writing end of its standard input."""
    result, write = os.pipe()
    stdin, requests = os.pipe()
    moved = os.dup(write), os.dup(stdin)  # so that they are out of the way
    actions = [(os.POSIX_SPAWN_DUP2, moved[0], 3), (os.POSIX_SPAWN_DUP2, moved[1], 0)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsigmask=[], setsigdef=DEFAULT)
    for fd in (write, stdin, *moved):
        os.close(fd)
    return pid, result, requests


def run(number, delay):
    """One run, and what is wrong with it."""
    pid, result, requests = start()
    until = time.monotonic() + 60
    while not ready(pid) and time.monotonic() < until:
        pass
    begin = time.monotonic()
    while time.monotonic() - begin < delay:
        pass
    os.kill(pid, number)
    with open(result, "rb") as file:
        output = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(requests)
    if want == "death":
        # The Go runtime exits with 2 for SIGQUIT.
        right = not output and (status in (-number, 128 + number) or status == 2 and number == signal.SIGQUIT)
    else:
        verdict = "ok" if want == "ignored" else want
        right = output.count(b"\n") == 1 and f'"verdict":"{verdict}"'.encode() in output
    return None if right else f"{number.name} after {delay * 1000:.1f} ms: status {status}, {output.decode() or 'no result'}"


for i in range(times):
    wrong = run(SIGNALS[i % len(SIGNALS)], random.uniform(0, 0.008))
    if wrong:
        print(wrong)
