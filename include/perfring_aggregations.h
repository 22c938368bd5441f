/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Aggregations of programs: values of maps whose types say how those of several CPUs become one, and how they are printed. Include it
 * after linux/types.h or vmlinux.h.
 *
 * struct {
 *	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
 *	__uint(max_entries, 1024);
 *	__type(key, struct key);
 *	__type(value, struct dtrace_quantize);
 * } sizes SEC(".maps");
 *
 * dtrace_quantize(&sizes, &key, bytes);
 *
 * The value of a map may also be a struct whose members all are such structs: dtrace_value() gives it then, and dtrace_add_...() add to
 * its members. Maps that are not per CPU lose what two CPUs add at once. What finds no room in its map is counted in
 * dtrace_aggregation_drops.
 */
#ifndef PERFRING_AGGREGATIONS_H
#define PERFRING_AGGREGATIONS_H

#define DTRACE_INLINE static inline __attribute__((always_inline, unused))

/* How often. */
struct dtrace_count {
	__u64 count;
};

/* The sum. */
struct dtrace_sum {
	__s64 sum;
};

/* The least, and the greatest, of so many. */
struct dtrace_min {
	__u64 count;
	__s64 min;
};
struct dtrace_max {
	__u64 count;
	__s64 max;
};

/* The average. */
struct dtrace_avg {
	__u64 count;
	__s64 sum;
};

/*
 * How many there are of each power of two: bucket 63 has the zeros, 64 those that are 1, 65 those from 2 to 3, 64 + n those from 2^n to
 * 2^(n+1) - 1; 62 has those that are -1, 61 those from -3 to -2, and so on.
 */
#define DTRACE_BUCKETS 127
struct dtrace_quantize {
	__u64 buckets[DTRACE_BUCKETS];
};

static __u64 dtrace_aggregation_drops __attribute__((unused));
/* New values start as this. */
static const struct dtrace_quantize dtrace_zeros[4] __attribute__((unused));

DTRACE_INLINE void *dtrace_value_or(void *map, const void *key, const void *zeros)
{
	void *(*const lookup)(void *map, const void *key) = (void *)1;
	long (*const update)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
	void *value = lookup(map, key);

	if (value)
		return value;
	/* BPF_NOEXIST: another CPU's is not overwritten. */
	update(map, key, zeros, 1);
	value = lookup(map, key);
	if (!value)
		__sync_fetch_and_add(&dtrace_aggregation_drops, 1);
	return value;
}

/* The value of a key, which is made if it is not there: zeros. 0 if there is no room. Values have at most 4064 bytes. */
#define dtrace_value(map, key) ((typeof(*(map)->value) *)dtrace_value_of_size((map), (key), sizeof(*(map)->value)))
#define dtrace_value_of_size(map, key, size)                                                                           \
	({                                                                                                             \
		_Static_assert((size) <= sizeof(dtrace_zeros), "a value of an aggregation is too large");              \
		dtrace_value_or((map), (key), dtrace_zeros);                                                           \
	})

DTRACE_INLINE void dtrace_add_count(struct dtrace_count *to)
{
	to->count += 1;
}

DTRACE_INLINE void dtrace_add_sum(struct dtrace_sum *to, __s64 number)
{
	to->sum += number;
}

DTRACE_INLINE void dtrace_add_min(struct dtrace_min *to, __s64 number)
{
	if (!to->count || number < to->min)
		to->min = number;
	to->count += 1;
}

DTRACE_INLINE void dtrace_add_max(struct dtrace_max *to, __s64 number)
{
	if (!to->count || number > to->max)
		to->max = number;
	to->count += 1;
}

DTRACE_INLINE void dtrace_add_avg(struct dtrace_avg *to, __s64 number)
{
	to->count += 1;
	to->sum += number;
}

/* The bucket of a number. */
DTRACE_INLINE __u32 dtrace_bucket(__s64 number)
{
	__u64 size = number < 0 ? 0 - (__u64)number : (__u64)number;
	__u32 bits = 0;

	if (!size)
		return 63;
	if (size >> 32) {
		size >>= 32;
		bits += 32;
	}
	if (size >> 16) {
		size >>= 16;
		bits += 16;
	}
	if (size >> 8) {
		size >>= 8;
		bits += 8;
	}
	if (size >> 4) {
		size >>= 4;
		bits += 4;
	}
	if (size >> 2) {
		size >>= 2;
		bits += 2;
	}
	bits += size >> 1;
	/* The least number of all is with those before it. */
	if (bits > 62)
		bits = 62;
	return number < 0 ? 62 - bits : 64 + bits;
}

DTRACE_INLINE void dtrace_add_quantize(struct dtrace_quantize *to, __s64 number)
{
	__u32 bucket = dtrace_bucket(number);

	if (bucket < DTRACE_BUCKETS)
		to->buckets[bucket] += 1;
}

/* The same to the value of a key, where the map's values are just this. 0, or -1 if there is no room. */
#define DTRACE_AGGREGATE_(name, map, key, ...)                                                                         \
	({                                                                                                             \
		typeof(*(map)->value) *dtrace_value_ = dtrace_value((map), (key));                                     \
		if (dtrace_value_)                                                                                     \
			dtrace_add_##name(dtrace_value_, ##__VA_ARGS__);                                               \
		dtrace_value_ ? 0 : -1;                                                                                \
	})
#define dtrace_count(map, key) DTRACE_AGGREGATE_(count, map, key)
#define dtrace_sum(map, key, number) DTRACE_AGGREGATE_(sum, map, key, number)
#define dtrace_min(map, key, number) DTRACE_AGGREGATE_(min, map, key, number)
#define dtrace_max(map, key, number) DTRACE_AGGREGATE_(max, map, key, number)
#define dtrace_avg(map, key, number) DTRACE_AGGREGATE_(avg, map, key, number)
#define dtrace_quantize(map, key, number) DTRACE_AGGREGATE_(quantize, map, key, number)

#endif
