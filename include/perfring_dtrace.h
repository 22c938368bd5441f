/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What programs of the type DTRACE have: their context, and what says to which probes they belong. Include it after
 * linux/types.h or vmlinux.h.
 *
 * A program in a section `dtrace/<n>` is for slot n of a program array: one of another type tail-calls it. A program in a section
 * `dtrace/<n>/<probes>`, or `dtrace/<probes>`, is fired itself by the probes that match `provider:module:function:name`.
 */
#ifndef PERFRING_DTRACE_H
#define PERFRING_DTRACE_H

#include "perfring_bpf.h"

#define DTRACE_MAX_ARGS 12

/* The registers of a thread, as the kernel's struct user_pt_regs has them. */
struct dtrace_regs {
#if defined(__TARGET_ARCH_arm64)
	__u64 regs[31], sp, pc, pstate;
#else
	__u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
#endif
};

/* The context. Programs read it; registers are read whole. What is not known is 0, of ids and priority -1. */
struct dtrace_context {
	struct dtrace_regs regs;
	/* Of the probe: which program at it, and which of the session's. bpf_finalize_context says it after a tail call. */
	__u32 ecb_id, probe_id;
	/* Of the thread: what stands for it, and is not 0; state and priority as the kernel has them. */
	__u64 task, state;
	__u32 prio, cpu, tid, pid, ppid, uid, gid, euid, egid;
	/* Where the record lies that bpf_buffer_reserve opened; 0 while none is. */
	void *buf __attribute__((aligned(8)));
	void *buf_end;
	/* The arguments of the probe, as many as it has. */
	__u64 args[DTRACE_MAX_ARGS];
	__u32 nargs;
	/* How much its name and arguments can be relied on: 0 Internal to 7 Standard, as in DTrace. */
	__u32 stability;
};

/*
 * What is known of a probe. An array dtrace_probes with values of this type has it for each: element probe_id. Texts that are too long
 * are cut.
 */
struct dtrace_probe {
	char provider[64], module[64], function[128], name[64];
	__u32 nargs, stability;
};

/* The id of the buffer, for bpf_buffer_reserve and bpf_buffer_commit. */
#define DTRACE_BUFFER __builtin_offsetof(struct dtrace_context, buf)

/* Attaches a program to the probes that match: DTRACE_PROBE(on_write, "syscall::write:entry"). */
#define DTRACE_PROBE(program, probes)                                                                                  \
	static const char dtrace_probes_of_##program[] __attribute__((section(".probes"), used)) = #program "=" probes

#define DTRACE_JOIN_(a, b) a##__##b
#define DTRACE_JOIN(a, b) DTRACE_JOIN_(a, b)

/*
 * Says that records of a type are sent through a map, so that they are printed by the names of their fields: DTRACE_RECORD(events,
 * struct event). A map may have several types, if their sizes differ. Needs -g.
 */
#define DTRACE_RECORD(map, ...)                                                                                        \
	__VA_ARGS__ *DTRACE_JOIN(dtrace_record__##map, __LINE__) __attribute__((section(".records"), used))

/* How records of a struct are printed: DTRACE_FORMAT(event, "{comm:-16} {pid:6} {address:016x}"). */
#define DTRACE_FORMAT(tag, format)                                                                                     \
	static const char dtrace_format_of_##tag[] __attribute__((section(".formats"), used)) = #tag "=" format

#endif
