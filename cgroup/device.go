package cgroup

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// BlockDevice is the number of the disk at a path such as "/dev/sda", for an IOLimit. The kernel throttles
// whole disks: a partition is ErrInvalid, and so is what is not a block device.
func BlockDevice(path string) (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("%w: %s is not a block device", ErrInvalid, path)
	}
	major, minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", major, minor)
	if _, err := os.Stat(sys + "/partition"); err == nil {
		disk := "the whole disk"
		if real, err := filepath.EvalSymlinks(sys); err == nil { // …/block/sda/sda1
			disk = "/dev/" + filepath.Base(filepath.Dir(real))
		}
		return 0, 0, fmt.Errorf("%w: %s is a partition; use %s", ErrInvalid, path, disk)
	}
	return major, minor, nil
}
