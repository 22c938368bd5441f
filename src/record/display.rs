//! Records as text: one line each.

use crate::record::{Body, Decoded, Sample, SampleId, Tid, User};
use std::fmt::{self, Debug, Display};

/// ` name value`, with addresses in hexadecimal.
pub(crate) fn show(f: &mut fmt::Formatter<'_>, name: &str, value: &dyn Debug) -> fmt::Result {
    match name {
        "addr" | "len" | "pgoff" | "ip" | "phys_addr" | "prot" | "flags" | "aux_offset" | "aux_size" | "cookie" => {
            let value = format!("{value:x?}");
            // Named flags say it themselves.
            let prefix = if value.bytes().all(|byte| byte.is_ascii_hexdigit()) { "0x" } else { "" };
            write!(f, " {name} {prefix}{value}")
        }
        "tag" | "bytes" => write!(f, " {name} {value:02x?}"),
        _ => write!(f, " {name} {value:?}"),
    }
}

/// The fields of a record behind each other, in the order of their addresses.
macro_rules! display_fields {
    ($($type:ty: $($field:ident)+;)+) => {
        $(
            impl Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    $(show(f, stringify!($field), &self.$field)?;)+
                    Ok(())
                }
            }
        )+
    };
}
display_fields! {
    crate::record::TextPoke<'_>: addr old new;
    crate::record::CallchainDeferred<'_>: cookie callchain;
}

impl Display for crate::record::Namespaces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " pid {} tid {}", self.pid, self.tid)?;
        for (index, link) in self.iter().enumerate() {
            match Self::NAMES.get(index) {
                Some(name) => write!(f, " {name} {}:{}", link.dev, link.inode)?,
                None => write!(f, " {index} {}:{}", link.dev, link.inode)?,
            }
        }
        Ok(())
    }
}

impl Display for crate::record::ReadValues<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |f: &mut fmt::Formatter<'_>, name, value: Option<u64>| match value {
            Some(value) => write!(f, " {name} {value}"),
            None => Ok(()),
        };
        word(f, "time_enabled", self.time_enabled())?;
        word(f, "time_running", self.time_running())?;
        for counter in self.iter() {
            write!(f, " value {}", counter.value)?;
            word(f, "id", counter.id)?;
            word(f, "lost", counter.lost)?;
        }
        Ok(())
    }
}

impl Display for crate::record::Read<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " pid {} tid {}{}", self.pid, self.tid, self.values)
    }
}

impl Display for SampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cpu) = self.cpu {
            write!(f, " cpu {cpu:3}")?;
        }
        if let Some(Tid { pid, tid }) = self.tid {
            write!(f, " pid {pid:7} tid {tid:7}")?;
        }
        if let Some(time) = self.time {
            write!(f, " time {}.{:09}", time / 1_000_000_000, time % 1_000_000_000)?;
        }
        // All of them name the event.
        match self.identifier.or(self.id) {
            Some(id) => write!(f, " id {id}"),
            None => Ok(()),
        }
    }
}

/// The fields that a [`SampleId`] does not show. Bytes are given by their number.
impl Display for Sample<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields();
        macro_rules! show_all {
            ($($field:ident)+) => {
                $(if let Some(value) = &fields.$field { show(f, stringify!($field), value)?; })+
            };
        }
        show_all!(ip addr period);
        if let Some(read) = fields.read {
            write!(f, " read{read}")?;
        }
        show_all!(callchain);
        if let Some(raw) = fields.raw {
            write!(f, " raw {} bytes", raw.len())?;
        }
        show_all!(branch_stack regs_user stack_user weight);
        if let Some(data_src) = fields.data_src {
            write!(f, " data_src ({data_src})")?;
        }
        if let Some(transaction) = fields.transaction {
            write!(f, " transaction ({transaction})")?;
        }
        show_all!(regs_intr phys_addr cgroup data_page_size code_page_size);
        match fields.aux {
            Some(aux) => write!(f, " aux {} bytes", aux.len()),
            None => Ok(()),
        }
    }
}

/// Bytes of no known form are given by their number.
impl Display for User<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FinishedRound | Self::FinishedInit => Ok(()),
            Self::Compressed(record) => write!(f, " {} bytes", record.data.len()),
            Self::Compressed2(record) => write!(f, " {} bytes", record.data.len()),
            Self::HeaderFeature(record) => write!(f, " feat_id {} {} bytes", record.feat_id, record.data.len()),
            other => write!(f, " {other:?}"),
        }
    }
}

/// The fields, each behind its name.
impl Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mmap(body) => Display::fmt(body, f),
            Self::Lost(body) => Display::fmt(body, f),
            Self::Comm(body) => Display::fmt(body, f),
            Self::Exit(body) | Self::Fork(body) => Display::fmt(body, f),
            Self::Throttle(body) | Self::Unthrottle(body) => Display::fmt(body, f),
            Self::Read(body) => Display::fmt(body, f),
            Self::Sample(body) => Display::fmt(body, f),
            Self::Mmap2(body) => Display::fmt(body, f),
            Self::Aux(body) => Display::fmt(body, f),
            Self::ItraceStart(body) => Display::fmt(body, f),
            Self::LostSamples(body) => Display::fmt(body, f),
            Self::Switch(body) => Display::fmt(body, f),
            Self::SwitchCpuWide(body) => Display::fmt(body, f),
            Self::Namespaces(body) => Display::fmt(body, f),
            Self::Ksymbol(body) => Display::fmt(body, f),
            Self::BpfEvent(body) => Display::fmt(body, f),
            Self::Cgroup(body) => Display::fmt(body, f),
            Self::TextPoke(body) => Display::fmt(body, f),
            Self::AuxOutputHwId(body) => Display::fmt(body, f),
            Self::CallchainDeferred(body) => Display::fmt(body, f),
            Self::User(body) => Display::fmt(body, f),
            Self::Unknown(bytes) => write!(f, " {} bytes", bytes.len()),
        }
    }
}

/// One line: the type, `misc`, who, when and where, and the fields, each behind its name.
impl Display for Decoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} misc {:#06x}{}{}", self.header.type_, self.header.misc.bits(), self.sample_id(), self.body)
    }
}

#[cfg(test)]
mod tests {
    use crate::record::{
        Attr, AttrFlags, Body, BranchEntries, BranchSampleType, BranchStack, ByteOrder, Comm, DataSrc, Decoder,
        Encoder, MemOp, Misc, Regs, RegsAbi, SampleFields, SampleId, SampleType, Transaction, Words,
    };

    #[test]
    fn addresses_are_hexadecimal_and_flags_have_names() {
        let attr = Attr {
            sample_type: SampleType::BRANCH_STACK
                | SampleType::REGS_USER
                | SampleType::DATA_SRC
                | SampleType::TRANSACTION,
            branch_sample_type: BranchSampleType::COUNTERS,
            sample_regs_user: 1 << 8,
            ..Attr::default()
        };
        let fields = SampleFields {
            branch_stack: Some(BranchStack {
                hw_idx: None,
                entries: BranchEntries::from_words(&[0x1000, 0x2000, 0]),
                counters: Some(Words::from(&[0x30])),
            }),
            regs_user: Regs::new(RegsAbi::Abi64, 1 << 8, Words::from(&[0x4000])),
            data_src: Some(DataSrc(0).with_mem_op(MemOp::LOAD)),
            transaction: Some(Transaction(2)),
            ..SampleFields::default()
        };
        let mut record = Vec::new();
        Encoder::new(&attr, ByteOrder::NATIVE).unwrap().sample(Misc::empty(), &fields, &mut record).unwrap();
        let text = Decoder::new(&attr).unwrap().decode(&record).unwrap().to_string();
        for part in [
            "BranchEntry { from: 0x1000, to: 0x2000, ",
            "counters: Some([0x30])",
            " regs_user Regs { abi: Abi64, values: {8: 0x4000} }",
            " data_src (op LOAD) transaction (TRANSACTION)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_record_is_one_line_whatever_its_text() {
        let attr = Attr { sample_type: SampleType::TIME, flags: AttrFlags::SAMPLE_ID_ALL, ..Attr::default() };
        let body = Body::Comm(Comm { pid: 1, tid: 2, comm: "a\nb\"\u{1b}".into() });
        let id = SampleId { time: Some(1_000_000_002), ..SampleId::default() };
        let mut record = Vec::new();
        Encoder::new(&attr, ByteOrder::NATIVE).unwrap().encode(Misc::empty(), &body, &id, &mut record).unwrap();
        let text = Decoder::new(&attr).unwrap().decode(&record).unwrap().to_string();
        assert_eq!(text, "COMM             misc 0x0000 time 1.000000002 pid 1 tid 2 comm \"a\\nb\\\"\\x1b\"");
    }
}
