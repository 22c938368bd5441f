//! The instructions that read a machine's counters: x86-64 only.
#![allow(unsafe_code)]

/// The time stamp counter, read after all that comes before in the program: `None` on machines other than x86-64.
///
/// A process that has forbidden itself the instruction (`PR_SET_TSC`) is killed by it.
#[inline]
pub(crate) fn cycles() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_lfence, _rdtsc};
        // SAFETY: lfence (SSE2) and rdtsc are part of every x86-64, read registers only, and touch no memory.
        let cycles = unsafe {
            // rdtsc alone may be executed before the loads in front of it, and so read too early a time.
            _mm_lfence();
            _rdtsc()
        };
        Some(cycles)
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// The performance counter `index - 1`, where `index` is that of the time page, as raw bits: `None` for an `index` of 0,
/// and on machines other than x86-64.
///
/// # Safety
/// The kernel has granted this process user-space reads (`cap_user_rdpmc`, in the page of an event that is mapped): else
/// the processor raises a fault, which kills the process. It reads nothing but a counter's value.
#[inline]
pub(crate) unsafe fn counter(index: u32) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        let counter = index.checked_sub(1)?;
        let (low, high): (u32, u32);
        // SAFETY: rdpmc takes the counter's number in ecx and gives its value in edx:eax; it touches no memory, no flags
        // and no stack. It is allowed by contract.
        unsafe {
            std::arch::asm!("rdpmc", in("ecx") counter, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
        }
        Some(u64::from(high) << 32 | u64::from(low))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = index;
        None
    }
}
