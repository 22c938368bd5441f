//! The bit sets of `perf_event_attr` that decide what records hold.

bitflags::bitflags! {
    /// What each sample holds (`PERF_SAMPLE_*`). The fields stand in the sample in the order of perf_event_open(2), not
    /// of the bits.
    ///
    /// ```
    /// use perfring::record::SampleType;
    /// assert_eq!((SampleType::IP | SampleType::TID).bits(), 3);
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SampleType: u64 {
        /// The instruction pointer.
        const IP = 1 << 0;
        /// Process and thread id.
        const TID = 1 << 1;
        /// The time in nanoseconds, by the clock that was chosen.
        const TIME = 1 << 2;
        /// The address that the event is about, such as that of a page fault.
        const ADDR = 1 << 3;
        /// The values of the counters, as `read_format` says.
        const READ = 1 << 4;
        /// The call chain.
        const CALLCHAIN = 1 << 5;
        /// The id of the event, of the parent's where it was inherited.
        const ID = 1 << 6;
        /// The CPU.
        const CPU = 1 << 7;
        /// The period that was in force.
        const PERIOD = 1 << 8;
        /// The id of the very event, inherited or not.
        const STREAM_ID = 1 << 9;
        /// Raw data: the fields of a tracepoint, or a BPF program's payload.
        const RAW = 1 << 10;
        /// The branch stack.
        const BRANCH_STACK = 1 << 11;
        /// The user registers that `sample_regs_user` selects.
        const REGS_USER = 1 << 12;
        /// `sample_stack_user` bytes of the user stack.
        const STACK_USER = 1 << 13;
        /// A weight that the hardware gives.
        const WEIGHT = 1 << 14;
        /// Where in the memory hierarchy the data came from.
        const DATA_SRC = 1 << 15;
        /// The id of the event, at a place that does not depend on the other bits.
        const IDENTIFIER = 1 << 16;
        /// Flags of a transaction's abort.
        const TRANSACTION = 1 << 17;
        /// The registers at the interrupt that `sample_regs_intr` selects.
        const REGS_INTR = 1 << 18;
        /// The physical address.
        const PHYS_ADDR = 1 << 19;
        /// A snapshot of the AUX area.
        const AUX = 1 << 20;
        /// The id of the cgroup.
        const CGROUP = 1 << 21;
        /// The size of the page of the data address.
        const DATA_PAGE_SIZE = 1 << 22;
        /// The size of the page of the instruction pointer.
        const CODE_PAGE_SIZE = 1 << 23;
        /// Several weights that the hardware gives.
        const WEIGHT_STRUCT = 1 << 24;
        // A newer kernel may know more.
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// What reading a counter gives, and `READ` in a sample (`PERF_FORMAT_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ReadFormat: u64 {
        /// How long the event was enabled, in nanoseconds.
        const TOTAL_TIME_ENABLED = 1;
        /// How long the event really counted, in nanoseconds: less when counters are shared in turns.
        const TOTAL_TIME_RUNNING = 1 << 1;
        /// The event's id.
        const ID = 1 << 2;
        /// All counters of the group at once.
        const GROUP = 1 << 3;
        /// How many records of the event found no space.
        const LOST = 1 << 4;
        const _ = !0;
    }

    /// Which branches `BRANCH_STACK` holds, and what of them (`PERF_SAMPLE_BRANCH_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct BranchSampleType: u64 {
        /// Branches to user space.
        const USER = 1;
        /// Branches to the kernel.
        const KERNEL = 1 << 1;
        /// Branches to the hypervisor.
        const HV = 1 << 2;
        /// Any.
        const ANY = 1 << 3;
        /// Calls of any kind.
        const ANY_CALL = 1 << 4;
        /// Returns of any kind.
        const ANY_RETURN = 1 << 5;
        /// Indirect calls.
        const IND_CALL = 1 << 6;
        /// Aborts of transactions.
        const ABORT_TX = 1 << 7;
        /// Within transactions.
        const IN_TX = 1 << 8;
        /// Outside of transactions.
        const NO_TX = 1 << 9;
        /// Conditional branches.
        const COND = 1 << 10;
        /// The hardware's call stack.
        const CALL_STACK = 1 << 11;
        /// Indirect jumps.
        const IND_JUMP = 1 << 12;
        /// Direct calls.
        const CALL = 1 << 13;
        /// Without flags.
        const NO_FLAGS = 1 << 14;
        /// Without cycles.
        const NO_CYCLES = 1 << 15;
        /// With the type of each branch.
        const TYPE_SAVE = 1 << 16;
        /// With the hardware's index of the newest entry.
        const HW_INDEX = 1 << 17;
        /// With the privilege level of each target.
        const PRIV_SAVE = 1 << 18;
        /// With the counts of events between the branches. The kernel writes them in the samples of all events of a group if
        /// one of them asks for them: what decodes such samples needs the bit in the attributes of all.
        const COUNTERS = 1 << 19;
        const _ = !0;
    }
}
