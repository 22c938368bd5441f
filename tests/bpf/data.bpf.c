// Variables: constant, initialised, zero, and in sections of their own.
//
// data.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -c data.bpf.c -o data.bpf.o &&
//   llvm-strip-14 --strip-debug data.bpf.o
//
// It needs no header.

typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))

static long (*const bpf_trace_printk)(const char *format, u32 size, ...) = (void *)6;

const volatile u32 limit = 10;
const volatile u32 wanted = 0x01020304;
volatile u64 total = 5;
volatile u32 step = 3;
volatile u64 zeros[4];
volatile u32 last;
static volatile u32 hidden = 9;
volatile u32 own SEC(".data.own") = 77;
const volatile u64 fixed SEC(".rodata.fixed") = 0x1122334455667788;

SEC("tracepoint/syscalls/sys_enter_getppid")
int add(void *context)
{
	if (total >= limit)
		return wanted;
	total += step + hidden;
	zeros[2] = total;
	last = own;
	bpf_trace_printk("total %d\n", 10, total);
	return fixed;
}

char _license[] SEC("license") = "Dual MIT/GPL";
