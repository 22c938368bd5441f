//! Records through a ring and through other queues, on one thread and between threads; a time is that of one record.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/ours.rs"]
mod ours;
#[path = "support/peers.rs"]
mod peers;
#[path = "support/queue.rs"]
mod queue;

use ours::{Each, Forward, InPage, Merged, Shared};
use peers::{Array, BbqueueFramed, Ringbuf, Rtrb, RtrbChunk, RtrbEach};
use queue::Queue;

fn one<const N: usize, Q: Queue<N>>(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.bench_function(BenchmarkId::new(Q::NAME, N), |bencher| {
        bencher.iter_custom(queue::one_thread::<N, Q>);
    });
}

fn many<const N: usize, Q: Queue<N>>(group: &mut BenchmarkGroup<'_, WallTime>, producers: u64) {
    group.bench_function(BenchmarkId::new(Q::NAME, N), |bencher| {
        bencher.iter_custom(|records| queue::threads::<N, Q>(producers as usize, records.div_ceil(producers)));
    });
}

fn one_thread_of<const N: usize>(c: &mut Criterion) {
    let mut group = c.benchmark_group("one thread");
    group.throughput(Throughput::Bytes(N as u64));
    group.bench_function(BenchmarkId::new("memcpy", N), |bencher| {
        bencher.iter_custom(queue::memcpy::<N>);
    });
    one::<N, Forward>(&mut group);
    one::<N, InPage>(&mut group);
    one::<N, Shared>(&mut group);
    one::<N, Rtrb>(&mut group);
    one::<N, RtrbChunk>(&mut group);
    one::<N, Ringbuf>(&mut group);
    one::<N, BbqueueFramed>(&mut group);
    one::<N, Array>(&mut group);
    group.finish();
}

fn two_threads_of<const N: usize>(c: &mut Criterion) {
    let mut group = c.benchmark_group("two threads");
    group.throughput(Throughput::Bytes(N as u64));
    many::<N, Forward>(&mut group, 1);
    many::<N, InPage>(&mut group, 1);
    many::<N, Shared>(&mut group, 1);
    many::<N, Rtrb>(&mut group, 1);
    many::<N, RtrbChunk>(&mut group, 1);
    many::<N, Ringbuf>(&mut group, 1);
    many::<N, BbqueueFramed>(&mut group, 1);
    many::<N, Array>(&mut group, 1);
    group.finish();
}

fn producers_of<const N: usize>(c: &mut Criterion) {
    for producers in [2, 4] {
        let mut group = c.benchmark_group(format!("{producers} producers"));
        group.throughput(Throughput::Bytes(N as u64));
        many::<N, Shared>(&mut group, producers);
        many::<N, Each>(&mut group, producers);
        many::<N, Merged>(&mut group, producers);
        many::<N, Array>(&mut group, producers);
        many::<N, RtrbEach>(&mut group, producers);
        group.finish();
    }
}

fn one_thread(c: &mut Criterion) {
    one_thread_of::<16>(c);
    one_thread_of::<48>(c);
    one_thread_of::<256>(c);
    one_thread_of::<1024>(c);
    one_thread_of::<4000>(c);
}

fn two_threads(c: &mut Criterion) {
    two_threads_of::<16>(c);
    two_threads_of::<48>(c);
    two_threads_of::<256>(c);
    two_threads_of::<1024>(c);
    two_threads_of::<4000>(c);
}

fn producers(c: &mut Criterion) {
    producers_of::<16>(c);
    producers_of::<48>(c);
    producers_of::<256>(c);
    producers_of::<1024>(c);
    producers_of::<4000>(c);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(31)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = one_thread, two_threads, producers
}
criterion_main!(benches);
