//! What a firing in the process tells programs of the thread that it is on.

use super::argument::Arguments;
use super::order::Site;
use crate::bpf::{Environment, Live, ProbeRead, Task};
use crate::sync::{AtomicU32, AtomicU64};

/// How often sessions were started: what threads remember of themselves is asked for anew after each.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// The next number for a thread.
static NEXT_THREAD: AtomicU64 = AtomicU64::new(0);

/// Lets all threads look again at what they are.
pub(super) fn forget() {
    GENERATION.fetch_add(1, Site::Generation.order());
}

/// What a thread is. System calls tell, which take longer than a firing should.
///
/// Only its thread has it, and signal handlers that interrupt that.
pub(super) struct Own {
    /// 0, as no session has, until it was looked at.
    generation: AtomicU64,
    number: AtomicU32,
    pid_tgid: AtomicU64,
    uid_gid: AtomicU64,
    token: AtomicU64,
    state: AtomicU64,
    prio: AtomicU32,
    ppid: AtomicU32,
    uid: AtomicU32,
    gid: AtomicU32,
    euid: AtomicU32,
    egid: AtomicU32,
}

static LIVE: Live = Live::new();

thread_local! {
    static OWN: Own = const { Own::new() };
}

impl Own {
    const fn new() -> Self {
        Self {
            generation: AtomicU64::new(0),
            number: AtomicU32::new(0),
            pid_tgid: AtomicU64::new(0),
            uid_gid: AtomicU64::new(0),
            token: AtomicU64::new(0),
            state: AtomicU64::new(0),
            prio: AtomicU32::new(0),
            ppid: AtomicU32::new(0),
            uid: AtomicU32::new(0),
            gid: AtomicU32::new(0),
            euid: AtomicU32::new(0),
            egid: AtomicU32::new(0),
        }
    }

    /// Of this thread.
    #[inline]
    pub(super) fn with<R>(action: impl FnOnce(&Self) -> R) -> R {
        OWN.with(|own| {
            let generation = GENERATION.load(Site::Generation.order());
            if own.generation.load(Site::Own.order()) != generation {
                own.look(generation);
            }
            action(own)
        })
    }

    /// Its number among those that fired: which of the rings it takes, where it has one of its own.
    #[inline]
    pub(super) fn number(&self) -> u32 {
        self.number.load(Site::Own.order())
    }

    #[cold]
    #[inline(never)]
    fn look(&self, generation: u64) {
        let order = Site::Own.order();
        if self.generation.load(order) == 0 {
            self.number.store(NEXT_THREAD.fetch_add(1, Site::Generation.order()) as u32, order);
        }
        self.pid_tgid.store(LIVE.pid_tgid(), order);
        self.uid_gid.store(LIVE.uid_gid(), order);
        let task = LIVE.task();
        self.token.store(task.token, order);
        self.state.store(task.state, order);
        let halves = [&self.prio, &self.ppid, &self.uid, &self.gid, &self.euid, &self.egid];
        for (to, half) in halves.into_iter().zip([task.prio, task.ppid, task.uid, task.gid, task.euid, task.egid]) {
            to.store(half, order);
        }
        self.generation.store(generation, order);
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
        self.own.pid_tgid.load(Site::Own.order())
    }

    fn uid_gid(&self) -> u64 {
        self.own.uid_gid.load(Site::Own.order())
    }

    fn comm(&self) -> [u8; 16] {
        LIVE.comm()
    }

    #[inline]
    fn task(&self) -> Task {
        let half = |half: &AtomicU32| half.load(Site::Own.order());
        Task {
            token: self.own.token.load(Site::Own.order()),
            state: self.own.state.load(Site::Own.order()),
            prio: half(&self.own.prio),
            ppid: half(&self.own.ppid),
            uid: half(&self.own.uid),
            gid: half(&self.own.gid),
            euid: half(&self.own.euid),
            egid: half(&self.own.egid),
        }
    }

    fn probe_read(&self, read: ProbeRead, to: &mut [u8]) -> usize {
        self.arguments.read(read, to)
    }

    #[inline]
    fn args(&self) -> &[u64] {
        self.arguments.words()
    }
}
