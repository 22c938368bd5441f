//! What is lost when the kernel writes as fast as it can: a BPF program sends records on one CPU, a reader empties the
//! ring on another, and each reader has the same time, in turns.
//!
//! What was sent is counted by the sender, so that a reader's own count of the lost records is checked against it. A
//! reader that never sleeps and had its CPU for less than all of the time has lost records to other processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[path = "support/bpf.rs"]
mod bpf;
#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/mode.rs"]
mod mode;
#[path = "support/storms.rs"]
mod storms;

use storms::{LIBBPF, OURS, Reader, Seen};

/// Sent by one call of the kernel.
const BURST: u32 = 256;

struct Contender {
    name: &'static str,
    reader: Box<dyn Reader>,
    sum: Outcome,
}

#[derive(Clone, Copy, Default)]
struct Outcome {
    sent: u64,
    seen: Seen,
    seconds: f64,
    /// Those that the reader had its CPU.
    on_cpu: f64,
}

impl Outcome {
    fn lost(&self) -> u64 {
        self.sent - self.seen.records
    }

    fn print(&self, turn: &str, name: &str) {
        println!(
            "| {turn} | {name} | {:.2} | {:.2} | {} | {} | **{:.4} %** | {:.0} % |",
            self.sent as f64 / self.seconds / 1e6,
            self.seen.records as f64 / self.seconds / 1e6,
            self.seen.records,
            self.lost(),
            self.lost() as f64 / self.sent as f64 * 100.0,
            self.on_cpu / self.seconds * 100.0,
        );
    }
}

/// One storm; the calling thread reads.
fn storm(reader: &mut dyn Reader, wait: Option<Duration>, cpu: usize, duration: Duration) -> Outcome {
    let (sender, done, sent) = (reader.sender(), AtomicBool::new(false), AtomicU64::new(0));
    let mut seen = Seen::default();
    let (mut seconds, mut on_cpu) = (0.0, 0.0);
    thread::scope(|scope| {
        let (done, sent, last) = (&done, &sent, Arc::clone(&sender));
        let producer = scope.spawn(move || {
            cpu::pin(cpu).expect("an allowed CPU");
            let start = Instant::now();
            while start.elapsed() < duration {
                sender.send_lossy(BURST).expect("records");
                sent.fetch_add(BURST.into(), Ordering::Relaxed);
            }
            let seconds = start.elapsed().as_secs_f64();
            done.store(true, Ordering::Release);
            seconds
        });
        let before = cpu::time();
        while !done.load(Ordering::Acquire) {
            reader.read(wait, &mut seen);
        }
        on_cpu = (cpu::time() - before).as_secs_f64();
        seconds = producer.join().expect("the producer");
        reader.read(None, &mut seen);
        // The kernel says what was lost only with the next record that finds space.
        scope.spawn(move || {
            cpu::pin(cpu).expect("an allowed CPU");
            last.send_lossy(1).expect("a record");
            sent.fetch_add(1, Ordering::Relaxed);
        });
    });
    reader.read(None, &mut seen);
    let outcome = Outcome { sent: sent.into_inner(), seen, seconds, on_cpu };
    assert_eq!(outcome.lost(), seen.lost, "what the LOST records say");
    outcome
}

fn table(title: &str, contenders: &mut [Contender], wait: Option<Duration>, producer: usize) {
    let (turns, duration) = if mode::is_trial() { (2, 20) } else { (8, 1000) };
    println!("\n### {title}\n\n{turns} turns of {duration} ms each\n");
    println!("| turn | reader | sent, M/s | read, M/s | records read | lost | loss | reader on its CPU |");
    println!("|---|---|---|---|---|---|---|---|");
    for turn in 1..=turns {
        for contender in &mut *contenders {
            let outcome = storm(&mut *contender.reader, wait, producer, Duration::from_millis(duration));
            outcome.print(&turn.to_string(), contender.name);
            let sum = &mut contender.sum;
            sum.sent += outcome.sent;
            sum.seen.records += outcome.seen.records;
            sum.seconds += outcome.seconds;
            sum.on_cpu += outcome.on_cpu;
        }
        // Nobody always follows the same one.
        contenders.reverse();
    }
    for contender in contenders {
        contender.sum.print("all", contender.name);
        contender.sum = Outcome::default();
    }
}

fn main() {
    let cpus = cpu::allowed();
    let [consumer, producer, ..] = cpus[..] else {
        println!("SKIPPED: storm: it needs two CPUs");
        return;
    };
    let mut contenders = Vec::new();
    for (name, setup) in [OURS, LIBBPF] {
        match setup(producer as u32) {
            Ok(reader) => contenders.push(Contender { name, reader, sum: Outcome::default() }),
            Err(reason) => println!("SKIPPED: {name}: {reason}"),
        }
    }
    if contenders.is_empty() {
        return;
    }
    cpu::pin(consumer).expect("an allowed CPU");
    println!("A ring of {} pages; producer on CPU {producer}, reader on CPU {consumer}", storms::PAGES);
    table("the reader never sleeps", &mut contenders, None, producer);
    table("the reader sleeps until a quarter is full", &mut contenders, Some(Duration::from_millis(10)), producer);
}
