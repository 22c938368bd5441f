// Data with addresses in them: what is not supported.
//
// pointer.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -c pointer.bpf.c -o pointer.bpf.o
//
// It needs no header.

int value = 1;
int *volatile pointer = &value;

__attribute__((section("kprobe/do_exit"))) int leave(void *context)
{
	return *pointer;
}
