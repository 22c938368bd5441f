// Who writes how much: how large the writes of each process are, and how much they come to.
//
//   perfring dtrace writes.bpf.o -- CMD
//   perfring dtrace writes.bpf.o -p PID --interval 1s

#include "program.h"
#include "perfring_aggregations.h"
#include "perfring_dtrace.h"

struct key {
	__u32 pid;
	char comm[16];
};

struct written {
	struct dtrace_count writes;
	struct dtrace_sum bytes;
	struct dtrace_quantize sizes;
};

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_HASH);
	UINT(max_entries, 4096);
	TYPE(key, struct key);
	TYPE(value, struct written);
} written SEC(".maps");

// Between the start and the end of a call: whose call it is.
struct {
	UINT(type, BPF_MAP_TYPE_HASH);
	UINT(max_entries, 16384);
	TYPE(key, __u32);
	TYPE(value, struct key);
} writers SEC(".maps");

SEC("dtrace/syscall::write:entry")
int on_write(struct dtrace_context *context)
{
	struct key key = { .pid = context->pid };
	__u32 tid = context->tid;

	bpf_get_current_comm(key.comm, sizeof(key.comm));
	bpf_map_update_elem(&writers, &tid, &key, BPF_ANY);
	return 0;
}

// What was written, and not what was asked for.
SEC("dtrace/syscall::write:return")
int on_return(struct dtrace_context *context)
{
	__u32 tid = context->tid;
	__s64 bytes = context->args[0];
	struct key *found = bpf_map_lookup_elem(&writers, &tid);
	struct key key;

	if (!found)
		return 0;
	key = *found;
	bpf_map_delete_elem(&writers, &tid);
	if (bytes < 0)
		return 0;
	struct written *to = dtrace_value(&written, &key);
	if (to) {
		dtrace_add_count(&to->writes);
		dtrace_add_sum(&to->bytes, bytes);
		dtrace_add_quantize(&to->sizes, bytes);
	}
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
