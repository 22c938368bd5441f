//! Telling a forked child from its parent: a page that the kernel wipes in the child.

/// A producer is alive only in the process that made it: a forked child that wrote to shared memory would be a second
/// producer that knows nothing of the first.
pub(crate) struct ForkGuard {
    #[cfg(not(perfring_loom))]
    word: &'static crate::sync::AtomicU64,
    #[cfg(not(perfring_loom))]
    generation: u64,
}

#[cfg(not(perfring_loom))]
mod imp {
    use super::ForkGuard;
    use crate::ring::order::Site;
    use crate::sync::AtomicU64;
    use std::io;
    use std::sync::OnceLock;

    /// The guard page's one word: 0 in a fresh child, else the generation of the process that last made a guard.
    fn word() -> io::Result<&'static AtomicU64> {
        static WORD: OnceLock<usize> = OnceLock::new();
        let address = match WORD.get() {
            Some(&address) => address,
            None => {
                let page = map_page()?;
                let address = *WORD.get_or_init(|| page);
                if address != page {
                    // SAFETY: `page` was mapped by us just now with this length, and nobody else has its address.
                    unsafe { libc::munmap(page as *mut libc::c_void, PAGE) };
                }
                address
            }
        };
        // SAFETY: `map_page` mapped it page-aligned, readable and writable; it is never unmapped once it is in WORD, and
        // only ever accessed through this atomic (and wiped by fork, in a process that then has one thread).
        Ok(unsafe { AtomicU64::from_ptr(address as *mut u64) })
    }

    const PAGE: usize = 4096;

    fn map_page() -> io::Result<usize> {
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
        Ok(page as usize)
    }

    impl ForkGuard {
        /// A guard for this process.
        ///
        /// # Errors
        /// What mmap or madvise(MADV_WIPEONFORK) say; the latter exists since Linux 4.14.
        pub(crate) fn new() -> io::Result<Self> {
            let word = word()?;
            // Not the process id: that of a child may be its parent's, in pid namespaces, or that of an ancestor which has
            // ended. A child counts on from where its parent was, so it is past every generation that it has inherited.
            static GENERATIONS: AtomicU64 = AtomicU64::new(0);
            let own = GENERATIONS.fetch_add(1, Site::ForkWord.order()) + 1;
            let generation = match word.compare_exchange(0, own, Site::ForkWord.order(), Site::ForkWord.order()) {
                Ok(_) => own,
                Err(current) => current,
            };
            Ok(Self { word, generation })
        }

        /// Whether this is still the process that made the guard.
        #[inline(always)]
        pub(crate) fn alive(&self) -> bool {
            self.word.load(Site::ForkWord.order()) == self.generation
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
