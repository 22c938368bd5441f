// The types of a platform, for relocate.bpf.c: as they are there, laid out otherwise.
//
// platform.bpf.o is this file, compiled in this directory with Debian's clang 19:
//
//   clang-19 -target bpf -mcpu=v3 -O2 -g -fdebug-compilation-dir=. -c platform.bpf.c -o platform.bpf.o &&
//   llvm-strip-19 --strip-debug platform.bpf.o
//
// It needs no header. tests/bpf_core.rs has the same layouts.

typedef unsigned long u64;

struct cred {
	u64 usage;
	unsigned gid, uid;
};

enum state { RUNNING = 10, WAITING = 20, DEAD = -70 };
enum flags { FLAG_LOW = 1, FLAG_MIDDLE = 2, FLAG_HIGH = 0xc0000000u };

struct pair {
	short before;
	short left;
	char between;
	int right;
};

typedef struct {
	int other;
	u64 kind;
	int weight;
} entity_t;

struct task {
	u64 flags_before;
	struct {
		int tgid;
		int pid;
	};
	char comm[8];
	union {
		unsigned flag;
		struct {
			int code;
			int code_above;
		};
	};
	struct task *parent;
	const struct cred cred;
	volatile int counts[8];
	struct pair pairs[3];
	u64 wider;
	unsigned char narrower;
	unsigned short shorter;
	unsigned padding : 7;
	unsigned mode : 4, ready : 1;
	int level : 9;
	_Bool flagged;
	enum state state;
	u64 utime;
	unsigned brand_new;
	char tail[];
};

struct near {
	u64 before[2];
	char shifted;
	unsigned padding : 8, a : 5, b : 6;
	int c : 5;
};

struct changed {
	long widened;
	u64 before;
	long made_signed;
	void *made_pointer;
	struct cred made_struct;
	unsigned made_bits : 4;
	u64 stored;
	unsigned padding : 1, moved : 3, thinner : 4;
	char between[40000];
	char far;
};

struct agreed {
	int before, at;
};
struct agreed___2 {
	short before[2];
	int at;
};
struct agreed___3 {
	int without;
};
struct disputed {
	int at, same;
};
struct disputed___2 {
	int before, same, at;
};

enum huge { HUGE = 1, HUGER = 0x500000000 };

struct sized {
	long a;
	short b;
	int c;
};

enum alike_values { ALIKE_TWO, ALIKE_MORE, ALIKE_ONE };
struct alike {
	u64 more;
	unsigned bytes[3];
	const volatile int number;
	const char *text;
	struct cred *cred;
	struct {
		short inner;
		short more_inner;
	};
	int (*call)(struct task *, unsigned long);
	enum alike_values values;
};
struct unlike_size {
	long number;
};
struct unlike_sign {
	unsigned number;
};
struct unlike_length {
	int numbers[3];
};
struct unlike_member {
	int number;
};
struct unlike_pointer {
	struct pair *cred;
};
struct unlike_function {
	int (*call)(int, int);
};
enum unlike_values { UNLIKE_ONE };

struct cred cred;
enum state state;
enum flags flags;
entity_t entity;
struct task task;
struct near near;
struct changed changed;
struct agreed agreed;
struct agreed___2 agreed2;
struct agreed___3 agreed3;
struct disputed disputed;
struct disputed___2 disputed2;
enum huge huge;
struct sized sized;
struct alike alike;
struct unlike_size unlike_size;
struct unlike_sign unlike_sign;
struct unlike_length unlike_length;
struct unlike_member unlike_member;
struct unlike_pointer unlike_pointer;
struct unlike_function unlike_function;
enum alike_values alike_values;
enum unlike_values unlike_values;
