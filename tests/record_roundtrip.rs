//! What the encoder writes the decoder reads, whatever the attribute and the values: and what cannot be written is refused.

use perfring::record::*;
use proptest::prelude::*;
use std::path::Path;

/// Values for fields: those that were drawn, again and again.
struct Pool {
    words: Vec<u64>,
    at: usize,
}

impl Pool {
    fn new(words: Vec<u64>) -> Self {
        Self { words, at: 0 }
    }

    fn word(&mut self) -> u64 {
        self.at += 1;
        self.words[self.at % self.words.len()]
    }

    fn half(&mut self) -> u32 {
        self.word() as u32
    }

    fn words(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.word()).collect()
    }

    fn some_words(&mut self, unit: usize) -> Vec<u64> {
        let count = self.word() as usize % 5 * unit;
        self.words(count)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.word() as u8).collect()
    }

    fn text(&mut self) -> Vec<u8> {
        let len = self.word() as usize % 30;
        self.bytes(len).into_iter().map(|byte| byte.max(1)).collect()
    }

    fn tid(&mut self) -> Tid {
        Tid { pid: self.half(), tid: self.half() }
    }

    /// The words of `READ` in this format.
    fn read(&mut self, format: ReadFormat) -> Vec<u64> {
        let has = |bit| usize::from(format.contains(bit));
        let times = has(ReadFormat::TOTAL_TIME_ENABLED) + has(ReadFormat::TOTAL_TIME_RUNNING);
        let each = 1 + has(ReadFormat::ID) + has(ReadFormat::LOST);
        if !format.contains(ReadFormat::GROUP) {
            return self.words(each + times);
        }
        let count = self.word() % 4;
        [vec![count], self.words(times + count as usize * each)].concat()
    }
}

fn pool() -> impl Strategy<Value = Vec<u64>> {
    let word = prop_oneof![any::<u64>(), 0_u64..10, Just(u64::MAX), Just(u64::MAX - 127)];
    prop::collection::vec(word, 1..60)
}

fn order() -> impl Strategy<Value = ByteOrder> {
    prop_oneof![Just(ByteOrder::Little), Just(ByteOrder::Big)]
}

prop_compose! {
    fn attr()(
        bits in prop_oneof![any::<u64>(), any::<u64>().prop_map(|bits| bits & bits.rotate_left(17)), Just(u64::MAX)],
        read_format in 0_u64..32,
        branches in any::<u64>(),
        (user, intr) in (any::<u64>(), any::<u64>()),
        sample_id_all in any::<bool>(),
        weight in any::<bool>(),
    ) -> Attr {
        let bits = SampleType::from_bits_retain(bits & ((1 << 25) - 1));
        let other = if weight { SampleType::WEIGHT_STRUCT } else { SampleType::WEIGHT };
        Attr {
            sample_type: bits - other,
            read_format: ReadFormat::from_bits_retain(read_format),
            branch_sample_type: BranchSampleType::from_bits_retain(branches & ((1 << 20) - 1)),
            sample_regs_user: user,
            sample_regs_intr: intr,
            flags: if sample_id_all { AttrFlags::SAMPLE_ID_ALL } else { AttrFlags::empty() },
            ..Attr::default()
        }
    }
}

/// What the fields of a sample borrow.
struct Owned {
    read: Vec<u64>,
    callchain: Vec<u64>,
    raw: Vec<u8>,
    branches: Vec<u64>,
    counters: Vec<u64>,
    user: Vec<u64>,
    intr: Vec<u64>,
    stack: Vec<u8>,
    aux: Vec<u8>,
}

impl Owned {
    fn new(attr: &Attr, pool: &mut Pool) -> Self {
        let (branches, raw) = (pool.some_words(3), pool.word() as usize % 5 * 8 + 4);
        let (stack, aux) = (pool.word() as usize % 4 * 8, pool.word() as usize % 4 * 8);
        Self {
            read: pool.read(attr.read_format),
            callchain: pool.some_words(1),
            raw: pool.bytes(raw),
            counters: pool.words(branches.len() / 3),
            branches,
            user: pool.words(attr.sample_regs_user.count_ones() as usize),
            intr: pool.words(attr.sample_regs_intr.count_ones() as usize),
            stack: pool.bytes(stack),
            aux: pool.bytes(aux),
        }
    }

    fn fields<'a>(&'a self, attr: &Attr, pool: &mut Pool) -> SampleFields<'a> {
        use SampleType as S;
        let all = attr.sample_type;
        let regs = |pool: &mut Pool, mask: u64, values: &'a [u64]| match pool.word() % 3 {
            0 => Regs::NONE,
            1 => Regs::new(RegsAbi::Abi32, mask, values.into()).expect("as many as the mask has"),
            _ => Regs::new(RegsAbi::Abi64, mask, values.into()).expect("as many as the mask has"),
        };
        let kind = attr.branch_sample_type;
        // Where other fields follow, an empty stack without index may look as one with an index.
        let is_last = all.bits() & !(S::BRANCH_STACK.bits() * 2 - 1) & !S::IDENTIFIER.bits() == 0;
        let hw_idx = match self.branches.is_empty() && is_last && pool.word().is_multiple_of(2) {
            true => None,
            false => kind.contains(BranchSampleType::HW_INDEX).then(|| pool.word()),
        };
        let weight = match all.contains(S::WEIGHT) {
            true => Weight::Full(pool.word()),
            false => Weight::Struct { var1_dw: pool.half(), var2_w: pool.word() as u16, var3_w: pool.word() as u16 },
        };
        let has = |bits| all.intersects(bits);
        SampleFields {
            identifier: has(S::IDENTIFIER).then(|| pool.word()),
            ip: has(S::IP).then(|| pool.word()),
            tid: has(S::TID).then(|| pool.tid()),
            time: has(S::TIME).then(|| pool.word()),
            addr: has(S::ADDR).then(|| pool.word()),
            id: has(S::ID).then(|| pool.word()),
            stream_id: has(S::STREAM_ID).then(|| pool.word()),
            cpu: has(S::CPU).then(|| pool.half()),
            period: has(S::PERIOD).then(|| pool.word()),
            read: has(S::READ)
                .then(|| ReadValues::new(attr.read_format, Words::from(&self.read[..])).expect("words of that shape")),
            callchain: has(S::CALLCHAIN).then(|| Callchain::from(&self.callchain[..])),
            raw: has(S::RAW).then_some(&self.raw),
            branch_stack: has(S::BRANCH_STACK).then(|| BranchStack {
                hw_idx,
                entries: BranchEntries::from_words(&self.branches),
                counters: kind.contains(BranchSampleType::COUNTERS).then(|| Words::from(&self.counters[..])),
            }),
            regs_user: has(S::REGS_USER).then(|| regs(pool, attr.sample_regs_user, &self.user)),
            stack_user: has(S::STACK_USER).then(|| StackUser {
                data: &self.stack,
                dyn_size: if self.stack.is_empty() { 0 } else { pool.word() },
            }),
            weight: has(S::WEIGHT | S::WEIGHT_STRUCT).then_some(weight),
            data_src: has(S::DATA_SRC).then(|| DataSrc(pool.word())),
            transaction: has(S::TRANSACTION).then(|| Transaction(pool.word())),
            regs_intr: has(S::REGS_INTR).then(|| regs(pool, attr.sample_regs_intr, &self.intr)),
            phys_addr: has(S::PHYS_ADDR).then(|| pool.word()),
            cgroup: has(S::CGROUP).then(|| pool.word()),
            data_page_size: has(S::DATA_PAGE_SIZE).then(|| pool.word()),
            code_page_size: has(S::CODE_PAGE_SIZE).then(|| pool.word()),
            aux: has(S::AUX).then_some(&self.aux),
        }
    }
}

fn sample_id(attr: &Attr, pool: &mut Pool) -> SampleId {
    if !attr.flags.contains(AttrFlags::SAMPLE_ID_ALL) {
        return SampleId::default();
    }
    let has = |bit| attr.sample_type.contains(bit);
    SampleId {
        tid: has(SampleType::TID).then(|| pool.tid()),
        time: has(SampleType::TIME).then(|| pool.word()),
        id: has(SampleType::ID).then(|| pool.word()),
        stream_id: has(SampleType::STREAM_ID).then(|| pool.word()),
        cpu: has(SampleType::CPU).then(|| pool.half()),
        identifier: has(SampleType::IDENTIFIER).then(|| pool.word()),
    }
}

fn decoder(attr: &Attr, order: ByteOrder) -> Decoder {
    let mut decoder = Decoder::empty(order);
    decoder.push(attr, &[]).expect("a layout");
    decoder
}

/// The record of type `1 + which % 22`, but for samples, with the values of `pool`.
fn with_body<R>(which: usize, attr: &Attr, pool: &mut Pool, then: impl FnOnce(&Body<'_>) -> R) -> R {
    let (text, links) = (pool.text(), pool.some_words(2));
    let (read, chain) = (pool.read(attr.read_format), pool.some_words(1));
    let (old, new) = (pool.text(), pool.text());
    let name = Text::from(&text[..]);
    let task = Task { pid: pool.half(), ppid: pool.half(), tid: pool.half(), ptid: pool.half(), time: pool.word() };
    let throttle = Throttle { time: pool.word(), id: pool.word(), stream_id: pool.word() };
    let Tid { pid, tid } = pool.tid();
    let (addr, len, pgoff) = (pool.word(), pool.word(), pool.word());
    let id_len = pool.word() as usize % 21;
    let file = match pool.word() % 2 {
        0 => MappedFile::BuildId(BuildId::new(&pool.bytes(id_len)).expect("at most 20 bytes")),
        _ => MappedFile::Inode { maj: pool.half(), min: pool.half(), ino: pool.word(), ino_generation: pool.word() },
    };
    let values = ReadValues::new(attr.read_format, Words::from(&read[..])).expect("words of that shape");
    let flags = AuxFlags::from_bits_retain(pool.word());
    let (type_, kind) = (pool.word() as u16, pool.word() as u16);
    then(&match which % 21 {
        0 => Body::Mmap(Mmap { pid, tid, addr, len, pgoff, filename: name }),
        1 => Body::Lost(Lost { id: addr, lost: len }),
        2 => Body::Comm(Comm { pid, tid, comm: name }),
        3 => Body::Exit(task),
        4 => Body::Throttle(throttle),
        5 => Body::Unthrottle(throttle),
        6 => Body::Fork(task),
        7 => Body::Read(Read { pid, tid, values }),
        8 => {
            let (prot, flags) = (pool.half(), pool.half());
            Body::Mmap2(Mmap2 { pid, tid, addr, len, pgoff, file, prot, flags, filename: name })
        }
        9 => Body::Aux(Aux { aux_offset: addr, aux_size: len, flags }),
        10 => Body::ItraceStart(ItraceStart { pid, tid }),
        11 => Body::LostSamples(LostSamples { lost: len }),
        12 => Body::Switch(Switch {}),
        13 => Body::SwitchCpuWide(SwitchCpuWide { next_prev_pid: pid, next_prev_tid: tid }),
        14 => Body::Namespaces(Namespaces { pid, tid, links: Words::from(&links[..]) }),
        15 => Body::Ksymbol(Ksymbol { addr, len: pid, ksym_type: kind, flags: type_, name }),
        16 => Body::BpfEvent(BpfEvent { type_, flags: kind, id: pid, tag: addr.to_ne_bytes() }),
        17 => Body::Cgroup(Cgroup { id: addr, path: name }),
        18 => Body::TextPoke(TextPoke { addr, old: &old, new: &new }),
        19 => Body::AuxOutputHwId(AuxOutputHwId { hw_id: addr }),
        _ => Body::CallchainDeferred(CallchainDeferred { cookie: addr, callchain: Callchain::from(&chain[..]) }),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn samples(attr in attr(), order in order(), words in pool(), misc in any::<u16>()) {
        let pool = &mut Pool::new(words);
        let owned = Owned::new(&attr, pool);
        let fields = owned.fields(&attr, pool);
        let encoder = Encoder::new(&attr, order).unwrap();
        let decoder = decoder(&attr, order);
        // Behind what is there already, which leaves the record at an odd address.
        let mut out = vec![0x77];
        let misc = Misc::from_bits_retain(misc);
        let header = encoder.sample(misc, &fields, &mut out).unwrap();
        let record = &out[1..];
        prop_assert_eq!(usize::from(header.size), record.len());
        prop_assert_eq!(record.len() % 8, 0);
        let decoded = decoder.decode(record).unwrap();
        let Body::Sample(sample) = decoded.body else { panic!("{decoded:?}") };
        prop_assert_eq!(decoded.header, header);
        prop_assert_eq!(sample.fields(), fields);
        prop_assert!(sample.rest().is_empty() && decoded.rest().is_empty());
        prop_assert_eq!((decoded.time(), decoder.time(record)), (fields.time, fields.time));
        let id = SampleId {
            tid: fields.tid,
            time: fields.time,
            id: fields.id,
            stream_id: fields.stream_id,
            cpu: fields.cpu,
            identifier: fields.identifier,
        };
        prop_assert_eq!(decoded.sample_id(), id);
        let mut again = Vec::new();
        encoder.encode(misc, &decoded.body, &decoded.sample_id(), &mut again).unwrap();
        prop_assert_eq!(&again, record);
        // The other byte order holds the same.
        let other = if order == ByteOrder::Little { ByteOrder::Big } else { ByteOrder::Little };
        let mut swapped = Vec::new();
        Encoder::new(&attr, other).unwrap().encode(misc, &decoded.body, &id, &mut swapped).unwrap();
        let decoder = self::decoder(&attr, other);
        let Body::Sample(sample) = decoder.decode(&swapped).unwrap().body else { panic!() };
        prop_assert_eq!(sample.fields(), fields);
    }

    #[test]
    fn other_records(
        which in 0_usize..21, attr in attr(), order in order(), words in pool(), misc in any::<u16>(),
    ) {
        let pool = &mut Pool::new(words);
        let id = sample_id(&attr, pool);
        let encoder = Encoder::new(&attr, order).unwrap();
        let decoder = decoder(&attr, order);
        let misc = Misc::from_bits_retain(misc);
        with_body(which, &attr, pool, |body| {
            let mut out = vec![0x77; 3];
            let header = encoder.encode(misc, body, &id, &mut out).unwrap();
            let record = &out[3..];
            prop_assert_eq!(record.len() % 8, 0);
            let decoded = decoder.decode(record).unwrap();
            prop_assert_eq!((decoded.header, decoded.body), (header, *body));
            prop_assert_eq!((decoded.sample_id(), decoder.time(record)), (id, decoded.time()));
            prop_assert!(id.time.is_none() || decoded.time() == id.time);
            prop_assert!(decoded.rest().is_empty());
            let mut again = Vec::new();
            encoder.encode(header.misc, &decoded.body, &decoded.sample_id(), &mut again).unwrap();
            prop_assert_eq!(&again, record);
            Ok(())
        })?;
    }

    #[test]
    fn raw_of_any_length(len in 0_usize..100, order in order(), words in pool()) {
        let raw = Pool::new(words).bytes(len);
        let attr = Attr { sample_type: SampleType::RAW | SampleType::TRANSACTION, ..Attr::default() };
        let fields = SampleFields { raw: Some(&raw), transaction: Some(Transaction(7)), ..Default::default() };
        let mut record = Vec::new();
        Encoder::new(&attr, order).unwrap().sample(Misc::empty(), &fields, &mut record).unwrap();
        let decoder = decoder(&attr, order);
        let Body::Sample(sample) = decoder.decode(&record).unwrap().body else { panic!() };
        prop_assert_eq!(sample.raw_payload(len), Some(&raw[..]));
        prop_assert_eq!(sample.transaction(), Some(Transaction(7)));
        prop_assert!(sample.raw().unwrap()[len..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn attrs(bytes in prop::collection::vec(any::<u8>(), 144), size in 64_usize..=144, order in order()) {
        let mut bytes = bytes;
        let stated = if order == ByteOrder::Little { (size as u32).to_le_bytes() } else { (size as u32).to_be_bytes() };
        bytes[4..8].copy_from_slice(&stated);
        // What is reserved is not kept.
        bytes[110..112].fill(0);
        bytes.truncate(size);
        let (attr, rest) = Attr::from_bytes(&bytes, order).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(attr.to_bytes(order), &bytes[..]);
        let other = if order == ByteOrder::Little { ByteOrder::Big } else { ByteOrder::Little };
        let whole = Attr { size: Attr::SIZE as u32, ..attr };
        let swapped = whole.to_bytes(other);
        prop_assert_eq!(Attr::from_bytes(&swapped, other), Ok((whole, &[][..])));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..400), type_ in 0_u32..90, attr in attr(), order in order(),
    ) {
        let header = Header { type_: RecordType(type_), misc: Misc::empty(), size: 8 + bytes.len() as u16 };
        let record = [&header.to_bytes(order)[..], &bytes].concat();
        let decoder = decoder(&attr, order);
        if let Ok(decoded) = decoder.decode(&record) {
            prop_assert_eq!(decoded.time(), decoder.time(&record));
            let text = format!("{decoded:?}");
            prop_assert!(!text.is_empty());
        }
    }
}

/// Encodes into a vector that holds something, which must be all that it holds afterwards.
fn refused(attr: &Attr, encode: impl FnOnce(&Encoder, &mut Vec<u8>) -> Result<Header, EncodeError>) -> EncodeError {
    let mut out = vec![1, 2, 3];
    let error = encode(&Encoder::new(attr, ByteOrder::NATIVE).unwrap(), &mut out).unwrap_err();
    assert_eq!(out, [1, 2, 3]);
    error
}

fn refused_sample(attr: &Attr, fields: SampleFields<'_>) -> EncodeError {
    refused(attr, |encoder, out| encoder.sample(Misc::empty(), &fields, out))
}

fn refused_body(attr: &Attr, body: Body<'_>, id: SampleId) -> EncodeError {
    refused(attr, |encoder, out| encoder.encode(Misc::empty(), &body, &id, out))
}

fn sampled(sample_type: SampleType) -> Attr {
    Attr { sample_type, ..Attr::default() }
}

#[test]
fn fields_without_value_or_place_are_refused() {
    for bit in SampleType::from_bits_retain((1 << 25) - 1).iter() {
        let error = refused_sample(&sampled(bit), SampleFields::default());
        assert!(matches!(error, EncodeError::Missing { field } if !field.is_empty()), "{bit:?}: {error}");
    }
    let pool = &mut Pool::new(vec![1]);
    let all = SampleType::from_bits_retain((1 << 25) - 1);
    for weight in [SampleType::WEIGHT, SampleType::WEIGHT_STRUCT] {
        let attr = sampled(all - weight);
        let owned = Owned::new(&attr, pool);
        for bit in attr.sample_type.iter() {
            // All fields have values, and one of them no place.
            let error = refused_sample(&sampled(attr.sample_type - bit), owned.fields(&attr, pool));
            assert!(matches!(error, EncodeError::NotInLayout { field } if !field.is_empty()), "{bit:?}: {error}");
        }
    }
    let error = refused_sample(&sampled(SampleType::IP), SampleFields::default());
    assert_eq!(error.to_string(), "the field ip is in the layout, but has no value");
    let error = refused_sample(&sampled(SampleType::empty()), SampleFields { cpu: Some(1), ..Default::default() });
    assert_eq!(error.to_string(), "the field cpu has a value, but is not in the layout");
    let full = SampleFields { weight: Some(Weight::Full(1)), ..Default::default() };
    assert_eq!(refused_sample(&sampled(SampleType::WEIGHT_STRUCT), full), EncodeError::NotInLayout { field: "weight" });
}

#[test]
fn trailers_without_value_or_place_are_refused() {
    let body = Body::Lost(Lost { id: 1, lost: 2 });
    let pool = &mut Pool::new(vec![1]);
    use SampleType as S;
    for bit in [S::TID, S::TIME, S::ID, S::STREAM_ID, S::CPU, S::IDENTIFIER] {
        let attr = Attr { flags: AttrFlags::SAMPLE_ID_ALL, ..sampled(bit) };
        let error = refused_body(&attr, body, SampleId::default());
        assert!(matches!(error, EncodeError::Missing { .. }), "{bit:?}: {error}");
        let error = refused_body(&sampled(bit), body, sample_id(&attr, pool));
        assert!(matches!(error, EncodeError::NotInLayout { .. }), "{bit:?}: {error}");
    }
}

#[test]
fn values_of_another_shape_are_refused() {
    use SampleType as S;
    let shape = |error: EncodeError, name: &str| match error {
        EncodeError::Shape { field, what } => assert!(field == name && !what.is_empty()),
        other => panic!("{other}"),
    };
    let words: [u64; 6] = [1, 2, 3, 4, 5, 6];
    let read = ReadValues::new(ReadFormat::ID, Words::from(&words[..2]));
    shape(refused_sample(&sampled(S::READ), SampleFields { read, ..Default::default() }), "read");
    let values = read.unwrap();
    let body = Body::Read(Read { pid: 1, tid: 2, values });
    shape(refused_body(&Attr::default(), body, SampleId::default()), "read");

    let stack = |kind, hw_idx, branches: usize, counters: Option<&[u64]>| {
        let entries = BranchEntries::from_words(&words[..3 * branches]);
        let branch_stack = Some(BranchStack { hw_idx, entries, counters: counters.map(Words::from) });
        let attr = Attr { branch_sample_type: kind, ..sampled(S::BRANCH_STACK) };
        refused_sample(&attr, SampleFields { branch_stack, ..Default::default() })
    };
    let (plain, counted) = (BranchSampleType::ANY, BranchSampleType::COUNTERS);
    shape(stack(plain, Some(1), 1, None), "branch_stack");
    shape(stack(BranchSampleType::HW_INDEX, None, 1, None), "branch_stack");
    shape(stack(plain, None, 1, Some(&[1])), "branch_stack");
    shape(stack(plain, None, 0, Some(&[])), "branch_stack");
    shape(stack(counted, None, 1, None), "branch_stack");
    shape(stack(counted, None, 2, Some(&[1])), "branch_stack");

    let attr = Attr { sample_regs_user: 3, sample_regs_intr: 3, ..sampled(S::REGS_USER) };
    let other = Regs::new(RegsAbi::Abi64, 5, Words::from(&words[..2]));
    shape(refused_sample(&attr, SampleFields { regs_user: other, ..Default::default() }), "regs_user");
    let unknown = Regs::new(RegsAbi::Other(9), 3, Words::from(&words[..2]));
    shape(refused_sample(&attr, SampleFields { regs_user: unknown, ..Default::default() }), "regs_user");
    let attr = Attr { sample_type: S::REGS_INTR, ..attr };
    shape(refused_sample(&attr, SampleFields { regs_intr: other, ..Default::default() }), "regs_intr");
    assert_eq!(Regs::new(RegsAbi::Abi32, 3, Words::from(&words[..1])), None);
    assert_eq!(Regs::new(RegsAbi::None, 3, Words::from(&words[..2])), None);

    let stack_user = Some(StackUser { data: &[1; 12], dyn_size: 12 });
    shape(refused_sample(&sampled(S::STACK_USER), SampleFields { stack_user, ..Default::default() }), "stack_user");
    let aux = Some(&[1; 12][..]);
    let error = refused_sample(&sampled(S::AUX), SampleFields { aux, ..Default::default() });
    assert_eq!(error.to_string(), "the field aux does not fit: a multiple of 8 bytes");
    let odd = Namespaces { pid: 1, tid: 2, links: Words::from(&words[..3]) };
    shape(refused_body(&Attr::default(), Body::Namespaces(odd), SampleId::default()), "link_info");
    assert_eq!(BuildId::new(&[0; 21]), None);
}

#[test]
fn text_with_a_nul_is_refused() {
    let text = Text::from("a\0b");
    for (body, field) in [
        (Body::Comm(Comm { pid: 1, tid: 2, comm: text }), "comm"),
        (Body::Cgroup(Cgroup { id: 1, path: text }), "path"),
        (Body::Ksymbol(Ksymbol { addr: 1, len: 2, ksym_type: 3, flags: 4, name: text }), "name"),
        (Body::Mmap(Mmap { pid: 1, tid: 2, addr: 3, len: 4, pgoff: 5, filename: text }), "filename"),
    ] {
        let error = refused_body(&Attr::default(), body, SampleId::default());
        assert_eq!(error, EncodeError::Nul { field, at: 1 });
    }
}

/// `perf` fills compressed records up to the last byte that a header can say.
#[test]
fn compressed_records_may_be_larger_than_any_of_the_kernel() {
    use perfring::record::{User, user::Compressed};
    let bytes = vec![7; 65_528];
    let encode = |len: usize, out: &mut Vec<u8>| {
        let body = Body::User(User::Compressed(Compressed { data: &bytes[..len] }));
        Encoder::new(&Attr::default(), ByteOrder::NATIVE).unwrap().encode(
            Misc::empty(),
            &body,
            &SampleId::default(),
            out,
        )
    };
    let mut out = Vec::new();
    assert_eq!(encode(65_527, &mut out).unwrap().size, u16::MAX);
    let decoder = decoder(&Attr::default(), ByteOrder::NATIVE);
    let Body::User(User::Compressed(piece)) = decoder.decode(&out).unwrap().body else { panic!() };
    assert_eq!(piece.data.len(), 65_527);
    assert_eq!(encode(65_528, &mut out).unwrap_err(), EncodeError::TooLarge { size: 65_536 });
    assert_eq!(out.len(), 65_535);
}

#[test]
fn records_that_are_too_large_are_refused() {
    let attr = sampled(SampleType::RAW);
    let encoder = Encoder::new(&attr, ByteOrder::NATIVE).unwrap();
    let bytes = vec![7; 70_000];
    let raw = |len: usize| SampleFields { raw: Some(&bytes[..len]), ..Default::default() };
    let mut out = Vec::new();
    // The largest record there is: header, size, and the rest.
    let header = encoder.sample(Misc::empty(), &raw(65_516), &mut out).unwrap();
    assert_eq!((header.size, out.len()), (65_528, 65_528));
    let decoder = decoder(&attr, ByteOrder::NATIVE);
    let Body::Sample(sample) = decoder.decode(&out).unwrap().body else { panic!() };
    assert_eq!(sample.raw(), Some(&bytes[..65_516]));
    assert_eq!(refused_sample(&attr, raw(65_517)), EncodeError::TooLarge { size: 65_536 });
    let error = refused_sample(&attr, raw(70_000));
    assert_eq!(error.to_string(), "the record would have 70016 bytes; at most 65535 are possible");
    for (old, new) in [(65_536, 0), (0, 65_536), (40_000, 40_000)] {
        let poke = TextPoke { addr: 1, old: &bytes[..old], new: &bytes[..new] };
        let error = refused_body(&Attr::default(), Body::TextPoke(poke), SampleId::default());
        assert!(matches!(error, EncodeError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn unknown_bodies_are_refused() {
    let error = refused_body(&Attr::default(), Body::Unknown(&[1; 8]), SampleId::default());
    assert_eq!(error, EncodeError::Missing { field: "type" });
}

/// An input of `fuzz/fuzz_targets/record.rs`: one event with all of `sample_type`, and records of it.
fn seed(order: ByteOrder, sample_type: u64, read_format: u8, seed: u64) -> Vec<u8> {
    let attr = Attr {
        sample_type: SampleType::from_bits_retain(sample_type),
        read_format: ReadFormat::from_bits_retain(read_format.into()),
        branch_sample_type: BranchSampleType::HW_INDEX | BranchSampleType::COUNTERS,
        sample_regs_user: 3,
        sample_regs_intr: 1 << 56,
        flags: AttrFlags::SAMPLE_ID_ALL,
        ..Attr::default()
    };
    let mut input = vec![u8::from(order == ByteOrder::Big), 0];
    input.extend((sample_type as u32).to_le_bytes());
    input.extend([read_format, 3, 3, 1, 1]);
    let pool = &mut Pool::new((seed..seed + 7).collect());
    let encoder = Encoder::new(&attr, order).unwrap();
    let mut add = |header: Header, record: &[u8]| {
        input.push(header.type_.0 as u8);
        input.extend(header.misc.bits().to_le_bytes());
        input.extend((record.len() as u16 - 8).to_le_bytes());
        input.extend(&record[8..]);
    };
    for _ in 0..2 {
        let owned = Owned::new(&attr, pool);
        let mut record = Vec::new();
        let header = encoder.sample(Misc::empty(), &owned.fields(&attr, pool), &mut record).unwrap();
        add(header, &record);
    }
    for which in (0..21).skip(seed as usize % 3).step_by(3) {
        let id = sample_id(&attr, pool);
        with_body(which, &attr, pool, |body| {
            let mut record = Vec::new();
            let header = encoder.encode(Misc::empty(), body, &id, &mut record).unwrap();
            add(header, &record);
        });
    }
    input
}

/// `PERFRING_WRITE_SEEDS=1` writes them.
#[test]
fn fuzz_seeds_are_up_to_date() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/record");
    // A published package has no fuzz directory.
    if !dir.is_dir() {
        return;
    }
    for (name, bytes) in [
        ("all-little", seed(ByteOrder::Little, (1 << 24) - 1, 31, 3)),
        ("all-big", seed(ByteOrder::Big, (1 << 25) - 1 - (1 << 14), 31, 4)),
        ("counters-little", seed(ByteOrder::Little, 0x1_0013, 7, 5)),
        ("chains-big", seed(ByteOrder::Big, 0x1_0427, 0, 6)),
    ] {
        let path = dir.join(name);
        if std::env::var_os("PERFRING_WRITE_SEEDS").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).is_ok_and(|there| there == bytes), "{name}: PERFRING_WRITE_SEEDS=1 writes it");
    }
}
