//! How events were opened.

use super::{FlagNames, Object, objects};
use crate::record::{Attr, AttrFlags};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt::{self, Write};

/// The flags by the names of the uapi, which are in lower case, and other bits as one number; without `precise_ip`.
struct Flags(AttrFlags);

struct Lower(&'static str);

impl fmt::Display for Lower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| f.write_char(c.to_ascii_lowercase()))
    }
}

impl Serialize for Lower {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Flags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let flags = AttrFlags::from_bits_retain(self.0.bits() & !AttrFlags::PRECISE_IP.bits());
        FlagNames(flags).serialize_as(Lower, serializer)
    }
}

impl super::Fields for Attr {
    fn fields<M: SerializeMap>(&self, to: &mut Object<'_, M>) -> Result<(), M::Error> {
        to.entry("type", &self.type_)?;
        to.entry("size", &self.size)?;
        to.entry("config", &self.config)?;
        to.entry("sample_period", &self.sample_period)?;
        to.entry("sample_type", &FlagNames(self.sample_type))?;
        to.entry("read_format", &FlagNames(self.read_format))?;
        to.entry("flags", &Flags(self.flags))?;
        to.entry("precise_ip", &self.flags.precise_ip())?;
        to.entry("wakeup_events", &self.wakeup_events)?;
        to.entry("bp_type", &self.bp_type)?;
        to.entry("config1", &self.config1)?;
        to.entry("config2", &self.config2)?;
        to.entry("branch_sample_type", &FlagNames(self.branch_sample_type))?;
        to.entry("sample_regs_user", &self.sample_regs_user)?;
        to.entry("sample_stack_user", &self.sample_stack_user)?;
        to.entry("clockid", &self.clockid)?;
        to.entry("sample_regs_intr", &self.sample_regs_intr)?;
        to.entry("aux_watermark", &self.aux_watermark)?;
        to.entry("sample_max_stack", &self.sample_max_stack)?;
        to.entry("aux_sample_size", &self.aux_sample_size)?;
        to.entry("aux_action", &self.aux_action)?;
        to.entry("sig_data", &self.sig_data)?;
        to.entry("config3", &self.config3)?;
        to.entry("config4", &self.config4)
    }
}

super::entries! { Attr }

objects! {
    Attr: "All fields, under their uapi names. `sample_type`, `read_format` and `branch_sample_type` are arrays of uapi \
        names without their prefixes, `flags` is one of those of the bit fields; bits that have no name are one number at \
        the end. `precise_ip` is a number of its own."
}
