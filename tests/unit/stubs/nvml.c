// SPDX-License-Identifier: Apache-2.0
// A library that answers as NVML does, for GPUs that are not there.
//
// NVML_STUB tells it what to be: `name=number` words with spaces between them.
//   gpus=2                          how many there are
//   nvmlDeviceGetPowerUsage=3       what a function returns (nvmlReturn_t) instead of answering
//   reasons=68 mig=1 pid=4711       bits of the clocks' event reasons; MIG is on; a process that uses GPU 0
//   spin_ms=20                      CPU time that each reading of the utilisation takes
//   sleep=nvmlDeviceGetPowerUsage   this function never returns
// GPU n is 37 + n % busy, has n GB in use beside 2 GB, takes 300.5 W + n, and is 61 + n degrees warm.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
#define GB 1000000000ULL

struct memory { unsigned long long total, free, used; };
struct utilisation { unsigned int gpu, memory; };
struct process { unsigned int pid; unsigned long long used; unsigned int instance, compute; };
struct sample { unsigned int pid; unsigned long long at_us; unsigned int sm, memory, encoder, decoder; };

static const char *word(const char *name)
{
	const char *text = getenv("NVML_STUB");
	size_t length = strlen(name);

	for (; text && *text; text = strchr(text, ' ') ? strchr(text, ' ') + 1 : NULL)
		if (!strncmp(text, name, length) && text[length] == '=')
			return text + length + 1;
	return NULL;
}

static long number(const char *name, long otherwise)
{
	const char *text = word(name);

	return text ? strtol(text, NULL, 10) : otherwise;
}

static int verdict(const char *function)
{
	const char *sleeper = word("sleep");

	if (sleeper && !strncmp(sleeper, function, strlen(function)))
		for (;;)
			pause();
	return number(function, SUCCESS);
}

static void spin(long ms)
{
	struct timespec now;
	long long end_ns;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	end_ns = now.tv_sec * 1000000000LL + now.tv_nsec + ms * 1000000LL;
	while (now.tv_sec * 1000000000LL + now.tv_nsec < end_ns)
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
}

#define ASK() do { int said = verdict(__func__); if (said) return said; } while (0)

int nvmlInitWithFlags(unsigned int flags) { ASK(); (void)flags; return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == 28 ? "GPU not found" : "an error"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { ASK(); *count = number("gpus", 2); return SUCCESS; }

int nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
	ASK();
	strncpy(version, "570.00", length);
	return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device)
{
	ASK();
	*device = (void *)(uintptr_t)(index + 1);
	return SUCCESS;
}

static unsigned int index_of(void *device) { return (uintptr_t)device - 1; }

int nvmlDeviceGetUtilizationRates(void *device, struct utilisation *rates)
{
	ASK();
	spin(number("spin_ms", 0));
	rates->gpu = 37 + index_of(device);
	rates->memory = 11;
	return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory)
{
	ASK();
	memory->total = 80 * GB;
	memory->used = (2 + index_of(device)) * GB;
	memory->free = memory->total - memory->used;
	return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts)
{
	ASK();
	*milliwatts = 300500 + 1000 * index_of(device);
	return SUCCESS;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *degrees)
{
	ASK();
	(void)sensor;
	*degrees = 61 + index_of(device);
	return SUCCESS;
}

#ifndef BEFORE_535
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons)
{
	ASK();
	*reasons = index_of(device) ? 1 : number("reasons", 1);
	return SUCCESS;
}
#endif

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons)
{
	ASK();
	*reasons = index_of(device) ? 1 : number("reasons", 1);
	return SUCCESS;
}

int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending)
{
	ASK();
	(void)device;
	*current = *pending = number("mig", 0);
	return SUCCESS;
}

static int fill(void *device, unsigned int *count, struct process *processes, int others)
{
	unsigned int has = index_of(device) ? 0 : 1 + others;

	if (*count < has) {
		*count = has;
		return INSUFFICIENT_SIZE;
	}
	*count = has;
	if (has)
		processes[0] = (struct process){number("pid", 1), number("used_gb", 3) * GB, -1, -1};
	if (has > 1)
		processes[1] = (struct process){2, 5 * GB, -1, -1};
	return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, struct process *processes)
{
	ASK();
	return fill(device, count, processes, 1);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned int *count, struct process *processes)
{
	ASK();
	return fill(device, count, processes, 0);
}

// Each time it is asked there are four samples: two of `pid` (10 %, then 25 %), one of another, one never filled.
int nvmlDeviceGetProcessUtilization(void *device, struct sample *samples, unsigned int *count, unsigned long long since_us)
{
	unsigned int pid = number("pid", 1);

	ASK();
	if (index_of(device))
		return NOT_FOUND;
	if (!samples || *count < 4) {
		*count = 4;
		return INSUFFICIENT_SIZE;
	}
	*count = 4;
	samples[0] = (struct sample){pid, since_us + 200, 25, 1, 0, 0};
	samples[1] = (struct sample){pid, since_us + 100, 10, 1, 0, 0};
	samples[2] = (struct sample){2, since_us + 150, 60, 1, 0, 0};
	samples[3] = (struct sample){pid, 0, 4000000, 0, 0, 0};
	return SUCCESS;
}
