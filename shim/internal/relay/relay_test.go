package relay

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An error of a socket's that is no end of its reader is no reason to give up, nor to look again and again.
func TestOutputToSocketWithError(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(fd), "socket")
	defer socket.Close()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Skipf("requires a loopback interface: %v", err)
	}
	if _, err := unix.Write(fd, []byte("x")); err != nil { // refused: the error waits for the next call
		t.Fatal(err)
	}
	if ready := []unix.PollFd{{Fd: int32(fd)}}; func() bool { _, _ = unix.Poll(ready, 5000); return ready[0].Revents&unix.POLLERR == 0 }() {
		t.Skip("requires a loopback interface that refuses")
	}
	o, err := New(1<<20, &[3]int{0, fd, fd})
	if err != nil {
		t.Fatal(err)
	}
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	writer, err := unix.FcntlInt(uintptr(o.streams[0].writer), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	o.Start()
	time.Sleep(500 * time.Millisecond)
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	if used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()); used > 250*time.Millisecond {
		t.Errorf("the wait for output takes %v of CPU time", used)
	}
	_ = unix.Close(writer)
	if err := o.Finish(); err != nil {
		t.Error(err)
	}
}
