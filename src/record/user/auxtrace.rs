//! Traces that the hardware writes into the AUX area.

use super::array::{put_text, take_text};
use crate::record::bytes::{Cursor, Field, Writer, wire};
use crate::record::{Defect, EncodeError, Text, Words};
use std::fmt;

/// What decodes a trace (`PERF_AUXTRACE_*`).
///
/// ```
/// use perfring::record::user::AuxtraceType;
/// assert_eq!(AuxtraceType::INTEL_PT.to_string(), "INTEL_PT");
/// assert_eq!(AuxtraceType(99).to_string(), "99");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AuxtraceType(pub u32);

macro_rules! auxtrace_types {
    ($($(#[$doc:meta])+ $name:ident = $value:literal;)+) => {
        impl AuxtraceType {
            $($(#[$doc])+ pub const $name: Self = Self($value);)+

            /// The name without `PERF_AUXTRACE_`, if there is one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

auxtrace_types! {
    /// Not known.
    UNKNOWN = 0;
    /// Intel Processor Trace.
    INTEL_PT = 1;
    /// Intel Branch Trace Store.
    INTEL_BTS = 2;
    /// Arm CoreSight.
    CS_ETM = 3;
    /// Arm Statistical Profiling Extension.
    ARM_SPE = 4;
    /// The CPU measurement sampling facility of s390.
    S390_CPUMSF = 5;
    /// HiSilicon PCIe Tune and Trace.
    HISI_PTT = 6;
    /// The dispatch trace log of a Power partition.
    VPA_DTL = 7;
}

impl fmt::Display for AuxtraceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&self.0.to_string()),
        }
    }
}

/// `AUXTRACE_INFO`: what decodes the data of the AUX area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuxtraceInfo<'a> {
    /// Whose data they are.
    pub type_: AuxtraceType,
    /// What the decoder of that type needs to know.
    pub priv_: Words<'a>,
}

impl<'a> Field<'a> for AuxtraceInfo<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let type_ = AuxtraceType(from.int("type")?);
        from.int::<u32>("reserved")?;
        Ok(Self { type_, priv_: from.words(from.rest().len().div_ceil(8) as u64, "priv")? })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        to.int(self.type_.0);
        to.int(0_u32);
        to.words(self.priv_);
        Ok(())
    }
}

wire! {
    /// `AUXTRACE`: data of the AUX area. They follow the record and are not part of it.
    pub struct Auxtrace {
        /// Bytes that follow the record, before the next one.
        pub size: u64,
        /// Where in the AUX area they were: it is counted on, from its first byte ever.
        pub offset: u64,
        /// A number that is the same for pieces which belong together.
        pub reference: u64,
        /// The index of the ring among the recorder's.
        pub idx: u32,
        /// The thread that was traced; [`u32::MAX`] for all.
        pub tid: u32,
        /// The CPU that was traced; [`u32::MAX`] for any.
        pub cpu: u32,
        /// 0.
        pub reserved: u32,
    }
}

/// `AUXTRACE_ERROR`: a defect in the data of the AUX area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuxtraceError<'a> {
    /// What was decoded: 1 for a trace of instructions (`PERF_AUXTRACE_ERROR_ITRACE`).
    pub type_: u32,
    /// What went wrong, by the type.
    pub code: u32,
    /// The CPU; [`u32::MAX`] if it is not known.
    pub cpu: u32,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The record's form: from 1 on there is a time, from 2 on there may be a guest.
    pub fmt: u32,
    /// The instruction at which it was found.
    pub ip: u64,
    /// When it was found, in nanoseconds.
    pub time: Option<u64>,
    /// What went wrong, in words, at most 64 bytes of them.
    pub msg: Text<'a>,
    /// Which guest it was.
    pub guest: Option<AuxtraceGuest>,
}

wire! {
    /// The guest of an [`AuxtraceError`]; 0 and 0 for the host.
    pub struct AuxtraceGuest {
        /// The process of the guest's hypervisor.
        pub machine_pid: u32,
        /// The guest's virtual CPU.
        pub vcpu: u32,
    }
}

impl AuxtraceError<'_> {
    /// Bytes that a message can have (`MAX_AUXTRACE_ERROR_MSG`).
    const MSG_LEN: usize = 64;
}

impl<'a> Field<'a> for AuxtraceError<'a> {
    fn get(from: &mut Cursor<'a>, _: &'static str) -> Result<Self, Defect> {
        let [type_, code] = [from.int("type")?, from.int("code")?];
        let [cpu, pid, tid] = [from.int("cpu")?, from.int("pid")?, from.int("tid")?];
        let fmt = from.int("fmt")?;
        let ip = from.int("ip")?;
        let time = if fmt > 0 { Some(from.int("time")?) } else { None };
        // Records of the first forms end with the message, rather than with its place.
        let len = from.rest().len().min(Self::MSG_LEN);
        let msg = take_text(from, len, "msg")?;
        // Some records of the third form end there, too.
        let guest = if fmt > 1 && !from.rest().is_empty() { Some(Field::get(from, "machine_pid")?) } else { None };
        Ok(Self { type_, code, cpu, pid, tid, fmt, ip, time, msg, guest })
    }

    fn put(&self, to: &mut Writer<'_>, _: &'static str) -> Result<(), EncodeError> {
        if self.guest.is_some() && self.fmt < 2 {
            return Err(EncodeError::NotInLayout { field: "machine_pid" });
        }
        for value in [self.type_, self.code, self.cpu, self.pid, self.tid, self.fmt] {
            to.int(value);
        }
        to.int(self.ip);
        match (self.time, self.fmt) {
            (None, 0) => {}
            (Some(time), 1..) => to.int(time),
            (Some(_), 0) => return Err(EncodeError::NotInLayout { field: "time" }),
            (None, 1..) => return Err(EncodeError::Missing { field: "time" }),
        }
        put_text(to, self.msg, Self::MSG_LEN, "msg")?;
        self.guest.map_or(Ok(()), |guest| guest.put(to, "machine_pid"))
    }
}
