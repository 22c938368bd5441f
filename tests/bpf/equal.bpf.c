// Programs of several types that do the same in the kernel and in the interpreter.
//
// equal.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -c equal.bpf.c -o equal.bpf.o &&
//   llvm-strip-14 --strip-debug equal.bpf.o
//
// It needs no header.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define UINT(name, value) int (*name)[value]
#define TYPE(name, type) type *name

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static long (*const bpf_tail_call)(void *context, void *map, u32 index) = (void *)12;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static u64 (*const bpf_get_current_uid_gid)(void) = (void *)15;
static long (*const bpf_get_current_comm)(void *to, u32 size) = (void *)16;
static long (*const bpf_perf_event_output)(void *context, void *map, u64 flags, void *data, u64 size) = (void *)25;
static long (*const bpf_skb_load_bytes)(const void *skb, u32 offset, void *to, u32 len) = (void *)26;
static long (*const bpf_probe_read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*const bpf_probe_read_user_str)(void *to, u32 size, const void *from) = (void *)114;
static long (*const bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void (*const bpf_ringbuf_discard)(void *data, u64 flags) = (void *)133;
static u64 (*const bpf_ringbuf_query)(void *ring, u64 what) = (void *)134;
static long (*const bpf_loop)(u32 times, void *callback, void *context, u64 flags) = (void *)181;
static long (*const bpf_strncmp)(const char *text, u32 size, const char *other) = (void *)182;

// Loads of the legacy kind, from the packet of a socket filter; they end the program where there is no such byte.
u64 load_byte(void *skb, u64 offset) asm("llvm.bpf.load.byte");
u64 load_half(void *skb, u64 offset) asm("llvm.bpf.load.half");
u64 load_word(void *skb, u64 offset) asm("llvm.bpf.load.word");

#define BPF_F_CURRENT_CPU 0xffffffffULL
#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_EXIST 2

struct {
	UINT(type, 4);
	UINT(key_size, 4);
	UINT(value_size, 4);
} events SEC(".maps");

// Slots that stay empty.
struct {
	UINT(type, 4);
	UINT(key_size, 4);
	UINT(value_size, 4);
	UINT(max_entries, 64);
} nothing SEC(".maps");

struct {
	UINT(type, 3);
	UINT(key_size, 4);
	UINT(value_size, 4);
	UINT(max_entries, 4);
} calls SEC(".maps");

struct {
	UINT(type, 2);
	UINT(max_entries, 8);
	TYPE(key, u32);
	TYPE(value, u64);
} counts SEC(".maps");

struct {
	UINT(type, 6);
	UINT(max_entries, 2);
	TYPE(key, u32);
	TYPE(value, u64);
} of_cpu SEC(".maps");

struct seen {
	u64 count;
	u64 bytes;
};

struct {
	UINT(type, 1);
	UINT(max_entries, 4);
	TYPE(key, u32);
	TYPE(value, struct seen);
} seen SEC(".maps");

struct {
	UINT(type, 5);
	UINT(max_entries, 8);
	TYPE(key, u32);
	TYPE(value, u64);
} by_cpu SEC(".maps");

// As large as it need be for nothing to give way.
struct {
	UINT(type, 9);
	UINT(max_entries, 1024);
	TYPE(key, u32);
	TYPE(value, u64);
} recent SEC(".maps");

struct {
	UINT(type, 27);
	UINT(max_entries, 65536);
} ring SEC(".maps");

const volatile u32 scale = 31;
const volatile u8 table[16] = { 0, 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9 };
const volatile char word[9] = "perfring";
volatile u64 total = 1000;
volatile s64 errors[16];
volatile u32 depth;

static __attribute__((noinline)) u32 fold(const u8 *bytes, u32 len)
{
	u32 sum = 0;
	for (u32 i = 0; i < 32; i++) {
		if (i >= len)
			break;
		sum = sum * scale + (bytes[i] ^ table[bytes[i] & 15]);
	}
	return sum;
}

// Counts in all kinds of maps; what is seen for the third time is forgotten.
static __attribute__((noinline)) s64 count(u32 key, u64 bytes)
{
	u32 index = key & 7;
	u64 *counted = bpf_map_lookup_elem(&counts, &index);
	if (counted)
		__sync_fetch_and_add(counted, bytes);
	index = key & 1;
	counted = bpf_map_lookup_elem(&of_cpu, &index);
	if (counted)
		*counted += bytes;
	total += bytes;
	u64 sum = bytes;
	u64 *known_sum = bpf_map_lookup_elem(&recent, &key);
	if (known_sum)
		sum += *known_sum;
	bpf_map_update_elem(&recent, &key, &sum, BPF_ANY);
	known_sum = bpf_map_lookup_elem(&by_cpu, &key);
	if (known_sum)
		*known_sum += bytes;
	else
		errors[12] = bpf_map_update_elem(&by_cpu, &key, &bytes, BPF_NOEXIST);
	struct seen *known = bpf_map_lookup_elem(&seen, &key);
	if (!known) {
		struct seen first = { 1, bytes };
		return bpf_map_update_elem(&seen, &key, &first, BPF_NOEXIST);
	}
	known->bytes += bytes;
	if (__sync_fetch_and_add(&known->count, 1) == 2)
		return bpf_map_delete_elem(&seen, &key);
	return known->count;
}

// What helpers say to what is wrong.
static __attribute__((noinline)) void mistakes(void)
{
	u32 key = 77;
	u64 value = 1;
	errors[4] = bpf_map_update_elem(&counts, &key, &value, BPF_ANY);
	key = 0;
	errors[5] = bpf_map_update_elem(&counts, &key, &value, BPF_NOEXIST);
	errors[6] = bpf_map_delete_elem(&counts, &key);
	errors[7] = bpf_map_update_elem(&counts, &key, &value, 16);
	struct seen none = {};
	key = 0xabcdef;
	errors[8] = bpf_map_update_elem(&seen, &key, &none, BPF_EXIST);
	errors[9] = bpf_map_delete_elem(&seen, &key);
	errors[10] = bpf_map_update_elem(&seen, &key, &none, 3);
}

struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex;
	u32 ifindex, tc_index, cb[5], hash;
};

struct packet {
	u32 len, protocol, sum, legacy;
	s64 counted;
};

SEC("socket")
int on_packet(struct __sk_buff *skb)
{
	u8 start[32] = {};
	u32 len = skb->len;
	s64 loaded = bpf_skb_load_bytes(skb, 0, start, 32);
	if (loaded)
		errors[11] = loaded;
	struct packet packet = {
		.len = len,
		.protocol = skb->protocol,
		.sum = fold(start, 32),
		.counted = count(skb->protocol, len),
	};
	mistakes();
	skb->cb[1] = skb->cb[0] + packet.sum;
	skb->cb[4] = skb->mark;
	// With the packet's first bytes behind the record.
	u64 of_packet = len < 21 ? len : 21;
	bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU | of_packet << 32, &packet, sizeof(packet));
	packet.legacy = load_byte(skb, 3) + load_half(skb, 4) + load_word(skb, 40);
	bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU, &packet, sizeof(packet));
	errors[0] = bpf_perf_event_output(skb, &nothing, BPF_F_CURRENT_CPU, &packet, sizeof(packet));
	errors[1] = bpf_perf_event_output(skb, &nothing, 64, &packet, sizeof(packet));
	errors[2] = bpf_perf_event_output(skb, &events, bpf_get_smp_processor_id() ^ 1, &packet, sizeof(packet));
	errors[3] = bpf_perf_event_output(skb, &events, 1ULL << 60, &packet, sizeof(packet));
	return packet.legacy & 0xffff;
}

struct xdp_md {
	u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index;
};

#define XDP_DROP 1
#define XDP_PASS 2
#define XDP_TX 3

// Turns the packet round, changes its bytes, and goes on in another program, where one is named.
SEC("xdp")
int rewrite(struct xdp_md *xdp)
{
	u8 *data = (u8 *)(u64)xdp->data, *end = (u8 *)(u64)xdp->data_end;
	if (data + 34 > end)
		return XDP_DROP;
	for (int i = 0; i < 6; i++) {
		u8 byte = data[i];
		data[i] = data[i + 6];
		data[i + 6] = byte;
	}
	u8 start[20];
	for (int i = 0; i < 20; i++)
		start[i] = data[14 + i];
	u32 sum = fold(start, 20);
	*(u16 *)(data + 24) = sum;
	*(u32 *)(data + 27) ^= sum;
	count(data[23], end - data);
	u64 of_packet = 34;
	bpf_perf_event_output(xdp, &events, BPF_F_CURRENT_CPU | of_packet << 32, &sum, sizeof(sum));
	depth = 0;
	bpf_tail_call(xdp, &calls, data[20]);
	return XDP_PASS;
}

// Calls itself until it may not any more.
SEC("xdp")
int again(struct xdp_md *xdp)
{
	u8 *data = (u8 *)(u64)xdp->data, *end = (u8 *)(u64)xdp->data_end;
	if (data + 22 <= end)
		data[21]++;
	u32 deep = ++depth;
	bpf_perf_event_output(xdp, &events, BPF_F_CURRENT_CPU, &deep, sizeof(deep));
	bpf_tail_call(xdp, &calls, 1);
	return XDP_TX;
}

struct loop {
	u64 sum;
	u32 stop;
};

static long step(u32 index, void *context)
{
	struct loop *loop = context;
	loop->sum = loop->sum * 7 + index;
	return index == loop->stop;
}

struct arguments {
	u64 sum;
	u64 words[3];
	s64 looped;
	s64 compared;
};

SEC("raw_tp/perfring")
int on_arguments(u64 *context)
{
	struct loop loop = { .sum = context[0], .stop = context[1] };
	struct arguments arguments = {};
	arguments.looped = bpf_loop(context[2] & 0xff, step, &loop, 0);
	arguments.sum = loop.sum;
	arguments.words[0] = context[0];
	arguments.words[1] = (u64)((s64)context[1] >> 3);
	arguments.words[2] = (u32)context[2] * 0x1000193;
	arguments.compared = bpf_strncmp((char *)&arguments.words[0], 8, (const char *)word);
	s64 counted = count(context[3], context[0] & 0xfff);
	bpf_perf_event_output(context, &events, BPF_F_CURRENT_CPU, &arguments, sizeof(arguments));
	return counted + arguments.compared;
}

struct pt_regs {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

struct call {
	u64 pid_tgid, uid_gid;
	u8 comm[16];
	u64 arguments[4];
	u32 cpu, sum;
	u8 rest[64];
};

SEC("uprobe")
int on_call(struct pt_regs *regs)
{
	struct call call = {
		.pid_tgid = bpf_get_current_pid_tgid(),
		.uid_gid = bpf_get_current_uid_gid(),
		.arguments = { regs->di, regs->si, regs->dx, regs->cx },
		.cpu = bpf_get_smp_processor_id(),
	};
	bpf_get_current_comm(call.comm, sizeof(call.comm));
	call.sum = fold((u8 *)call.arguments, 32);
	for (int i = 0; i < 64; i++)
		call.rest[i] = i + (u8)regs->di;
	count(regs->si, regs->dx);
	bpf_perf_event_output(regs, &events, BPF_F_CURRENT_CPU, &call, sizeof(call) - 64 + (regs->cx & 63));
	return 0;
}

struct text {
	s64 read, copied;
	u8 bytes[32], text[32];
};

SEC("uprobe")
int on_text(struct pt_regs *regs)
{
	struct text text;
	__builtin_memset(text.bytes, 0xaa, sizeof(text.bytes));
	// The kernel copies text by words, and so may store zeros behind its end.
	__builtin_memset(text.text, 0, sizeof(text.text));
	text.read = bpf_probe_read_user(text.bytes, regs->si & 31, (void *)regs->di);
	text.copied = bpf_probe_read_user_str(text.text, regs->dx & 31, (void *)regs->di);
	bpf_perf_event_output(regs, &events, BPF_F_CURRENT_CPU, &text, sizeof(text));
	return 0;
}

SEC("raw_tp/perfring")
int on_ring(u64 *context)
{
	u64 words[4] = { context[1], context[2], context[3], context[4] };
	u64 how = context[0];
	if (how & 1) {
		u64 *data = bpf_ringbuf_reserve(&ring, 24, 0);
		if (!data)
			return -1;
		data[0] = context[1];
		data[1] = how;
		data[2] = context[2];
		if (how & 2)
			bpf_ringbuf_discard(data, 0);
		else
			bpf_ringbuf_submit(data, 0);
	} else {
		errors[13] = bpf_ringbuf_output(&ring, words, how >> 2 & 31, 0);
	}
	errors[14] = bpf_ringbuf_output(&ring, words, 8, 1 << 5);
	void *too_much = bpf_ringbuf_reserve(&ring, 1 << 20, 0);
	if (too_much)
		bpf_ringbuf_discard(too_much, 0);
	errors[15] = !too_much;
	return bpf_ringbuf_query(&ring, 1);
}

char _license[] SEC("license") = "Dual MIT/GPL";
