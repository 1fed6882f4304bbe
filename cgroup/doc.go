// Package cgroup creates Linux control groups, limits them, reads what they used, kills what is in them
// and removes them: on cgroup v1, v2 and hybrid hosts, behind one API.
//
// # Theory of operation
//
// Detect finds the mounted hierarchies once. A Host creates a Group by path: on v2 one directory in the
// unified hierarchy, with the controllers enabled on the way down; on v1 one directory in each hierarchy
// of the controllers asked for, and, where the host also mounts cgroup2 (hybrid), one there too, because
// cgroup.kill, cgroup.freeze and cgroup.events exist only on v2.
//
//	Detect ─▶ Host ─ Create or Open ─▶ Group ─ Set ─▶ Add or Join ─▶ Stats … ─▶ Kill ─▶ Remove
//
// There is an example for each of these. Options and a Tuning are for callers with more to ask for, or in a hurry; the zero value
// of either is the plain case.
//
// Processes enter in one of two ways. Add moves a running one, with all its threads; the kernel makes
// that wait for an RCU grace period, several milliseconds. Join returns open descriptors through which a
// process enters by itself before execve, at once; package reexec does that.
//
// What the kernel cannot tell is the zero Figure, which says that it is unknown, and not a 0.
//
// Privileges: whatever the files' owners and modes say; nothing here needs root where a subtree was
// delegated. No method starts a goroutine or a process, and none logs.
//
// Errors are *Error, with the operation, the path, and for writes the value; errors.Is finds the errno
// (fs.ErrExist, fs.ErrPermission, unix.EBUSY) and the sentinels of this package.
//
// The kernel's own documentation is Documentation/admin-guide/cgroup-v2.rst and
// Documentation/admin-guide/cgroup-v1/.
package cgroup
