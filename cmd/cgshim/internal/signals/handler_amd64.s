#include "textflag.h"

// onSignal is write(signalPipe, siginfo, siginfoSize). The siginfo is the second argument already.
TEXT onSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	$1, AX
	MOVL	·signalPipe(SB), DI
	MOVL	$32, DX
	SYSCALL
	RET

// onChild is write(childEvent, 1, 8).
TEXT onChild<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	$1, AX
	MOVL	·childEvent(SB), DI
	LEAQ	one<>(SB), SI
	MOVL	$8, DX
	SYSCALL
	RET

DATA one<>+0(SB)/8, $1
GLOBL one<>(SB), RODATA, $8

// restoreSignal is rt_sigreturn().
TEXT restoreSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	$15, AX
	SYSCALL
	INT	$3

DATA ·onSignal(SB)/8, $onSignal<>(SB)
GLOBL ·onSignal(SB), RODATA, $8

DATA ·onChild(SB)/8, $onChild<>(SB)
GLOBL ·onChild(SB), RODATA, $8

DATA ·restoreSignal(SB)/8, $restoreSignal<>(SB)
GLOBL ·restoreSignal(SB), RODATA, $8

// func entry()
//
// The kernel's stack has to be as it was, and RDX too, for reexec's entry.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	CMPQ	0(SP), $2 // argc: a stage has no arguments
	JLT	done
	MOVQ	DX, R12
	LEAQ	·ending(SB), R13

next:
	MOVBLZX	0(R13), R14
	TESTL	R14, R14
	JEQ	hook
	ADDQ	$1, R13
	MOVQ	$13, AX // rt_sigaction
	MOVQ	R14, DI
	MOVQ	$0, SI
	LEAQ	·found(SB), DX
	MOVQ	$8, R10
	SYSCALL
	TESTQ	AX, AX
	JNE	next
	CMPQ	·found(SB), $1 // SIG_IGN
	JEQ	next
	MOVQ	$13, AX
	MOVQ	R14, DI
	LEAQ	firstAction<>(SB), SI
	MOVQ	$0, DX
	MOVQ	$8, R10
	SYSCALL
	TESTQ	AX, AX
	JNE	next
	BTSQ	R14, ·caughtFirst(SB)
	JMP	next

hook:
	LEAQ	keepFirst<>(SB), AX
	MOVQ	AX, _cgo_sigaction(SB)
	MOVQ	R12, DX

done:
	JMP	github·com∕cgshim∕cgshim∕reexec·entry(SB)

// firstHandler copies the siginfo, the second argument, to came. The number comes last, because it says that the rest is there.
TEXT firstHandler<>(SB),NOSPLIT|NOFRAME,$0
	SHLQ	$5, DI // siginfoSize
	LEAQ	·came(SB), AX
	ADDQ	AX, DI
	MOVQ	24(SI), AX
	MOVQ	AX, 24(DI)
	MOVQ	16(SI), AX
	MOVQ	AX, 16(DI)
	MOVQ	8(SI), AX
	MOVQ	AX, 8(DI)
	MOVQ	0(SI), AX
	MOVQ	AX, 0(DI)
	RET

DATA firstAction<>+0(SB)/8, $firstHandler<>(SB)
DATA firstAction<>+8(SB)/8, $0x1c000004 // SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_RESTART
DATA firstAction<>+16(SB)/8, $restoreSignal<>(SB)
GLOBL firstAction<>(SB), RODATA, $32

// keepFirst is called by the Go runtime instead of rt_sigaction(sig, new, old), as from C. EINVAL makes the runtime do that itself.
TEXT keepFirst<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	$22, AX // EINVAL
	MOVQ	·caughtFirst(SB), CX
	BTQ	DI, CX
	JCC	leave
	TESTQ	SI, SI
	JEQ	found
	SHLQ	$5, DI
	LEAQ	·wanted(SB), CX
	ADDQ	CX, DI
	MOVQ	0(SI), AX
	MOVQ	AX, 0(DI)
	MOVQ	8(SI), AX
	MOVQ	AX, 8(DI)
	MOVQ	16(SI), AX
	MOVQ	AX, 16(DI)
	MOVQ	24(SI), AX
	MOVQ	AX, 24(DI)

found:
	MOVL	$0, AX
	TESTQ	DX, DX
	JEQ	leave
	MOVQ	AX, 0(DX) // SIG_DFL
	MOVQ	AX, 8(DX)
	MOVQ	AX, 16(DX)
	MOVQ	AX, 24(DX)

leave:
	RET

// func leaveToGo()
TEXT ·leaveToGo(SB),NOSPLIT,$0-0
	MOVQ	$0, _cgo_sigaction(SB)
	RET
