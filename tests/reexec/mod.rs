//! Tests that need other processes run their own binary again, in a role.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const ROLE: &str = "PERFRING_TEST_ROLE";

/// No step of a test takes so long, on however slow a machine: what does is a failure, and does not hang for ever.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What this process was started as by [`start`]: the lines of its role.
pub fn role() -> Option<Vec<String>> {
    Some(std::env::var(ROLE).ok()?.split('\n').map(str::to_owned).collect())
}

/// Runs the test `entry` of this binary in a process of its own, with this role. There its thread is the only one that
/// runs.
pub fn start(entry: &str, role: &[&str]) -> Process {
    let child = Command::new(std::env::current_exe().expect("the path of this binary"))
        .args([entry, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role.join("\n"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("this binary runs again");
    Process(child)
}

/// A process that does not outlive the test.
pub struct Process(Child);

impl Process {
    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) -> ExitStatus {
        self.0.kill().expect("SIGKILL to a child of this process");
        self.0.wait().expect("the child's status")
    }

    /// Waits until it ends of its own accord.
    pub fn join(&mut self) -> ExitStatus {
        wait_for(|| self.0.try_wait().expect("the child's status"))
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("the child's status")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks until there is something, but not for ever.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "nothing after {PATIENCE:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Ends this process when the one that started it is gone: its end of our stdin is then closed.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(3);
    });
}
