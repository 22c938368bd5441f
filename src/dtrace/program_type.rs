//! The program type `DTRACE`: its context, and how it is made of that of a caller.

use crate::bpf::program_type::{ContextLayout, Conversion, Field, Pointer};
use crate::bpf::{Environment, HelperId, ProgramType};
use std::mem::{offset_of, size_of};
use std::sync::LazyLock;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Registers in the context: those of the kernel's `struct user_pt_regs` (x86-64: `struct pt_regs`).
#[cfg(target_arch = "x86_64")]
pub const REGS: usize = 21;
/// Registers in the context: those of the kernel's `struct user_pt_regs`.
#[cfg(target_arch = "aarch64")]
pub const REGS: usize = 34;

/// The most arguments of a probe.
pub const MAX_ARGS: usize = 12;

/// `struct dtrace_context`, as programs see it: `include/perfring_dtrace.h` has the declaration for C.
///
/// Up to `buf_end` it is what the source design had. What follows is about the probe.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct DtraceContext {
    pub(crate) regs: [u64; REGS],
    pub(crate) ecb_id: u32,
    pub(crate) probe_id: u32,
    pub(crate) task: u64,
    pub(crate) state: u64,
    pub(crate) prio: u32,
    pub(crate) cpu: u32,
    pub(crate) tid: u32,
    pub(crate) pid: u32,
    pub(crate) ppid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) euid: u32,
    pub(crate) egid: u32,
    pub(crate) padding: u32,
    pub(crate) buf: u64,
    pub(crate) buf_end: u64,
    pub(crate) args: [u64; MAX_ARGS],
    pub(crate) nargs: u32,
    pub(crate) stability: u32,
}

/// The id of the writable buffer: where it starts in the context.
const BUFFER: u32 = offset_of!(DtraceContext, buf) as u32;

const SIZE: usize = size_of::<DtraceContext>();

#[cfg(target_arch = "x86_64")]
const _: () = {
    assert!(offset_of!(DtraceContext, ecb_id) == 168);
    assert!(offset_of!(DtraceContext, probe_id) == 172);
    assert!(offset_of!(DtraceContext, task) == 176);
    assert!(offset_of!(DtraceContext, state) == 184);
    assert!(offset_of!(DtraceContext, egid) == 224);
    assert!(offset_of!(DtraceContext, buf) == 232);
    assert!(offset_of!(DtraceContext, buf_end) == 240);
    assert!(offset_of!(DtraceContext, args) == 248);
    assert!(offset_of!(DtraceContext, nargs) == 344);
    assert!(SIZE == 352);
};

impl DtraceContext {
    /// Words of a context.
    pub(crate) const WORDS: usize = SIZE / 8;

    /// Puts in what the world says of the thread and of the probe's arguments. All else is as it was, but for buffer and arguments.
    #[inline]
    pub(crate) fn fill(&mut self, environment: &(impl Environment + ?Sized)) {
        let pid_tgid = environment.pid_tgid();
        let task = environment.task();
        self.task = task.token;
        self.state = task.state;
        self.prio = task.prio;
        self.tid = pid_tgid as u32;
        self.pid = (pid_tgid >> 32) as u32;
        self.ppid = task.ppid;
        self.uid = task.uid;
        self.gid = task.gid;
        self.euid = task.euid;
        self.egid = task.egid;
        (self.buf, self.buf_end) = (0, 0);
        let given = environment.args();
        let nargs = given.len().min(MAX_ARGS);
        let before = (self.nargs as usize).min(MAX_ARGS);
        for (to, arg) in self.args.iter_mut().zip(&given[..nargs]) {
            *to = *arg;
        }
        if before > nargs {
            self.args[nargs..before].fill(0);
        }
        self.nargs = nargs as u32;
    }

    /// Puts in the registers, which are 0 where they are not known. Where they are 0 already they are not stored again.
    #[inline]
    pub(crate) fn set_regs(&mut self, regs: Option<&[u64; REGS]>) {
        match regs {
            Some(regs) => {
                self.regs = *regs;
                // Programs do not see it.
                self.padding = 1;
            }
            None if self.padding != 0 => {
                self.regs.fill(0);
                self.padding = 0;
            }
            None => {}
        }
    }
}

/// Helpers that the source design gave programs of this type.
const HELPERS: &[HelperId] = &[
    HelperId::FINALIZE_CONTEXT,
    HelperId::BUFFER_RESERVE,
    HelperId::BUFFER_COMMIT,
    HelperId::PERF_EVENT_OUTPUT,
    HelperId::TRACE_PRINTK,
    HelperId::GET_SMP_PROCESSOR_ID,
    HelperId::MAP_LOOKUP_ELEM,
    HelperId::MAP_UPDATE_ELEM,
    HelperId::MAP_DELETE_ELEM,
];

/// Helpers beside.
const MORE: &[HelperId] = &[
    HelperId::TAIL_CALL,
    HelperId::KTIME_GET_NS,
    HelperId::KTIME_GET_BOOT_NS,
    HelperId::GET_PRANDOM_U32,
    HelperId::GET_CURRENT_PID_TGID,
    HelperId::GET_CURRENT_UID_GID,
    HelperId::GET_CURRENT_COMM,
    HelperId::GET_STACK,
    HelperId::PROBE_READ,
    HelperId::PROBE_READ_STR,
    HelperId::PROBE_READ_USER,
    HelperId::PROBE_READ_KERNEL,
    HelperId::PROBE_READ_USER_STR,
    HelperId::PROBE_READ_KERNEL_STR,
    HelperId::LOOP,
    HelperId::STRNCMP,
    HelperId::RINGBUF_OUTPUT,
    HelperId::RINGBUF_RESERVE,
    HelperId::RINGBUF_SUBMIT,
    HelperId::RINGBUF_DISCARD,
    HelperId::RINGBUF_QUERY,
];

/// The program type of `dtrace/<n>` sections.
///
/// Its context is a `struct dtrace_context`: on x86-64 `regs` at 0, `ecb_id` at 168, `probe_id` at 172, `task` at 176, `state` at
/// 184, `prio`, `cpu`, `tid`, `pid`, `ppid`, `uid`, `gid`, `euid` and `egid` from 192 on, `buf` at 232 and `buf_end` at 240; behind
/// them, about the probe, `args` at 248, `nargs` at 344 and `stability` at 348. Programs read all of it, registers
/// whole and other numbers in parts too, and write nothing.
///
/// Programs are called from those of the types kprobe and perf_event, whose registers they get; `bpf_finalize_context` says which
/// probe it was. A program of this type that a probe fires itself knows it from the start.
pub fn program_type() -> &'static ProgramType {
    static TYPE: LazyLock<ProgramType> = LazyLock::new(build);
    &TYPE
}

fn build() -> ProgramType {
    macro_rules! fields {
        ($($name:ident: $element:literal x $count:expr),* $(,)?) => {
            [$(Field::read_only(stringify!($name), offset_of!(DtraceContext, $name) as u32, $element, $count)),*]
        };
    }
    let mut fields = fields![
        ecb_id: 4 x 1, probe_id: 4 x 1, task: 8 x 1, state: 8 x 1, prio: 4 x 1, cpu: 4 x 1, tid: 4 x 1, pid: 4 x 1,
        ppid: 4 x 1, uid: 4 x 1, gid: 4 x 1, euid: 4 x 1, egid: 4 x 1, args: 8 x MAX_ARGS as u32, nargs: 4 x 1,
        stability: 4 x 1,
    ]
    .to_vec();
    fields.push(Field::read_only("regs", 0, 8, REGS as u32).whole());
    fields.push(Field::pointer("buf", BUFFER, 8, Pointer::Buffer(BUFFER)));
    fields.push(Field::pointer("buf_end", BUFFER + 8, 8, Pointer::BufferEnd(BUFFER)));
    let layout = ContextLayout::fields(SIZE as u32, fields).expect("a layout that a test makes");
    ProgramType::builder("dtrace", layout)
        .helpers(HELPERS.iter().chain(MORE).copied())
        .finalized_at(offset_of!(DtraceContext, ecb_id) as u32, offset_of!(DtraceContext, probe_id) as u32)
        .casts(|source| source == ProgramType::kprobe() || source == ProgramType::perf_event(), convert)
        .build()
}

/// `convert_ctx`: the caller's registers, what is known of the thread, and no open buffer.
fn convert(conversion: &mut Conversion<'_>) -> bool {
    let mut context = DtraceContext::new_zeroed();
    context.fill(conversion.environment());
    context.cpu = conversion.cpu();
    conversion.target().copy_from_slice(context.as_bytes());
    conversion.copy(0, offset_of!(DtraceContext, regs), 8 * REGS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::program_type::ContextAccess;

    #[test]
    fn what_programs_may_load() {
        let access = |offset, size, write| program_type().context().access(offset, size, write, SIZE);
        let bytes = Some(ContextAccess::Bytes);
        for offset in (0..168).step_by(8) {
            assert_eq!(access(offset, 8, false), bytes);
            assert_eq!(access(offset, 4, false), None, "registers are loaded whole");
        }
        for (offset, size) in [(168, 4), (172, 4), (176, 8), (184, 8), (192, 4), (224, 4), (248, 8), (336, 8), (344, 4)]
        {
            assert_eq!(access(offset, size, false), bytes, "{offset}");
            assert_eq!(access(offset, 1, false), bytes, "{offset}");
            assert_eq!(access(offset, 2, false), bytes, "{offset}");
            assert_eq!(access(offset, size, true), None, "{offset}");
        }
        assert_eq!(access(170, 4, false), None, "not aligned");
        assert_eq!(access(168, 8, false), None, "two fields");
        assert_eq!(access(228, 4, false), None, "padding");
        assert_eq!(access(BUFFER.into(), 8, false), Some(ContextAccess::Pointer(Pointer::Buffer(BUFFER))));
        assert_eq!(access(BUFFER.into(), 4, false), None);
        assert_eq!(access(u64::from(BUFFER) + 8, 8, false), Some(ContextAccess::Pointer(Pointer::BufferEnd(BUFFER))));
        assert_eq!(access(352, 4, false), None);
    }

    #[test]
    fn who_calls_them() {
        let type_ = program_type();
        assert!(type_.is_valid_tail_call(ProgramType::kprobe()) && type_.is_valid_tail_call(type_));
        assert!(!type_.is_valid_tail_call(ProgramType::tracepoint()) && !type_.is_valid_tail_call(ProgramType::xdp()));
        assert!(!ProgramType::kprobe().is_valid_tail_call(type_));
    }
}
