// Records and aggregations whose types say how they are told.
//
// typed.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -I../../include -c typed.bpf.c -o typed.bpf.o &&
//   llvm-strip-14 --strip-debug typed.bpf.o

#include "../../examples/dtrace/program.h"
#include "perfring_aggregations.h"
#include "perfring_dtrace.h"

enum colour { RED = 1, GREEN = 2, INFRARED = -7 };
enum wide { LARGE = 0x1234567890ULL };

struct point {
	__s32 x, y;
};

union either {
	__u32 whole;
	__u8 part[4];
};

typedef __u64 nanoseconds;

struct everything {
	nanoseconds time;
	__u32 low : 3, middle : 13, high : 16;
	__s32 small : 5;
	_Bool truth;
	enum colour colour, unknown;
	enum wide wide;
	void *address;
	struct point points[2];
	union either either;
	struct {
		__u8 inner;
		__s32 deep : 4;
	};
	char text[8];
	unsigned char bytes[3];
	__int128 huge;
};

struct number {
	__s64 number;
};

struct {
	UINT(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	UINT(key_size, 4);
	UINT(value_size, 4);
} events SEC(".maps");
DTRACE_RECORD(events, struct everything);
DTRACE_RECORD(events, struct number);
DTRACE_FORMAT(number, "number {number}");

struct all {
	struct dtrace_count count;
	struct dtrace_sum sum;
	struct dtrace_min min;
	struct dtrace_max max;
	struct dtrace_avg avg;
	struct dtrace_quantize sizes;
};

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_HASH);
	UINT(max_entries, 4);
	TYPE(key, struct number);
	TYPE(value, struct all);
} all SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, 2);
	TYPE(key, __u32);
	TYPE(value, struct dtrace_quantize);
} buckets SEC(".maps");

struct plain {
	__u8 byte;
	__s32 negative;
	__u64 large;
	char text[4];
};

// Just as it comes.
struct {
	UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct plain);
} plain SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 64);
	TYPE(key, __u32);
	TYPE(value, struct dtrace_probe);
} dtrace_probes SEC(".maps");

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct dtrace_probe);
} seen SEC(".maps");

SEC("dtrace/test:typed::everything")
int on_everything(struct dtrace_context *context)
{
	if (bpf_buffer_reserve(context, DTRACE_BUFFER, &events, sizeof(struct everything)))
		return 0;
	struct everything *to = context->buf;
	if ((void *)(to + 1) <= context->buf_end) {
		to->time = 5;
		to->low = 5;
		to->middle = 4097;
		to->high = 65535;
		to->small = -3;
		to->truth = 1;
		to->colour = INFRARED;
		to->unknown = 99;
		to->wide = LARGE;
		to->address = (void *)0xffff800000001000;
		to->points[0].x = 1;
		to->points[0].y = -2;
		to->points[1].x = -3;
		to->points[1].y = 4;
		to->either.whole = 0x04030201;
		to->inner = 200;
		to->deep = -8;
		__builtin_memcpy(to->text, "a\"\n\xff\0z", 7);
		to->bytes[0] = 1;
		to->bytes[1] = 2;
		to->bytes[2] = 255;
		__u64 *huge = (__u64 *)&to->huge;
		huge[0] = 0;
		huge[1] = 1;
	}
	bpf_buffer_commit(context, DTRACE_BUFFER, &events);
	return 0;
}

// A key, and a number.
SEC("dtrace/test:typed::number")
int on_number(struct dtrace_context *context)
{
	struct number key = { .number = context->args[0] };
	__s64 number = context->args[1];
	struct all *value = dtrace_value(&all, &key);

	if (value) {
		dtrace_add_count(&value->count);
		dtrace_add_sum(&value->sum, number);
		dtrace_add_min(&value->min, number);
		dtrace_add_max(&value->max, number);
		dtrace_add_avg(&value->avg, number);
		dtrace_add_quantize(&value->sizes, number);
	}
	__u32 second = 1, zero = 0;
	dtrace_quantize(&buckets, &second, number);
	struct plain *to = bpf_map_lookup_elem(&plain, &zero);
	if (to) {
		to->byte += 1;
		to->negative -= 1;
		to->large += 1ULL << 62;
	}
	__u32 id = context->probe_id;
	struct dtrace_probe *probe = bpf_map_lookup_elem(&dtrace_probes, &id);
	if (probe)
		bpf_map_update_elem(&seen, &zero, probe, BPF_ANY);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
