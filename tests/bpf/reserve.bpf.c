// A program for the interpreter and the kernel: it fills a record where it lies in the ring, or, where there is no such thing,
// on its stack.
//
// reserve.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -c reserve.bpf.c -o reserve.bpf.o &&
//   llvm-strip-14 --strip-debug reserve.bpf.o

typedef unsigned int __u32;
typedef unsigned long long u64;

#include "../../include/perfring_bpf.h"

#define SEC(name) __attribute__((section(name), used))
#define UINT(name, value) int (*name)[value]

static __u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*const bpf_perf_event_output)(void *context, void *map, u64 flags, void *data, u64 size) = (void *)25;

#define BPF_F_CURRENT_CPU 0xffffffffULL

struct {
	UINT(type, 4);
	UINT(key_size, 4);
	UINT(value_size, 4);
} events SEC(".maps");

// Whether there are helpers to reserve with. It is constant when the program is verified: of the two branches that ask for
// it one is gone then, and the kernel never sees a call that it does not know.
const volatile int reserve = 0;
volatile u64 failed;

struct context {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
	// The kernel's context ends here.
	void *buf, *buf_end;
};

#define BUFFER __builtin_offsetof(struct context, buf)

struct call {
	u64 pid_tgid;
	u64 arguments[4];
	__u32 cpu, folded;
};

static __attribute__((always_inline)) void fill(struct call *call, struct context *context)
{
	call->pid_tgid = bpf_get_current_pid_tgid();
	call->arguments[0] = context->di;
	call->arguments[1] = context->si;
	call->arguments[2] = context->dx;
	call->arguments[3] = context->cx;
	call->cpu = bpf_get_smp_processor_id();
	call->folded = (context->di ^ context->si) >> 32;
}

SEC("uprobe")
int on_call(struct context *context)
{
	if (reserve) {
		if (bpf_buffer_reserve(context, BUFFER, &events, sizeof(struct call))) {
			failed++;
			return 0;
		}
		struct call *call = context->buf;
		if ((void *)(call + 1) <= context->buf_end)
			fill(call, context);
		bpf_buffer_commit(context, BUFFER, &events);
	} else {
		struct call call = {};
		fill(&call, context);
		if (bpf_perf_event_output(context, &events, BPF_F_CURRENT_CPU, &call, sizeof(call)))
			failed++;
	}
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
