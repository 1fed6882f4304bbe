#include "textflag.h"

// func entry()
//
// The runtime wants RDX as it was, too.
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
	// Go code that assembly calls loads g from thread-local storage: nil, from here.
	MOVQ  $158, AX                 // arch_prctl
	MOVQ  $0x1002, DI              // ARCH_SET_FS
	LEAQ  noThread<>+16(SB), SI
	SYSCALL
	ANDQ  $~15, SP
	CALL  ·startStage(SB)
	CALL  ·serve(SB)
	INT   $3

runtime:
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

GLOBL noThread<>(SB), NOPTR, $32
