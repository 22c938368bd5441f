//! A flight recorder: the last records of a process that was killed.
//!
//! A child writes a ring in a file, over and over; the parent kills it with SIGKILL and reads the file.
#![allow(unsafe_code)]

use perfring::ring::{Consumer, Mode, Ring};
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

const RECORD: u32 = 1 << 20;
const SHOWN: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args_os().nth(1) {
        Some(path) => record(Path::new(&path)),
        None => {
            let dir = tempfile::tempdir()?;
            watch(&dir.path().join("recorder.ring"))
        }
    }
}

/// The child: writes until it is killed.
fn record(path: &Path) -> Result<(), Box<dyn Error>> {
    let builder = Ring::confined(16).mode(Mode::OverwriteForward);
    // SAFETY: the parent only reads the file, and removes it when this process is gone.
    let ring = unsafe { builder.create_file(path) }?;
    let producer = ring.overwrite_producer()?;
    for number in 0u64.. {
        let message = format!("step {number} of the flight");
        let mut record = producer.begin_forward_in_page((8 + 16 + message.len()).next_multiple_of(8))?;
        record.put(&number.to_ne_bytes());
        record.put(&SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().to_ne_bytes()[..8]);
        record.put(message.as_bytes());
        record.commit(RECORD, 0);
        if number == 10_000 {
            println!("wrote {number} records");
        }
    }
    Ok(())
}

/// The parent: kills the child in the middle of it, and recovers what it wrote last.
fn watch(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?).arg(path).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    // The line comes when there are enough records to fill the ring a few times.
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    // By the child's id; SIGKILL cannot be caught, so nothing is flushed or closed.
    child.kill()?;
    let status = child.wait()?;
    println!("child {}: {}, then {status}", child.id(), line.trim_end());

    let mut consumer = Consumer::open_file(path)?;
    let mut drain = consumer.drain();
    let (mut last, mut found, mut in_order) = (Vec::new(), 0, true);
    let mut before = None;
    while let Some(record) = drain.next() {
        let record = record?;
        let Some((number, rest)) = record.body().split_first_chunk::<8>() else { continue };
        let number = u64::from_ne_bytes(*number);
        in_order &= before.replace(number).is_none_or(|before| before + 1 == number);
        if found >= SHOWN {
            last.remove(0);
        }
        found += 1;
        let message = String::from_utf8_lossy(&rest[8..]);
        last.push(format!("{number:>8}: {}", message.trim_end_matches('\0')));
    }
    drop(drain);
    println!(
        "recovered {found} records{}, the last of them:",
        if in_order { ", none missing between them" } else { "" }
    );
    println!("{}", last.join("\n"));
    println!("writer {}", if consumer.is_closed() { "closed the ring" } else { "never closed the ring" });
    Ok(())
}
