// Package sys has the system calls and the files of /proc that several packages of shim need in the same form.
package sys

import (
	"errors"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// IgnoringEINTR repeats a call until no signal interrupts it.
func IgnoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Waitid is waitid(2), repeated until no signal interrupts it. With WNOHANG, PID is 0 if there is nothing to tell.
func Waitid(idType, id, options int) (ChildInfo, error) {
	for {
		var info ChildInfo
		err := unix.Waitid(idType, id, (*unix.Siginfo)(unsafe.Pointer(&info)), options, nil)
		if !errors.Is(err, unix.EINTR) {
			return info, err
		}
	}
}

// ChildInfo is a siginfo_t as waitid(2) fills it in, on 64-bit Linux.
type ChildInfo struct {
	signo, errno, code, _ int32
	pid, uid, status      int32
	_                     [100]byte
}

// The codes of a ChildInfo that are needed here, see sigaction(2). A code above cldDumped is a stop, or its end.
const cldKilled, cldDumped = 2, 3

// PID is the child that has changed its state; 0 if none has.
func (i *ChildInfo) PID() int { return int(i.pid) }

// Ended reports whether the child has ended. If not, it has stopped or goes on.
func (i *ChildInfo) Ended() bool { return i.code <= cldDumped }

// Signaled reports whether a signal has ended the child.
func (i *ChildInfo) Signaled() bool { return i.code == cldKilled || i.code == cldDumped }

// Signal is the signal that has ended or stopped the child; its exit status if it exited by itself.
func (i *ChildInfo) Signal() unix.Signal { return unix.Signal(i.status) }

// A Process is the part of /proc/PID/stat that is needed, see proc(5).
type Process struct {
	PID, Parent int
	Zombie      bool
	Exiting     bool // or a zombie: it runs no instruction of its own any more
	Stopped     bool
	Terminal    bool // it has a controlling terminal
	Threads     uint64
	Started     uint64 // clock ticks since boot
}

const exitingFlag = 0x4 // PF_EXITING

// ReadProcess reads what /proc tells of a process. The error is ENOENT or ESRCH if there is no such process.
func ReadProcess(pid int) (Process, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Process{}, err
	}
	defer unix.Close(fd)
	var content [1024]byte // there are 52 numbers, and a name
	n, err := IgnoringEINTR(func() (int, error) { return unix.Read(fd, content[:]) })
	if err != nil {
		return Process{}, err
	}
	return parseProcess(pid, string(content[:n]))
}

func parseProcess(pid int, content string) (Process, error) {
	// The name, in parentheses, may hold anything.
	end := strings.LastIndexByte(content, ')')
	fields := strings.Fields(content[end+1:])
	if end < 0 || len(fields) < 20 {
		return Process{}, unix.ESRCH // it has gone meanwhile
	}
	p := Process{PID: pid, Zombie: fields[0] == "Z" || fields[0] == "X", Stopped: fields[0] == "T"}
	p.Parent, _ = strconv.Atoi(fields[1])
	p.Terminal = fields[4] != "0"
	flags, _ := strconv.ParseUint(fields[6], 10, 64)
	p.Exiting = p.Zombie || flags&exitingFlag != 0
	p.Threads, _ = strconv.ParseUint(fields[17], 10, 64)
	p.Started, _ = strconv.ParseUint(fields[19], 10, 64)
	return p, nil
}

// RaiseEvent makes an eventfd readable. There is always room.
func RaiseEvent(fd int) { _, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }
