package reexec

import "syscall"

const (
	sysFstatat = syscall.SYS_FSTATAT
	sysMemfd   = 279 // since Linux 3.17; package syscall has none
	sysSetns   = 268 // package syscall has none
)
