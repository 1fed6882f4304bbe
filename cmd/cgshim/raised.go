package main

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim"
)

// A copy of cgshim that is set-user-ID root, say, would run any program as root for anybody: its flags, its environment
// and its descriptors are the caller's. So it does nothing but say so.

// harmless are first arguments with which cgshim only prints.
var harmless = []string{"help", "--help", "-h", "version", "--version", "schema", "completion"}

// refuseRaised refuses what it was called for, after it has given up the privileges that its binary has: the file of
// --output is written with the caller's.
func refuseRaised(how string, args []string) int {
	err := fmt.Errorf("this copy of cgshim has privileges of its own (%s): everybody who may execute it could run any program with them", how)
	if len(args) > 0 && args[0] != "run" && isSubcommand(args[0]) {
		return complainOf(err)
	}
	if len(args) > 0 && args[0] == "run" {
		args = args[1:]
	}
	flag := scanFlags(args)
	if giveUpPrivileges() != nil {
		flag = without(flag, "output")
	}
	d := delivery{flag: flag, pretty: flag.isOn("pretty")}
	out, _ := openSink(flag) // or stderr
	return d.deliver(out, shim.SetupError(&shim.Config{}, "privileges", err))
}

// giveUpPrivileges makes the calling goroutine the caller's for good: capabilities are a thread's.
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

func without(flag flagReader, name string) flagReader {
	return func(asked string) (string, bool) {
		if asked == name {
			return "", false
		}
		return flag(asked)
	}
}
