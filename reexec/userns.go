package reexec

import (
	"syscall"
	"unsafe"
)

// A process that may not make a network namespace (that takes CAP_SYS_ADMIN) may make a user namespace, in which it has every
// capability, that one too: see user_namespaces(7). If the stage was refused a network namespace, the program makes both before
// its execve, in calls with the flag callUnprivileged.
//
// In there it has its own user and group, and no others: those of others are shown as 65534. To the outside nothing has changed: what
// it may read, write and signal, and whose its files are, goes by the ids that it had. Set-user-ID programs do not work in there, not
// even root's: so there is no such network with Spec.AllowNewPrivs.

// changeUserInPart is for changeUser, in place of setresuid: the saved user becomes root, and the one that files are opened as, too
// (setfsuid(2)), until separate has opened its files. A process that has changed its user is not dumpable before execve: its files in
// /proc are root's. To make it dumpable would let others of the new user trace it, with the caller's memory and descriptors in it.
func (c *composer) changeUserInPart(uid uintptr) {
	c.add(StepUser, 0, syscall.SYS_SETRESUID, uid, uid, 0).flags = callUnprivileged
	c.add(StepUser, 0, syscall.SYS_SETFSUID, 0, 0, 0).flags = callUnprivileged
}

// separate has the program make the namespaces if stage.separate may not make a network namespace.
func (c *composer) separate(who *Credential) {
	uid, gid := syscall.Geteuid(), syscall.Getegid()
	if who != nil {
		uid, gid = int(who.UID), int(who.GID)
	} else {
		// The files below are root's if the file of the stage is one that the caller may execute, but not read.
		c.unprivileged(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 1, 0)
	}
	c.unprivileged(syscall.SYS_UNSHARE, syscall.CLONE_NEWUSER|syscall.CLONE_NEWNET, 0, 0)
	// Without setgroups(2), with which the program could leave a group that a file denies something to: the kernel wants that
	// before it takes a gid_map of an ordinary user.
	c.write("/proc/self/setgroups", "deny")
	c.write("/proc/self/uid_map", itself(uid))
	c.write("/proc/self/gid_map", itself(gid))
	const ifreq = stageAddress + sharedSize + unsafe.Offsetof(stage{}.ifreq)
	c.unprivileged(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	c.unprivileged(syscall.SYS_IOCTL, 0, syscall.SIOCSIFFLAGS, ifreq).flags |= callOnResult
	if who != nil { // the rest of it
		id := uintptr(uid)
		c.add(StepUser, 0, syscall.SYS_SETRESUID, id, id, id).flags = callUnprivileged
	}
	// execve takes the capabilities from every user but root. A program of a root that needed a user namespace to make the network
	// is to have none either.
	c.dropCapabilities(StepNet).flags = callUnprivileged
}

func (c *composer) unprivileged(trap, a1, a2, a3 uintptr) *systemCall {
	s := c.add(StepNet, 0, trap, a1, a2, a3)
	s.flags = callUnprivileged
	return s
}

// write writes a text to a file, which is closed by execve.
func (c *composer) write(file, text string) {
	c.unprivileged(syscall.SYS_OPENAT, atFdcwd, c.string(file), syscall.O_WRONLY|syscall.O_CLOEXEC)
	c.unprivileged(syscall.SYS_WRITE, 0, c.string(text), uintptr(len(text))).flags |= callOnResult
}

// itself is a map of one id, to the same one outside.
func itself(id int) string { return decimal(id) + " " + decimal(id) + " 1" }
