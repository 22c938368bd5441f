//! Telling a forked child from its parent: a page that the kernel wipes in the child.

/// A producer is alive only in the process that made it: a forked child that wrote to shared memory would be a second
/// producer that knows nothing of the first.
pub(crate) struct ForkGuard {
    /// 1, and 0 in a child that was forked since.
    #[cfg(not(perfring_loom))]
    word: &'static crate::sync::AtomicU64,
}

#[cfg(not(perfring_loom))]
mod imp {
    use super::ForkGuard;
    use crate::ring::order::Site;
    use crate::sync::AtomicU64;
    use std::io;
    use std::sync::Mutex;

    const PAGE: usize = 4096;

    /// The page that this process, or the one it was forked from, made last.
    static WORD: Mutex<Option<&'static AtomicU64>> = Mutex::new(None);

    fn map_page() -> io::Result<&'static AtomicU64> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range is the mapping made above, and nothing in it is in use.
        if unsafe { libc::madvise(page, PAGE, libc::MADV_WIPEONFORK) } != 0 {
            let error = io::Error::last_os_error();
            // SAFETY: unmaps what was mapped above; its address has gone nowhere.
            unsafe { libc::munmap(page, PAGE) };
            return Err(error);
        }
        // SAFETY: mapped page-aligned, readable and writable, and never unmapped from here on; only ever accessed through
        // this atomic (and wiped by fork, in a process that then has one thread).
        let word = unsafe { AtomicU64::from_ptr(page.cast()) };
        word.store(1, Site::ForkWord.order());
        Ok(word)
    }

    impl ForkGuard {
        /// A guard for this process. A child that makes one gets a page of its own: the wiped one stays as it is, for the
        /// guards that it inherited.
        ///
        /// # Errors
        /// What mmap or madvise(MADV_WIPEONFORK) say; the latter exists since Linux 4.14.
        pub(crate) fn new() -> io::Result<Self> {
            let mut last = WORD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let word = match *last {
                Some(word) if word.load(Site::ForkWord.order()) != 0 => word,
                _ => map_page()?,
            };
            *last = Some(word);
            Ok(Self { word })
        }

        /// Whether this is still the process that made the guard.
        #[inline(always)]
        pub(crate) fn alive(&self) -> bool {
            self.word.load(Site::ForkWord.order()) != 0
        }
    }
}

#[cfg(perfring_loom)]
impl ForkGuard {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    pub(crate) fn alive(&self) -> bool {
        true
    }
}
