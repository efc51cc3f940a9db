// The thread record: where the kernel side looks for a thread's current span.
#pragma once
#include <link.h>
#include <stdint.h>
#include "abi/probe.h"

struct thread {
	struct probe_thread abi;
	struct owner *owner;		// NULL: no span was entered here yet
};

// Built with TLS descriptors (-mtls-dialect=gnu2) it is as fast as static TLS, and loads where
// there is no room for more of that. Global, because the assembler below must name it.
__attribute__((tls_model("global-dynamic"), visibility("hidden"))) __thread struct thread tracekit_probe_thread;

struct tls_module {
	uintptr_t inside;		// an address in the module
	size_t id;
	const char *data;		// this thread's copy
};

static int find_tls_module(struct dl_phdr_info *info, size_t size, void *argument)
{
	struct tls_module *found = argument;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + part->p_vaddr;

		if (part->p_type != PT_LOAD || found->inside - start >= part->p_memsz)
			continue;
		found->id = info->dlpi_tls_modid;
		found->data = info->dlpi_tls_data;
		return 1;
	}
	return 0;
}

// Says in the header where a thread's record is found from its thread pointer.
static void tell_record(struct probe_header *header)
{
	header->mode = PROBE_NOTHING;
#if defined(__x86_64__)
	const char *record = (const char *)&tracekit_probe_thread;
	const char *thread_pointer;
	const intptr_t *descriptor;

	__asm__("movq %%fs:0, %0" : "=r"(thread_pointer));
	// ld.so wrote the offset into the descriptor if there was room for static TLS.
	__asm__("leaq tracekit_probe_thread@tlsdesc(%%rip), %0" : "=a"(descriptor));
	header->tls_offset = record - thread_pointer;
	if (descriptor[1] == header->tls_offset) {
		header->mode = PROBE_STATIC;
		return;
	}
#if defined(__GLIBC__)
	struct tls_module module = { .inside = (uintptr_t)find_tls_module };

	dl_iterate_phdr(find_tls_module, &module);
	header->tls_module = module.id;
	header->tls_offset = record - module.data;
	header->mode = PROBE_DYNAMIC;
#endif
#endif
}
