#include "textflag.h"

// onSignal is write(signalPipe, siginfo, siginfoSize). The siginfo is the second argument already.
TEXT onSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	$1, AX
	MOVL	·signalPipe(SB), DI
	MOVL	$32, DX
	SYSCALL
	RET

// restoreSignal is rt_sigreturn().
TEXT restoreSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	$15, AX
	SYSCALL
	INT	$3

DATA ·onSignal(SB)/8, $onSignal<>(SB)
GLOBL ·onSignal(SB), RODATA, $8

DATA ·restoreSignal(SB)/8, $restoreSignal<>(SB)
GLOBL ·restoreSignal(SB), RODATA, $8
