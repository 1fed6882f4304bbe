#!/usr/bin/python3
"""Lists the cgroups that a test has left, on a machine where others have some, too: see tests/apart.

tests/ours.py [BEFORE]    BEFORE are those that were there before: lines of inode and path

What a test can leave is at the top of a hierarchy, on v2 also in what systemd delegates: the group of a run, the parent of runs with
a name, and what tests name. Whose the first is says its owner's pid namespace. Of what bears no mark, and of the marks of other namespaces than that of tests/apart's
caller, only what stays is the test's: between a group and its mark are microseconds, and others come and go.
"""
import glob
import os
import re
import sys
import time

STAYS = 1.5  # seconds; longer than cgshim gc waits for a mark
OUTSIDE = os.environ.get("CGSHIM_APART", "none")
OURS, THEIRS, UNKNOWN = "ours", "theirs", "unknown"


def namespace(directory):
    """The pid namespace of a group's owner, "" without."""
    for name in ("user.cgshim.owner", "trusted.cgshim.owner"):
        try:
            return os.getxattr(directory, name).split()[2].decode()
        except (OSError, IndexError):
            pass
    return ""


def whose(directory):
    name = os.path.basename(directory)
    if name.startswith("cgshim-bats"):
        return OURS
    if name == "cgshim" and any(entry.is_dir() for entry in os.scandir(directory)):
        return THEIRS  # or not: who is in it tells
    owner = namespace(directory)
    if owner == str(os.stat("/proc/self/ns/pid").st_ino):
        return OURS
    return THEIRS if owner and owner == OUTSIDE else UNKNOWN


def groups():
    """{(inode, path): whose}"""
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.procs")
    found = {}
    for path in glob.glob("/sys/fs/cgroup/**/cgshim*" if v2 else "/sys/fs/cgroup/*/cgshim*", recursive=True):
        name = os.path.basename(path)
        if re.fullmatch(r"cgshim|cgshim-[0-9]+-[0-9a-f]{8}|cgshim-bats.*", name):
            for group in [path] + (glob.glob(path + "/*/") if name == "cgshim" else []):
                try:
                    found[os.stat(group).st_ino, group.rstrip("/")] = whose(group.rstrip("/"))
                except OSError:
                    pass  # gone
    return found


def left(before=()):
    """The paths of what is the test's."""
    end = time.monotonic() + STAYS
    unknown = None
    while True:
        now = {group: who for group, who in groups().items() if group not in before}
        ours = [path for (_, path), who in now.items() if who == OURS]
        unknown = {group for group, who in now.items() if who == UNKNOWN and (unknown is None or group in unknown)}
        if ours or not unknown or time.monotonic() > end:
            return sorted(ours + [path for _, path in unknown])
        time.sleep(0.02)


def snapshot(lines):
    """What was there before, of lines of inode and path."""
    return {(int(inode), path) for inode, path in (line.split(maxsplit=1) for line in lines)}


if __name__ == "__main__":
    for path in left(snapshot((sys.argv[1] if len(sys.argv) > 1 else "").splitlines())):
        print(path)
