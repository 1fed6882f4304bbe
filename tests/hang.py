#!/usr/bin/env python3
"""A file system on DIRECTORY that does not answer: whoever looks for a name in it sleeps, and once killed sleeps uninterruptibly
(fuse_dev: the request is in our hands), until this process ends. Prints "ready" when it is mounted."""
import ctypes
import os
import struct
import sys

FUSE_INIT = 26
VERSION = 7, 31

libc = ctypes.CDLL(None, use_errno=True)
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other"
if libc.mount(b"hang", sys.argv[1].encode(), b"fuse", 0, options.encode()):
    sys.exit("mount: " + os.strerror(ctypes.get_errno()))
_, opcode, unique = struct.unpack_from("=IIQ", os.read(fd, 1 << 17))
if opcode != FUSE_INIT:
    sys.exit(f"opcode {opcode}, want FUSE_INIT")
answer = struct.pack("=IIII", *VERSION, 0, 0).ljust(64, b"\0")
os.write(fd, struct.pack("=IiQ", 16 + len(answer), 0, unique) + answer)
print("ready", flush=True)
while True:
    os.read(fd, 1 << 17)
