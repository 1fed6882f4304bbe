#include "textflag.h"

// func entry()
//
// On the kernel's stack are argc, argv[0] … argv[argc-1], 0, envp[0] …; it has to be as it was, and RDX too, for the runtime.
// Where this is the entry of the binary (go build -ldflags '-E …reexec.entry'), a stage starts here.
TEXT ·entry(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVB  $1, ·entered(SB)
	CMPQ  0(SP), $1
	JNE   runtime
	MOVQ  24(SP), AX               // envp[0]
	TESTQ AX, AX
	JEQ   runtime
	MOVQ  $0x535f4d4948534743, BX // CGSHIM_S
	CMPQ  BX, 0(AX)
	JNE   runtime
	MOVQ  $0x006e6f3d45474154, BX // TAGE=on, and 0. The name of the file comes after it, so that there is something to read
	CMPQ  BX, 8(AX)
	JNE   runtime
	// Go loads g from thread-local storage when assembly returns to it: nil, from here.
	MOVQ  $158, AX                 // arch_prctl
	MOVQ  $0x1002, DI              // ARCH_SET_FS
	LEAQ  ·noThread+16(SB), SI
	SYSCALL
	ANDQ  $~15, SP
	CALL  ·startStage(SB)
	CALL  ·serve(SB)
	INT   $3

runtime:
	// A Go process of some milliseconds spends most of its context switches on the naps of the runtime's monitor. With 5 ms of
	// timer slack, which its thread inherits, there are next to none: see giveSlack. In one that stays, as batch does, that
	// would keep other threads waiting.
	CMPQ 0(SP), $2
	JLT  slack
	MOVQ 16(SP), AX          // argv[1]
	CMPL 0(AX), $0x63746162  // batc
	JNE  slack
	CMPW 4(AX), $0x0068      // h, and 0
	JEQ  start

slack:
	MOVQ $157, AX     // prctl
	MOVQ $30, DI      // PR_GET_TIMERSLACK
	SYSCALL
	MOVQ AX, ·callersSlack(SB)
	MOVQ $157, AX
	MOVQ $29, DI      // PR_SET_TIMERSLACK
	MOVQ $5000000, SI // ns
	SYSCALL

start:
	JMP _rt0_amd64_linux(SB)

// func call(trap, a1, a2, a3, a4 uintptr) (result uintptr, errno syscall.Errno)
TEXT ·call(SB), NOSPLIT, $0-56
	MOVQ trap+0(FP), AX
	MOVQ a1+8(FP), DI
	MOVQ a2+16(FP), SI
	MOVQ a3+24(FP), DX
	MOVQ a4+32(FP), R10
	MOVQ $0, R8
	MOVQ $0, R9
	SYSCALL
	CMPQ AX, $0xfffffffffffff001
	JLS  ok
	NEGQ AX
	MOVQ $-1, result+40(FP)
	MOVQ AX, errno+48(FP)
	RET

ok:
	MOVQ AX, result+40(FP)
	MOVQ $0, errno+48(FP)
	RET

// func mapMemory(address, size, flags, fd uintptr) (result uintptr)
TEXT ·mapMemory(SB), NOSPLIT, $0-40
	MOVQ $9, AX // mmap
	MOVQ address+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ $3, DX // PROT_READ | PROT_WRITE
	MOVQ flags+16(FP), R10
	MOVQ fd+24(FP), R8
	MOVQ $0, R9
	SYSCALL
	MOVQ AX, result+32(FP)
	RET
