//! The program types of the kernel, as far as they make sense outside of it.

use super::{ContextLayout, Field, Pointer, ProgramType};
use crate::bpf::helper::HelperId;
use std::sync::LazyLock;

/// What every type has.
const BASE: &[HelperId] = &[
    HelperId::MAP_LOOKUP_ELEM,
    HelperId::MAP_UPDATE_ELEM,
    HelperId::MAP_DELETE_ELEM,
    HelperId::KTIME_GET_NS,
    HelperId::TRACE_PRINTK,
    HelperId::GET_PRANDOM_U32,
    HelperId::GET_SMP_PROCESSOR_ID,
    HelperId::TAIL_CALL,
    HelperId::PERF_EVENT_OUTPUT,
    HelperId::KTIME_GET_BOOT_NS,
    HelperId::RINGBUF_OUTPUT,
    HelperId::RINGBUF_RESERVE,
    HelperId::RINGBUF_SUBMIT,
    HelperId::RINGBUF_DISCARD,
    HelperId::RINGBUF_QUERY,
    HelperId::LOOP,
    HelperId::STRNCMP,
    HelperId::GET_CURRENT_PID_TGID,
    HelperId::GET_CURRENT_UID_GID,
    HelperId::GET_CURRENT_COMM,
];

/// What types that trace have beside.
const TRACING: &[HelperId] = &[
    HelperId::PROBE_READ,
    HelperId::PROBE_READ_STR,
    HelperId::PROBE_READ_USER,
    HelperId::PROBE_READ_KERNEL,
    HelperId::PROBE_READ_USER_STR,
    HelperId::PROBE_READ_KERNEL_STR,
    HelperId::GET_STACK,
];

/// `struct pt_regs` as programs see it (x86-64: `asm/ptrace.h`; AArch64: `struct user_pt_regs`).
fn registers() -> Vec<Field> {
    #[cfg(target_arch = "x86_64")]
    const NAMES: &[&str] = &[
        "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "orig_ax",
        "ip", "cs", "flags", "sp", "ss",
    ];
    #[cfg(target_arch = "aarch64")]
    const NAMES: &[&str] = &[
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16",
        "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30", "sp", "pc",
        "pstate",
    ];
    let field = |(i, name): (usize, &&str)| Field::read_only(name, 8 * i as u32, 8, 1);
    NAMES.iter().enumerate().map(field).collect()
}

/// Bytes in the registers.
fn registers_size() -> u32 {
    registers().iter().map(|field| field.size).sum()
}

fn layout(size: u32, fields: Vec<Field>) -> ContextLayout {
    ContextLayout::fields(size, fields).expect("the layouts here are right: a test makes them all")
}

/// `struct __sk_buff`, as socket filters may use it.
fn sk_buff() -> ContextLayout {
    let word = |name, offset| Field::read_only(name, offset, 4, 1);
    layout(
        192,
        vec![
            word("len", 0),
            word("pkt_type", 4),
            word("mark", 8),
            word("queue_mapping", 12),
            word("protocol", 16),
            word("vlan_present", 20),
            word("vlan_tci", 24),
            word("vlan_proto", 28),
            word("priority", 32),
            word("ingress_ifindex", 36),
            word("ifindex", 40),
            word("tc_index", 44),
            Field::read_only("cb", 48, 4, 5).writable().any_size(),
            word("hash", 68),
            word("napi_id", 84),
            word("gso_segs", 164),
            word("gso_size", 176),
        ],
    )
}

/// `struct xdp_md`.
fn xdp_md() -> ContextLayout {
    layout(
        24,
        vec![
            Field::pointer("data", 0, 4, Pointer::Packet),
            Field::pointer("data_end", 4, 4, Pointer::PacketEnd),
            // No metadata lies before a packet here.
            Field::pointer("data_meta", 8, 4, Pointer::Packet),
            Field::read_only("ingress_ifindex", 12, 4, 1).whole(),
            Field::read_only("rx_queue_index", 16, 4, 1).whole(),
            Field::read_only("egress_ifindex", 20, 4, 1).whole(),
        ],
    )
}

macro_rules! builtin {
    ($($(#[$meta:meta])* $function:ident: $name:literal = $build:expr;)*) => {
        impl ProgramType {
            $(
                $(#[$meta])*
                pub fn $function() -> &'static Self {
                    static TYPE: LazyLock<ProgramType> = LazyLock::new(|| {
                        let build: fn(&str) -> ProgramType = $build;
                        build($name)
                    });
                    &TYPE
                }
            )*

            /// The types that have functions here, but [`ProgramType::memory`].
            pub fn builtin() -> impl Iterator<Item = &'static Self> {
                [$(Self::$function()),*].into_iter()
            }
        }
    };
}

impl ProgramType {
    /// For programs on plain memory: the context may be read and written, at any alignment; `r1` is its address and `r2` the
    /// number of its bytes. They have all helpers. No such type is in the kernel.
    pub fn memory() -> &'static Self {
        static TYPE: LazyLock<ProgramType> = LazyLock::new(|| {
            ProgramType::builder("memory", ContextLayout::memory(true, 0)).all_helpers().length().build()
        });
        &TYPE
    }
}

builtin! {
    /// `BPF_PROG_TYPE_SOCKET_FILTER`: the context is a `struct __sk_buff`.
    socket_filter: "socket_filter" = |name| {
        let helpers = BASE.iter().copied().chain([HelperId::SKB_LOAD_BYTES]);
        ProgramType::builder(name, sk_buff()).helpers(helpers).legacy_packet().build()
    };
    /// `BPF_PROG_TYPE_KPROBE`, of kprobes and uprobes: the context is a `struct pt_regs`.
    kprobe: "kprobe" = |name| {
        let context = layout(registers_size(), registers());
        ProgramType::builder(name, context).helpers(BASE.iter().chain(TRACING).copied()).build()
    };
    /// `BPF_PROG_TYPE_TRACEPOINT`: the context is the record of a tracepoint. Of its first 8 bytes programs see nothing, as in
    /// the kernel.
    tracepoint: "tracepoint" = |name| {
        ProgramType::builder(name, ContextLayout::memory(false, 8)).helpers(BASE.iter().chain(TRACING).copied()).build()
    };
    /// `BPF_PROG_TYPE_XDP`: the context is a `struct xdp_md`.
    xdp: "xdp" = |name| ProgramType::builder(name, xdp_md()).helpers(BASE.iter().copied()).build();
    /// `BPF_PROG_TYPE_PERF_EVENT`: the context is a `struct bpf_perf_event_data`.
    perf_event: "perf_event" = |name| {
        let size = registers_size();
        let mut fields = registers();
        fields.push(Field::read_only("sample_period", size, 8, 1));
        fields.push(Field::read_only("addr", size + 8, 8, 1));
        ProgramType::builder(name, layout(size + 16, fields)).helpers(BASE.iter().chain(TRACING).copied()).build()
    };
    /// `BPF_PROG_TYPE_RAW_TRACEPOINT`: the context is a `struct bpf_raw_tracepoint_args` of 12 words.
    raw_tracepoint: "raw_tracepoint" = |name| {
        let context = layout(96, vec![Field::read_only("args", 0, 8, 12)]);
        ProgramType::builder(name, context).helpers(BASE.iter().chain(TRACING).copied()).build()
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::program_type::ContextAccess;

    #[test]
    fn layouts() {
        let sizes: Vec<_> = ProgramType::builtin().map(|type_| (type_.name(), type_.context().size())).collect();
        let registers = Some(registers_size() as usize);
        assert_eq!(sizes[0], ("socket_filter", Some(192)));
        assert_eq!(sizes[1], ("kprobe", registers));
        assert_eq!(sizes[4], ("perf_event", registers.map(|size| size + 16)));
        #[cfg(target_arch = "x86_64")]
        assert_eq!(registers, Some(168));
    }

    #[test]
    fn what_the_kernel_lets_programs_do() {
        let access = |type_: &ProgramType, offset, size, write| type_.context().access(offset, size, write, 192);
        let xdp = ProgramType::xdp();
        assert_eq!(access(xdp, 0, 4, false), Some(ContextAccess::Pointer(Pointer::Packet)));
        assert_eq!(access(xdp, 4, 4, false), Some(ContextAccess::Pointer(Pointer::PacketEnd)));
        assert_eq!(access(xdp, 0, 8, false), None);
        assert_eq!(access(xdp, 0, 4, true), None);
        assert_eq!(access(xdp, 12, 4, false), Some(ContextAccess::Bytes));
        assert_eq!(access(xdp, 24, 4, false), None);
        let skb = ProgramType::socket_filter();
        assert_eq!(access(skb, 48, 4, true), Some(ContextAccess::Bytes));
        assert_eq!(access(skb, 0, 4, true), None);
        for write in [false, true] {
            let of_cb = |size: usize| (40..80).filter(move |at| access(skb, *at, size, write).is_some());
            // Loads are of the words beside it, too.
            let beside = |at: &u64| (48..68).contains(at);
            assert!(of_cb(1).filter(beside).eq(48..68));
            assert!(of_cb(2).filter(beside).eq((48..68).step_by(2)));
            assert!(of_cb(4).filter(beside).eq((48..68).step_by(4)));
            assert!(of_cb(8).eq([48, 56]));
        }
        assert_eq!(access(skb, 1, 1, false), Some(ContextAccess::Bytes));
        assert_eq!(access(skb, 76, 4, false), None, "no direct access to packets");
        let kprobe = ProgramType::kprobe();
        assert_eq!(access(kprobe, 8, 8, false), Some(ContextAccess::Bytes));
        assert_eq!(access(kprobe, 4, 8, false), None);
        assert_eq!(access(kprobe, 8, 8, true), None);
        assert_eq!(access(kprobe, u64::MAX - 3, 8, false), None);
        let tracepoint = ProgramType::tracepoint();
        assert_eq!(access(tracepoint, 0, 8, false), None);
        assert_eq!(access(tracepoint, 8, 8, false), Some(ContextAccess::Bytes));
        assert_eq!(access(tracepoint, 185, 8, false), None);
    }
}
