#include "textflag.h"

// func spawn(args *cloneArgs, size uintptr, ops *op, n uintptr, failed *uintptr) uintptr
//
// See spawn_amd64.s. R18 is the platform's, R28 is g; both stay as they are.
TEXT ·spawn(SB), NOSPLIT, $0-48
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	ops+16(FP), R19
	MOVD	n+24(FP), R20
	MOVD	failed+32(FP), R21
	MOVD	$435, R8		// clone3
	SVC
	CBZ	R0, child
	MOVD	R0, ret+40(FP)
	RET

child:
	CBZ	R20, out
	MOVWU	64(R19), R22
	MOVD	8(R19), R0
	TBZ	$2, R22, 2(PC)
	MOVD	(R0), R0
	MOVD	16(R19), R1
	TBZ	$3, R22, 2(PC)
	MOVD	(R1), R1
	MOVD	24(R19), R2
	TBZ	$4, R22, 2(PC)
	MOVD	(R2), R2
	MOVD	32(R19), R3
	TBZ	$5, R22, 2(PC)
	MOVD	(R3), R3
	MOVD	40(R19), R4
	TBZ	$6, R22, 2(PC)
	MOVD	(R4), R4
	MOVD	48(R19), R5
	TBZ	$7, R22, 2(PC)
	MOVD	(R5), R5
	MOVD	0(R19), R8
	SVC
	CMN	$4095, R0
	BHS	fail
	MOVD	56(R19), R23
	CBZ	R23, 2(PC)
	MOVD	R0, (R23)
	LSRW	$20, R22, R24		// how many to leave out after a success
	B	next

fail:
	NEG	R0, R0
	MOVW	R0, 68(R19)
	MOVD	ZR, R24
	TBZ	$0, R22, next
	MOVWU	72(R19), R23
	CMPW	R23, R0
	BNE	out

next:
	ADD	$1, R24
	CMP	R20, R24
	BHI	out
	SUB	R24, R20
	MOVD	$80, R25
	MUL	R25, R24
	ADD	R24, R19
	B	child

out:
	MOVD	R19, (R21)

exit:
	MOVD	$127, R0
	MOVD	$94, R8			// exit_group
	SVC
	B	exit
