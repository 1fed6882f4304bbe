// Package capability tells what this process may do, see capabilities(7).
package capability

import "golang.org/x/sys/unix"

// Effective reports whether this process has one of some capabilities, such as unix.CAP_SYS_ADMIN: those below 32.
func Effective(any ...int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	for _, capability := range any {
		if data[0].Effective&(1<<capability) != 0 {
			return true
		}
	}
	return false
}
