//! What is known of the threads that probes fire on after the fact: from records, and from procfs.

use crate::bpf::Task;
use crate::record::{Body, Decoded};
use std::collections::HashMap;

/// Threads that are remembered; where there are more, those that ended are forgotten.
const MOST: usize = 1 << 16;

/// What stands for a number that could not be found out.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// A thread, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) comm: [u8; 16],
    pub(super) task: Task,
    /// Whether procfs was asked.
    looked: bool,
    ended: bool,
}

/// The threads, by their ids.
#[derive(Debug)]
pub(super) struct Tasks {
    known: HashMap<u32, Known>,
    /// Whether the threads are of this machine, and procfs may still know them.
    live: bool,
    /// Threads of which user, group and priority could not be found out.
    unknown: u64,
}

impl Tasks {
    pub(super) fn new(live: bool) -> Self {
        Self { known: HashMap::new(), live, unknown: 0 }
    }

    /// Threads of which not all could be found out.
    pub(super) fn unknown(&self) -> u64 {
        self.unknown
    }

    /// What a record says of threads.
    pub(super) fn see(&mut self, decoded: &Decoded<'_>) {
        match &decoded.body {
            Body::Comm(comm) => {
                let name = comm.comm.as_bytes();
                let (pid, tid) = (comm.pid, comm.tid);
                self.entry(pid, tid).comm = padded(name);
            }
            Body::Fork(task) => {
                let parent = self.known.get(&task.ptid).copied();
                let ppid = if task.pid == task.ppid {
                    // A thread: its parent is that of its process.
                    parent.map_or(UNKNOWN, |parent| parent.task.ppid)
                } else {
                    task.ppid
                };
                // An id may come again: what was known of it is of another.
                let mut new = parent.unwrap_or_else(|| Known::new(task.pid, task.tid));
                new.task.token = token(task.pid, task.tid);
                new.task.ppid = ppid;
                (new.looked, new.ended) = (false, false);
                self.insert(task.tid, new);
            }
            Body::Exit(task) => {
                if let Some(known) = self.known.get_mut(&task.tid) {
                    known.ended = true;
                }
            }
            _ => {}
        }
    }

    /// Looks at threads that are there already, as they may be gone when a record tells of them: those that they make are then
    /// known by theirs.
    pub(super) fn look_at(&mut self, pid: u32) {
        for tid in ids(&format!("/proc/{pid}/task")) {
            self.get(pid, tid);
        }
    }

    /// The same for all threads of the system.
    pub(super) fn look_at_all(&mut self) {
        for pid in ids("/proc") {
            self.look_at(pid);
        }
    }

    /// The thread, looked up now if it was not seen before.
    pub(super) fn get(&mut self, pid: u32, tid: u32) -> Known {
        let live = self.live;
        let known = self.entry(pid, tid);
        if known.looked {
            return *known;
        }
        known.looked = true;
        if live && let Some(found) = look(pid, tid) {
            // What records say is how it was then.
            if known.comm == [0; 16] {
                known.comm = found.comm;
            }
            let ppid = if known.task.ppid == UNKNOWN { found.task.ppid } else { known.task.ppid };
            known.task = Task { ppid, ..found.task };
            return *known;
        }
        let known = *known;
        self.unknown += u64::from(known.task.uid == UNKNOWN);
        known
    }

    fn entry(&mut self, pid: u32, tid: u32) -> &mut Known {
        self.make_room(tid);
        self.known.entry(tid).or_insert_with(|| Known::new(pid, tid))
    }

    fn insert(&mut self, tid: u32, known: Known) {
        self.make_room(tid);
        self.known.insert(tid, known);
    }

    fn make_room(&mut self, tid: u32) {
        if self.known.len() >= MOST && !self.known.contains_key(&tid) {
            self.known.retain(|_, known| !known.ended);
            if self.known.len() >= MOST {
                self.known.clear();
            }
        }
    }
}

impl Known {
    fn new(pid: u32, tid: u32) -> Self {
        let task = Task {
            token: token(pid, tid),
            state: 0,
            prio: UNKNOWN,
            ppid: UNKNOWN,
            uid: UNKNOWN,
            gid: UNKNOWN,
            euid: UNKNOWN,
            egid: UNKNOWN,
        };
        Self { comm: [0; 16], task, looked: false, ended: false }
    }
}

/// What stands for a thread.
fn token(pid: u32, tid: u32) -> u64 {
    (u64::from(pid) << 32 | u64::from(tid)).max(1)
}

/// A name with zeros behind it, at least one.
fn padded(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    let len = name.len().min(15);
    comm[..len].copy_from_slice(&name[..len]);
    comm
}

/// The numbers among the names in a directory.
fn ids(directory: &str) -> Vec<u32> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What procfs says.
fn look(pid: u32, tid: u32) -> Option<Known> {
    let directory = format!("/proc/{pid}/task/{tid}");
    let status = std::fs::read(format!("{directory}/status")).ok()?;
    let stat = std::fs::read(format!("{directory}/stat")).ok()?;
    parse(pid, tid, &status, &stat)
}

/// proc(5): `status` has name and ids, and field 18 of `stat` the priority, 100 less than the kernel counts.
fn parse(pid: u32, tid: u32, status: &[u8], stat: &[u8]) -> Option<Known> {
    let mut known = Known::new(pid, tid);
    let status = String::from_utf8_lossy(status);
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    let ids = |name: &str| -> Option<(u32, u32)> {
        let mut ids = field(name)?.split_ascii_whitespace().map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    let ((uid, euid), (gid, egid)) = (ids("Uid")?, ids("Gid")?);
    let ppid = field("PPid")?.trim().parse().ok()?;
    let stat = String::from_utf8_lossy(stat);
    // The name, in parentheses, may have anything in it.
    let (_, behind) = stat.rsplit_once(')')?;
    let prio: i64 = behind.split_ascii_whitespace().nth(15)?.parse().ok()?;
    known.comm = padded(field("Name")?.as_bytes());
    known.task = Task { prio: (prio + 100) as u32, ppid, uid, gid, euid, egid, ..known.task };
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_procfs_says() {
        let own = std::process::id();
        let known = look(own, own).expect("this process is there");
        assert_eq!(known.task.token, token(own, own));
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains(&format!("PPid:\t{}\n", known.task.ppid)));
        assert!((100..140).contains(&known.task.prio), "{}", known.task.prio);
        assert!(look(u32::MAX, 1).is_none());
        let status = b"Name:\ta) b\nPPid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        let stat = b"9 (a) b) S 7 9 9 0 -1 4 1 2 3 4 5 6 7 8 -51 0 1 0";
        let known = parse(9, 10, status, stat).unwrap();
        assert_eq!(&known.comm[..5], b"a) b\0");
        let task = Task { token: 9 << 32 | 10, state: 0, prio: 49, ppid: 7, uid: 1, gid: 5, euid: 2, egid: 6 };
        assert_eq!(known.task, task);
        for cut in 0..status.len() {
            let _ = parse(9, 10, &status[..cut], stat);
            let _ = parse(9, 10, status, &stat[..cut.min(stat.len())]);
        }
    }

    #[test]
    fn threads_that_are_gone_are_counted() {
        let mut tasks = Tasks::new(true);
        let known = tasks.get(u32::MAX - 1, u32::MAX - 1);
        assert_eq!((known.task.uid, known.task.prio, known.task.ppid), (UNKNOWN, UNKNOWN, UNKNOWN));
        tasks.get(u32::MAX - 1, u32::MAX - 1);
        assert_eq!(tasks.unknown(), 1, "once each");
        tasks.look_at(std::process::id());
        assert_eq!(tasks.unknown(), 1);
        assert!(tasks.known[&std::process::id()].looked);
    }
}
