// Maps that BTF describes: every field, and a program array with programs in it.
//
// maps.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v2 -O2 -g -fdebug-compilation-dir=. -c maps.bpf.c -o maps.bpf.o &&
//   llvm-strip-14 --strip-debug maps.bpf.o
//
// It needs no header.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define UINT(name, value) int (*name)[value]
#define TYPE(name, type) type *name
#define ARRAY(name, type) __typeof__(type) *name[]

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_tail_call)(void *context, void *map, u32 index) = (void *)12;
static long (*const bpf_ringbuf_output)(void *map, void *data, u64 size, u64 flags) = (void *)130;

struct ecb {
	u32 id, probe_id;
};
typedef const struct ecb entry;

struct {
	UINT(type, 2);
	UINT(max_entries, 128);
	TYPE(key, u32);
	TYPE(value, entry);
} ecbs SEC(".maps");

struct {
	UINT(type, 1);
	UINT(key_size, 12);
	UINT(value_size, 40);
	UINT(max_entries, 300);
	UINT(map_flags, 1);
	UINT(pinning, 1);
	UINT(numa_node, 0);
} pinned SEC(".maps");

struct {
	UINT(type, 27);
	UINT(max_entries, 4096);
} ring SEC(".maps");

struct {
	UINT(type, 4);
	UINT(key_size, 4);
	UINT(value_size, 4);
} events SEC(".maps");

int first(void *context);
int second(void *context);

struct {
	UINT(type, 3);
	UINT(max_entries, 8);
	UINT(key_size, 4);
	ARRAY(values, int(void *));
} programs SEC(".maps") = { .values = { [1] = first, [5] = second } };

SEC("dtrace/1")
int first(void *context)
{
	u8 data[5] = { 1, 2, 3, 4, 5 };
	return bpf_ringbuf_output(&ring, data, sizeof(data), 0);
}

SEC("?dtrace/5")
int second(void *context)
{
	u8 key[12] = {};
	return bpf_map_lookup_elem(&pinned, key) != 0;
}

SEC("kprobe/do_exit")
int enter(void *context)
{
	u32 key = 0;
	struct ecb *ecb = bpf_map_lookup_elem(&ecbs, &key);
	if (!ecb)
		return 0;
	bpf_tail_call(context, &programs, ecb->id);
	return 1;
}

char _license[] SEC("license") = "GPL";
