// Functions that call each other: in their own section, in .text, across sections, and as callbacks.
//
// Each is this file, compiled in this directory: calls.bpf.o, calls.be.bpf.o (big endian) and calls.plain.bpf.o (without
// debug information) with Debian's clang 14, calls.v4.bpf.o with its clang 19.
//
//   for target in bpf bpfeb; do
//       out=calls$([ $target = bpf ] || echo .be).bpf.o
//       clang -target $target -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -c calls.bpf.c -o $out &&
//       llvm-strip-14 --strip-debug $out
//   done
//   clang -target bpf -mcpu=v1 -O2 -c calls.bpf.c -o calls.plain.bpf.o
//   clang-19 -target bpf -mcpu=v4 -O2 -g -fdebug-compilation-dir=. -c calls.bpf.c -o calls.v4.bpf.o &&
//   llvm-strip-19 --strip-debug calls.v4.bpf.o
//
// It needs no header.

typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define NOINLINE __attribute__((noinline))

static long (*const bpf_loop)(u32 count, void *callback, void *context, u64 flags) = (void *)181;

volatile u32 calls = 1;

// In .text, and each calls the next.
NOINLINE int leaf(int x)
{
	calls++;
	return x * 3;
}

NOINLINE int middle(int x)
{
	return leaf(x + 1) - leaf(x);
}

static NOINLINE int hidden(int x)
{
	calls += 2;
	return middle(x) ^ 5;
}

static long step(u64 index, void *context)
{
	*(u64 *)context += index;
	calls++;
	return 0;
}

// Not in .text, and no program.
static NOINLINE SEC("xdp/one") int beside(int x)
{
	calls += 4;
	return x + 1000;
}

static inline int inlined(int x)
{
#if __clang_major__ >= 18
	// Version 4 divides signed numbers.
	return x / 7;
#else
	return x >> 7;
#endif
}

SEC("xdp/one")
int one(u32 *context)
{
	int here = (int)*context;
	return beside(hidden(here)) + inlined(here) + middle(here);
}

SEC("xdp/one")
int two(u32 *context)
{
	return beside(*context);
}

SEC("raw_tp/sys_enter")
int three(u64 *context)
{
	u64 sum = 0;
	bpf_loop(10, step, &sum, 0);
	return sum + two((u32 *)context);
}

char _license[] SEC("license") = "GPL";
