// Maps as they were before BTF, two programs in a section, the first instruction set, no debug information.
//
// legacy.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v1 -O2 -c legacy.bpf.c -o legacy.bpf.o
//
// It needs no header.

typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;

struct bpf_map_def {
	u32 type, key_size, value_size, max_entries, map_flags;
	// As some loaders have it.
	u32 inner, node;
};

struct bpf_map_def SEC("maps") counts = { .type = 2, .key_size = 4, .value_size = 8, .max_entries = 16 };
struct bpf_map_def SEC("maps") seen = { .type = 1, .key_size = 8, .value_size = 4, .max_entries = 1024, .map_flags = 1 };

SEC("socket/count")
int count(void *context)
{
	u32 key = 3;
	u64 *value = bpf_map_lookup_elem(&counts, &key);
	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}

SEC("socket/count")
int see(void *context)
{
	u64 key = 7;
	u32 value = 1;
	return bpf_map_update_elem(&seen, &key, &value, 0);
}

u32 _version SEC("version") = 0x060100;
char _license[] SEC("license") = "GPL";
