//! Access to what programs touch, by address.
//!
//! A program may race: with itself on another CPU, with updates and deletions from Rust, with accesses of any size at any
//! address. In Rust's memory model that would be undefined: racing accesses have to be atomic, and of one size. So nothing
//! here is an access of Rust's. Every one is an instruction of the machine, in inline assembly, and the rule is:
//!
//! - What several executions may touch at once (values of maps) is memory of a mapping of its own. No reference to it is
//!   ever made, and no code of Rust's ever touches it, other than through this file. To Rust it is as a device's memory:
//!   it is outside of the abstract machine, and what the machine's instructions do to it is defined by the machine. An
//!   aligned access of up to 8 bytes is one access there: it is not torn. Anything else may be.
//! - What one execution alone may touch (its stack, its context, a packet, an open record of a ring) is Rust's, and lent to
//!   the execution: exclusively, with its provenance exposed. An instruction on it is a plain access to it.
//!
//! Which of the two an address belongs to makes no difference to the instruction.

#![allow(unsafe_code)]

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the feature `bpf` is for x86-64 and AArch64");

use std::arch::asm;

/// Makes a load of each size.
macro_rules! loads {
    ($($name:ident, $bytes:literal, $x86:literal, $arm:literal;)*) => {
        $(
            #[doc = concat!("The ", $bytes, " at `address`, zero-extended.")]
            ///
            /// # Safety
            /// They may be read, as the rule above has it.
            #[inline(always)]
            pub(crate) unsafe fn $name(address: u64) -> u64 {
                let value: u64;
                // SAFETY: the caller's contract: the bytes may be read. Nothing else is touched, flags and stack included.
                unsafe {
                    #[cfg(target_arch = "x86_64")]
                    asm!($x86, address = in(reg) address, value = out(reg) value, options(nostack, preserves_flags, readonly));
                    #[cfg(target_arch = "aarch64")]
                    asm!($arm, address = in(reg) address, value = out(reg) value, options(nostack, preserves_flags, readonly));
                }
                value
            }
        )*
    };
}

loads! {
    load8, "byte", "movzx {value:e}, byte ptr [{address}]", "ldrb {value:w}, [{address}]";
    load16, "2 bytes", "movzx {value:e}, word ptr [{address}]", "ldrh {value:w}, [{address}]";
    load32, "4 bytes", "mov {value:e}, dword ptr [{address}]", "ldr {value:w}, [{address}]";
    load64, "8 bytes", "mov {value}, qword ptr [{address}]", "ldr {value}, [{address}]";
}

/// Makes a store of each size.
macro_rules! stores {
    ($($name:ident, $bytes:literal, $x86:literal, $arm:literal;)*) => {
        $(
            #[doc = concat!("Stores the lower ", $bytes, " of `value` at `address`.")]
            ///
            /// # Safety
            /// They may be written, as the rule above has it.
            #[inline(always)]
            pub(crate) unsafe fn $name(address: u64, value: u64) {
                // SAFETY: the caller's contract: the bytes may be written. Nothing else is touched, flags and stack included.
                unsafe {
                    #[cfg(target_arch = "x86_64")]
                    asm!($x86, address = in(reg) address, value = in(reg) value, options(nostack, preserves_flags));
                    #[cfg(target_arch = "aarch64")]
                    asm!($arm, address = in(reg) address, value = in(reg) value, options(nostack, preserves_flags));
                }
            }
        )*
    };
}

stores! {
    store8, "byte", "mov byte ptr [{address}], {value:l}", "strb {value:w}, [{address}]";
    store16, "2 bytes", "mov word ptr [{address}], {value:x}", "strh {value:w}, [{address}]";
    store32, "4 bytes", "mov dword ptr [{address}], {value:e}", "str {value:w}, [{address}]";
    store64, "8 bytes", "mov qword ptr [{address}], {value}", "str {value}, [{address}]";
}

/// Makes a compare-exchange of each size, with the order of all atomic operations here: sequentially consistent.
macro_rules! compare_exchanges {
    ($($name:ident, $bytes:literal, $mask:literal, $x86:literal, $load:literal, $compare:literal, $store:literal;)*) => {
        $(
            #[doc = concat!("Stores the lower ", $bytes, " of `new` at `address` if `old` is there; gives what was there.")]
            ///
            /// # Safety
            /// They may be read and written, as the rule above has it, and `address` is a multiple of their number.
            #[inline(always)]
            pub(crate) unsafe fn $name(address: u64, old: u64, new: u64) -> u64 {
                let found: u64;
                // SAFETY: the caller's contract: the bytes may be read and written, and are aligned. Nothing else is touched
                // but the flags.
                unsafe {
                    #[cfg(target_arch = "x86_64")]
                    asm!($x86, address = in(reg) address, new = in(reg) new, inout("rax") old => found, options(nostack));
                    #[cfg(target_arch = "aarch64")]
                    asm!("2:", $load, $compare, "b.ne 3f", $store, "cbnz {failed:w}, 2b", "3:", "dmb ish",
                        address = in(reg) address, old = in(reg) old, new = in(reg) new, found = out(reg) found,
                        failed = out(reg) _, options(nostack));
                }
                // Where the instruction has 4 bytes, the upper half of the register may be what it was.
                found & $mask
            }
        )*
    };
}

compare_exchanges! {
    compare_exchange32, "4 bytes", 0xffff_ffff, "lock cmpxchg dword ptr [{address}], {new:e}",
        "ldaxr {found:w}, [{address}]", "cmp {found:w}, {old:w}", "stlxr {failed:w}, {new:w}, [{address}]";
    compare_exchange64, "8 bytes", 0xffff_ffff_ffff_ffff, "lock cmpxchg qword ptr [{address}], {new}",
        "ldaxr {found}, [{address}]", "cmp {found}, {old}", "stlxr {failed:w}, {new}, [{address}]";
}

/// Makes a read-modify-write of each size.
macro_rules! updates {
    ($($name:ident, $bytes:literal, $load:ident, $compare_exchange:ident;)*) => {
        $(
            #[doc = concat!("Replaces the ", $bytes, " at `address` by what `update` makes of them; gives what was there.")]
            ///
            /// # Safety
            /// They may be read and written, as the rule above has it, and `address` is a multiple of their number.
            #[inline(always)]
            pub(crate) unsafe fn $name(address: u64, update: impl Fn(u64) -> u64) -> u64 {
                // SAFETY: the caller's contract.
                let mut old = unsafe { $load(address) };
                loop {
                    // SAFETY: the caller's contract.
                    let found = unsafe { $compare_exchange(address, old, update(old)) };
                    if found == old {
                        return old;
                    }
                    old = found;
                }
            }
        )*
    };
}

updates! {
    update32, "4 bytes", load32, compare_exchange32;
    update64, "8 bytes", load64, compare_exchange64;
}

/// What keeps later accesses of this thread behind the loads before it.
#[inline(always)]
pub(crate) fn acquire() {
    // SAFETY: a barrier for loads; on x86-64 every load is such a one, and what keeps the compiler in order is that the
    // assembly may touch memory.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("", options(nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        asm!("dmb ishld", options(nostack, preserves_flags));
    }
}

/// What keeps earlier accesses of this thread before the stores behind it.
#[inline(always)]
pub(crate) fn release() {
    // SAFETY: a barrier; on x86-64 every store is such a one, as above.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("", options(nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        asm!("dmb ish", options(nostack, preserves_flags));
    }
}

/// Calls for `size` bytes: with 8 as often as they have whole words, then with 4, 2 and 1 for what is left; with the offset, and
/// the size.
macro_rules! in_parts {
    ($size:expr, |$at:ident| $eight:expr, $four:expr, $two:expr, $one:expr) => {{
        let size: usize = $size;
        let mut $at = 0;
        while size - $at >= 8 {
            $eight;
            $at += 8;
        }
        if size & 4 != 0 {
            $four;
            $at += 4;
        }
        if size & 2 != 0 {
            $two;
            $at += 2;
        }
        if size & 1 != 0 {
            $one;
        }
    }};
}

/// Copies `to.len()` bytes from `from`: 8 at a time, each in one access, and what is left in fewer.
///
/// # Safety
/// They may be read, as the rule above has it.
#[inline]
pub(crate) unsafe fn copy_out(from: u64, to: &mut [u8]) {
    let address = to.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: `to` is exclusively borrowed, and has as many bytes.
    unsafe { copy(address, from, to.len()) }
}

/// Copies `from` to `to`: 8 bytes at a time, each in one access, and what is left in fewer.
///
/// # Safety
/// As many bytes may be written, as the rule above has it.
#[inline]
pub(crate) unsafe fn copy_in(to: u64, from: &[u8]) {
    // SAFETY: `from` may be read, and has as many bytes.
    unsafe { copy(to, from.as_ptr().expose_provenance() as u64, from.len()) }
}

/// Copies `size` bytes from one address to another, as [`copy_out`] and [`copy_in`] do. Where they overlap, what is copied is
/// some mixture of old and new.
///
/// # Safety
/// They may be read, and written, as the rule above has it.
#[inline]
pub(crate) unsafe fn copy(to: u64, from: u64, size: usize) {
    // SAFETY: within what the caller vouches for: the parts are in the `size` bytes.
    unsafe {
        in_parts!(
            size,
            |at| store64(to + at as u64, load64(from + at as u64)),
            store32(to + at as u64, load32(from + at as u64)),
            store16(to + at as u64, load16(from + at as u64)),
            store8(to + at as u64, load8(from + at as u64))
        );
    }
}

/// Clears `size` bytes.
///
/// # Safety
/// They may be written, as the rule above has it.
#[inline]
pub(crate) unsafe fn zero(to: u64, size: usize) {
    // SAFETY: within what the caller vouches for: the parts are in the `size` bytes.
    unsafe {
        in_parts!(
            size,
            |at| store64(to + at as u64, 0),
            store32(to + at as u64, 0),
            store16(to + at as u64, 0),
            store8(to + at as u64, 0)
        );
    }
}

/// Bytes that a program has and that may be read: they were tested, or proved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readable {
    address: u64,
    size: usize,
}

impl Readable {
    /// # Safety
    /// They may be read, as the rule above has it, for as long as the value and its copies are used.
    pub(crate) unsafe fn new(address: u64, size: usize) -> Self {
        Self { address, size }
    }

    /// The bytes of a slice, which outlives the value.
    #[cfg(test)]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { address: bytes.as_ptr().expose_provenance() as u64, size: bytes.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.size
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// `size` bytes from `offset` on; none if they end behind the last.
    pub(crate) fn part(&self, offset: usize, size: usize) -> Option<Self> {
        (offset.checked_add(size)? <= self.size).then(|| Self { address: self.address + offset as u64, size })
    }

    /// Copies the first `to.len()` bytes, of which there are as many.
    pub(crate) fn copy_out(&self, to: &mut [u8]) {
        assert!(to.len() <= self.size, "{} bytes of {}", to.len(), self.size);
        // SAFETY: `new`'s contract.
        unsafe { copy_out(self.address, to) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(bytes: &mut [u8]) -> u64 {
        bytes.as_mut_ptr().expose_provenance() as u64
    }

    #[test]
    fn sizes_at_every_alignment() {
        for at in 0..8 {
            let mut bytes: [u8; 16] = std::array::from_fn(|i| 0xf0 | i as u8);
            let a = address(&mut bytes) + at as u64;
            // SAFETY: up to 15 bytes into an array of 16 that nobody else has.
            unsafe {
                let expected = u64::from_ne_bytes(std::array::from_fn(|i| 0xf0 | (at + i) as u8));
                assert_eq!(load8(a), expected & 0xff);
                assert_eq!(load16(a), expected & 0xffff);
                assert_eq!(load32(a), expected & 0xffff_ffff);
                assert_eq!(load64(a), expected);
                store64(a, 0x1122_3344_5566_7788);
                assert_eq!(load64(a), 0x1122_3344_5566_7788);
                store32(a, !0);
                assert_eq!(load64(a), 0x1122_3344_ffff_ffff);
                store16(a, 0);
                assert_eq!(load64(a), 0x1122_3344_ffff_0000);
                store8(a, 0xabcd);
                assert_eq!(load64(a), 0x1122_3344_ffff_00cd);
            }
            for (i, byte) in bytes.iter().enumerate().filter(|(i, _)| !(at..at + 8).contains(i)) {
                assert_eq!(*byte, 0xf0 | i as u8, "not touched");
            }
        }
    }

    #[test]
    fn read_modify_write() {
        let mut word = [0_u8; 8];
        let a = address(&mut word);
        // SAFETY: 8 bytes that nobody else has; aligned by the next line.
        unsafe {
            assert!(a.is_multiple_of(4));
            store32(a, 5);
            store32(a + 4, 0xdead_beef);
            assert_eq!(compare_exchange32(a, 4, 9), 5);
            assert_eq!(load32(a), 5);
            assert_eq!(compare_exchange32(a, 0xffff_ffff_0000_0005, 9), 5, "of the old value the lower half counts");
            assert_eq!(update32(a, |old| old.wrapping_sub(10)), 9);
            assert_eq!(load32(a), 0xffff_ffff);
            assert_eq!(load32(a + 4), 0xdead_beef);
        }
        let mut word = 1_u64;
        let a = (&raw mut word).expose_provenance() as u64;
        // SAFETY: 8 aligned bytes that nobody else has.
        unsafe {
            assert_eq!(compare_exchange64(a, 1, u64::MAX), 1);
            assert_eq!(update64(a, |old| old.wrapping_add(2)), u64::MAX);
            assert_eq!(load64(a), 1);
        }
    }

    #[test]
    fn updates_of_several_threads_add_up() {
        let mut word = 0_u64;
        let a = (&raw mut word).expose_provenance() as u64;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        // SAFETY: 8 aligned bytes; only these threads touch them, and only so.
                        unsafe { update64(a, |old| old + 1) };
                    }
                });
            }
        });
        assert_eq!(word, 40_000);
    }

    #[test]
    fn copies_of_every_length() {
        let from: [u8; 40] = std::array::from_fn(|i| i as u8 + 1);
        for size in 0..=40 {
            let (mut there, mut back) = ([0_u8; 42], [0_u8; 42]);
            let mut third = [0xee_u8; 42];
            // SAFETY: arrays that nobody else has, longer than what is copied.
            unsafe {
                copy_in(address(&mut there) + 1, &from[..size]);
                copy(address(&mut third) + 1, address(&mut there) + 1, size);
                copy_out(address(&mut third) + 1, &mut back[..size]);
                zero(address(&mut third) + 1, size);
            }
            assert_eq!(there[1..=size], from[..size]);
            assert_eq!(back[..size], from[..size]);
            assert!(there[0] == 0 && there[size + 1..].iter().all(|byte| *byte == 0));
            assert!(third[0] == 0xee && third[1..=size].iter().all(|byte| *byte == 0));
            assert!(third[size + 1..].iter().all(|byte| *byte == 0xee));
        }
    }
}
