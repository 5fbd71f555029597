#include "textflag.h"

// func spawn(args *cloneArgs, size uintptr, ops *op, n uintptr, failed *uintptr) uintptr
//
// The child runs on the stack in args, touches no Go state and never returns:
// it loops over ops. R14 (g) and the frame pointer stay as they are, so the
// parent goes on as after any system call. Offsets are those of type op.
TEXT ·spawn(SB), NOSPLIT, $0-48
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	ops+16(FP), R12
	MOVQ	n+24(FP), R13
	MOVQ	failed+32(FP), BX
	MOVQ	$435, AX		// clone3
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, ret+40(FP)
	RET

child:
	TESTQ	R13, R13
	JZ	out
	MOVL	64(R12), R15
	MOVQ	8(R12), DI
	TESTL	$4, R15
	JZ	2(PC)
	MOVQ	(DI), DI
	MOVQ	16(R12), SI
	TESTL	$8, R15
	JZ	2(PC)
	MOVQ	(SI), SI
	MOVQ	24(R12), DX
	TESTL	$16, R15
	JZ	2(PC)
	MOVQ	(DX), DX
	MOVQ	32(R12), R10
	TESTL	$32, R15
	JZ	2(PC)
	MOVQ	(R10), R10
	MOVQ	40(R12), R8
	TESTL	$64, R15
	JZ	2(PC)
	MOVQ	(R8), R8
	MOVQ	48(R12), R9
	TESTL	$128, R15
	JZ	2(PC)
	MOVQ	(R9), R9
	MOVQ	0(R12), AX
	SYSCALL
	CMPQ	AX, $-4095
	JCC	fail
	MOVQ	56(R12), CX
	TESTQ	CX, CX
	JZ	2(PC)
	MOVQ	AX, (CX)
	MOVL	R15, CX
	SHRL	$20, CX			// how many to leave out after a success
	JMP	next

fail:
	NEGQ	AX
	MOVL	AX, 68(R12)
	XORL	CX, CX
	TESTL	$1, R15
	JZ	next
	CMPL	AX, 72(R12)
	JNE	out

next:
	INCQ	CX
	CMPQ	CX, R13
	JHI	out
	SUBQ	CX, R13
	IMULQ	$80, CX
	ADDQ	CX, R12
	JMP	child

out:
	MOVQ	R12, (BX)

exit:
	MOVQ	$127, DI
	MOVQ	$231, AX		// exit_group
	SYSCALL
	JMP	exit
