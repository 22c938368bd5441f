//! A ring in shared memory: one process writes it, another reads it.
//!
//! This process makes the ring and hands the descriptors of its memfds to a child over a Unix socket; the child sleeps
//! until there are records. In a second run the writer is a child that gets killed, and the reader notices.

use perfring::ring::{Consumer, Ring, RingFds, Wait, Wake};
use std::error::Error;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const RECORD: u32 = 1 << 20;
/// Nothing here takes so long; it keeps a mistake from hanging for ever.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["produce", count, path] => produce(&UnixStream::connect(path)?, count.parse()?),
        ["consume", path] => consume("child", attach(&UnixStream::connect(path)?)?),
        _ => {
            let dir = tempfile::tempdir()?;
            closing(&dir.path().join("closing"))?;
            dying(&dir.path().join("dying"))
        }
    }
}

/// Writes `count` records and leaves, or, if `count` is 0, writes until it is killed.
fn produce(reader: &UnixStream, count: u64) -> Result<(), Box<dyn Error>> {
    let ring = Ring::confined(16).wake(Wake::Events(100)).memfd()?;
    let producer = ring.producer()?;
    ring.fds()?.send(reader.as_fd())?;
    let mut number = 0u64;
    while count == 0 || number < count {
        match producer.begin_forward_in_page(64) {
            Ok(mut record) => {
                record.put(&number.to_ne_bytes());
                record.commit(RECORD, 0);
                number += 1;
            }
            // The reader is behind: it has not even started, perhaps.
            Err(perfring::ring::BeginError::Full { .. }) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error.into()),
        }
    }
    println!("process {}: wrote {number} records and leaves", std::process::id());
    Ok(())
}

fn attach(writer: &UnixStream) -> Result<Consumer, Box<dyn Error>> {
    Ok(Consumer::attach(RingFds::receive(writer.as_fd())?)?)
}

/// Reads until the writer has left, in one way or another.
fn consume(who: &str, mut consumer: Consumer) -> Result<(), Box<dyn Error>> {
    let (mut next, mut naps) = (0u64, 0u64);
    let end = loop {
        consumer.for_each(|record| {
            if record.header().type_ == RECORD {
                let number = record.body().first_chunk().map(|number| u64::from_ne_bytes(*number));
                assert_eq!(number, Some(next), "records come in order, and none is missing");
                next += 1;
            }
        })?;
        naps += 1;
        match consumer.wait(Some(PATIENCE))? {
            Wait::Ready => {}
            end => break end,
        }
    };
    println!("{who}, process {}: read {next} records after {naps} waits, then {end:?}", std::process::id());
    Ok(())
}

/// A child that does not outlive this process' interest in it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn reexec(arguments: &[&str], path: &Path) -> std::io::Result<Killed> {
    Command::new(std::env::current_exe()?).args(arguments).arg(path).spawn().map(Killed)
}

/// The reader is a child, and the writer, this process, leaves when it has written all.
fn closing(path: &Path) -> Result<(), Box<dyn Error>> {
    let listener = UnixListener::bind(path)?;
    let mut child = reexec(&["consume"], path)?;
    produce(&accept(&listener, &mut child.0)?, 10_000)?;
    if child.0.wait()?.success() { Ok(()) } else { Err("the reader failed".into()) }
}

/// The writer is a child that is killed, and this process reads.
fn dying(path: &Path) -> Result<(), Box<dyn Error>> {
    let listener = UnixListener::bind(path)?;
    let mut child = reexec(&["produce", "0"], path)?;
    let mut consumer = attach(&accept(&listener, &mut child.0)?)?;
    consumer.wait(Some(PATIENCE))?;
    let reader = std::thread::spawn(|| consume("parent", consumer).map_err(|error| error.to_string()));
    std::thread::sleep(Duration::from_millis(50));
    // By the child's id, in the middle of its writing.
    child.0.kill()?;
    println!("process {}: {}", child.0.id(), child.0.wait()?);
    Ok(reader.join().map_err(|_| "the reader panicked")??)
}

/// Waits for the child's connection, but not for that of a child that has failed.
fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream, Box<dyn Error>> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false)?;
                return Ok(socket);
            }
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error.into()),
            Err(_) if child.try_wait()?.is_some() || Instant::now() > deadline => return Err("no connection".into()),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
