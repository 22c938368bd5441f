//! `SharedProducer` in signal handlers that interrupt it anywhere.
#![allow(unsafe_code)]

use perfring::ring::{BeginError, Consumer, Ring, SharedProducer, Wake};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

const MAIN: u32 = 100;
const HANDLER: u32 = 101;
const LOST: u32 = 2;
const ERRNO: libc::c_int = 77;

/// What the handler writes to, while it is installed.
static PRODUCER: AtomicPtr<SharedProducer> = AtomicPtr::new(std::ptr::null_mut());
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);
static ERRNO_CHANGED: AtomicU64 = AtomicU64::new(0);

/// Handlers are of the process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn write(producer: &SharedProducer, type_: u32, i: u64) -> Result<(), BeginError> {
    let mut record = producer.begin_forward_in_page(24 + (i % 9) as usize * 8)?;
    record.put(&i.to_ne_bytes());
    while record.remaining() >= 8 {
        record.put(&i.to_ne_bytes());
    }
    record.commit(type_, 0);
    Ok(())
}

extern "C" fn handler(_signal: libc::c_int) {
    // SAFETY: set to a producer that lives until the handler is uninstalled; the address of this thread's errno.
    let (producer, errno) = unsafe { (PRODUCER.load(Relaxed).as_ref(), libc::__errno_location()) };
    let Some(producer) = producer else { return };
    // SAFETY: this thread's errno, as above; put back at the end, as a handler has to.
    let before = unsafe { errno.replace(ERRNO) };
    match write(producer, HANDLER, WRITTEN.load(Relaxed)) {
        Ok(()) => _ = WRITTEN.fetch_add(1, Relaxed),
        Err(_) => _ = REFUSED.fetch_add(1, Relaxed),
    }
    // SAFETY: as above.
    if unsafe { errno.replace(before) } != ERRNO {
        ERRNO_CHANGED.fetch_add(1, Relaxed);
    }
}

/// The handler is installed until this is dropped.
struct Installed<'a> {
    signal: libc::c_int,
    before: libc::sigaction,
    _producer: &'a SharedProducer,
}

fn install(signal: libc::c_int, producer: &SharedProducer) -> Installed<'_> {
    for counter in [&WRITTEN, &REFUSED, &ERRNO_CHANGED] {
        counter.store(0, Relaxed);
    }
    PRODUCER.store(std::ptr::from_ref(producer).cast_mut(), Relaxed);
    // SAFETY: a sigaction of zeros is a valid one, with an empty mask.
    let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: both structs live across the call; the handler does only what is async-signal-safe.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, &raw mut before) }, 0);
    Installed { signal, before, _producer: producer }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        // SAFETY: puts back what was there.
        assert_eq!(unsafe { libc::sigaction(self.signal, &raw const self.before, std::ptr::null_mut()) }, 0);
        PRODUCER.store(std::ptr::null_mut(), Relaxed);
    }
}

/// Also where a check fails: nobody waits for ever then.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Records of each source in order and whole; gives how many of `MAIN` and of `HANDLER`, and how many were lost.
fn check(consumer: &mut Consumer, seen: &mut [u64; 3]) {
    consumer
        .for_each(|record| {
            let words: Vec<_> = record.body().as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
            match record.header().type_ {
                LOST => seen[2] += words[1],
                type_ => {
                    let which = (type_ - MAIN) as usize;
                    assert_eq!(words[0], seen[which]);
                    assert!(words.iter().all(|&word| word == words[0]));
                    assert_eq!(words.len() as u64, 2 + words[0] % 9);
                    seen[which] += 1;
                }
            }
        })
        .unwrap();
}

#[test]
fn a_handler_writes_while_its_thread_has_reservations_open() {
    let _alone = alone();
    let ring = Ring::confined(4).private().unwrap();
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let installed = install(libc::SIGUSR1, &producer);
    let outer = producer.begin_forward_in_page(48).unwrap();
    // SAFETY: the handler is installed.
    assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
    assert!(!consumer.is_ready());
    drop(outer);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
    drop(installed);
    let mut seen = [0; 3];
    check(&mut consumer, &mut seen);
    assert_eq!((seen, WRITTEN.load(Relaxed)), ([0, 2, 0], 2));
    assert_eq!(consumer.stats().padding, 48);
}

#[test]
fn errno_is_preserved_even_where_ringing_fails() {
    let _alone = alone();
    let ring = Ring::confined(4).wake(Wake::Events(1)).private().unwrap();
    let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
    let installed = install(libc::SIGUSR1, &producer);
    assert!(!consumer.arm());
    // At its limit an eventfd refuses a write with EAGAIN.
    let mut bell = File::from(consumer.as_fd().unwrap().try_clone_to_owned().unwrap());
    bell.write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
    assert!(bell.write(&1u64.to_ne_bytes()).is_err());
    // SAFETY: the handler is installed.
    assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
    drop(installed);
    assert_eq!((WRITTEN.load(Relaxed), ERRNO_CHANGED.load(Relaxed)), (1, 0));
}

#[test]
fn handlers_interrupt_the_producer_anywhere() {
    let _alone = alone();
    for ring in [Ring::confined(4), Ring::confined(4).start_position(u64::MAX).wake(Wake::Bytes(1000))] {
        let ring = ring.memfd().unwrap();
        let (producer, mut consumer) = (ring.shared_producer().unwrap(), ring.consumer().unwrap());
        let installed = install(libc::SIGUSR2, &producer);
        let (mut seen, mut written, mut refused) = ([0; 3], 0, 0);
        // SAFETY: takes nothing and cannot fail.
        let this_thread = unsafe { libc::pthread_self() };
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    // SAFETY: the thread waits for this one, so it is there; the handler is installed until then.
                    assert_eq!(unsafe { libc::pthread_kill(this_thread, libc::SIGUSR2) }, 0);
                    std::thread::sleep(Duration::from_micros(20));
                }
            });
            let _stop = StopOnDrop(&stop);
            while WRITTEN.load(Relaxed) < 1000 {
                for _ in 0..100 {
                    match write(&producer, MAIN, written) {
                        Ok(()) => written += 1,
                        Err(BeginError::Full { .. }) => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                check(&mut consumer, &mut seen);
            }
        });
        drop(installed);
        check(&mut consumer, &mut seen);
        assert_eq!(seen[..2], [written, WRITTEN.load(Relaxed)]);
        assert_eq!(seen[2] + producer.lost_pending(), refused + REFUSED.load(Relaxed));
        assert_eq!(producer.lost_total(), refused + REFUSED.load(Relaxed));
        assert_eq!(ERRNO_CHANGED.load(Relaxed), 0);
        assert_eq!(producer.open_reservations(), []);
    }
}
