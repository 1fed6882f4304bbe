#include "textflag.h"

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
