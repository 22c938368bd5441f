//! Hardware breakpoints.

use perf_event_open_sys::bindings;

use crate::kernel::EventBuilder;

bitflags::bitflags! {
    /// Which accesses a [breakpoint](EventBuilder::breakpoint) sees (`HW_BREAKPOINT_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Access: u32 {
        /// Loads. x86 cannot tell them from stores: ask for `RW` there.
        const R = bindings::HW_BREAKPOINT_R;
        /// Stores.
        const W = bindings::HW_BREAKPOINT_W;
        /// Loads and stores.
        const RW = bindings::HW_BREAKPOINT_RW;
        /// Execution.
        const X = bindings::HW_BREAKPOINT_X;
    }
}

impl EventBuilder {
    /// A breakpoint of the CPU: an event each time the `len` bytes at the address `addr` are accessed.
    ///
    /// `len` is 1, 2, 4 or 8, and for `Access::X` the size of a `long`; most CPUs want `addr` to be a multiple of it.
    /// The address is one of the observed task. There are few: four on x86. Kernel addresses need `CAP_SYS_ADMIN`.
    ///
    /// ```
    /// use perfring::kernel::{Access, EventBuilder, Target};
    ///
    /// let watched = 0_u64;
    /// let builder = EventBuilder::breakpoint((&raw const watched).addr() as u64, 8, Access::W).exclude_kernel(true);
    /// assert_eq!(builder.attr().bp_len, 8);
    /// ```
    pub fn breakpoint(addr: u64, len: u64, access: Access) -> Self {
        let mut builder = Self::new(bindings::PERF_TYPE_BREAKPOINT, 0);
        builder.attr.bp_addr = addr;
        builder.attr.bp_len = len;
        builder.attr.bp_type = access.bits();
        builder.set_label(format!("breakpoint at {addr:#x}"));
        builder
    }
}
