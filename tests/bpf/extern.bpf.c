// Functions of the kernel: what is not supported.
//
// extern.bpf.o is this file, and weak.bpf.o the same with -DWEAK, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -c extern.bpf.c -o extern.bpf.o &&
//   llvm-strip-14 --strip-debug extern.bpf.o
//
// It needs no header.

#define SEC(name) __attribute__((section(name)))

#ifdef WEAK
extern int bpf_of_kernel(void *context) __attribute__((weak)) SEC(".ksyms");
#else
extern int bpf_of_kernel(void *context) SEC(".ksyms");
#endif

SEC("kprobe/do_exit")
int leave(void *context)
{
	return bpf_of_kernel(context);
}
