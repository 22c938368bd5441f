// Programs for probes, each with a mistake that the verifier names.
//
// refused.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -I../../include -c refused.bpf.c -o refused.bpf.o &&
//   llvm-strip-14 --strip-debug refused.bpf.o

#include "../../examples/dtrace/program.h"
#include "perfring_dtrace.h"

struct {
	UINT(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	UINT(key_size, 4);
	UINT(value_size, 4);
} events SEC(".maps");

SEC("dtrace/:::never")
int never_commits(struct dtrace_context *context)
{
	bpf_buffer_reserve(context, DTRACE_BUFFER, &events, 8);
	return 0;
}

SEC("dtrace/:::never")
int exits_with_an_open_buffer(struct dtrace_context *context)
{
	if (bpf_buffer_reserve(context, DTRACE_BUFFER, &events, 8))
		return 1;
	if (!context->pid)
		return 2;
	bpf_buffer_commit(context, DTRACE_BUFFER, &events);
	return 0;
}

SEC("dtrace/:::never")
int writes_past_it(struct dtrace_context *context)
{
	if (bpf_buffer_reserve(context, DTRACE_BUFFER, &events, 16))
		return 1;
	__u64 *to = context->buf;
	if ((void *)(to + 1) <= context->buf_end)
		to[1] = 1;
	bpf_buffer_commit(context, DTRACE_BUFFER, &events);
	return 0;
}

SEC("dtrace/:::never")
int writes_after_commit(struct dtrace_context *context)
{
	if (bpf_buffer_reserve(context, DTRACE_BUFFER, &events, 8))
		return 1;
	__u64 *to = context->buf;
	void *end = context->buf_end;
	bpf_buffer_commit(context, DTRACE_BUFFER, &events);
	if ((void *)(to + 1) <= end)
		*to = 1;
	return 0;
}

// The context of an XDP program: there is no such field of 4 bytes here.
struct xdp_md {
	__u32 data, data_end;
};

SEC("dtrace/:::never")
int takes_it_for_another_type(struct xdp_md *context)
{
	return context->data;
}

SEC("dtrace/:::never")
int writes_the_context(struct dtrace_context *context)
{
	context->pid = 1;
	return 0;
}

SEC("kprobe/sys_write")
int takes_registers_for_the_context(struct dtrace_context *context)
{
	return context->pid;
}

char _license[] SEC("license") = "Dual MIT/GPL";
