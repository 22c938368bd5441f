// Which processes call the system for what, and how often.
//
//   perfring dtrace syscalls.bpf.o -- CMD
//   perfring dtrace syscalls.bpf.o -a --interval 5s

#include "program.h"
#include "perfring_aggregations.h"
#include "perfring_dtrace.h"

struct key {
	char comm[16];
	char function[32];
};

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_HASH);
	UINT(max_entries, 16384);
	TYPE(key, struct key);
	TYPE(value, struct dtrace_count);
} calls SEC(".maps");

// The names of the probes: which call it is.
struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 1024);
	TYPE(key, __u32);
	TYPE(value, struct dtrace_probe);
} dtrace_probes SEC(".maps");

SEC("dtrace/syscall:::entry")
int count(struct dtrace_context *context)
{
	__u32 id = context->probe_id;
	struct dtrace_probe *probe = bpf_map_lookup_elem(&dtrace_probes, &id);
	struct key key = {};

	if (!probe)
		return 0;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	__builtin_memcpy(key.function, probe->function, sizeof(key.function));
	dtrace_count(&calls, &key);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
