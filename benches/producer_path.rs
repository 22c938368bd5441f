//! The single producer's path, alone in functions that instructions.sh counts and disassembly.sh reads.
//!
//! `producer_path forward|in-page RECORDS` writes that many records and reads them back in turns.

use perfring::ring::{Consumer, Producer, Ring, Wake};

#[path = "support/mode.rs"]
mod mode;

/// 48 bytes of payload behind the header.
const RECORD: usize = 56;
const TURN: u64 = 1024;

#[inline(never)]
fn produce_forward(producer: &Producer, payload: &[u8; RECORD - 8], records: u64) -> u64 {
    for written in 0..records {
        let Ok(mut record) = producer.begin_forward(RECORD) else { return written };
        record.put(payload);
        record.commit(9, 0);
    }
    records
}

#[inline(never)]
fn produce_in_page(producer: &Producer, payload: &[u8; RECORD - 8], records: u64) -> u64 {
    for written in 0..records {
        let Ok(mut record) = producer.begin_forward_in_page(RECORD) else { return written };
        record.put(payload);
        record.commit(9, 0);
    }
    records
}

#[inline(never)]
fn consume(consumer: &mut Consumer) -> u64 {
    let mut count = 0;
    consumer.for_each(|record| count += u64::from(record.body().len() == RECORD - 8)).expect("sound records");
    count
}

fn run(way: &str, records: u64) {
    let (ring, produce): (_, fn(&Producer, &[u8; RECORD - 8], u64) -> u64) = match way {
        "forward" => (Ring::free(64), produce_forward),
        "in-page" => (Ring::confined(64), produce_in_page),
        _ => panic!("forward or in-page, not {way}"),
    };
    let ring = ring.wake(Wake::Never).private().expect("a ring");
    let (producer, mut consumer) = (ring.producer().expect("a producer"), ring.consumer().expect("a consumer"));
    let payload = std::hint::black_box([7; RECORD - 8]);
    let mut read = 0;
    while read < records {
        let turn = TURN.min(records - read);
        assert_eq!(produce(&producer, &payload, turn), turn);
        assert_eq!(consume(&mut consumer), turn);
        read += turn;
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [way, records] = &args[..] {
        run(way, records.parse().expect("a number of records"));
    } else if mode::is_trial() {
        run("forward", 10_000);
        run("in-page", 10_000);
    } else {
        println!("SKIPPED: producer_path: it is for instructions.sh and disassembly.sh");
    }
}
