#include "textflag.h"

// onSignal is write(signalPipe, siginfo, siginfoSize). The siginfo is the second argument already.
TEXT onSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVD	$64, R8
	MOVW	·signalPipe(SB), R0
	MOVD	$32, R2
	SVC
	RET

// onChild is write(childEvent, 1, 8).
TEXT onChild<>(SB),NOSPLIT|NOFRAME,$0
	MOVD	$64, R8
	MOVW	·childEvent(SB), R0
	MOVD	$one<>(SB), R1
	MOVD	$8, R2
	SVC
	RET

DATA one<>+0(SB)/8, $1
GLOBL one<>(SB), RODATA, $8

DATA ·onChild(SB)/8, $onChild<>(SB)
GLOBL ·onChild(SB), RODATA, $8

DATA ·onSignal(SB)/8, $onSignal<>(SB)
GLOBL ·onSignal(SB), RODATA, $8

// func entry()
//
// The kernel's stack has to be as it was, for reexec's entry.
TEXT ·entry(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD	0(RSP), R1 // argc: a stage has no arguments
	CMP	$2, R1
	BLT	done
	MOVD	$·ending(SB), R9

next:
	MOVBU	(R9), R10
	CBZ	R10, hook
	ADD	$1, R9
	MOVD	$134, R8 // rt_sigaction
	MOVD	R10, R0
	MOVD	ZR, R1
	MOVD	$·found(SB), R2
	MOVD	$8, R3
	SVC
	CBNZ	R0, next
	MOVD	·found(SB), R4
	CMP	$1, R4 // SIG_IGN
	BEQ	next
	MOVD	$134, R8
	MOVD	R10, R0
	MOVD	$firstAction<>(SB), R1
	MOVD	ZR, R2
	MOVD	$8, R3
	SVC
	CBNZ	R0, next
	MOVD	$1, R4
	LSL	R10, R4, R4
	MOVD	·caughtFirst(SB), R5
	ORR	R4, R5, R5
	MOVD	R5, ·caughtFirst(SB)
	B	next

hook:
	MOVD	$keepFirst<>(SB), R4
	MOVD	R4, _cgo_sigaction(SB)
	MOVD	ZR, R0

done:
	JMP	github·com∕cgshim∕cgshim∕reexec·entry(SB)

// firstHandler copies the siginfo, the second argument, to came. The number comes last, because it says that the rest is there.
TEXT firstHandler<>(SB),NOSPLIT|NOFRAME,$0
	MOVD	$·came(SB), R2
	ADD	R0<<5, R2, R2 // siginfoSize
	LDP	16(R1), (R3, R4)
	STP	(R3, R4), 16(R2)
	LDP	0(R1), (R3, R4)
	MOVD	R4, 8(R2)
	MOVD	R3, 0(R2)
	RET

DATA firstAction<>+0(SB)/8, $firstHandler<>(SB)
DATA firstAction<>+8(SB)/8, $0x18000004 // SA_SIGINFO | SA_ONSTACK | SA_RESTART
GLOBL firstAction<>(SB), RODATA, $32

// keepFirst is called by the Go runtime instead of rt_sigaction(sig, new, old), as from C. EINVAL makes the runtime do that itself.
TEXT keepFirst<>(SB),NOSPLIT|NOFRAME,$0
	MOVD	·caughtFirst(SB), R4
	LSR	R0, R4, R4
	TBZ	$0, R4, leave
	CBZ	R1, found
	MOVD	$·wanted(SB), R4
	ADD	R0<<5, R4, R4
	LDP	0(R1), (R5, R6)
	STP	(R5, R6), 0(R4)
	LDP	16(R1), (R5, R6)
	STP	(R5, R6), 16(R4)

found:
	MOVD	ZR, R0
	CBZ	R2, done
	STP	(ZR, ZR), 0(R2) // SIG_DFL
	STP	(ZR, ZR), 16(R2)

done:
	RET

leave:
	MOVD	$22, R0 // EINVAL
	RET

// func leaveToGo()
TEXT ·leaveToGo(SB),NOSPLIT,$0-0
	MOVD	ZR, _cgo_sigaction(SB)
	RET
