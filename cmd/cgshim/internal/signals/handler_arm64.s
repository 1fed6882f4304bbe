#include "textflag.h"

// onSignal is write(signalPipe, siginfo, siginfoSize). The siginfo is the second argument already.
TEXT onSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVD	$64, R8
	MOVW	·signalPipe(SB), R0
	MOVD	$32, R2
	SVC
	RET

DATA ·onSignal(SB)/8, $onSignal<>(SB)
GLOBL ·onSignal(SB), RODATA, $8
