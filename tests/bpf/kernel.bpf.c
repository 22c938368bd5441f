// Programs that depend on the layout of the running kernel's types.
//
// kernel.bpf.o is this file, compiled in this directory with Debian's clang 14:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -c kernel.bpf.c -o kernel.bpf.o &&
//   llvm-strip-14 --strip-debug kernel.bpf.o
//
// It needs no header.

#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))

typedef unsigned long long u64;

enum { OFFSET, SIZE, EXISTS, SIGNED, LSHIFT, RSHIFT };

#define field(access, kind) __builtin_preserve_field_info(access, kind)
#define type(name, kind) __builtin_preserve_type_info(*(name *)0, kind)
#define value(type, name, kind) __builtin_preserve_enum_value(*(type *)name, kind)

struct load_weight {
	unsigned long weight;
} CORE;
struct sched_entity {
	struct load_weight load;
	u64 vruntime;
} CORE;
struct mm_struct {
	unsigned long start_stack;
} CORE;
struct task_struct___any {
	int pid;
	int tgid;
	char comm[16];
	struct task_struct___any *real_parent;
	struct mm_struct *mm;
	struct sched_entity se;
	unsigned in_execve : 1, in_iowait : 1;
	unsigned no_such_bit : 1;
} CORE;
struct qstr {
	unsigned len;
} CORE;
struct dentry {
	struct qstr d_name;
} CORE;
struct sk_buff {
	unsigned char pkt_type : 3;
	unsigned len;
} CORE;
typedef struct {
	int counter;
} CORE atomic_t;
struct of_no_kernel {
	int at;
} CORE;

enum bpf_map_type { BPF_MAP_TYPE_HASH = 77, BPF_MAP_TYPE_RINGBUF = 78, BPF_MAP_TYPE_OF_NO_KERNEL = 79 };
enum pid_type { PIDTYPE_PGID = 80 };

volatile u64 out[40];

SEC("raw_tp/kernel")
long kernel_fields(void *context)
{
	struct task_struct___any *task = context;
	struct dentry *dentry = context;
	out[0] = field(task->pid, OFFSET);
	out[1] = field(task->tgid, OFFSET);
	out[2] = field(task->comm, OFFSET);
	out[3] = field(task->comm, SIZE);
	out[4] = field(task->real_parent, OFFSET);
	out[5] = field(task->mm, OFFSET);
	out[6] = field(task->se.vruntime, OFFSET);
	out[7] = field(task->se.load.weight, OFFSET);
	out[8] = field(((struct mm_struct *)context)->start_stack, OFFSET);
	out[9] = field(dentry->d_name.len, OFFSET);
	out[10] = field(((struct sk_buff *)context)->len, OFFSET);
	out[11] = field(((atomic_t *)context)->counter, OFFSET);
	out[12] = field(task->comm[7], OFFSET);
	out[13] = field(task->no_such_bit, EXISTS);
	out[14] = field(task->in_execve, EXISTS);
	out[15] = field(((struct of_no_kernel *)context)->at, EXISTS);
	out[16] = field(task->pid, SIGNED);
	out[17] = field(task->se.vruntime, SIGNED);
	return 0;
}

#define bits(at, access)                                                                           \
	(out[at] = field(access, OFFSET), out[at + 1] = field(access, SIZE),                       \
	 out[at + 2] = field(access, LSHIFT), out[at + 3] = field(access, RSHIFT))

SEC("raw_tp/kernel")
long kernel_bits(void *context)
{
	struct task_struct___any *task = context;
	bits(0, task->in_execve);
	bits(4, task->in_iowait);
	bits(8, ((struct sk_buff *)context)->pkt_type);
	return 0;
}

SEC("raw_tp/kernel")
long kernel_types(void *context)
{
	out[0] = type(struct task_struct___any, 1);
	out[1] = type(struct sk_buff, 1);
	out[2] = type(atomic_t, 1);
	out[3] = type(struct dentry, 0);
	out[4] = type(struct of_no_kernel, 0);
	out[5] = value(enum bpf_map_type, BPF_MAP_TYPE_HASH, 1);
	out[6] = value(enum bpf_map_type, BPF_MAP_TYPE_RINGBUF, 1);
	out[7] = value(enum pid_type, PIDTYPE_PGID, 1);
	out[8] = value(enum bpf_map_type, BPF_MAP_TYPE_OF_NO_KERNEL, 0);
	out[9] = value(enum bpf_map_type, BPF_MAP_TYPE_HASH, 0);
	out[10] = __builtin_btf_type_id(*(struct sk_buff *)0, 1);
	return 0;
}

char _license[] SEC("license") = "GPL";
