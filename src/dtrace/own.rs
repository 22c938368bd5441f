//! What a firing in the process tells programs of the thread that it is on.

use super::argument::Arguments;
use super::order::Site;
use crate::bpf::{Environment, Live, ProbeRead, Task};
use crate::sync::AtomicU64;
use std::cell::Cell;

/// How often sessions were started: what threads remember of themselves is asked for anew after each.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// The next number for a thread.
static NEXT_THREAD: AtomicU64 = AtomicU64::new(0);

/// Lets all threads look again at what they are.
pub(super) fn forget() {
    GENERATION.fetch_add(1, Site::Generation.order());
}

/// What a thread is. System calls tell, which take longer than a firing should.
#[derive(Clone, Copy)]
pub(super) struct Own {
    generation: u64,
    /// Its number among those that fired: which of the rings it takes, where it has one of its own.
    pub(super) number: u32,
    pid_tgid: u64,
    uid_gid: u64,
    task: Task,
}

static LIVE: Live = Live::new();

thread_local! {
    /// Of generation 0, as no session has, until it was looked at.
    static OWN: Cell<Own> = const { Cell::new(Own::NONE) };
}

impl Own {
    const NONE: Self = Self {
        generation: 0,
        number: 0,
        pid_tgid: 0,
        uid_gid: 0,
        task: Task { token: 0, state: 0, prio: 0, ppid: 0, uid: 0, gid: 0, euid: 0, egid: 0 },
    };

    /// Of this thread.
    #[inline]
    pub(super) fn get() -> Self {
        let known = OWN.get();
        match known.generation == GENERATION.load(Site::Generation.order()) {
            true => known,
            false => Self::look(known),
        }
    }

    #[cold]
    #[inline(never)]
    fn look(known: Self) -> Self {
        let number = match known.generation {
            0 => NEXT_THREAD.fetch_add(1, Site::Generation.order()) as u32,
            _ => known.number,
        };
        let own = Self {
            generation: GENERATION.load(Site::Generation.order()),
            number,
            pid_tgid: LIVE.pid_tgid(),
            uid_gid: LIVE.uid_gid(),
            task: LIVE.task(),
        };
        OWN.set(own);
        own
    }
}

/// The world, for a firing in the process. Of memory programs may read what the probe's arguments lend.
pub(super) struct InProcess<'a> {
    pub(super) own: &'a Own,
    pub(super) arguments: &'a Arguments<'a>,
}

impl Environment for InProcess<'_> {
    fn ktime_get_ns(&self) -> u64 {
        LIVE.ktime_get_ns()
    }

    fn ktime_get_boot_ns(&self) -> u64 {
        LIVE.ktime_get_boot_ns()
    }

    #[inline]
    fn pid_tgid(&self) -> u64 {
        self.own.pid_tgid
    }

    fn uid_gid(&self) -> u64 {
        self.own.uid_gid
    }

    fn comm(&self) -> [u8; 16] {
        LIVE.comm()
    }

    #[inline]
    fn task(&self) -> Task {
        self.own.task
    }

    fn probe_read(&self, read: ProbeRead, to: &mut [u8]) -> usize {
        self.arguments.read(read, to)
    }

    #[inline]
    fn args(&self) -> &[u64] {
        self.arguments.words()
    }
}
