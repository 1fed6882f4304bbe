package reexec

import (
	"syscall"
	"unsafe"
)

// Raised says what has given this process privileges that its caller does not have: "set-user-ID", "set-group-ID" or
// "file capabilities" of its binary. Empty is nothing.
//
// AT_SECURE (getauxval(3)) would be one look, but security modules set it for reasons of their own. The stage asks as well,
// before it takes an order: see stage.go for the rules.
//
//go:nosplit
//go:norace
func Raised() string {
	uid, euid := id(syscall.SYS_GETUID), id(syscall.SYS_GETEUID)
	switch {
	case uid != euid:
		return "set-user-ID"
	case id(syscall.SYS_GETGID) != id(syscall.SYS_GETEGID):
		return "set-group-ID"
	case euid != 0 && hasFileCapabilities():
		return "file capabilities"
	}
	return ""
}

//go:nosplit
//go:norace
func id(trap uintptr) uintptr {
	id, _ := call(trap, 0, 0, 0, 0)
	return id
}

// hasFileCapabilities reports whether this process, which is not root's, has capabilities that are not ambient: execve
// gives such a process the ambient ones of its caller, and those of the file.
//
//go:nosplit
//go:norace
func hasFileCapabilities() bool {
	header := [2]uint32{capabilityVersion3, 0}
	var sets [2]struct{ effective, permitted, inheritable uint32 }
	_, errno := call(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0, 0)
	if errno != 0 {
		return false
	}
	permitted := uint64(sets[1].permitted)<<32 | uint64(sets[0].permitted)
	for capability := uintptr(0); permitted>>capability != 0; capability++ {
		if permitted>>capability&1 == 0 {
			continue
		}
		if ambient, errno := call(syscall.SYS_PRCTL, prCapAmbient, prCapAmbientIsSet, capability, 0); errno != 0 || ambient != 1 {
			return true
		}
	}
	return false
}
