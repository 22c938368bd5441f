// Programs that depend on the layout of the platform's types, which platform.bpf.c says; all that they find is in `out`.
//
// relocate.bpf.o is this file, compiled in this directory with Debian's clang 14, relocate.v4.bpf.o with its clang 19:
//
//   clang -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -c relocate.bpf.c -o relocate.bpf.o &&
//   llvm-strip-14 --strip-debug relocate.bpf.o
//
// relocate.plain.bpf.o is the same as the first with -DPLAIN: without what others do not know, or know better.
//
//   clang-19 -target bpf -mcpu=v4 -O2 -g -fdebug-compilation-dir=. -c relocate.bpf.c -o relocate.v4.bpf.o &&
//   llvm-strip-19 --strip-debug relocate.v4.bpf.o
//
// It needs no header.

#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))

static long (*const bpf_probe_read_kernel)(void *to, unsigned size, const void *from) = (void *)113;

typedef unsigned long u64;

// Kinds of `__builtin_preserve_field_info`, `__builtin_preserve_type_info` and `__builtin_preserve_enum_value`.
enum { OFFSET, SIZE, FIELD_EXISTS, SIGNED, LSHIFT, RSHIFT };
enum { TYPE_EXISTS, TYPE_SIZE, TYPE_MATCHES };
enum { VALUE_EXISTS, VALUE };
enum { ID_LOCAL, ID_TARGET };

#define field(access, kind) __builtin_preserve_field_info(access, kind)
#define type(name, kind) __builtin_preserve_type_info(*(name *)0, kind)
#define value(type, name, kind) __builtin_preserve_enum_value(*(type *)name, kind)
#define id(name, kind) __builtin_btf_type_id(*(name *)0, kind)

struct cred {
	unsigned uid, gid;
} CORE;

enum state { RUNNING = 1, WAITING = 2, DEAD = -7, NEVER = 100 };
enum flags { FLAG_LOW = 1, FLAG_HIGH = 0x80000000u };

struct pair {
	short left;
	int right;
} CORE;

typedef struct {
	unsigned char kind;
	int weight;
} CORE entity_t;

struct task {
	int pid;
	int tgid;
	struct task *parent;
	char comm[16];
	struct {
		u64 utime;
		union {
			int code;
			unsigned flag;
		};
	};
	struct cred cred;
	int counts[4];
	struct pair pairs[2];
	unsigned wider, narrower;
	u64 shorter;
	_Bool flagged;
	enum state state;
	unsigned ready : 1, mode : 3;
	int level : 5;
	int nowhere;
	char tail[];
} CORE;

// Flavours.
struct task___old {
	unsigned long_gone;
} CORE;
struct task___new {
	unsigned brand_new;
} CORE;

struct gone {
	int at;
} CORE;

volatile u64 out[48];

// Loads straight from the context, each of which has its offset, and some their size, from the platform.
SEC("memory/loads")
long loads(struct task *task)
{
	out[0] = task->pid;
	out[1] = task->tgid;
	out[2] = task->comm[3];
	out[3] = task->utime;
	out[4] = task->code;
	out[5] = task->flag;
	out[6] = task->cred.gid;
	out[7] = task->counts[2];
	out[8] = task->pairs[1].right;
	out[9] = task->wider;
	out[10] = task->narrower;
	out[11] = task->shorter;
	out[12] = task->flagged;
	out[13] = task->state;
#ifndef PLAIN
	out[14] = task->tail[2];
#endif
	out[15] = task[1].pid;
	out[16] = ((entity_t *)task)->weight;
	return 0;
}

SEC("memory/stores")
long stores(struct task *task, u64 len)
{
	task->tgid = 77;
	task->cred.uid = len;
	task->shorter = len;
	return 0;
}

SEC("memory/adds")
long adds(struct task *task)
{
	__sync_fetch_and_add(&task->counts[1], 4);
	return 0;
}

// By the address that a field has, behind a pointer.
SEC("memory/reads")
long reads(struct task *task)
{
	struct task *parent = task->parent;
	int tgid = -1;
	char comm[16] = {};
	bpf_probe_read_kernel(&tgid, sizeof(tgid), &parent->tgid);
	bpf_probe_read_kernel(&comm, sizeof(comm), &parent->comm);
	out[0] = tgid;
	out[1] = comm[0];
	bpf_probe_read_kernel(&tgid, sizeof(tgid), &parent->pairs[1].right);
	return tgid;
}

// A bit field is taken out of the word that the platform has it in.
#define bits(index, access)                                                                        \
	do {                                                                                       \
		u64 word = 0;                                                                      \
		unsigned offset = field(access, OFFSET), size = field(access, SIZE);               \
		const char *from = (const char *)task + offset;                                    \
		switch (size) {                                                                    \
		case 1: word = *(const unsigned char *)from; break;                                \
		case 2: word = *(const unsigned short *)from; break;                               \
		case 4: word = *(const unsigned *)from; break;                                     \
		case 8: word = *(const u64 *)from; break;                                          \
		}                                                                                  \
		word <<= field(access, LSHIFT);                                                    \
		out[index] = field(access, SIGNED) ? (u64)((long)word >> field(access, RSHIFT))    \
						   : word >> field(access, RSHIFT);                \
	} while (0)

SEC("memory/bitfields")
long bitfields(struct task *task)
{
	bits(0, task->ready);
	bits(1, task->mode);
	bits(2, task->level);
#ifndef PLAIN
	bits(3, task->narrower);
#endif
	bits(4, task->pid);
	return 0;
}

#ifndef PLAIN

// Without asking: `near` has moved by bytes.
struct near {
	int before;
	unsigned a : 5, b : 6;
	int c : 5;
} CORE;

SEC("memory/near")
long near(struct near *near)
{
	out[0] = near->a;
	out[1] = near->b;
	out[2] = near->c;
	near->b = 9;
	return 0;
}

#endif

// What needs nothing of the platform.
SEC("memory/own")
long own(void)
{
	return id(struct cred, ID_LOCAL);
}

SEC("memory/asks")
long asks(struct task *task)
{
	out[0] = field(task->parent, OFFSET);
	out[1] = field(task->comm, SIZE);
	out[2] = field(task->tgid, FIELD_EXISTS);
	out[3] = field(task->nowhere, FIELD_EXISTS);
	out[4] = field(task->level, SIGNED);
	out[5] = field(task->wider, SIGNED);
	out[6] = field(task->pairs[1], SIZE);
	out[7] = field(task->pairs[1].left, OFFSET);
	out[8] = field(task->wider, SIZE);
	out[9] = type(struct task, TYPE_EXISTS);
	out[10] = type(struct task, TYPE_SIZE);
	out[11] = type(struct gone, TYPE_EXISTS);
#ifndef PLAIN
	out[12] = type(struct gone, TYPE_SIZE);
#endif
	out[13] = type(entity_t, TYPE_SIZE);
	out[14] = type(enum state, TYPE_SIZE);
	out[15] = value(enum state, WAITING, VALUE);
	out[16] = value(enum state, DEAD, VALUE);
	out[17] = value(enum state, NEVER, VALUE_EXISTS);
	out[18] = value(enum state, RUNNING, VALUE_EXISTS);
#ifndef PLAIN
	out[19] = value(enum flags, FLAG_HIGH, VALUE);
#endif
	out[20] = id(struct cred, ID_LOCAL);
	out[21] = id(struct cred, ID_TARGET);
	out[22] = field(((struct task___new *)task)->brand_new, FIELD_EXISTS);
	out[23] = field(((struct gone *)task)->at, FIELD_EXISTS);
	out[24] = field(task->comm[4], FIELD_EXISTS);
	out[25] = field(task->comm[12], FIELD_EXISTS);
	out[26] = field(task->cred, OFFSET);
	out[27] = field(task->flag, OFFSET);
	return 0;
}

// What is not there is not reached.
SEC("memory/guarded")
long guarded(void *task)
{
	if (field(((struct task___new *)task)->brand_new, FIELD_EXISTS))
		return ((struct task___new *)task)->brand_new;
	return ((struct task___old *)task)->long_gone;
}

SEC("memory/reached")
long reached(struct task *task)
{
	return task->pid == 1 ? task->nowhere : 0;
}

SEC("memory/lost")
long lost(struct gone *gone)
{
	return gone->at;
}

SEC("memory/lost_value")
long lost_value(void)
{
	return value(enum state, NEVER, VALUE);
}

#ifndef PLAIN

// Accesses that are made for another field.
struct changed {
	int widened;
	unsigned made_signed, made_pointer, made_struct, made_bits, stored;
	unsigned moved : 3, thinner : 5;
	char far;
} CORE;

SEC("memory/widened")
long widened(struct changed *changed)
{
	return changed->widened;
}

SEC("memory/made_signed")
long made_signed(struct changed *changed)
{
	return changed->made_signed;
}

SEC("memory/made_pointer")
long made_pointer(struct changed *changed)
{
	return changed->made_pointer;
}

SEC("memory/made_bits")
long made_bits(struct changed *changed)
{
	return changed->made_bits;
}

SEC("memory/stored")
long stored(struct changed *changed, u64 len)
{
	changed->stored = len;
	return 0;
}

SEC("memory/moved")
long moved(struct changed *changed)
{
	return changed->moved;
}

SEC("memory/thinner")
long thinner(struct changed *changed)
{
	return changed->thinner;
}

SEC("memory/far")
long far(struct changed *changed)
{
	return changed->far;
}

// Several types have the name.
struct agreed {
	int at;
} CORE;
struct disputed {
	int at;
	int same;
} CORE;

SEC("memory/agree")
long agree(struct agreed *agreed)
{
	return agreed->at + ((struct disputed *)agreed)->same;
}

SEC("memory/disagree")
long disagree(struct disputed *disputed)
{
	return disputed->at;
}

#endif

#if __clang_major__ >= 18

enum huge { HUGE = 1, HUGER = 0x100000000 };

enum alike_values { ALIKE_ONE, ALIKE_TWO };
struct alike {
	int number;
	const char *text;
	struct cred *cred;
	int (*call)(struct task *, u64);
	enum alike_values values;
	struct {
		short inner;
	};
	unsigned bytes[3];
} CORE;
struct unlike_size {
	int number;
} CORE;
struct unlike_sign {
	int number;
} CORE;
struct unlike_length {
	int numbers[2];
} CORE;
struct unlike_member {
	int number, other;
} CORE;
struct unlike_pointer {
	struct cred *cred;
} CORE;
struct unlike_function {
	int (*call)(int);
} CORE;
enum unlike_values { UNLIKE_ONE, UNLIKE_TWO };

SEC("memory/matches")
long matches(void)
{
	out[0] = type(struct alike, TYPE_MATCHES);
	out[1] = type(struct unlike_size, TYPE_MATCHES);
	out[2] = type(struct unlike_sign, TYPE_MATCHES);
	out[3] = type(struct unlike_length, TYPE_MATCHES);
	out[4] = type(struct unlike_member, TYPE_MATCHES);
	out[5] = type(struct unlike_pointer, TYPE_MATCHES);
	out[6] = type(struct unlike_function, TYPE_MATCHES);
	out[7] = type(enum alike_values, TYPE_MATCHES);
	out[8] = type(enum unlike_values, TYPE_MATCHES);
	out[9] = type(struct gone, TYPE_MATCHES);
	out[10] = type(struct unlike_size, TYPE_EXISTS);
	out[11] = value(enum huge, HUGER, VALUE);
	out[12] = value(enum huge, HUGE, VALUE_EXISTS);
	return 0;
}

// Loads that extend the sign.
struct sized {
	short a;
	int b;
	long c;
} CORE;

SEC("memory/extends")
long extends(struct sized *sized)
{
	out[0] = sized->a;
	out[1] = sized->b;
	out[2] = sized->c;
	return 0;
}

// A store of a number that is known.
SEC("memory/widens")
long widens(struct task *task)
{
	task->wider = 5;
	return 0;
}

#endif

char _license[] SEC("license") = "GPL";
