//! `PERF_SAMPLE_TRANSACTION`: how a memory transaction ended.

use super::data_src::sets;
use std::fmt::{self, Write};

/// How a memory transaction ended: flags, and what the program said when it aborted it.
///
/// ```
/// use perfring::record::{Transaction, TxnFlags};
/// let txn = Transaction(0).with_flags(TxnFlags::TRANSACTION | TxnFlags::CONFLICT).with_abort_code(7);
/// assert_eq!(txn, Transaction(0x7_0000_0022));
/// assert_eq!(txn.to_string(), "TRANSACTION|CONFLICT, abort code 0x7");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transaction(pub u64);

impl Transaction {
    /// The flags: the low 32 bits.
    pub const fn flags(self) -> TxnFlags {
        TxnFlags::new(self.0 as u32)
    }

    /// What the program gave as the reason (`PERF_TXN_ABORT_MASK`): the high 32 bits.
    pub const fn abort_code(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// With other flags.
    #[must_use]
    pub const fn with_flags(self, flags: TxnFlags) -> Self {
        Self(self.0 >> 32 << 32 | flags.value() as u64)
    }

    /// With another abort code.
    #[must_use]
    pub const fn with_abort_code(self, code: u32) -> Self {
        Self((code as u64) << 32 | self.0 & u32::MAX as u64)
    }
}

/// An abort code of 0 is left out.
impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.flags().fmt(f)?;
        match self.abort_code() {
            0 => Ok(()),
            code => write!(f, ", abort code {code:#x}"),
        }
    }
}

sets! {
    /// Of what kind a transaction was, and why it ended (`PERF_TXN_*`).
    TxnFlags: u32 {
        /// A lock that was elided.
        ELISION = 1;
        /// A transaction that the program asked for.
        TRANSACTION = 1 << 1;
        /// The instruction has to do with the end.
        SYNC = 1 << 2;
        /// The instruction has nothing to do with the end.
        ASYNC = 1 << 3;
        /// It may be tried again.
        RETRY = 1 << 4;
        /// In conflict with others.
        CONFLICT = 1 << 5;
        /// Too much was written.
        CAPACITY_WRITE = 1 << 6;
        /// Too much was read.
        CAPACITY_READ = 1 << 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_event_open_sys::bindings as uapi;
    use proptest::prelude::*;

    #[test]
    fn values_are_those_of_the_uapi() {
        let flags = [
            (TxnFlags::ELISION, uapi::PERF_TXN_ELISION),
            (TxnFlags::TRANSACTION, uapi::PERF_TXN_TRANSACTION),
            (TxnFlags::SYNC, uapi::PERF_TXN_SYNC),
            (TxnFlags::ASYNC, uapi::PERF_TXN_ASYNC),
            (TxnFlags::RETRY, uapi::PERF_TXN_RETRY),
            (TxnFlags::CONFLICT, uapi::PERF_TXN_CONFLICT),
            (TxnFlags::CAPACITY_WRITE, uapi::PERF_TXN_CAPACITY_WRITE),
            (TxnFlags::CAPACITY_READ, uapi::PERF_TXN_CAPACITY_READ),
        ];
        for (flag, bit) in flags {
            assert_eq!(u64::from(flag.bits()), bit);
        }
        assert_eq!(Transaction(0).with_abort_code(u32::MAX).0, uapi::PERF_TXN_ABORT_MASK);
        assert_eq!(Transaction(1 << uapi::PERF_TXN_ABORT_SHIFT).abort_code(), 1);
    }

    #[test]
    fn text_names_what_is_there() {
        assert_eq!(Transaction(0).to_string(), "0");
        assert_eq!(Transaction(0x5_0000_0101).to_string(), "ELISION|0x100, abort code 0x5");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_make_the_whole(value: u64, before: u64) {
            let txn = Transaction(value);
            let again = Transaction(before).with_flags(txn.flags()).with_abort_code(txn.abort_code());
            prop_assert_eq!(again, txn);
        }
    }
}
