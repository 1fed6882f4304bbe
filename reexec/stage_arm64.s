#include "textflag.h"

// func entry()
//
// On the kernel's stack are argc, argv[0] … argv[argc-1], 0, envp[0] …; it has to be as it was for the runtime.
// Where this is the entry of the binary (go build -ldflags '-E …reexec.entry'), a stage starts here.
TEXT ·entry(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVD $1, R1
	MOVB R1, ·entered(SB)
	MOVD 0(RSP), R1
	CMP  $1, R1
	BNE  runtime
	MOVD 24(RSP), R1              // envp[0]
	CBZ  R1, runtime
	MOVD 0(R1), R2
	MOVD $0x535f4d4948534743, R3 // CGSHIM_S
	CMP  R3, R2
	BNE  runtime
	MOVD 8(R1), R2
	MOVD $0x006e6f3d45474154, R3 // TAGE=on, and 0. The name of the file comes after it, so that there is something to read
	CMP  R3, R2
	BNE  runtime
	BL   ·startStage(SB)
	BL   ·serve(SB)
	UNDEF

runtime:
	// A Go process of some milliseconds spends most of its context switches on the naps of the runtime's monitor. With 5 ms of
	// timer slack, which its thread inherits, there are next to none: see giveSlack. In one that stays, as batch does, that
	// would keep other threads waiting.
	MOVD 0(RSP), R1
	CMP  $2, R1
	BLT  slack
	MOVD  16(RSP), R1        // argv[1]
	MOVWU 0(R1), R2
	MOVD  $0x63746162, R3    // batc
	CMP   R3, R2
	BNE   slack
	MOVHU 4(R1), R2
	CMP   $0x0068, R2        // h, and 0
	BEQ   start

slack:
	MOVD $167, R8     // prctl
	MOVD $30, R0      // PR_GET_TIMERSLACK
	SVC
	MOVD R0, ·callersSlack(SB)
	MOVD $29, R0      // PR_SET_TIMERSLACK
	MOVD $5000000, R1 // ns
	SVC

start:
	JMP _rt0_arm64_linux(SB)

// func call(trap, a1, a2, a3, a4 uintptr) (result uintptr, errno syscall.Errno)
TEXT ·call(SB), NOSPLIT, $0-56
	MOVD trap+0(FP), R8
	MOVD a1+8(FP), R0
	MOVD a2+16(FP), R1
	MOVD a3+24(FP), R2
	MOVD a4+32(FP), R3
	MOVD $0, R4
	MOVD $0, R5
	SVC
	CMN  $4095, R0
	BCC  ok
	NEG  R0, R0
	MOVD $-1, R4
	MOVD R4, result+40(FP)
	MOVD R0, errno+48(FP)
	RET

ok:
	MOVD R0, result+40(FP)
	MOVD ZR, errno+48(FP)
	RET

// func mapMemory(address, size, flags, fd uintptr) (result uintptr)
TEXT ·mapMemory(SB), NOSPLIT, $0-40
	MOVD $222, R8 // mmap
	MOVD address+0(FP), R0
	MOVD size+8(FP), R1
	MOVD $3, R2 // PROT_READ | PROT_WRITE
	MOVD flags+16(FP), R3
	MOVD fd+24(FP), R4
	MOVD $0, R5
	SVC
	MOVD R0, result+32(FP)
	RET
