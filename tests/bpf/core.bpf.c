// Accesses that depend on the layout of the kernel's types.
//
// core.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -c core.bpf.c -o core.bpf.o &&
//   llvm-strip-14 --strip-debug core.bpf.o
//
// It needs no header.

#define SEC(name) __attribute__((section(name), used))

static long (*const bpf_probe_read_kernel)(void *to, unsigned size, const void *from) = (void *)113;

struct task_struct {
	int pid;
	int tgid;
	struct task_struct *group_leader;
} __attribute__((preserve_access_index));

enum state { STATE_RUNNING = 0, STATE_DEAD = -2 };

union value {
	unsigned flags : 3, rest : 29;
	float number;
};

volatile union value last;
volatile enum state state;

SEC("kprobe/wake_up")
int wake(struct task_struct **context)
{
	struct task_struct *task = *context, *leader;
	int tgid = 0;
	bpf_probe_read_kernel(&leader, sizeof(leader), &task->group_leader);
	bpf_probe_read_kernel(&tgid, sizeof(tgid), &leader->tgid);
	last.flags = 5;
	state = STATE_DEAD;
	return __builtin_preserve_field_info(task->pid, 2) ? tgid : (int)(enum state)STATE_DEAD;
}

char _license[] SEC("license") = "GPL";
