/* SPDX-License-Identifier: MIT */
// What crosses between the stack walkers and the collector: frames, and where to find them.
//
// tracekit/capture/stacks/layout.py reads it, and tests/kernel/test_abi.py compares both. Fixed-width
// fields, widest first, no hidden padding. Times are nanoseconds of CLOCK_MONOTONIC.
#pragma once
#include <linux/types.h>

enum {
	MAX_PYTHON_FRAMES = 128,	// and a mark beyond
	MAX_NATIVE_FRAMES = 64,
	MAX_KERNEL_FRAMES = 64,
	STACK_SPANS = 8,
	MAX_LAYOUTS = 1024,		// memories of processes that are known
	MAX_PROCESSES = 4096,
	MAX_CODE = 256,			// mappings with code, of one process
	MAX_ANNOUNCED = 1 << 14,	// stacks that the collector is taken to know
	MAX_UNWIND_ROWS = 1 << 21,	// of all libraries together
	MAX_UNWIND_PAGES = 1 << 18,
	UNWIND_PAGE_SHIFT = 10,
};

// One word a Python frame: address of the code object >> 4, then the code unit that runs in the low bits
// (3.8 and 3.9: byte). PYTHON_ENTERED stands where C called the interpreter: behind the frames that one
// activation of _PyEval_EvalFrameDefault runs.
enum { PYTHON_UNIT_BITS = 21, PYTHON_NO_UNIT = (1 << PYTHON_UNIT_BITS) - 1, PYTHON_ENTERED = 1 };

struct python {			// where a CPython keeps its threads and frames: bytes from the start of what
	__u64 interpreters;	// address of _PyRuntime.interpreters.head; 0: no Python
	__u64 code_type;	// of PyCode_Type; 0: not known
	__u16 interpreter_next;
	__u16 interpreter_threads;
	__u16 thread_next;
	__u16 thread_id;	// pthread_self of the thread
	__u16 thread_frame;	// 3.11 and 3.12: its cframe; else its top frame
	__u16 cframe_frame;	// 3.11 and 3.12: of the top frame in a cframe; the cframe around it follows
	__u16 thread_chunk;	// from 3.11: the piece of the data stack that is in use; else 0
	__u16 frame_code;
	__u16 frame_back;
	__u16 frame_at;		// 3.8 to 3.10: f_lasti (int); else the address of an instruction
	__u16 frame_owner;	// from 3.12: a byte; 0: none
	__u16 frame_is_entry;	// 3.11: a byte; 0: none
	__u16 code_units;	// from 3.11: of the instructions in a code object
	__u8 minor;
	__u8 owner_c;		// from 3.12: owners from here on are no Python code
	__u8 code_mask;		// from 3.14: bits that tag a pointer
	__u8 unused[3];
};
_Static_assert(sizeof(struct python) == 48, "wire format changed: raise WIRE_VERSION");

// How to unwind from one range of addresses on: address - bias (32 bits), enum unwind (3), offset / 8 (16), place of
// rbp / 8 below the CFA (13; 0: where it was, UNWIND_RBP_LOST: nobody knows).
enum unwind {
	UNWIND_RSP,		// CFA = rsp + offset
	UNWIND_RBP,		// CFA = rbp + offset
	UNWIND_PLT,		// CFA = rsp + 8, and 8 more from the 11th byte of 16
	UNWIND_DEREF,		// CFA = *(rbp + offset)
	UNWIND_SIGNAL,
	UNWIND_END,		// the outermost frame
	UNWIND_UNKNOWN,		// by an expression that is not understood
	UNWIND_NONE,		// no function
};
enum { UNWIND_RBP_LOST = 0x1fff };

struct code {			// a mapping of a file with code
	__u64 start;
	__u64 end;
	__u64 bias;		// address - bias is what rows and pages count in
	__u32 first_row;
	__u32 rows;		// 0: none known, walked by frame pointers
	__u32 first_page;
	__u32 pages;
};
_Static_assert(sizeof(struct code) == 40, "wire format changed: raise WIRE_VERSION");

struct layout {			// of the memory of a process
	struct python python;
	__u32 codes;
	__u32 version;		// another one for whatever is different: walkers remember rows by it
	struct code code[MAX_CODE];	// by address
};

enum stack_kind { STACK_CPU, STACK_WAIT, STACK_ERROR };

// How a walk ended.
enum python_end {
	PYTHON_NONE,		// the process has no Python, or the thread runs none
	PYTHON_WHOLE,
	PYTHON_CUT,		// deeper than MAX_PYTHON_FRAMES
	PYTHON_STARTING,	// a thread without a frame: it begins or ends
	PYTHON_UNREADABLE,	// a frame cannot be read
};
enum native_end {
	NATIVE_NONE,		// no layout of the process is known
	NATIVE_WHOLE,
	NATIVE_CUT,		// deeper than MAX_NATIVE_FRAMES
	NATIVE_NO_MAPPING,
	NATIVE_NO_ROW,
	NATIVE_UNKNOWN,
	NATIVE_UNREADABLE,
	NATIVE_SIGNAL,
};

struct stack_record {		// a sample, a wait or a failed call; frames follow where the collector lacks them
	__u64 at_ns;
	__u64 weight;		// ns; STACK_ERROR: how many it stands for
	__u64 user;		// identity of the user's frames, 0: none
	__u64 kernel;		// of the kernel's, 0: none
	__u64 spans[STACK_SPANS];	// when the open spans began, innermost first; then 0
	__u32 tgid;
	__u32 pid;
	__u32 role;
	__u32 thread;
	__u16 nr;
	__u16 err;
	__u16 span;
	__u8 kind;
	__u8 reason;
	__u8 python;		// words that follow, innermost first: of Python, of native code, of the kernel
	__u8 natives;
	__u8 kernels;
	__u8 python_end;
	__u8 native_end;
	__u8 unused[3];
	__u32 layout;		// by which it was walked; 0: none
	__u32 unused2;
	// __u64 words[]
};
_Static_assert(sizeof(struct stack_record) == 136, "wire format changed: raise WIRE_VERSION");

struct sleeper {		// a thread that has not run since: the collector walks its memory itself
	__u64 pc;
	__u64 sp;
	__u64 bp;
	__u64 pointer;
	__u32 pid;
	__u32 tgid;
	__u32 running;
	__u32 kernels;
	__u64 kernel[MAX_KERNEL_FRAMES];
};
_Static_assert(sizeof(struct sleeper) == 560, "wire format changed: raise WIRE_VERSION");
