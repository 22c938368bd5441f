//! `PERF_SAMPLE_DATA_SRC`: where the data of a memory access came from.

use std::fmt::{self, Write};

/// Where the data of a memory access came from (`union perf_mem_data_src`), with accessors by the names of the uapi.
///
/// The uapi turns the order of these bit fields around with the byte order, so that the value of the whole is the same in
/// either: bits are counted from the least significant one.
///
/// ```
/// use perfring::record::{DataSrc, MemLvlNum, MemOp, MemSnoop};
/// let src = DataSrc(0).with_mem_op(MemOp::LOAD).with_mem_lvl_num(MemLvlNum::L3).with_mem_snoop(MemSnoop::HITM);
/// assert_eq!(src, DataSrc(0x6_0080_0002));
/// assert_eq!(src.mem_lvl_num(), MemLvlNum::L3);
/// assert_eq!(src.to_string(), "op LOAD, snoop HITM, lvl_num L3");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DataSrc(pub u64);

impl DataSrc {
    /// What the kernel writes when nothing is known (`PERF_MEM_NA`).
    pub const NA: Self = Self(0x1e_0508_0021);

    const fn field(self, shift: u32, width: u32) -> u64 {
        (self.0 >> shift) & !(u64::MAX << width)
    }

    const fn with_field(self, shift: u32, width: u32, value: u64) -> Self {
        let mask = !(u64::MAX << width);
        Self((self.0 & !(mask << shift)) | (value & mask) << shift)
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])+ $get:ident, $with:ident: $type:ident($int:ty) = $shift:literal, $width:literal;)+) => {
        impl DataSrc {
            $(
                $(#[$doc])+
                pub const fn $get(self) -> $type {
                    $type::new(self.field($shift, $width) as $int)
                }

                #[doc = concat!("With another `", stringify!($get), "`, of whose bits the lowest ", $width, " count.")]
                #[must_use]
                pub const fn $with(self, value: $type) -> Self {
                    self.with_field($shift, $width, value.value() as u64)
                }
            )+
        }

        /// Fields that say nothing, being 0, are left out.
        impl fmt::Display for DataSrc {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut comma = "";
                $(
                    if self.field($shift, $width) != 0 {
                        let name = stringify!($get).trim_start_matches("mem_");
                        write!(f, "{comma}{name} {}", self.$get())?;
                        comma = ", ";
                    }
                )+
                let rest = self.field(51, 13);
                match (comma, rest) {
                    ("", 0) => f.write_char('0'),
                    (_, 0) => Ok(()),
                    _ => write!(f, "{comma}rsvd {rest:#x}"),
                }
            }
        }
    };
}

fields! {
    /// The kind of access.
    mem_op, with_mem_op: MemOp(u8) = 0, 5;
    /// The level of memory; new kernels and hardware say it with [`DataSrc::mem_lvl_num`], too, or only there.
    mem_lvl, with_mem_lvl: MemLvl(u16) = 5, 14;
    /// What asking other caches came to.
    mem_snoop, with_mem_snoop: MemSnoop(u8) = 19, 5;
    /// Whether the instruction was locked.
    mem_lock, with_mem_lock: MemLock(u8) = 24, 2;
    /// Where the address was translated.
    mem_dtlb, with_mem_dtlb: MemTlb(u8) = 26, 7;
    /// The level of memory, as a number.
    mem_lvl_num, with_mem_lvl_num: MemLvlNum(u8) = 33, 4;
    /// Whether the data came from elsewhere.
    mem_remote, with_mem_remote: MemRemote(u8) = 37, 1;
    /// More of [`DataSrc::mem_snoop`].
    mem_snoopx, with_mem_snoopx: MemSnoopx(u8) = 38, 2;
    /// Why the access had to wait.
    mem_blk, with_mem_blk: MemBlk(u8) = 40, 3;
    /// How far away the data were.
    mem_hops, with_mem_hops: MemHops(u8) = 43, 3;
    /// Which region of caches or memory it was.
    mem_region, with_mem_region: MemRegion(u8) = 46, 5;
}

macro_rules! sets {
    ($($(#[$doc:meta])+ $name:ident: $int:ty { $($(#[$($flag_doc:tt)+])+ $flag:ident = $value:expr;)+ })+) => {
        $(
            bitflags::bitflags! {
                $(#[$doc])+
                #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
                pub struct $name: $int {
                    $($(#[$($flag_doc)+])+ const $flag = $value;)+
                    const _ = !0;
                }
            }

            impl $name {
                const fn new(bits: $int) -> Self {
                    Self::from_bits_retain(bits)
                }

                const fn value(self) -> $int {
                    self.bits()
                }
            }

            /// The names of the uapi, and other bits as a number, with `|` in between.
            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    let mut names = self.iter_names();
                    let mut bar = "";
                    for (name, _) in names.by_ref() {
                        write!(f, "{bar}{name}")?;
                        bar = "|";
                    }
                    match names.remaining().bits() {
                        0 if bar.is_empty() => f.write_char('0'),
                        0 => Ok(()),
                        rest => write!(f, "{bar}{rest:#x}"),
                    }
                }
            }
        )+
    };
}
pub(super) use sets;

sets! {
    /// The kind of a memory access (`PERF_MEM_OP_*`).
    MemOp: u8 {
        /// Not available.
        NA = 1;
        /// A load.
        LOAD = 1 << 1;
        /// A store.
        STORE = 1 << 2;
        /// A prefetch.
        PFETCH = 1 << 3;
        /// An instruction fetch.
        EXEC = 1 << 4;
    }

    /// Where in the hierarchy of memory (`PERF_MEM_LVL_*`).
    MemLvl: u16 {
        /// Not available.
        NA = 1;
        /// The level had the data.
        HIT = 1 << 1;
        /// The level did not have the data.
        MISS = 1 << 2;
        /// The first cache.
        L1 = 1 << 3;
        /// A line fill buffer.
        LFB = 1 << 4;
        /// The second cache.
        L2 = 1 << 5;
        /// The third cache.
        L3 = 1 << 6;
        /// Local memory.
        LOC_RAM = 1 << 7;
        /// Memory one hop away.
        REM_RAM1 = 1 << 8;
        /// Memory two hops away.
        REM_RAM2 = 1 << 9;
        /// A cache one hop away.
        REM_CCE1 = 1 << 10;
        /// A cache two hops away.
        REM_CCE2 = 1 << 11;
        /// I/O memory.
        IO = 1 << 12;
        /// Memory that is not cached.
        UNC = 1 << 13;
    }

    /// What asking other caches came to (`PERF_MEM_SNOOP_*`).
    MemSnoop: u8 {
        /// Not available.
        NA = 1;
        /// None was asked.
        NONE = 1 << 1;
        /// One had the data.
        HIT = 1 << 2;
        /// None had the data.
        MISS = 1 << 3;
        /// One had the data, modified.
        HITM = 1 << 4;
    }

    /// More of what asking other caches came to (`PERF_MEM_SNOOPX_*`).
    MemSnoopx: u8 {
        /// One handed the data on.
        FWD = 1;
        /// The data came from a peer.
        PEER = 1 << 1;
    }

    /// Whether the instruction was locked (`PERF_MEM_LOCK_*`).
    MemLock: u8 {
        /// Not available.
        NA = 1;
        /// It was.
        LOCKED = 1 << 1;
    }

    /// Where an address was translated (`PERF_MEM_TLB_*`).
    MemTlb: u8 {
        /// Not available.
        NA = 1;
        /// The level had the translation.
        HIT = 1 << 1;
        /// The level did not have the translation.
        MISS = 1 << 2;
        /// The first TLB.
        L1 = 1 << 3;
        /// The second TLB.
        L2 = 1 << 4;
        /// The hardware's walk of the page tables.
        WK = 1 << 5;
        /// The kernel's handler of faults.
        OS = 1 << 6;
    }

    /// Whether the data came from elsewhere (`PERF_MEM_REMOTE_*`).
    MemRemote: u8 {
        /// They did.
        REMOTE = 1;
    }

    /// Why an access had to wait (`PERF_MEM_BLK_*`).
    MemBlk: u8 {
        /// Not available.
        NA = 1;
        /// Data could not be forwarded.
        DATA = 1 << 1;
        /// Addresses were in conflict.
        ADDR = 1 << 2;
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])+ $name:ident { $($(#[$value_doc:meta])+ $const:ident = $value:literal;)+ })+) => {
        $(
            $(#[$doc])+
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $name(pub u8);

            impl $name {
                $($(#[$value_doc])+ pub const $const: Self = Self($value);)+

                /// The name of the uapi, if there is one.
                pub const fn name(self) -> Option<&'static str> {
                    match self.0 {
                        $($value => Some(stringify!($const)),)+
                        _ => None,
                    }
                }

                const fn new(value: u8) -> Self {
                    Self(value)
                }

                const fn value(self) -> u8 {
                    self.0
                }
            }

            /// The name of the uapi, or the number.
            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    match self.name() {
                        Some(name) => f.pad(name),
                        None => fmt::Display::fmt(&self.0, f),
                    }
                }
            }
        )+
    };
}

numbers! {
    /// A level of memory (`PERF_MEM_LVLNUM_*`). 0 says nothing.
    MemLvlNum {
        /// The first cache.
        L1 = 1;
        /// The second cache.
        L2 = 2;
        /// The third cache.
        L3 = 3;
        /// The fourth cache.
        L4 = 4;
        /// The buffer of misses of the second cache.
        L2_MHB = 5;
        /// A cache on the side of the memory.
        MSC = 6;
        /// The cache before the first.
        L0 = 7;
        /// Memory that is not cached.
        UNC = 8;
        /// Memory behind CXL.
        CXL = 9;
        /// I/O memory.
        IO = 10;
        /// Some cache.
        ANY_CACHE = 11;
        /// A line fill buffer.
        LFB = 12;
        /// Memory.
        RAM = 13;
        /// Persistent memory.
        PMEM = 14;
        /// Not available.
        NA = 15;
    }

    /// How far away data were (`PERF_MEM_HOPS_*`): the names count hops from 0, the values from 1. 0 says nothing.
    MemHops {
        /// Another core of the node.
        HOPS_0 = 1;
        /// Another node of the socket.
        HOPS_1 = 2;
        /// Another socket of the board.
        HOPS_2 = 3;
        /// Another board.
        HOPS_3 = 4;
    }

    /// A region of caches or memory (`PERF_MEM_REGION_*`).
    MemRegion {
        /// Not available.
        NA = 0;
        /// Reserved.
        RSVD = 1;
        /// A shared cache of the local agent.
        L_SHARE = 2;
        /// A cache of the local agent that is not shared.
        L_NON_SHARE = 3;
        /// The I/O agent of another agent.
        O_IO = 4;
        /// A shared cache of another agent.
        O_SHARE = 5;
        /// A cache of another agent that is not shared.
        O_NON_SHARE = 6;
        /// I/O memory.
        MMIO = 7;
        /// Memory region 0.
        MEM0 = 8;
        /// Memory region 1.
        MEM1 = 9;
        /// Memory region 2.
        MEM2 = 10;
        /// Memory region 3.
        MEM3 = 11;
        /// Memory region 4.
        MEM4 = 12;
        /// Memory region 5.
        MEM5 = 13;
        /// Memory region 6.
        MEM6 = 14;
        /// Memory region 7.
        MEM7 = 15;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_event_open_sys::bindings as uapi;
    use proptest::prelude::*;

    #[test]
    fn fields_are_where_the_uapi_has_them() {
        let all = DataSrc(u64::MAX);
        let fields = [
            (DataSrc(0).with_mem_op(all.mem_op()), uapi::PERF_MEM_OP_SHIFT, 5),
            (DataSrc(0).with_mem_lvl(all.mem_lvl()), uapi::PERF_MEM_LVL_SHIFT, 14),
            (DataSrc(0).with_mem_snoop(all.mem_snoop()), uapi::PERF_MEM_SNOOP_SHIFT, 5),
            (DataSrc(0).with_mem_lock(all.mem_lock()), uapi::PERF_MEM_LOCK_SHIFT, 2),
            (DataSrc(0).with_mem_dtlb(all.mem_dtlb()), uapi::PERF_MEM_TLB_SHIFT, 7),
            (DataSrc(0).with_mem_lvl_num(all.mem_lvl_num()), uapi::PERF_MEM_LVLNUM_SHIFT, 4),
            (DataSrc(0).with_mem_remote(all.mem_remote()), uapi::PERF_MEM_REMOTE_SHIFT, 1),
            (DataSrc(0).with_mem_snoopx(all.mem_snoopx()), uapi::PERF_MEM_SNOOPX_SHIFT, 2),
            (DataSrc(0).with_mem_blk(all.mem_blk()), uapi::PERF_MEM_BLK_SHIFT, 3),
            (DataSrc(0).with_mem_hops(all.mem_hops()), uapi::PERF_MEM_HOPS_SHIFT, 3),
            (DataSrc(0).with_mem_region(all.mem_region()), uapi::PERF_MEM_REGION_SHIFT, 5),
        ];
        let mut end = 0;
        for (src, shift, width) in fields {
            assert_eq!((src.0, shift), (!(u64::MAX << width) << shift, end));
            end = shift + width;
        }
        assert_eq!(end, 51);
    }

    #[test]
    fn values_are_those_of_the_uapi() {
        macro_rules! same {
            ($($name:ident::$const:ident = $uapi:ident,)+) => {
                $(assert_eq!(u32::from($name::$const.value()), uapi::$uapi, stringify!($uapi));)+
            };
        }
        same! {
            MemOp::NA = PERF_MEM_OP_NA, MemOp::LOAD = PERF_MEM_OP_LOAD, MemOp::STORE = PERF_MEM_OP_STORE,
            MemOp::PFETCH = PERF_MEM_OP_PFETCH, MemOp::EXEC = PERF_MEM_OP_EXEC,
            MemLvl::NA = PERF_MEM_LVL_NA, MemLvl::HIT = PERF_MEM_LVL_HIT, MemLvl::MISS = PERF_MEM_LVL_MISS,
            MemLvl::L1 = PERF_MEM_LVL_L1, MemLvl::LFB = PERF_MEM_LVL_LFB, MemLvl::L2 = PERF_MEM_LVL_L2,
            MemLvl::L3 = PERF_MEM_LVL_L3, MemLvl::LOC_RAM = PERF_MEM_LVL_LOC_RAM,
            MemLvl::REM_RAM1 = PERF_MEM_LVL_REM_RAM1, MemLvl::REM_RAM2 = PERF_MEM_LVL_REM_RAM2,
            MemLvl::REM_CCE1 = PERF_MEM_LVL_REM_CCE1, MemLvl::REM_CCE2 = PERF_MEM_LVL_REM_CCE2,
            MemLvl::IO = PERF_MEM_LVL_IO, MemLvl::UNC = PERF_MEM_LVL_UNC,
            MemSnoop::NA = PERF_MEM_SNOOP_NA, MemSnoop::NONE = PERF_MEM_SNOOP_NONE,
            MemSnoop::HIT = PERF_MEM_SNOOP_HIT, MemSnoop::MISS = PERF_MEM_SNOOP_MISS,
            MemSnoop::HITM = PERF_MEM_SNOOP_HITM,
            MemSnoopx::FWD = PERF_MEM_SNOOPX_FWD, MemSnoopx::PEER = PERF_MEM_SNOOPX_PEER,
            MemLock::NA = PERF_MEM_LOCK_NA, MemLock::LOCKED = PERF_MEM_LOCK_LOCKED,
            MemTlb::NA = PERF_MEM_TLB_NA, MemTlb::HIT = PERF_MEM_TLB_HIT, MemTlb::MISS = PERF_MEM_TLB_MISS,
            MemTlb::L1 = PERF_MEM_TLB_L1, MemTlb::L2 = PERF_MEM_TLB_L2, MemTlb::WK = PERF_MEM_TLB_WK,
            MemTlb::OS = PERF_MEM_TLB_OS,
            MemRemote::REMOTE = PERF_MEM_REMOTE_REMOTE,
            MemBlk::NA = PERF_MEM_BLK_NA, MemBlk::DATA = PERF_MEM_BLK_DATA, MemBlk::ADDR = PERF_MEM_BLK_ADDR,
            MemLvlNum::L1 = PERF_MEM_LVLNUM_L1, MemLvlNum::L2 = PERF_MEM_LVLNUM_L2,
            MemLvlNum::L3 = PERF_MEM_LVLNUM_L3, MemLvlNum::L4 = PERF_MEM_LVLNUM_L4,
            MemLvlNum::L2_MHB = PERF_MEM_LVLNUM_L2_MHB, MemLvlNum::MSC = PERF_MEM_LVLNUM_MSC,
            MemLvlNum::L0 = PERF_MEM_LVLNUM_L0, MemLvlNum::UNC = PERF_MEM_LVLNUM_UNC,
            MemLvlNum::CXL = PERF_MEM_LVLNUM_CXL, MemLvlNum::IO = PERF_MEM_LVLNUM_IO,
            MemLvlNum::ANY_CACHE = PERF_MEM_LVLNUM_ANY_CACHE, MemLvlNum::LFB = PERF_MEM_LVLNUM_LFB,
            MemLvlNum::RAM = PERF_MEM_LVLNUM_RAM, MemLvlNum::PMEM = PERF_MEM_LVLNUM_PMEM,
            MemLvlNum::NA = PERF_MEM_LVLNUM_NA,
            MemHops::HOPS_0 = PERF_MEM_HOPS_0, MemHops::HOPS_1 = PERF_MEM_HOPS_1,
            MemHops::HOPS_2 = PERF_MEM_HOPS_2, MemHops::HOPS_3 = PERF_MEM_HOPS_3,
            MemRegion::NA = PERF_MEM_REGION_NA, MemRegion::RSVD = PERF_MEM_REGION_RSVD,
            MemRegion::L_SHARE = PERF_MEM_REGION_L_SHARE, MemRegion::L_NON_SHARE = PERF_MEM_REGION_L_NON_SHARE,
            MemRegion::O_IO = PERF_MEM_REGION_O_IO, MemRegion::O_SHARE = PERF_MEM_REGION_O_SHARE,
            MemRegion::O_NON_SHARE = PERF_MEM_REGION_O_NON_SHARE, MemRegion::MMIO = PERF_MEM_REGION_MMIO,
            MemRegion::MEM0 = PERF_MEM_REGION_MEM0, MemRegion::MEM1 = PERF_MEM_REGION_MEM1,
            MemRegion::MEM2 = PERF_MEM_REGION_MEM2, MemRegion::MEM3 = PERF_MEM_REGION_MEM3,
            MemRegion::MEM4 = PERF_MEM_REGION_MEM4, MemRegion::MEM5 = PERF_MEM_REGION_MEM5,
            MemRegion::MEM6 = PERF_MEM_REGION_MEM6, MemRegion::MEM7 = PERF_MEM_REGION_MEM7,
        }
    }

    #[test]
    fn text_names_what_is_there() {
        assert_eq!(DataSrc(0).to_string(), "0");
        assert_eq!(DataSrc::NA.to_string(), "op NA, lvl NA, snoop NA, lock NA, dtlb NA, lvl_num NA");
        let src = DataSrc(0)
            .with_mem_lvl(MemLvl::HIT | MemLvl::L2)
            .with_mem_hops(MemHops(7))
            .with_mem_region(MemRegion::MEM7)
            .with_mem_snoopx(MemSnoopx::PEER);
        assert_eq!(src.to_string(), "lvl HIT|L2, snoopx PEER, hops 7, region MEM7");
        assert_eq!(DataSrc(1 << 51 | 1).to_string(), "op NA, rsvd 0x1");
        assert_eq!(DataSrc(1 << 63).to_string(), "rsvd 0x1000");
        assert_eq!(MemRemote::empty().to_string(), "0");
        assert_eq!(MemSnoopx::from_bits_retain(6).to_string(), "PEER|0x4");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn fields_do_not_touch_each_other(value: u64, from: u64) {
            let (src, from) = (DataSrc(value), DataSrc(from));
            let other = src
                .with_mem_op(from.mem_op())
                .with_mem_lvl(from.mem_lvl())
                .with_mem_snoop(from.mem_snoop())
                .with_mem_lock(from.mem_lock())
                .with_mem_dtlb(from.mem_dtlb())
                .with_mem_lvl_num(from.mem_lvl_num())
                .with_mem_remote(from.mem_remote())
                .with_mem_snoopx(from.mem_snoopx())
                .with_mem_blk(from.mem_blk())
                .with_mem_hops(from.mem_hops())
                .with_mem_region(from.mem_region());
            let known = !(u64::MAX << 51);
            prop_assert_eq!(other.0, (from.0 & known) | (value & !known));
            prop_assert!(!other.to_string().is_empty());
        }
    }
}
