//! The bits that say what samples, reads and branch stacks hold.

use perf_event_open_sys::bindings;

bitflags::bitflags! {
    /// What each sample holds (`PERF_SAMPLE_*`). The fields stand in the sample in the order of perf_event_open(2), not
    /// of the bits.
    ///
    /// ```
    /// use perfring::kernel::SampleType;
    /// assert_eq!((SampleType::IP | SampleType::TID).bits(), 3);
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SampleType: u64 {
        /// The instruction pointer.
        const IP = bindings::PERF_SAMPLE_IP as u64;
        /// Process and thread id.
        const TID = bindings::PERF_SAMPLE_TID as u64;
        /// The time in nanoseconds, by the clock that was chosen.
        const TIME = bindings::PERF_SAMPLE_TIME as u64;
        /// The address that the event is about, such as that of a page fault.
        const ADDR = bindings::PERF_SAMPLE_ADDR as u64;
        /// The values of the counters, as `read_format` says.
        const READ = bindings::PERF_SAMPLE_READ as u64;
        /// The call chain.
        const CALLCHAIN = bindings::PERF_SAMPLE_CALLCHAIN as u64;
        /// The id of the group leader's event.
        const ID = bindings::PERF_SAMPLE_ID as u64;
        /// The CPU.
        const CPU = bindings::PERF_SAMPLE_CPU as u64;
        /// The period that was in force.
        const PERIOD = bindings::PERF_SAMPLE_PERIOD as u64;
        /// The id of the event itself.
        const STREAM_ID = bindings::PERF_SAMPLE_STREAM_ID as u64;
        /// Raw data: the fields of a tracepoint, or a BPF program's payload.
        const RAW = bindings::PERF_SAMPLE_RAW as u64;
        /// The branch stack.
        const BRANCH_STACK = bindings::PERF_SAMPLE_BRANCH_STACK as u64;
        /// The user registers that `sample_regs_user` selects.
        const REGS_USER = bindings::PERF_SAMPLE_REGS_USER as u64;
        /// `sample_stack_user` bytes of the user stack.
        const STACK_USER = bindings::PERF_SAMPLE_STACK_USER as u64;
        /// A weight that the hardware gives.
        const WEIGHT = bindings::PERF_SAMPLE_WEIGHT as u64;
        /// Where in the memory hierarchy the data came from.
        const DATA_SRC = bindings::PERF_SAMPLE_DATA_SRC as u64;
        /// The id of the event, at a place that does not depend on the other bits.
        const IDENTIFIER = bindings::PERF_SAMPLE_IDENTIFIER as u64;
        /// Flags of a transaction's abort.
        const TRANSACTION = bindings::PERF_SAMPLE_TRANSACTION as u64;
        /// The registers at the interrupt that `sample_regs_intr` selects.
        const REGS_INTR = bindings::PERF_SAMPLE_REGS_INTR as u64;
        /// The physical address.
        const PHYS_ADDR = bindings::PERF_SAMPLE_PHYS_ADDR as u64;
        /// A snapshot of the AUX area.
        const AUX = bindings::PERF_SAMPLE_AUX as u64;
        /// The id of the cgroup.
        const CGROUP = bindings::PERF_SAMPLE_CGROUP as u64;
        /// The size of the page of the data address.
        const DATA_PAGE_SIZE = bindings::PERF_SAMPLE_DATA_PAGE_SIZE as u64;
        /// The size of the page of the instruction pointer.
        const CODE_PAGE_SIZE = bindings::PERF_SAMPLE_CODE_PAGE_SIZE as u64;
        /// Several weights that the hardware gives.
        const WEIGHT_STRUCT = bindings::PERF_SAMPLE_WEIGHT_STRUCT as u64;
        // A newer kernel may know more.
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// What reading an event gives besides its value (`PERF_FORMAT_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ReadFormat: u64 {
        /// How long the event was switched on, in nanoseconds.
        const TOTAL_TIME_ENABLED = bindings::PERF_FORMAT_TOTAL_TIME_ENABLED as u64;
        /// How long the event counted, in nanoseconds: less when it shares the hardware with others.
        const TOTAL_TIME_RUNNING = bindings::PERF_FORMAT_TOTAL_TIME_RUNNING as u64;
        /// The id of the event.
        const ID = bindings::PERF_FORMAT_ID as u64;
        /// The values of the whole group at once.
        const GROUP = bindings::PERF_FORMAT_GROUP as u64;
        /// The number of samples that found no space (since Linux 6.0).
        const LOST = bindings::PERF_FORMAT_LOST as u64;
        // A newer kernel may know more.
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// Which branches the branch stack holds, and what of each (`PERF_SAMPLE_BRANCH_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct BranchSampleType: u64 {
        /// To addresses in user space.
        const USER = bindings::PERF_SAMPLE_BRANCH_USER as u64;
        /// To addresses in the kernel.
        const KERNEL = bindings::PERF_SAMPLE_BRANCH_KERNEL as u64;
        /// To addresses in the hypervisor.
        const HV = bindings::PERF_SAMPLE_BRANCH_HV as u64;
        /// Of any kind.
        const ANY = bindings::PERF_SAMPLE_BRANCH_ANY as u64;
        /// Calls of any kind, including those into the kernel.
        const ANY_CALL = bindings::PERF_SAMPLE_BRANCH_ANY_CALL as u64;
        /// Returns of any kind.
        const ANY_RETURN = bindings::PERF_SAMPLE_BRANCH_ANY_RETURN as u64;
        /// Indirect calls.
        const IND_CALL = bindings::PERF_SAMPLE_BRANCH_IND_CALL as u64;
        /// Aborts of transactions.
        const ABORT_TX = bindings::PERF_SAMPLE_BRANCH_ABORT_TX as u64;
        /// Inside a transaction.
        const IN_TX = bindings::PERF_SAMPLE_BRANCH_IN_TX as u64;
        /// Outside any transaction.
        const NO_TX = bindings::PERF_SAMPLE_BRANCH_NO_TX as u64;
        /// Conditional ones.
        const COND = bindings::PERF_SAMPLE_BRANCH_COND as u64;
        /// The call stack that the hardware keeps.
        const CALL_STACK = bindings::PERF_SAMPLE_BRANCH_CALL_STACK as u64;
        /// Indirect jumps.
        const IND_JUMP = bindings::PERF_SAMPLE_BRANCH_IND_JUMP as u64;
        /// Direct calls.
        const CALL = bindings::PERF_SAMPLE_BRANCH_CALL as u64;
        /// Without flags.
        const NO_FLAGS = bindings::PERF_SAMPLE_BRANCH_NO_FLAGS as u64;
        /// Without cycles.
        const NO_CYCLES = bindings::PERF_SAMPLE_BRANCH_NO_CYCLES as u64;
        /// With the type of the branch.
        const TYPE_SAVE = bindings::PERF_SAMPLE_BRANCH_TYPE_SAVE as u64;
        /// With the low-level index of the newest branch.
        const HW_INDEX = bindings::PERF_SAMPLE_BRANCH_HW_INDEX as u64;
        /// With the privilege of the target.
        const PRIV_SAVE = bindings::PERF_SAMPLE_BRANCH_PRIV_SAVE as u64;
        /// With the counters of the events of the group.
        const COUNTERS = bindings::PERF_SAMPLE_BRANCH_COUNTERS as u64;
        // A newer kernel may know more.
        const _ = !0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_type_has_every_bit_of_the_header() {
        let named: u64 = SampleType::all().iter_names().map(|(_, bit)| bit.bits()).sum();
        assert_eq!(named, u64::from(bindings::PERF_SAMPLE_MAX) - 1);
    }
}
