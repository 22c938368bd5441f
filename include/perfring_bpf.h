/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What programs for perfring's interpreter have beside the kernel's helpers. Include it after linux/types.h or vmlinux.h.
 *
 * The numbers lie far beyond those of the kernel, which refuses a program that calls them where they can be reached: one
 * object can serve both by a `const volatile` flag, which is constant when the program is verified.
 */
#ifndef PERFRING_BPF_H
#define PERFRING_BPF_H

/* The value of the map that bpf_finalize_context takes: an array, with one for each CPU. */
struct dtrace_ecb {
	__u32 id;
	__u32 probe_id;
};

/*
 * Completes a context that was made by a tail call from a program of another type, with what that program left in `map` for
 * this CPU. Closes every writable buffer. 0; -EINVAL: a context that has no place for it, a map that is no array of struct
 * dtrace_ecb; -E2BIG: a CPU beyond the map's entries; -ENOENT: no entry.
 */
static long (*bpf_finalize_context)(void *ctx, void *map) = (void *)0x70720001;

/*
 * Opens a record of at least `size` bytes of data in the ring of this CPU, which `map` leads to, as the writable buffer `id`
 * of the context: the field at offset `id`, and the one behind it, are then its start and its end. A program may store there
 * after it compared with the end. The data is zero at first, and has as many bytes as perf_event_output would give it: a
 * multiple of 8 less 4. 0; -EINVAL: no such buffer, or an event that is no BPF output; -EBUSY: it is open already; -E2BIG,
 * -ENOENT, -EOPNOTSUPP: no slot, no event, or another CPU's; -ENOSPC: no room.
 */
static long (*bpf_buffer_reserve)(void *ctx, int id, void *map, int size) = (void *)0x70720002;

/*
 * Publishes the record of the writable buffer `id`, which is closed then. 0, also if it was not open; -EINVAL: no such buffer.
 */
static long (*bpf_buffer_commit)(void *ctx, int id, void *map) = (void *)0x70720003;

#endif
