// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Where the threads of the target spend their time, which calls fail, how processes live.
//
// One object, because its programs share the state of tasks; which of them are attached is
// the collector's choice, and what is not attached costs nothing.
#include "calls.bpf.h"
#include "queue.bpf.h"
#include "sched.bpf.h"
#include "spans.bpf.h"
#include "target.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
