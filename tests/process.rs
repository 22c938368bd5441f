//! Rings and processes: fork, descriptors handed over, writers that leave or are killed.
#![allow(unsafe_code)]

mod reexec;

use perfring::kernel::AsyncRing;
use perfring::ring::{BeginError, Consumer, Mode, ReadErrorKind, Ring, RingFds, SetupError, Wait, Wake};
use reexec::{PATIENCE, Process, end_with_parent, role, start, wait_for};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const RECORD: u32 = 1 << 20;

/// Runs `child` in a fork of this process, and gives whether it ended well.
fn fork(child: impl FnOnce()) -> bool {
    // SAFETY: only this thread runs: the other one, the harness', waits in pthread_join for this one to end, and holds no
    // lock. So the child finds everything in a sound state and may do whatever the parent may.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid == 0 {
        let code = if catch_unwind(AssertUnwindSafe(child)).is_ok() { 0 } else { 1 };
        // SAFETY: ends the child without running what the parent has registered for its own end.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: waits for the child made above; the status is a local.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// The serial numbers of the records that are there.
fn serials(consumer: &mut Consumer) -> Vec<u64> {
    let mut found = Vec::new();
    consumer
        .for_each(|record| {
            assert_eq!(record.header().type_, RECORD);
            found.push(u64::from_ne_bytes(record.body()[..8].try_into().unwrap()));
        })
        .unwrap();
    found
}

macro_rules! write {
    ($producer:expr, $serial:expr) => {{
        let mut record = $producer.begin_forward_in_page(48).unwrap();
        record.put(&u64::to_ne_bytes($serial));
        record.commit(RECORD, 0);
    }};
}

/// A test of what fork does: it needs a process in which no other thread runs.
macro_rules! forks {
    ($(#[$meta:meta])* fn $name:ident() $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            if role().is_none() {
                let status = start(stringify!($name), &["fork"]).join();
                assert!(status.success(), "{status}");
                return;
            }
            assert!(threads() <= 2);
            $body
        }
    };
}

forks! {
    fn a_fork_has_no_producer_and_the_parent_keeps_its_own() {
        for home in ["private", "memfd"] {
            let builder = Ring::confined(4).wake(Wake::Events(1));
            let ring = if home == "private" { builder.private() } else { builder.memfd() }.unwrap();
            let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
            write!(producer, 1);
            let mut open = producer.begin_forward_in_page(48).unwrap();
            open.put(&2u64.to_ne_bytes());
            let mut held = Some(open);
            assert!(fork(|| {
                let open = held.take().unwrap();
                assert_eq!(producer.begin_forward_in_page(48).err(), Some(BeginError::Forked));
                assert_eq!(producer.flush_lost(), Err(BeginError::Forked));
                open.commit(RECORD, 0);
                producer.flush();
            }));
            assert_eq!(serials(&mut consumer), [1], "{home}: the child published");
            assert!(!consumer.is_closed());
            held.take().unwrap().commit(RECORD, 0);
            write!(producer, 3);
            assert_eq!(serials(&mut consumer), [2, 3], "{home}");
            assert_eq!(consumer.lost_total(), Some(0));
        }
    }
}

forks! {
    fn a_fork_has_no_shared_and_no_overwriting_producer() {
        let ring = Ring::confined(4).memfd().unwrap();
        let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
        let forward = Ring::confined(4).mode(Mode::OverwriteForward).memfd().unwrap();
        let (overwriting, mut reader) = (forward.overwrite_producer().unwrap(), forward.consumer().unwrap());
        write!(producer, 1);
        write!(overwriting, 1);
        let mut open = Some((producer.begin_forward_in_page(48).unwrap(), overwriting.begin_forward_in_page(48).unwrap()));
        assert!(fork(|| {
            assert_eq!(producer.begin_forward_in_page(48).err(), Some(BeginError::Forked));
            assert_eq!(overwriting.begin_forward_in_page(48).err(), Some(BeginError::Forked));
            let (shared, overwriting) = open.take().unwrap();
            shared.commit(RECORD, 0);
            overwriting.commit(RECORD, 0);
        }));
        assert_eq!(serials(&mut consumer), [1]);
        assert_eq!(serials(&mut reader), [1]);
        drop(open);
        write!(producer, 2);
        write!(overwriting, 2);
        assert_eq!(serials(&mut consumer), [2]);
        assert_eq!(serials(&mut reader), [2]);
    }
}

forks! {
    fn dropping_the_producer_in_a_fork_does_not_close_the_ring() {
        let ring = Ring::confined(4).memfd().unwrap();
        let (mut producer, mut consumer) = (Some(ring.producer().unwrap()), ring.consumer().unwrap());
        assert!(fork(|| drop(producer.take())));
        assert!(!consumer.is_closed());
        assert_eq!(consumer.wait(Some(std::time::Duration::ZERO)).unwrap(), Wait::TimedOut);
        drop(producer.take());
        assert_eq!(consumer.wait(None).unwrap(), Wait::Closed);
    }
}

forks! {
    fn a_fork_takes_no_producer_from_the_parents_ring() {
        let ring = Ring::confined(4).memfd().unwrap();
        let forward = Ring::confined(4).mode(Mode::OverwriteForward).memfd().unwrap();
        let mut consumer = ring.consumer().unwrap();
        assert!(fork(|| {
            assert!(matches!(ring.producer(), Err(SetupError::Forked)));
            assert!(matches!(ring.shared_producer(), Err(SetupError::Forked)));
            assert!(matches!(forward.overwrite_producer(), Err(SetupError::Forked)));
        }));
        let producer = ring.producer().unwrap();
        write!(producer, 1);
        assert_eq!(serials(&mut consumer), [1]);
        assert!(forward.overwrite_producer().is_ok());
    }
}

forks! {
    fn rings_made_in_a_fork_work_there() {
        let before = Ring::confined(4).private().unwrap();
        let parents = before.producer().unwrap();
        assert!(fork(|| {
            let ring = Ring::confined(4).private().unwrap();
            let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
            write!(producer, 7);
            assert_eq!(serials(&mut consumer), [7]);
            // Making a guard for a new ring does not revive an old producer.
            assert_eq!(parents.begin_forward_in_page(48).err(), Some(BeginError::Forked));
            // And the same again, one generation further.
            assert!(fork(|| {
                assert_eq!(producer.begin_forward_in_page(48).err(), Some(BeginError::Forked));
                assert_eq!(parents.begin_forward_in_page(48).err(), Some(BeginError::Forked));
                let ring = Ring::confined(4).private().unwrap();
                let (producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
                write!(producer, 8);
                assert_eq!(serials(&mut consumer), [8]);
            }));
            write!(producer, 9);
            assert_eq!(serials(&mut consumer), [9]);
        }));
        write!(parents, 1);
        assert_eq!(serials(&mut before.consumer().unwrap()), [1]);
    }
}

forks! {
    /// Where every process has the id 1, as first processes of containers do.
    fn a_fork_of_the_same_id_has_no_producer() {
        let new_ids = || {
            // SAFETY: takes flags only; from here on children of this process are in a namespace of their own.
            unsafe { libc::unshare(libc::CLONE_NEWPID) == 0 }
        };
        if !new_ids() {
            eprintln!("SKIPPED: no new pid namespace: {}", std::io::Error::last_os_error());
            return;
        }
        assert!(fork(|| {
            assert_eq!(std::process::id(), 1);
            let before = Ring::confined(4).private().unwrap();
            let parents = before.producer().unwrap();
            assert!(new_ids());
            assert!(fork(|| {
                assert_eq!(std::process::id(), 1);
                let ring = Ring::confined(4).private().unwrap();
                let producer = ring.producer().unwrap();
                assert_eq!(parents.begin_forward_in_page(48).err(), Some(BeginError::Forked));
                write!(producer, 1);
            }));
            write!(parents, 2);
        }));
    }
}

/// The other process of the tests that follow: what it does stands in its role.
#[test]
fn other() {
    let Some(role) = role() else { return };
    let [what, path] = &role[..] else { panic!("{role:?}") };
    end_with_parent();
    match what.as_str() {
        // Writes ten records, waits for a byte, and leaves.
        "write" => {
            let socket = UnixStream::connect(path).unwrap();
            let ring = Ring::confined(4).memfd().unwrap();
            let producer = ring.producer().unwrap();
            ring.fds().unwrap().send(socket.as_fd()).unwrap();
            (0..10).for_each(|serial| write!(producer, serial));
            let _open = producer.begin_forward_in_page(48).unwrap();
            std::io::Read::read_exact(&mut &socket, &mut [0]).unwrap();
        }
        "write file" => {
            // SAFETY: a new file, which the test that started this process only reads.
            let ring = unsafe { Ring::confined(4).create_file(path) }.unwrap();
            let producer = ring.producer().unwrap();
            (0..10).for_each(|serial| write!(producer, serial));
            std::fs::write(format!("{path}.ready"), "").unwrap();
            loop {
                std::thread::sleep(PATIENCE);
            }
        }
        // Reads until the ring is closed, and checks that it has got what there was to get.
        "read" => {
            let socket = UnixStream::connect(path).unwrap();
            let mut consumer = Consumer::attach(RingFds::receive(socket.as_fd()).unwrap()).unwrap();
            let mut found = Vec::new();
            while consumer.wait(Some(PATIENCE)).unwrap() == Wait::Ready {
                found.extend(serials(&mut consumer));
            }
            assert!(consumer.is_closed());
            assert!(found.into_iter().eq(0..100));
        }
        _ => panic!("{what}"),
    }
}

fn accept(listener: &UnixListener, process: &mut Process) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let (socket, _) = wait_for(|| {
        assert_eq!(process.ended(), None);
        listener.accept().ok()
    });
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn other_process(what: &str, dir: &Path) -> (Process, UnixStream) {
    let path = dir.join(what);
    let listener = UnixListener::bind(&path).unwrap();
    let mut process = start("other", &[what, path.to_str().unwrap()]);
    let socket = accept(&listener, &mut process);
    (process, socket)
}

/// Waits and reads until the ring says that there is no more.
fn read_out(consumer: &mut Consumer) -> (Vec<u64>, Wait) {
    let mut found = Vec::new();
    loop {
        match consumer.wait(Some(PATIENCE)).unwrap() {
            Wait::Ready => found.extend(serials(consumer)),
            end => return (found, end),
        }
    }
}

#[test]
fn a_reader_in_another_process_gets_everything_and_sees_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, socket) = other_process("read", dir.path());
    let ring = Ring::confined(4).wake(Wake::Events(3)).memfd().unwrap();
    let producer = ring.producer().unwrap();
    ring.fds().unwrap().send(socket.as_fd()).unwrap();
    (0..100).for_each(|serial| write!(producer, serial));
    drop((producer, ring));
    assert!(process.join().success());
}

#[test]
fn a_writer_in_another_process_that_leaves_closes_the_ring() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, socket) = other_process("write", dir.path());
    let mut consumer = Consumer::attach(RingFds::receive(socket.as_fd()).unwrap()).unwrap();
    assert_eq!(consumer.description().unwrap().producer_pid, process.id());
    std::io::Write::write_all(&mut &socket, &[1]).unwrap();
    let (found, end) = read_out(&mut consumer);
    assert_eq!(end, Wait::Closed);
    assert!(found.into_iter().eq(0..10));
    assert!(process.join().success());
}

#[test]
fn a_writer_in_another_process_that_is_killed_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, socket) = other_process("write", dir.path());
    let mut consumer = Consumer::attach(RingFds::receive(socket.as_fd()).unwrap()).unwrap();
    let mut found = Vec::new();
    while found.len() < 10 {
        assert_eq!(consumer.wait(Some(PATIENCE)).unwrap(), Wait::Ready);
        found.extend(serials(&mut consumer));
    }
    let waiting = std::thread::spawn(move || (consumer.wait(Some(PATIENCE)).unwrap(), consumer));
    process.kill();
    let (end, mut consumer) = waiting.join().unwrap();
    assert_eq!(end, Wait::ProducerDied);
    assert_eq!(read_out(&mut consumer), (vec![], Wait::ProducerDied));
    assert!(found.into_iter().eq(0..10));
}

#[test]
fn a_writer_that_is_killed_ends_an_asynchronous_ring() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, socket) = other_process("write", dir.path());
    let consumer = Consumer::attach(RingFds::receive(socket.as_fd()).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut ring = AsyncRing::new(consumer).unwrap();
        let mut found = Vec::new();
        while found.len() < 10 {
            assert_eq!(tokio::time::timeout(PATIENCE, ring.ready()).await.unwrap().unwrap(), Wait::Ready);
            found.extend(serials(ring.consumer_mut()));
        }
        let (end, _) = tokio::join!(tokio::time::timeout(PATIENCE, ring.ready()), async { process.kill() });
        assert_eq!(end.unwrap().unwrap(), Wait::ProducerDied);
    });
}

#[test]
fn the_killed_writer_of_a_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring");
    let mut process = start("other", &["write file", path.to_str().unwrap()]);
    wait_for(|| {
        assert_eq!(process.ended(), None);
        dir.path().join("ring.ready").exists().then_some(())
    });
    let mut consumer = Consumer::open_file(&path).unwrap();
    process.kill();
    let (found, end) = read_out(&mut consumer);
    assert!(found.into_iter().eq(0..10));
    assert_eq!(end, Wait::ProducerDied);
    // One that comes later finds the same.
    let (found, end) = read_out(&mut Consumer::open_file(&path).unwrap());
    assert!(found.into_iter().eq(0..10));
    assert_eq!(end, Wait::ProducerDied);
}

#[test]
fn the_data_cannot_be_written_through_the_descriptor() {
    let ring = Ring::confined(4).memfd().unwrap();
    let producer = ring.producer().unwrap();
    let fds = ring.fds().unwrap();
    let data = File::from(fds.data.try_clone().unwrap());
    let len = data.metadata().unwrap().len();
    // SAFETY: a mapping that must fail; if it does not, nobody uses it.
    let map = unsafe { memmap2::MmapMut::map_mut(&data) };
    assert_eq!(map.map(drop).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert!(data.write_all_at(&[1], 0).is_err());
    for fd in [&fds.header, &fds.data] {
        let file = File::from(fd.try_clone().unwrap());
        let len = file.metadata().unwrap().len();
        assert!(file.set_len(len - 4096).is_err());
        assert!(file.set_len(len + 4096).is_err());
        // SAFETY: a plain fcntl on a descriptor that is open.
        assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_WRITE) }, -1);
    }
    // A descriptor opened anew by way of /proc has the same seals.
    let path = format!("/proc/self/fd/{}", data.as_raw_fd());
    let again = File::options().read(true).write(true).open(path).unwrap();
    // SAFETY: as above.
    assert!(unsafe { memmap2::MmapMut::map_mut(&again) }.is_err());
    assert!(again.set_len(0).is_err());
    assert_eq!(data.metadata().unwrap().len(), len);
    // It is still the producer's to write.
    write!(producer, 1);
    assert_eq!(serials(&mut Consumer::attach(fds).unwrap()), [1]);
}

#[test]
fn a_head_from_another_process_is_checked() {
    let ring = Ring::confined(4).memfd().unwrap();
    let producer = ring.producer().unwrap();
    let mut consumer = ring.consumer().unwrap();
    write!(producer, 1);
    let header = File::from(ring.fds().unwrap().header);
    for head in [1u64 << 40, 3, 0u64.wrapping_sub(8)] {
        header.write_all_at(&head.to_ne_bytes(), 1024).unwrap();
        let error = consumer.for_each(|_| ()).unwrap_err();
        assert_eq!(error.kind, ReadErrorKind::Head { head });
    }
    write!(producer, 2);
    assert_eq!(serials(&mut consumer), [1, 2]);
}
