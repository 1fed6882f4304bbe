package main

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/deliver"
	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim"
)

// A copy of cgshim that is set-user-ID root, say, would run any program as root for any user, because its flags, its environment
// and its descriptors are the caller's. So it only says that it does not do that.

// onlyPrints reports whether cgshim is asked for something harmless.
func onlyPrints(args []string) bool {
	if len(args) == 0 {
		return false
	}
	s := findSubcommand(args[0])
	return s != nil && s.prints
}

// refuseRaised refuses to do anything. Before that it gives up the privileges that the binary has, so that the file of --output is
// written with the caller's.
func refuseRaised(how string, args []string) int {
	err := fmt.Errorf("this copy of cgshim has privileges of its own (%s): everybody who may execute it could run any program with them", how)
	if len(args) > 0 {
		if s := findSubcommand(args[0]); s != nil {
			if s.run != nil {
				return complainOf(err)
			}
			args = args[1:] // of "run"
		}
	}
	flag := flags.Scan(args)
	if giveUpPrivileges() != nil {
		flag = flag.Without("output")
	}
	d := deliver.Delivery{Flag: flag, Pretty: flag.IsOn("pretty")}
	return d.Refuse(shim.SetupError(&shim.Config{}, "privileges", err))
}

// giveUpPrivileges leaves the calling goroutine with the caller's privileges only. It locks the thread, because capabilities belong to a
// thread.
func giveUpPrivileges() error {
	uid, gid := unix.Getuid(), unix.Getgid()
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return err
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil || reexec.Raised() == "" {
		return err
	}
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
}
