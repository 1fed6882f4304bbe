package reexec

import "syscall"

const (
	sysFstatat = syscall.SYS_NEWFSTATAT
	sysMemfd   = 319 // since Linux 3.17; package syscall has none
	sysSetns   = 308 // package syscall has none
)
