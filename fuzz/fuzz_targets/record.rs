//! Records of one to three events with arbitrary attributes: what decodes is whole, lies within the record, and is the same
//! after it was encoded and decoded again.
//!
//! The input: a byte whose lowest bit is the byte order, and the next two the number of events; for each event an attribute
//! (see [`Input::attr`]); then records: the type, two bytes of misc, two of length, and as many bytes of the body as there
//! are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perfring::record::{
    Attr, AttrFlags, Body, BranchSampleType, ByteOrder, DecodeError, Decoded, Decoder, DefectKind, EncodeError,
    Encoder, Header, Misc, ReadFormat, ReadValues, RecordType, Sample, SampleFields, SampleType, Words, user,
};
use std::fmt::{self, Write as _};

/// Takes bytes off the input; zeros when it is at its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.slice(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    fn slice(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// With a first byte of 0 the bits that matter: `sample_type` (4 bytes), `read_format`, `HW_INDEX` and `COUNTERS`, the two
    /// masks of registers, `SAMPLE_ID_ALL`. Else the bytes of a `perf_event_attr`, as many as the first byte says.
    fn attr(&mut self, order: ByteOrder) -> Option<Attr> {
        let len = self.byte();
        if len != 0 {
            let bytes = self.slice(len.into());
            let (attr, rest) = Attr::from_bytes(bytes, order).ok()?;
            let used = &bytes[..bytes.len() - rest.len()];
            let again = attr.to_bytes(order);
            let (reread, behind) = Attr::from_bytes(&again, order).expect("an attr that was just written");
            assert!(behind.is_empty() && again.len() == used.len().clamp(Attr::SIZE_VER0, Attr::SIZE));
            assert_eq!(Attr { size: attr.size, ..reread }, attr);
            return Some(attr);
        }
        let sample_type = u32::from_le_bytes(self.bytes());
        let [read_format, branches, user, intr, flags] = self.bytes();
        let mut branch_sample_type = BranchSampleType::empty();
        branch_sample_type.set(BranchSampleType::HW_INDEX, branches & 1 != 0);
        branch_sample_type.set(BranchSampleType::COUNTERS, branches & 2 != 0);
        Some(Attr {
            sample_type: SampleType::from_bits_retain(sample_type.into()),
            read_format: ReadFormat::from_bits_retain(read_format.into()),
            branch_sample_type,
            sample_regs_user: user.into(),
            sample_regs_intr: u64::from(intr) << 56,
            flags: if flags & 1 != 0 { AttrFlags::SAMPLE_ID_ALL } else { AttrFlags::empty() },
            ..Attr::default()
        })
    }
}

/// Counts what is written to it.
struct Sink(usize);

impl fmt::Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Counts what is written to it, which has to be one line that does nothing to a terminal.
struct Line(usize);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        assert!(!text.contains(char::is_control), "{text:?}");
        self.0 += text.len();
        Ok(())
    }
}

/// The record, and how much was read of what lies in it.
struct Walk<'a> {
    record: &'a [u8],
    items: usize,
}

impl Walk<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        let (record, lent) = (self.record.as_ptr_range(), bytes.as_ptr_range());
        assert!(bytes.is_empty() || record.start <= lent.start && lent.end <= record.end, "lent from elsewhere");
        self.items += bytes.len();
    }

    fn words(&mut self, words: Words<'_>) {
        self.bytes(words.as_bytes());
        assert_eq!(words.as_bytes().len(), words.len() * 8);
        assert_eq!(words.iter().len(), words.len());
        assert!(words.iter().rev().eq((0..words.len()).rev().map(|at| words.get(at).expect("a word"))));
        assert_eq!(words.get(words.len()), None);
        assert_eq!(words.iter().fold(0, |sum: u64, word| sum.wrapping_add(word)), {
            let mut sum = 0_u64;
            for word in words {
                sum = sum.wrapping_add(word);
            }
            sum
        });
        if let Some(slice) = words.as_slice() {
            assert_eq!(slice.len(), words.len());
        }
    }

    fn read(&mut self, read: ReadValues<'_>) {
        self.words(read.words());
        let format = read.format();
        assert_eq!(read.time_enabled().is_some(), format.contains(ReadFormat::TOTAL_TIME_ENABLED));
        assert_eq!(read.time_running().is_some(), format.contains(ReadFormat::TOTAL_TIME_RUNNING));
        assert_eq!(read.iter().len(), read.len());
        for (index, counter) in read.iter().enumerate() {
            assert_eq!(read.get_counter(index), Some(counter));
            assert_eq!(counter.id.is_some(), format.contains(ReadFormat::ID));
            assert_eq!(counter.lost.is_some(), format.contains(ReadFormat::LOST));
        }
        assert_eq!(read.get_counter(read.len()), None);
        assert_eq!(ReadValues::new(format, read.words()), Some(read));
    }

    fn sample(&mut self, sample: &Sample<'_>) {
        let all = sample.sample_type();
        let fields = sample.fields();
        // A layout that has a field never gives none: the sample was found to be whole.
        for (bit, is_there) in [
            (SampleType::IDENTIFIER, fields.identifier.is_some()),
            (SampleType::IP, fields.ip.is_some()),
            (SampleType::TID, fields.tid.is_some()),
            (SampleType::TIME, fields.time.is_some()),
            (SampleType::ADDR, fields.addr.is_some()),
            (SampleType::ID, fields.id.is_some()),
            (SampleType::STREAM_ID, fields.stream_id.is_some()),
            (SampleType::CPU, fields.cpu.is_some()),
            (SampleType::PERIOD, fields.period.is_some()),
            (SampleType::READ, fields.read.is_some()),
            (SampleType::CALLCHAIN, fields.callchain.is_some()),
            (SampleType::RAW, fields.raw.is_some()),
            (SampleType::BRANCH_STACK, fields.branch_stack.is_some()),
            (SampleType::REGS_USER, fields.regs_user.is_some()),
            (SampleType::STACK_USER, fields.stack_user.is_some()),
            (SampleType::WEIGHT | SampleType::WEIGHT_STRUCT, fields.weight.is_some()),
            (SampleType::DATA_SRC, fields.data_src.is_some()),
            (SampleType::TRANSACTION, fields.transaction.is_some()),
            (SampleType::REGS_INTR, fields.regs_intr.is_some()),
            (SampleType::PHYS_ADDR, fields.phys_addr.is_some()),
            (SampleType::CGROUP, fields.cgroup.is_some()),
            (SampleType::DATA_PAGE_SIZE, fields.data_page_size.is_some()),
            (SampleType::CODE_PAGE_SIZE, fields.code_page_size.is_some()),
            (SampleType::AUX, fields.aux.is_some()),
        ] {
            assert_eq!(all.intersects(bit), is_there, "{bit:?}");
        }
        if let Some(read) = fields.read {
            self.read(read);
        }
        if let Some(chain) = fields.callchain {
            self.words(chain.words());
            assert_eq!(chain.entries().len(), chain.len());
            assert!(chain.ips().count() <= chain.len());
        }
        if let Some(raw) = fields.raw {
            self.bytes(raw);
            assert_eq!(sample.raw_payload(raw.len()), Some(raw));
        }
        if let Some(stack) = fields.branch_stack {
            assert_eq!(stack.entries.iter().len(), stack.entries.len());
            for (index, entry) in stack.entries.iter().enumerate() {
                assert_eq!(stack.entries.get(index), Some(entry));
                let _ = entry.flags.type_name();
            }
            self.items += stack.entries.len() * 24;
            if let Some(counters) = stack.counters {
                assert_eq!(counters.len(), stack.entries.len());
                self.words(counters);
            }
        }
        for regs in [fields.regs_user, fields.regs_intr].into_iter().flatten() {
            self.words(regs.values());
            assert_eq!(regs.values().len(), regs.mask().count_ones() as usize);
            assert!(regs.iter().all(|(bit, value)| regs.get(bit) == Some(value)));
        }
        if let Some(stack) = fields.stack_user {
            self.bytes(stack.data);
            self.bytes(stack.copied());
        }
        if let Some(aux) = fields.aux {
            self.bytes(aux);
        }
        self.bytes(sample.rest());
    }

    fn array<'a, T: user::ArrayItem<'a> + PartialEq + fmt::Debug>(&mut self, array: user::Array<'a, T>, size: usize) {
        assert_eq!(array.iter().len(), array.len());
        assert!(array.iter().enumerate().all(|(index, item)| array.get(index) == Some(item)));
        assert_eq!((array.get(array.len()), array.iter().rev().count()), (None, array.len()));
        self.items += array.len() * size;
    }

    fn cpus(&mut self, map: user::CpuMap<'_>) {
        let count = map.cpus().count();
        match map {
            user::CpuMap::Cpus(cpus) => self.array(cpus, 2),
            user::CpuMap::Mask32(words) => self.array(words, 4),
            user::CpuMap::Mask64(words) => self.array(words, 8),
            user::CpuMap::Range { .. } => return assert!(count <= 65536),
            user::CpuMap::Other { data, .. } => self.bytes(data),
            _ => {}
        }
        assert!(count <= 8 * self.record.len());
    }

    fn user(&mut self, user: &user::User<'_>) {
        use user::{Update, User};
        match user {
            User::HeaderAttr(record) => self.words(record.ids),
            User::HeaderEventType(record) => self.bytes(record.name.as_bytes()),
            User::HeaderBuildId(record) => {
                self.bytes(record.build_id);
                self.bytes(record.filename.as_bytes());
            }
            User::IdIndex(record) => {
                self.array(record.entries, 32);
                if let Some(guests) = record.guests {
                    assert_eq!(guests.len(), record.entries.len());
                    self.array(guests, 16);
                }
            }
            User::AuxtraceInfo(record) => self.words(record.priv_),
            User::AuxtraceError(record) => self.bytes(record.msg.as_bytes()),
            User::ThreadMap(record) => self.array(record.entries, 24),
            User::CpuMap(map) => self.cpus(*map),
            User::StatConfig(record) => self.array(record.data, 16),
            User::EventUpdate(record) => match record.update {
                Update::Unit(text) | Update::Name(text) => self.bytes(text.as_bytes()),
                Update::Cpus(map) => self.cpus(map),
                Update::Other { data, .. } => self.bytes(data),
                _ => {}
            },
            User::TimeConv(record) => assert_eq!(record.time(0).is_some(), record.time_shift < 64),
            User::HeaderFeature(record) => self.bytes(record.data),
            User::Compressed(record) => self.bytes(record.data),
            User::Compressed2(record) => self.bytes(record.data),
            User::BpfMetadata(record) => {
                self.bytes(record.prog_name.as_bytes());
                self.array(record.entries, 320);
                self.bytes(record.id_sample);
            }
            User::SchedstatCpu(record) => {
                if let user::CpuCounters::Other(bytes) = record.counters {
                    self.bytes(bytes);
                }
            }
            User::SchedstatDomain(record) => {
                self.array(record.counters, 4);
                assert!(record.named().is_none_or(|named| named.count() == record.counters.len()));
            }
            _ => {}
        }
    }

    fn body(&mut self, body: &Body<'_>) {
        match body {
            Body::User(user) => self.user(user),
            Body::Sample(sample) => self.sample(sample),
            Body::Read(read) => self.read(read.values),
            Body::Mmap(mmap) => self.bytes(mmap.filename.as_bytes()),
            Body::Mmap2(mmap) => self.bytes(mmap.filename.as_bytes()),
            Body::Comm(comm) => self.bytes(comm.comm.as_bytes()),
            Body::Ksymbol(symbol) => self.bytes(symbol.name.as_bytes()),
            Body::Cgroup(cgroup) => self.bytes(cgroup.path.as_bytes()),
            Body::Namespaces(namespaces) => {
                self.words(namespaces.links);
                assert_eq!(namespaces.iter().count() * 2, namespaces.links.len());
            }
            Body::TextPoke(poke) => {
                self.bytes(poke.old);
                self.bytes(poke.new);
            }
            Body::CallchainDeferred(deferred) => self.words(deferred.callchain.words()),
            Body::Unknown(bytes) => self.bytes(bytes),
            _ => {}
        }
    }
}

fn assert_sound(error: DecodeError, record: &[u8]) {
    assert!(error.offset <= record.len() && !error.field.is_empty(), "{error}");
    match error.kind {
        DefectKind::Truncated { needed, left } => {
            assert!(needed > left as u64 && error.offset + left <= record.len(), "{error}");
        }
        DefectKind::NoNul { left } => assert!(error.offset + left <= record.len(), "{error}"),
        _ => {}
    }
}

/// The same fields, but for zeros that pad the raw data.
fn assert_same(again: SampleFields<'_>, first: SampleFields<'_>) {
    if let (Some(again), Some(first)) = (again.raw, first.raw) {
        let padding = again.strip_prefix(first).expect("the raw data");
        assert!(padding.len() < 8 && padding.iter().all(|byte| *byte == 0));
    }
    assert_eq!(SampleFields { raw: first.raw, ..again }, first);
}

fn check_again(decoder: &Decoder, encoders: &[Encoder], decoded: &Decoded<'_>) {
    // Where no event is named all write such records alike.
    let Some(encoder) = encoders.get(decoded.event().unwrap_or(0)) else { return };
    let mut bytes = Vec::new();
    let header = match encoder.encode(decoded.header.misc, &decoded.body, &decoded.sample_id(), &mut bytes) {
        Ok(header) => header,
        Err(EncodeError::Shape { field: "stack_user" | "aux", .. } | EncodeError::TooLarge { .. }) => return,
        Err(error) => {
            assert!(decoded.body.type_().is_none(), "{error}: {decoded:?}");
            return;
        }
    };
    assert_eq!(usize::from(header.size), bytes.len());
    // Some that perf adds hold bytes up to their end, and must not be filled up.
    assert!(bytes.len() % 8 == 0 || matches!(decoded.body, Body::User(_)), "{decoded:?}");
    let again = decoder.decode(&bytes).unwrap_or_else(|error| panic!("{error}: {decoded:?}"));
    assert_eq!(again.header, header);
    assert_eq!((again.header.type_, again.header.misc), (decoded.header.type_, decoded.header.misc));
    assert!(again.rest().is_empty());
    assert_eq!((again.sample_id(), again.time()), (decoded.sample_id(), decoded.time()));
    assert_eq!(again.event(), decoded.event());
    match (again.body, decoded.body) {
        (Body::Sample(again), Body::Sample(first)) => assert_same(again.fields(), first.fields()),
        // Of an attribute larger than is known the rest is zero, and is not written.
        (Body::User(user::User::HeaderAttr(again)), Body::User(user::User::HeaderAttr(first))) => {
            assert_eq!(again.ids, first.ids);
            assert_eq!(Attr { size: first.attr.size, ..again.attr }, first.attr);
        }
        (again, first) => assert_eq!(again, first),
    }
    let mut third = Vec::new();
    encoder.encode(again.header.misc, &again.body, &again.sample_id(), &mut third).expect("what was encoded before");
    assert_eq!(third, bytes);
}

fn check(decoder: &Decoder, encoders: &[Encoder], record: &[u8]) {
    let time = decoder.time(record);
    let decoded = match decoder.decode(record) {
        Ok(decoded) => decoded,
        Err(error) => return assert_sound(error, record),
    };
    assert_eq!(time, decoded.time());
    assert_eq!(usize::from(decoded.header.size), record.len());
    let mut walk = Walk { record, items: 0 };
    walk.body(&decoded.body);
    walk.bytes(decoded.rest());
    assert!(walk.items <= 4 * record.len(), "{} bytes read of {}", walk.items, record.len());
    let mut sink = Sink(0);
    write!(sink, "{:?} {:?}", decoded.body, decoded.sample_id()).expect("a sink");
    assert!(sink.0 <= 128 * record.len() + 4096, "{} bytes of text", sink.0);
    let mut line = Line(0);
    write!(line, "{decoded}").expect("a sink");
    assert!(line.0 <= 128 * record.len() + 4096, "{} bytes of text", line.0);
    check_again(decoder, encoders, &decoded);
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let kind = input.byte();
    let order = if kind & 1 == 0 { ByteOrder::Little } else { ByteOrder::Big };
    let mut decoder = Decoder::empty(order);
    let mut encoders = Vec::new();
    for event in 0..=u64::from(kind >> 1 & 3).min(2) {
        let Some(attr) = input.attr(order) else { continue };
        match decoder.push(&attr, &[event, 100 + event]) {
            Ok(number) => {
                assert_eq!(number, encoders.len());
                encoders.push(Encoder::new(&attr, order).expect("what the decoder took"));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    while !input.0.is_empty() {
        let (type_, misc) = (input.byte(), u16::from_le_bytes(input.bytes()));
        let len = u16::from_le_bytes(input.bytes());
        let body = input.slice(usize::from(len).min(65527));
        let size = (Header::SIZE + body.len()) as u16;
        let header = Header { type_: RecordType(type_.into()), misc: Misc::from_bits_retain(misc), size };
        let mut record = header.to_bytes(order).to_vec();
        record.extend(body);
        // Behind one byte words are not aligned.
        let mut shifted = vec![0; 1];
        shifted.extend(&record);
        check(&decoder, &encoders, &record);
        check(&decoder, &encoders, &shifted[1..]);
        // As it came: with a header that need not fit.
        check(&decoder, &encoders, body);
    }
});
