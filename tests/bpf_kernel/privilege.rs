//! What a thread may do.

/// `_LINUX_CAPABILITY_VERSION_3`
const VERSION: u32 = 0x2008_0522;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;

/// Runs something in a thread without the capabilities for tracing, but with those for BPF: the kernel then lets no program leak
/// an address, or read what was never written, and looks at what a CPU might do by speculation.
pub fn without_tracing<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            drop_tracing();
            run()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gives up the capabilities, for good, and in this thread only.
fn drop_tracing() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let mut header = Header { version: VERSION, pid: 0 };
    let mut data = [0_u32; 6];
    // SAFETY: the header is of version 3, for which the kernel writes six words.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut data) }, 0);
    for cap in [CAP_SYS_ADMIN, CAP_PERFMON] {
        // Effective, permitted, inheritable; the lower 32 and then the upper.
        let at = 3 * (cap / 32) as usize;
        data[at..at + 2].iter_mut().for_each(|word| *word &= !(1 << (cap % 32)));
    }
    // SAFETY: as above; the kernel reads six words. It is for the calling thread alone.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &raw const data) }, 0);
}
