#include "textflag.h"

// func entry()
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
