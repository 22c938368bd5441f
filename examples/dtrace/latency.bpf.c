// How long a function of a program takes: each call as a record, and the distribution of all.
//
//   perfring dtrace latency.bpf.o --probe 'on_entry=uprobe:/bin/PROGRAM:FUNCTION:entry' \
//       --probe 'on_return=uprobe:/bin/PROGRAM:FUNCTION:return' -- /bin/PROGRAM

#include "program.h"
#include "perfring_aggregations.h"
#include "perfring_dtrace.h"

// Calls of one thread within each other.
#define DEPTH 16

struct starts {
	__u32 depth;
	__u32 missed;
	__u64 at[DEPTH];
};

struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 16384);
	TYPE(key, __u32);
	TYPE(value, struct starts);
} threads SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct dtrace_quantize);
} nanoseconds SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	UINT(key_size, 4);
	UINT(value_size, 4);
} events SEC(".maps");

struct call {
	__u32 pid, tid;
	__u64 start, nanoseconds;
	__u32 depth;
	char comm[16];
};
DTRACE_RECORD(events, struct call);
DTRACE_FORMAT(call, "{start} {comm:-16} {pid:7} {tid:7} {depth:2} {nanoseconds:10} ns");

static const struct starts none;

SEC("dtrace")
int on_entry(struct dtrace_context *context)
{
	__u32 tid = context->tid;
	struct starts *starts = bpf_map_lookup_elem(&threads, &tid);

	if (!starts) {
		bpf_map_update_elem(&threads, &tid, &none, BPF_NOEXIST);
		starts = bpf_map_lookup_elem(&threads, &tid);
		if (!starts)
			return 0;
	}
	__u32 depth = starts->depth;
	if (depth < DEPTH) {
		starts->at[depth] = bpf_ktime_get_ns();
		starts->depth = depth + 1;
	} else {
		starts->missed += 1;
	}
	return 0;
}

SEC("dtrace")
int on_return(struct dtrace_context *context)
{
	__u32 tid = context->tid, zero = 0;
	struct starts *starts = bpf_map_lookup_elem(&threads, &tid);

	if (!starts)
		return 0;
	if (starts->missed) {
		starts->missed -= 1;
		return 0;
	}
	__u32 depth = starts->depth - 1;
	if (depth >= DEPTH)
		return 0;
	starts->depth = depth;
	__u64 start = starts->at[depth];
	__u64 nanoseconds_ = bpf_ktime_get_ns() - start;

	dtrace_quantize(&nanoseconds, &zero, nanoseconds_);
	if (bpf_buffer_reserve(context, DTRACE_BUFFER, &events, sizeof(struct call)))
		return 0;
	struct call *call = context->buf;
	if ((void *)(call + 1) <= context->buf_end) {
		call->pid = context->pid;
		call->tid = tid;
		call->start = start;
		call->nanoseconds = nanoseconds_;
		call->depth = depth;
		bpf_get_current_comm(call->comm, sizeof(call->comm));
	}
	bpf_buffer_commit(context, DTRACE_BUFFER, &events);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
