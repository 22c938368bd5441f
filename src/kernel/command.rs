//! A command that waits to be observed before its program starts.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::kernel::{Error, error_from_limits, sys};

/// Held while a child is being made. A child that is forked meanwhile, and stops, would keep copies of the pipes by which
/// this one, and the standard library, learn what became of the other child: both would wait until it goes on. It is
/// held until the standard library has closed its copy behind the fork: [`wait_until_asleep`].
static FORKING: Mutex<()> = Mutex::new(());

/// A child process that stands right before its `execve(2)`, so that events can be opened on it that see the program
/// from its first instruction.
///
/// Open the events with [`enable_on_exec`](crate::kernel::EventBuilder::enable_on_exec), map them, then
/// [`start`](Self::start) the program. Dropped without being started, the child ends without having run the program.
///
/// Until it executes the program, the child has copies of all descriptors of this process, also of those that an exec
/// closes: a pipe does not end, and a file that was being written cannot be executed, as long as it stands.
///
/// The child is made by a thread of its own, because [`Command::spawn`] returns only once the program runs. A parent
/// death signal (`PR_SET_PDEATHSIG`) that the command sets would come when that thread ends, so do not set one.
///
/// ```no_run
/// use perfring::kernel::{EventBuilder, Software, StoppedCommand, Target};
/// use std::process::Command;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let command = StoppedCommand::spawn(Command::new("true"))?;
/// let mut event = EventBuilder::software(Software::Dummy)
///     .comm(true)
///     .enable_on_exec(true)
///     .disabled(true)
///     .open(Target::Task { pid: command.pid() })?;
/// let mut consumer = event.mmap(8)?;
/// let mut child = command.start()?;
/// child.wait()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StoppedCommand {
    pid: u32,
    program: String,
    /// Where the child waits. This end is kept so that a child that was killed does not turn a write into SIGPIPE.
    _gate_in: OwnedFd,
    gate: PipeWriter,
    /// The thread inside `Command::spawn`; taken when the child was told how to go on.
    spawner: Option<JoinHandle<io::Result<Child>>>,
}

impl StoppedCommand {
    /// Makes the child process and waits until it stands before the program.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] when no process could be made (also for a bad working directory or user),
    /// [`Error::TooManyFiles`].
    pub fn spawn(mut command: Command) -> Result<Self, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source: io::Error| {
            error_from_limits(source).unwrap_or_else(|source| Error::Command { program: program.clone(), source })
        };
        let _forking = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        let (tell_thread, thread) = std::sync::mpsc::channel();
        let (pid_in, pid_out) = pipe().map_err(failed)?;
        let (gate_in, gate_out) = pipe().map_err(failed)?;
        sys::stop_before_exec(&mut command, pid_out, gate_in.as_raw_fd(), gate_out.as_raw_fd());
        // The command, and with it the writing end for the pid, ends with the thread: reading the pid then meets the
        // end of the pipe.
        let spawner = std::thread::Builder::new()
            .name("perfring-spawn".to_owned())
            .spawn(move || {
                let _ = tell_thread.send(std::fs::read_link("/proc/thread-self"));
                command.spawn()
            })
            .map_err(failed)?;
        let mut pid = [0; 4];
        // Both ends of the gate stay open here until the child has answered or is known not to exist.
        let told = PipeReader::from(pid_in).read_exact(&mut pid);
        if let (Ok(()), Ok(Ok(thread))) = (&told, thread.recv()) {
            wait_until_asleep(&thread);
        }
        match told {
            Ok(()) => Ok(Self {
                pid: u32::from_ne_bytes(pid),
                program,
                _gate_in: gate_in,
                gate: gate_out.into(),
                spawner: Some(spawner),
            }),
            Err(_) => Err(failed(match join(spawner) {
                Err(error) => error,
                Ok(mut child) => {
                    // Killed before it told its pid.
                    let _ = child.kill();
                    let _ = child.wait();
                    io::Error::from_raw_os_error(libc::ECANCELED)
                }
            })),
        }
    }

    /// The child's process id: the `pid` of [`Target::Task`](crate::kernel::Target::Task).
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the child execute the program.
    ///
    /// Returns when it runs. A child that was killed in the meantime is returned too: waiting for it tells the signal.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] when the program could not be executed; the child is gone then.
    pub fn start(mut self) -> Result<Child, Error> {
        self.finish(sys::GO).unwrap_or_else(|| Err(io::Error::from_raw_os_error(libc::ECHILD))).map_err(|source| {
            error_from_limits(source).unwrap_or_else(|source| Error::Command { program: self.program.clone(), source })
        })
    }

    fn finish(&mut self, word: u8) -> Option<io::Result<Child>> {
        let spawner = self.spawner.take()?;
        // Cannot fail: the pipe is empty and this process holds its other end.
        let _ = self.gate.write_all(&[word]);
        Some(join(spawner))
    }
}

impl Drop for StoppedCommand {
    fn drop(&mut self) {
        if let Some(Ok(mut child)) = self.finish(sys::GIVE_UP) {
            // The child did not give up by itself, so it was killed; do not leave a zombie.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until the thread that forked has closed its own end of the pipe by which the standard library learns of a failed
/// execve(2): it does so right after the fork, and then sleeps on the other end. A child forked before that would keep the pipe
/// open.
fn wait_until_asleep(thread: &Path) {
    let stat = Path::new("/proc").join(thread).join("stat");
    // Bounded, for whatever else may keep a thread from sleeping.
    for _ in 0..10_000 {
        let state = std::fs::read_to_string(&stat).ok().and_then(|stat| {
            let (_, behind_name) = stat.rsplit_once(')')?;
            behind_name.trim_start().chars().next()
        });
        // Without a state: the thread has ended, or there is no procfs to ask.
        if state.is_none_or(|state| state == 'S') {
            return;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn join(spawner: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    spawner.join().unwrap_or_else(|_| Err(io::Error::other("the spawning thread panicked")))
}

/// A pipe that the child's standard streams, moved to 0, 1 and 2, cannot overwrite.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let above_stdio = |fd: OwnedFd| {
        if fd.as_raw_fd() > 2 { Ok(fd) } else { fd.try_clone() }
    };
    let (reader, writer) = io::pipe()?;
    Ok((above_stdio(reader.into())?, above_stdio(writer.into())?))
}
