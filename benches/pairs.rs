//! Two queues in turn, A B A B, so that what the machine does meanwhile falls on both; prints the ratios as a table.
//!
//! `--pairs=N` and `--records=N` change how many turns and how many records a turn has; another word picks the tables
//! whose title holds it.

use std::time::Duration;

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/mode.rs"]
mod mode;
#[path = "support/ours.rs"]
mod ours;
#[path = "support/peers.rs"]
mod peers;
#[path = "support/queue.rs"]
mod queue;

use ours::{Each, Forward, InPage, Merged, Shared};
use peers::{Array, BbqueueFramed, Ringbuf, Rtrb, RtrbChunk, RtrbEach};
use queue::Queue;

const RECORD: usize = 48;

struct Options {
    pairs: usize,
    records: u64,
    filter: Option<String>,
}

impl Options {
    fn from_args() -> Self {
        let trial = mode::is_trial();
        let mut options =
            Self { pairs: if trial { 1 } else { 51 }, records: if trial { 2_000 } else { 1_000_000 }, filter: None };
        for arg in std::env::args().skip(1) {
            if let Some(n) = arg.strip_prefix("--pairs=") {
                options.pairs = n.parse().expect("--pairs=NUMBER");
            } else if let Some(n) = arg.strip_prefix("--records=") {
                options.records = n.parse().expect("--records=NUMBER");
            } else if !arg.starts_with('-') {
                options.filter = Some(arg);
            }
        }
        options
    }

    fn wants(&self, title: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| title.contains(filter.as_str()))
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

fn ns_per_record(elapsed: Duration, records: u64) -> f64 {
    elapsed.as_nanos() as f64 / records as f64
}

/// One row: the measured ratio A/B of each pair, not the ratio of the medians.
fn row(options: &Options, a: (&str, &dyn Fn(u64) -> Duration), b: (&str, &dyn Fn(u64) -> Duration)) {
    let (mut of_a, mut of_b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.pairs {
        let one = ns_per_record(a.1(options.records), options.records);
        let two = ns_per_record(b.1(options.records), options.records);
        of_a.push(one);
        of_b.push(two);
        ratios.push(one / two);
    }
    let middle = median(&mut ratios);
    println!(
        "| {} | {} | {:.2} | {:.2} | **{:.2}** | {:.2} | {:.2} |",
        a.0,
        b.0,
        median(&mut of_a),
        median(&mut of_b),
        middle,
        ratios[0],
        ratios[ratios.len() - 1],
    );
}

fn heading(options: &Options, title: &str) -> bool {
    if !options.wants(title) {
        return false;
    }
    println!("\n### {title}\n");
    println!("{} pairs of {} records of {RECORD} bytes\n", options.pairs, options.records);
    println!("| A | B | A ns/record | B ns/record | A/B median | min | max |");
    println!("|---|---|---|---|---|---|---|");
    true
}

fn two<A: Queue<RECORD>, B: Queue<RECORD>>(options: &Options) {
    let (a, b) = (queue::threads::<RECORD, A>, queue::threads::<RECORD, B>);
    row(options, (A::NAME, &|n| a(1, n)), (B::NAME, &|n| b(1, n)));
}

fn one<A: Queue<RECORD>, B: Queue<RECORD>>(options: &Options) {
    row(options, (A::NAME, &queue::one_thread::<RECORD, A>), (B::NAME, &queue::one_thread::<RECORD, B>));
}

fn several<A: Queue<RECORD>, B: Queue<RECORD>>(options: &Options, producers: usize) {
    let each = |n: u64| n / producers as u64;
    row(
        options,
        (A::NAME, &|n| queue::threads::<RECORD, A>(producers, each(n))),
        (B::NAME, &|n| queue::threads::<RECORD, B>(producers, each(n))),
    );
}

/// Pushes that found room; their time includes the clock's, which is given beside.
fn tail<Q: Queue<RECORD>>(options: &Options, producers: usize) {
    let records = options.records / 4 / producers as u64;
    let (mut p50, mut p99, mut p999, mut max, mut full) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..options.pairs.div_ceil(5) {
        let latency = queue::latency::<RECORD, Q>(producers, records);
        p50.push(f64::from(latency.quantile(0.5)));
        p99.push(f64::from(latency.quantile(0.99)));
        p999.push(f64::from(latency.quantile(0.999)));
        max.push(f64::from(latency.quantile(1.0)));
        full.push(latency.full as f64 / latency.pushes.len() as f64);
    }
    println!(
        "| {} | {producers} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} |",
        Q::NAME,
        median(&mut p50),
        median(&mut p99),
        median(&mut p999),
        median(&mut max),
        median(&mut full),
    );
}

fn clock_cost() -> u32 {
    let mut costs: Vec<u32> = (0..100_001).map(|_| std::time::Instant::now().elapsed().as_nanos() as u32).collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

fn main() {
    let options = Options::from_args();

    if heading(&options, "two threads") {
        // A queue against itself shows how far a ratio may be trusted on this machine.
        two::<Rtrb, Rtrb>(&options);
        two::<InPage, Rtrb>(&options);
        two::<Forward, Rtrb>(&options);
        two::<InPage, BbqueueFramed>(&options);
        two::<RtrbChunk, Rtrb>(&options);
        two::<Ringbuf, Rtrb>(&options);
        two::<Array, Rtrb>(&options);
        two::<BbqueueFramed, Rtrb>(&options);
    }
    if heading(&options, "one thread") {
        one::<Array, Array>(&options);
        one::<Shared, Array>(&options);
        one::<InPage, Rtrb>(&options);
        one::<Rtrb, Array>(&options);
        one::<BbqueueFramed, Array>(&options);
    }
    for producers in [2, 4] {
        if heading(&options, &format!("{producers} producers")) {
            several::<Array, Array>(&options, producers);
            several::<Shared, Array>(&options, producers);
            several::<Each, Array>(&options, producers);
            several::<Merged, Array>(&options, producers);
            several::<RtrbEach, Array>(&options, producers);
        }
    }
    let title = "push latency";
    if options.wants(title) {
        println!("\n### {title}\n");
        println!("Medians over runs of the quantiles in a run; the clock's own {} ns are included.\n", clock_cost());
        println!("| queue | producers | p50 ns | p99 ns | p99.9 ns | max ns | full per push |");
        println!("|---|---|---|---|---|---|---|");
        for producers in [1, 2, 4] {
            tail::<Shared>(&options, producers);
            tail::<Each>(&options, producers);
            tail::<Merged>(&options, producers);
            tail::<Array>(&options, producers);
            tail::<RtrbEach>(&options, producers);
        }
    }
}
