//! What the tests share.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unsafe_code, reason = "a mount namespace of a test's own needs system calls")]

use std::fmt::Display;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use memmap2::{Advice, MmapMut};

/// What a test may need of the kernel.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Software events of the calling thread, user space only, with a ring of eight pages.
    OwnEvents,
    /// Events on every CPU, and of the kernel's code.
    Privileged,
}

/// Whether the kernel grants this; if not, says so where libtest cannot swallow it.
///
/// With `PERFRING_REQUIRE_KERNEL=1` the test fails instead.
#[cfg(feature = "kernel")]
#[must_use]
pub fn require_kernel(what: Need) -> bool {
    use perfring::kernel::{EventBuilder, Software, Target};

    let builder = EventBuilder::software(Software::PageFaults);
    let granted = match what {
        Need::OwnEvents => builder
            .exclude_kernel(true)
            .exclude_hv(true)
            .open(Target::CallingThread)
            .and_then(|mut event| event.mmap(8).map(drop)),
        Need::Privileged => builder.open_cpus().map(drop),
    };
    match granted {
        Ok(()) => true,
        Err(error) => {
            skip(error);
            false
        }
    }
}

/// Says that this test is skipped, and why.
pub fn skip(why: impl Display) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    if std::env::var_os("PERFRING_REQUIRE_KERNEL").is_some_and(|value| value == "1") {
        panic!("{test}: PERFRING_REQUIRE_KERNEL=1, but: {why}");
    }
    say("SKIPPED", why);
}

/// Says that the hardware lacks what a test is about, which no privilege and no kernel would change.
pub fn lacks(why: impl Display) {
    say("ABSENT", why);
}

fn say(what: &str, why: impl Display) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // The captured stderr is a handle of the standard library; the descriptor itself is not captured.
    if let Ok(fd) = io::stderr().as_fd().try_clone_to_owned() {
        let _ = File::from(fd).write_all(format!("{what}: {test}: {why}\n").as_bytes());
    }
}

/// The effective user.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The value of this variable in a child made by [`rerun`] is the name of the test.
const CHILD: &str = "PERFRING_TEST_CHILD";

/// Whether this process was made by [`rerun`] for the current test.
pub fn is_rerun() -> bool {
    std::env::var_os(CHILD).is_some_and(|test| std::thread::current().name() == test.to_str())
}

/// Runs the current test alone in a process of its own, after `ulimit` settings, and panics if it fails there. Skips
/// pass through.
pub fn rerun(limits: &str, adjust: impl FnOnce(&mut Command), program: &Path) {
    let thread = std::thread::current();
    let test = thread.name().expect("libtest names the threads of tests");
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{limits}\nexec \"$0\" \"$@\""))
        .arg(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .current_dir("/")
        .env(CHILD, test);
    adjust(&mut command);
    let output = command.output().expect("sh runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for line in err.lines().filter(|line| line.starts_with("SKIPPED: ")) {
        if let Ok(fd) = io::stderr().as_fd().try_clone_to_owned() {
            let _ = File::from(fd).write_all(format!("{line}\n").as_bytes());
        }
    }
    assert!(output.status.success(), "{test} in a child: {}\n{out}\n{err}", output.status);
    assert!(out.contains("1 passed"), "{test} did not run in the child:\n{out}\n{err}");
}

/// As [`rerun`], without privileges: of root, another user's process runs the test.
pub fn rerun_unprivileged(limits: &str) {
    let program = std::env::current_exe().expect("the test program");
    if !is_root() {
        return rerun(limits, |_| {}, &program);
    }
    // Somebody else may be unable to reach where the tests are built.
    let dir = TempDir::new(std::thread::current().name().expect("libtest names the threads of tests"));
    let copy = dir.path().join("test");
    // By another process: one that is forked here meanwhile would keep a copy made here open for writing, and so from being
    // executed.
    assert!(Command::new("cp").args([&program, &copy]).status().expect("cp runs").success());
    for path in [&copy, dir.path()] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("our own file");
    }
    rerun(limits, |command| _ = command.uid(65534).gid(65534), &copy);
}

/// Runs `test` where tracefs is mounted: as it is, or else in a thread whose own mount namespace has one, which ends
/// with the thread.
///
/// Skips when neither is possible.
pub fn with_tracefs(test: impl FnOnce() + Send) {
    let mounted = |root: &str| Path::new(root).join("events/sched").is_dir();
    if mounted("/sys/kernel/tracing") || mounted("/sys/kernel/debug/tracing") {
        return test();
    }
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let result = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name(name)
            .spawn_scoped(scope, || match mount_tracefs() {
                Ok(()) => test(),
                Err(error) => skip(format_args!("no tracefs, and it cannot be mounted: {error}")),
            })
            .expect("a thread")
            .join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn mount_tracefs() -> io::Result<()> {
    let check = |result: libc::c_int| {
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: takes flags only; the calling thread gets a mount namespace of its own.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
    // SAFETY: the strings are static and end in NUL; this kind of call ignores the file system type and data, which are
    // null.
    check(unsafe { libc::mount(none, root, std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) })?;
    let (tracefs, at) = (c"tracefs".as_ptr(), c"/sys/kernel/tracing".as_ptr());
    // SAFETY: the strings are static and end in NUL; no data.
    check(unsafe { libc::mount(tracefs, at, tracefs, 0, std::ptr::null()) })
}

/// Bytes in a page.
pub fn page_size() -> usize {
    // memmap2 maps from page boundaries, but does not tell the page's size; the auxiliary vector does (AT_PAGESZ is 6).
    let auxv = std::fs::read("/proc/self/auxv").expect("procfs");
    let words: Vec<_> =
        auxv.chunks_exact(size_of::<usize>()).map(|word| usize::from_ne_bytes(word.try_into().unwrap())).collect();
    words.chunks_exact(2).find(|pair| pair[0] == 6).expect("AT_PAGESZ")[1]
}

/// Memory whose pages fault when they are first touched.
pub struct Pages {
    /// The bytes of all of them.
    pub memory: MmapMut,
    /// Bytes in one.
    pub page_size: usize,
}

impl Pages {
    /// Fresh ones.
    pub fn new(pages: usize) -> Self {
        let page_size = page_size();
        let memory = MmapMut::map_anon(pages * page_size).expect("memory");
        // One fault a page, also where huge pages are on; kernels without them refuse, which is as good.
        let _ = memory.advise(Advice::NoHugePage);
        Self { memory, page_size }
    }

    /// Touches some of them.
    #[inline(never)]
    pub fn touch(&mut self, pages: std::ops::Range<usize>) {
        for page in pages {
            black_box(&mut self.memory)[page * self.page_size] = 1;
        }
    }

    /// Where one begins.
    pub fn address(&self, page: usize) -> u64 {
        self.memory.as_ptr() as u64 + (page * self.page_size) as u64
    }

    /// Where all of them are.
    pub fn addresses(&self) -> std::ops::Range<u64> {
        self.address(0)..self.address(self.memory.len() / self.page_size)
    }
}

/// A directory that goes away with the value.
pub struct TempDir(std::path::PathBuf);

impl TempDir {
    /// Makes a directory for `purpose`, which is unique in this process.
    pub fn new(purpose: &str) -> Self {
        let path = std::env::temp_dir().join(format!("perfring-test-{}-{purpose}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
