//! The numbers of helpers.

use std::fmt;

/// The number of a helper, as `call` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HelperId(pub i32);

impl fmt::Display for HelperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident = $id:literal;)*) => {
        impl HelperId {
            $($(#[$meta])* pub const $name: Self = Self($id);)*
        }
    };
}

ids! {
    /// `bpf_map_lookup_elem`
    MAP_LOOKUP_ELEM = 1;
    /// `bpf_map_update_elem`
    MAP_UPDATE_ELEM = 2;
    /// `bpf_map_delete_elem`
    MAP_DELETE_ELEM = 3;
    /// `bpf_probe_read`: as `bpf_probe_read_kernel`.
    PROBE_READ = 4;
    /// `bpf_ktime_get_ns`
    KTIME_GET_NS = 5;
    /// `bpf_trace_printk`
    TRACE_PRINTK = 6;
    /// `bpf_get_prandom_u32`
    GET_PRANDOM_U32 = 7;
    /// `bpf_get_smp_processor_id`
    GET_SMP_PROCESSOR_ID = 8;
    /// `bpf_tail_call`
    TAIL_CALL = 12;
    /// `bpf_get_current_pid_tgid`
    GET_CURRENT_PID_TGID = 14;
    /// `bpf_get_current_uid_gid`
    GET_CURRENT_UID_GID = 15;
    /// `bpf_get_current_comm`
    GET_CURRENT_COMM = 16;
    /// `bpf_perf_event_output`
    PERF_EVENT_OUTPUT = 25;
    /// `bpf_skb_load_bytes`
    SKB_LOAD_BYTES = 26;
    /// `bpf_probe_read_str`: as `bpf_probe_read_kernel_str`.
    PROBE_READ_STR = 45;
    /// `bpf_get_stack`
    GET_STACK = 67;
    /// `bpf_probe_read_user`
    PROBE_READ_USER = 112;
    /// `bpf_probe_read_kernel`
    PROBE_READ_KERNEL = 113;
    /// `bpf_probe_read_user_str`
    PROBE_READ_USER_STR = 114;
    /// `bpf_probe_read_kernel_str`
    PROBE_READ_KERNEL_STR = 115;
    /// `bpf_ktime_get_boot_ns`
    KTIME_GET_BOOT_NS = 125;
    /// `bpf_ringbuf_output`
    RINGBUF_OUTPUT = 130;
    /// `bpf_ringbuf_reserve`
    RINGBUF_RESERVE = 131;
    /// `bpf_ringbuf_submit`
    RINGBUF_SUBMIT = 132;
    /// `bpf_ringbuf_discard`
    RINGBUF_DISCARD = 133;
    /// `bpf_ringbuf_query`
    RINGBUF_QUERY = 134;
    /// `bpf_loop`
    LOOP = 181;
    /// `bpf_strncmp`
    STRNCMP = 182;
    /// `bpf_finalize_context`: not in the kernel, and beyond the numbers that it will come to.
    FINALIZE_CONTEXT = 0x7072_0001;
    /// `bpf_buffer_reserve`: likewise.
    BUFFER_RESERVE = 0x7072_0002;
    /// `bpf_buffer_commit`: likewise.
    BUFFER_COMMIT = 0x7072_0003;
}
