// Sends two records to a perf event array for each getppid(2) of one process.
//
// output.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -c output.bpf.c -o output.bpf.o &&
//   llvm-strip-14 --strip-debug output.bpf.o
//
// It needs no header. Without the debug information, which names directories, BTF remains.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static long (*const bpf_perf_event_output)(void *context, void *map, u64 flags, void *data, u64 size) = (void *)25;

#define BPF_F_CURRENT_CPU 0xffffffffULL
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERF_EVENT_ARRAY 4

#define UINT(name, value) int (*name)[value]

// Where the records go: an event for each CPU.
struct {
	UINT(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	UINT(key_size, 4);
	UINT(value_size, 4);
} events SEC(".maps");

struct config {
	// Whose calls count.
	u32 tgid;
	// Calls seen so far.
	u32 calls;
};

struct {
	UINT(type, BPF_MAP_TYPE_ARRAY);
	UINT(max_entries, 1);
	u32 *key;
	struct config *value;
} config SEC(".maps");

// 48 bytes.
struct call {
	u64 magic;
	u64 pid_tgid;
	u32 number;
	u32 cpu;
	u64 words[3];
};

SEC("tracepoint/syscalls/sys_enter_getppid")
int on_getppid(void *context)
{
	u32 zero = 0;
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct config *config_here = bpf_map_lookup_elem(&config, &zero);
	if (!config_here || config_here->tgid != pid_tgid >> 32)
		return 0;
	u32 number = config_here->calls;
	config_here->calls = number + 1;
	struct call call = {
		.magic = 0x706572666e696e67,
		.pid_tgid = pid_tgid,
		.number = number,
		.cpu = bpf_get_smp_processor_id(),
		.words = { number * 3ULL, ~(u64)number, 0x0123456789abcdef },
	};
	bpf_perf_event_output(context, &events, BPF_F_CURRENT_CPU, &call, sizeof(call));
	// A length that is no multiple of anything.
	u8 odd[45];
	for (int i = 0; i < 45; i++)
		odd[i] = (u8)(number + i);
	bpf_perf_event_output(context, &events, BPF_F_CURRENT_CPU, odd, sizeof(odd));
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
