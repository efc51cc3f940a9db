// SPDX-License-Identifier: Apache-2.0
// Takes its own stack away, and does without: 101 times an open of a missing file, a nap, some work. Exit status 23.
//
// Its stack pointer stays where nothing is mapped, so there is not one frame that could be read.
__attribute__((naked)) void _start(void)
{
	asm volatile(
		"	mov	%%rsp, %%rdi\n"
		"	and	$-4096, %%rdi\n"
		"	sub	$65536, %%rdi\n"
		"	movabs	$0x7ffffffff000, %%rsi\n"	// the end of user space
		"	sub	%%rdi, %%rsi\n"
		"	mov	$11, %%eax\n"			// munmap
		"	syscall\n"
		"	test	%%rax, %%rax\n"
		"	jnz	2f\n"
		"	mov	$101, %%ebx\n"
		"1:	mov	$2, %%eax\n"			// open
		"	lea	path(%%rip), %%rdi\n"
		"	xor	%%esi, %%esi\n"
		"	syscall\n"
		"	cmp	$-2, %%rax\n"			// ENOENT
		"	jne	2f\n"
		"	mov	$35, %%eax\n"			// nanosleep
		"	lea	nap(%%rip), %%rdi\n"
		"	xor	%%esi, %%esi\n"
		"	syscall\n"
		"	test	%%rax, %%rax\n"
		"	jnz	2f\n"
		"	mov	$3000000, %%ecx\n"
		"3:	dec	%%ecx\n"
		"	jnz	3b\n"
		"	dec	%%ebx\n"
		"	jnz	1b\n"
		"	mov	$23, %%edi\n"
		"	jmp	4f\n"
		"2:	mov	$1, %%edi\n"
		"4:	mov	$231, %%eax\n"			// exit_group
		"	syscall\n"
		"	.section .rodata\n"
		"path:	.asciz	\"/nonexistent/tracekit\"\n"
		"	.balign	8\n"
		"nap:	.quad	0, 1000000\n"
		"	.text\n" ::);
}
