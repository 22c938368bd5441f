// The sample of the design that this layer implements: a probe of one type hands on to a program of another.
//
// sample.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -I../../include -c sample.bpf.c -o sample.bpf.o &&
//   llvm-strip-14 --strip-debug sample.bpf.o
//
// and sample_hash.bpf.o is the same with -DECBS=1, whose programs never get to the record.
//
// `perfring dtrace sample.bpf.o -- CMD` prints a line for each write(2) of CMD.

typedef unsigned int __u32;
typedef unsigned long long __u64;

#include "perfring_dtrace.h"

#define SEC(name) __attribute__((section(name), used))
#define UINT(name, value) int (*name)[value]
#define TYPE(name, type) type *name

static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static __u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static long (*const bpf_tail_call)(void *context, void *map, __u32 index) = (void *)12;

// __NR_write
#define WRITE 1

// An array, since bpf_finalize_context takes no other: of a hash it says -EINVAL.
#ifndef ECBS
#define ECBS 2
#endif
struct {
	UINT(type, ECBS);
	TYPE(key, __u32);
	TYPE(value, struct dtrace_ecb);
	UINT(max_entries, 4096);
} ecbs SEC(".maps");

// One slot for each system call.
struct {
	UINT(type, 3);
	UINT(key_size, 4);
	UINT(value_size, 4);
	UINT(max_entries, 512);
} programs SEC(".maps");

// A ring for each CPU.
struct {
	UINT(type, 4);
	UINT(key_size, 4);
	UINT(value_size, 4);
} events SEC(".maps");

// 48 bytes.
struct event {
	__u32 probe_id, flags, pid, ppid, cpu, euid, egid;
	__u64 task;
	__u32 tag;
};
DTRACE_RECORD(events, struct event);
DTRACE_FORMAT(event, "CPU-{cpu:d}: [{probe_id:d}/{flags:d}] PID {pid:d} PPID {ppid:d} EUID {euid:d} EGID {egid:d} "
		     "TASK {task:08x}");

SEC("kprobe/sys_write")
int on_write(struct dtrace_regs *regs)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct dtrace_ecb ecb = { .id = 1, .probe_id = 123 };

	bpf_map_update_elem(&ecbs, &cpu, &ecb, 0);
	bpf_tail_call(regs, &programs, WRITE);
	return 0;
}

SEC("dtrace/1")
int write_event(struct dtrace_context *context)
{
	if (bpf_finalize_context(context, &ecbs))
		return 1;
	if (bpf_buffer_reserve(context, DTRACE_BUFFER, &events, sizeof(struct event)))
		return 2;
	struct event *event = context->buf;
	if ((void *)(event + 1) <= context->buf_end) {
		event->probe_id = context->probe_id;
		event->flags = 0;
		event->pid = context->pid;
		event->ppid = context->ppid;
		event->cpu = context->cpu;
		event->euid = context->euid;
		event->egid = context->egid;
		event->task = context->task;
		event->tag = 0xdace;
	}
	bpf_buffer_commit(context, DTRACE_BUFFER, &events);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
