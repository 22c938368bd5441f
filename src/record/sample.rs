//! Samples.

use crate::record::branch::ENTRY;
use crate::record::bytes::{Hex, Writer, int_at};
use crate::record::layout::FIXED;
use crate::record::{
    BranchEntries, BranchSampleType, BranchStack, ByteOrder, Callchain, DataSrc, Defect, DefectKind, EncodeError,
    ReadValues, Regs, RegsAbi, SampleId, SampleLayout, SampleType, StackUser, Transaction, Words,
};
use std::fmt;

/// A process and one of its threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tid {
    /// The process; -1 as `u32` when it has gone.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
}

/// The weights that a PMU gives a sample; what they mean depends on the PMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weight {
    /// `WEIGHT`: one weight.
    Full(u64),
    /// `WEIGHT_STRUCT`: three weights.
    Struct {
        /// The first, as a rule a latency in cycles.
        var1_dw: u32,
        /// The second.
        var2_w: u16,
        /// The third.
        var3_w: u16,
    },
}

impl Weight {
    /// The uapi lays the three out so that the word has one meaning in both byte orders.
    fn of_struct(word: u64) -> Self {
        Self::Struct { var1_dw: word as u32, var2_w: (word >> 32) as u16, var3_w: (word >> 48) as u16 }
    }

    fn word(self) -> u64 {
        match self {
            Self::Full(word) => word,
            Self::Struct { var1_dw, var2_w, var3_w } => {
                u64::from(var1_dw) | u64::from(var2_w) << 32 | u64::from(var3_w) << 48
            }
        }
    }
}

/// A sample: a view of the record, in which every field was found to be whole.
///
/// A field is there if the event's `sample_type` has its bit.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    layout: &'a SampleLayout,
    body: &'a [u8],
    at: Sections,
}

/// Where the fields that follow those of fixed size begin, from the body's start; 0 if they are not there.
#[derive(Clone, Copy, Default)]
struct Sections {
    read: u16,
    callchain: u16,
    raw: u16,
    branch_stack: u16,
    regs_user: u16,
    stack_user: u16,
    /// `WEIGHT`, `DATA_SRC` and `TRANSACTION`.
    weights: u16,
    regs_intr: u16,
    /// `PHYS_ADDR`, `CGROUP`, `DATA_PAGE_SIZE` and `CODE_PAGE_SIZE`.
    places: u16,
    aux: u16,
    end: u16,
    /// The branch stack is empty and has no hw_idx, though the layout does.
    no_hw_idx: bool,
}

/// Walks over the fields of a body.
struct Walk<'a> {
    body: &'a [u8],
    at: usize,
    order: ByteOrder,
}

impl Walk<'_> {
    /// The place of the next byte; a body is shorter than 64 KiB.
    #[inline(always)]
    fn mark(&self) -> u16 {
        self.at as u16
    }

    #[inline(always)]
    fn word(&mut self, field: &'static str) -> Result<u64, Defect> {
        match int_at(self.body, self.at, self.order) {
            Some(word) => {
                self.at += 8;
                Ok(word)
            }
            None => Err(self.truncated(field, 8)),
        }
    }

    /// Steps over `count` times `unit` bytes.
    #[inline(always)]
    fn skip(&mut self, count: u64, unit: usize, field: &'static str) -> Result<(), Defect> {
        let left = self.body.len() - self.at;
        // The fuzz target has to find it when a field of one unit too many passes.
        let fits = (left / unit) as u64 + u64::from(cfg!(perfring_planted_bug));
        if count > fits {
            return Err(self.truncated(field, count.saturating_mul(unit as u64)));
        }
        self.at += count as usize * unit;
        Ok(())
    }

    #[cold]
    fn truncated(&self, field: &'static str, needed: u64) -> Defect {
        Defect::truncated(self.at, field, needed, self.body.len() - self.at)
    }

    #[inline(always)]
    fn regs(&mut self, mask: u64, field: &'static str) -> Result<u16, Defect> {
        let mark = self.mark();
        match RegsAbi::of(self.word(field)?) {
            RegsAbi::None => {}
            RegsAbi::Abi32 | RegsAbi::Abi64 => self.skip(mask.count_ones().into(), 8, field)?,
            RegsAbi::Other(value) => {
                return Err(Defect { offset: usize::from(mark), field, kind: DefectKind::Value { value } });
            }
        }
        Ok(mark)
    }
}

/// The bits of a group of words, and how many of them a sample has.
const WEIGHTS: SampleType =
    SampleType::WEIGHT.union(SampleType::WEIGHT_STRUCT).union(SampleType::DATA_SRC).union(SampleType::TRANSACTION);
const PLACES: SampleType =
    SampleType::PHYS_ADDR.union(SampleType::CGROUP).union(SampleType::DATA_PAGE_SIZE).union(SampleType::CODE_PAGE_SIZE);

impl<'a> Sample<'a> {
    /// Finds the fields. `body` is that of a record, and so shorter than 64 KiB.
    #[inline(always)]
    pub(crate) fn new(layout: &'a SampleLayout, body: &'a [u8]) -> Result<Self, Defect> {
        if body.len() < layout.sample_len {
            return Err(Self::short(layout, body));
        }
        let mut at = Sections { end: layout.sample_len as u16, ..Sections::default() };
        if layout.is_open_ended {
            Self::locate(layout, body, true, &mut at)?;
        }
        Ok(Self { layout, body, at })
    }

    #[cold]
    fn short(layout: &SampleLayout, body: &[u8]) -> Defect {
        let whole = body.len() / 8 * 8;
        let field = SampleType::ORDER
            .into_iter()
            .filter(|(bit, _)| layout.sample_type.contains(*bit))
            .nth(whole / 8)
            .map_or("sample", |(_, name)| name);
        Defect::truncated(whole, field, 8, body.len() - whole)
    }

    #[inline(always)]
    fn locate(layout: &SampleLayout, body: &[u8], with_hw_idx: bool, at: &mut Sections) -> Result<(), Defect> {
        let has = |field| layout.sample_type.contains(field);
        let mut walk = Walk { body, at: layout.sample_len, order: layout.order };
        let mut retry = false;
        if has(SampleType::READ) {
            at.read = walk.mark();
            let mut count = 1;
            if layout.read_format.contains(crate::record::ReadFormat::GROUP) {
                count = int_at(body, walk.at, layout.order).ok_or_else(|| walk.truncated("read", 8))?;
            }
            walk.skip(ReadValues::words_of(layout.read_format, count), 8, "read")?;
        }
        if has(SampleType::CALLCHAIN) {
            at.callchain = walk.mark();
            let count = walk.word("callchain")?;
            walk.skip(count, 8, "callchain")?;
        }
        if !SampleType::CALLCHAIN_IS_LAST.contains(layout.sample_type) {
            if has(SampleType::RAW) {
                at.raw = walk.mark();
                let size: u32 = int_at(body, walk.at, layout.order).ok_or_else(|| walk.truncated("raw", 4))?;
                walk.skip(u64::from(size) + 4, 1, "raw")?;
            }
            if has(SampleType::BRANCH_STACK) {
                at.branch_stack = walk.mark();
                let count = walk.word("branch_stack")?;
                let kind = layout.branch_sample_type;
                if kind.contains(BranchSampleType::HW_INDEX) {
                    // The kernel leaves the index out where it has no branch stack at all, and nothing says so.
                    retry = count == 0 && with_hw_idx;
                    if count != 0 || with_hw_idx {
                        match walk.word("hw_idx") {
                            Ok(_) => {}
                            Err(_) if retry => {
                                *at = Self::locate_again(layout, body)?;
                                return Ok(());
                            }
                            Err(defect) => return Err(defect),
                        }
                    } else {
                        at.no_hw_idx = true;
                    }
                }
                let words = ENTRY + usize::from(kind.contains(BranchSampleType::COUNTERS));
                walk.skip(count, words * 8, "branch_stack")?;
            }
            match Self::locate_rest(layout, &mut walk, at) {
                Ok(()) => {}
                Err(_) if retry => {
                    *at = Self::locate_again(layout, body)?;
                    return Ok(());
                }
                Err(defect) => return Err(defect),
            }
            // Whichever way ends where the record does is right.
            if retry
                && walk.at != body.len()
                && let Ok(other) = Self::locate_again(layout, body)
                && usize::from(other.end) == body.len()
            {
                *at = other;
                return Ok(());
            }
        }
        at.end = walk.mark();
        Ok(())
    }

    #[cold]
    fn locate_again(layout: &SampleLayout, body: &[u8]) -> Result<Sections, Defect> {
        let mut at = Sections::default();
        Self::locate(layout, body, false, &mut at).map(|()| at)
    }

    /// What follows the branch stack.
    #[inline(always)]
    fn locate_rest(layout: &SampleLayout, walk: &mut Walk<'_>, at: &mut Sections) -> Result<(), Defect> {
        let has = |field| layout.sample_type.contains(field);
        let words = |group: SampleType| u64::from(layout.sample_type.intersection(group).bits().count_ones());
        if has(SampleType::REGS_USER) {
            at.regs_user = walk.regs(layout.regs_user, "regs_user")?;
        }
        if has(SampleType::STACK_USER) {
            at.stack_user = walk.mark();
            let size = walk.word("stack_user")?;
            if size != 0 {
                walk.skip(size, 1, "stack_user")?;
                walk.word("dyn_size")?;
            }
        }
        at.weights = walk.mark();
        walk.skip(words(WEIGHTS), 8, "weight")?;
        if has(SampleType::REGS_INTR) {
            at.regs_intr = walk.regs(layout.regs_intr, "regs_intr")?;
        }
        at.places = walk.mark();
        walk.skip(words(PLACES), 8, "phys_addr")?;
        if has(SampleType::AUX) {
            at.aux = walk.mark();
            let size = walk.word("aux")?;
            walk.skip(size, 1, "aux")?;
        }
        Ok(())
    }

    /// What the sample holds.
    #[inline]
    pub fn sample_type(&self) -> SampleType {
        self.layout.sample_type
    }

    #[inline(always)]
    fn order(&self) -> ByteOrder {
        self.layout.order
    }

    /// `PERF_SAMPLE_IDENTIFIER`: the event's id.
    #[inline]
    pub fn identifier(&self) -> Option<u64> {
        self.layout.sample.identifier.word(self.body, self.order())
    }

    /// `PERF_SAMPLE_IP`: the address of the instruction.
    #[inline]
    pub fn ip(&self) -> Option<u64> {
        self.layout.sample.ip.word(self.body, self.order())
    }

    /// `PERF_SAMPLE_TID`: the process and the thread.
    #[inline]
    pub fn tid(&self) -> Option<Tid> {
        self.layout.sample.tid.pair(self.body, self.order()).map(|(pid, tid)| Tid { pid, tid })
    }

    /// `PERF_SAMPLE_TIME`: nanoseconds by the event's clock.
    #[inline]
    pub fn time(&self) -> Option<u64> {
        self.layout.sample.time.word(self.body, self.order())
    }

    /// `PERF_SAMPLE_ADDR`: the address that the event is about.
    #[inline]
    pub fn addr(&self) -> Option<u64> {
        self.layout.sample.addr.word(self.body, self.order())
    }

    /// `PERF_SAMPLE_ID`: the id of the event, of the parent's where it was inherited.
    #[inline]
    pub fn id(&self) -> Option<u64> {
        self.layout.sample.id.word(self.body, self.order())
    }

    /// `PERF_SAMPLE_STREAM_ID`: the id of the very event, inherited or not.
    #[inline]
    pub fn stream_id(&self) -> Option<u64> {
        self.layout.sample.stream_id.word(self.body, self.order())
    }

    /// `PERF_SAMPLE_CPU`: the CPU.
    #[inline]
    pub fn cpu(&self) -> Option<u32> {
        self.layout.sample.cpu.pair(self.body, self.order()).map(|(cpu, _)| cpu)
    }

    /// `PERF_SAMPLE_PERIOD`: how many events the sample stands for.
    #[inline]
    pub fn period(&self) -> Option<u64> {
        self.layout.sample.period.word(self.body, self.order())
    }

    #[inline(always)]
    fn has(&self, field: SampleType) -> bool {
        self.layout.sample_type.contains(field)
    }

    /// The word at a place that was found before.
    #[inline(always)]
    fn word(&self, at: usize) -> Option<u64> {
        int_at(self.body, at, self.order())
    }

    /// `words` words at a place that was found before.
    #[inline(always)]
    fn words(&self, at: usize, words: usize) -> Words<'a> {
        let bytes = self.body.get(at..).and_then(|rest| rest.get(..words.saturating_mul(8))).unwrap_or_default();
        Words { bytes, order: self.order() }
    }

    /// The fields that trailers of other records have, too.
    #[inline(always)]
    pub(crate) fn sample_id(&self) -> SampleId {
        self.layout.sample.sample_id(self.body, self.order())
    }

    /// `PERF_SAMPLE_READ`: the counters.
    #[inline]
    pub fn read(&self) -> Option<ReadValues<'a>> {
        if !self.has(SampleType::READ) {
            return None;
        }
        let (at, format) = (usize::from(self.at.read), self.layout.read_format);
        let count = if format.contains(crate::record::ReadFormat::GROUP) { self.word(at)? } else { 1 };
        let words = self.words(at, ReadValues::words_of(format, count) as usize);
        Some(ReadValues::of_checked(format, words))
    }

    /// `PERF_SAMPLE_CALLCHAIN`: the call chain.
    #[inline]
    pub fn callchain(&self) -> Option<Callchain<'a>> {
        if !self.has(SampleType::CALLCHAIN) {
            return None;
        }
        let at = usize::from(self.at.callchain);
        let count = self.word(at)?;
        Some(self.words(at + 8, count as usize).into())
    }

    /// `PERF_SAMPLE_RAW`: the fields of a tracepoint, or what a program wrote.
    ///
    /// These are as many bytes as the record's size field says, and that includes the padding that the kernel adds up to the
    /// next multiple of 8 less 4: of a payload of 48 bytes there are 52 here. [`raw_payload`](Self::raw_payload) cuts it.
    #[inline]
    pub fn raw(&self) -> Option<&'a [u8]> {
        if !self.has(SampleType::RAW) {
            return None;
        }
        let at = usize::from(self.at.raw);
        let size: u32 = int_at(self.body, at, self.order())?;
        self.body.get(at + 4..)?.get(..size as usize)
    }

    /// The first `len` bytes of [`raw`](Self::raw), for those who know how long the payload is. None if there are fewer, or so
    /// many that padding does not explain them.
    ///
    /// ```
    /// use perfring::record::{Attr, Body, ByteOrder, Decoder, Encoder, Misc, SampleFields, SampleType};
    /// let attr = Attr { sample_type: SampleType::RAW, ..Attr::default() };
    /// let mut record = Vec::new();
    /// let fields = SampleFields { raw: Some(&[7; 48]), ..Default::default() };
    /// Encoder::new(&attr, ByteOrder::NATIVE)?.sample(Misc::empty(), &fields, &mut record)?;
    /// let decoder = Decoder::new(&attr)?;
    /// let Body::Sample(sample) = decoder.decode(&record)?.body else { unreachable!() };
    /// assert_eq!(sample.raw().map(<[u8]>::len), Some(52));
    /// assert_eq!(sample.raw_payload(48), Some(&[7; 48][..]));
    /// assert_eq!(sample.raw_payload(44), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn raw_payload(&self, len: usize) -> Option<&'a [u8]> {
        let raw = self.raw()?;
        let payload = raw.get(..len)?;
        (raw.len() == len || raw.len() == padded_raw(len)).then_some(payload)
    }

    /// `PERF_SAMPLE_BRANCH_STACK`: the last branches.
    pub fn branch_stack(&self) -> Option<BranchStack<'a>> {
        if !self.has(SampleType::BRANCH_STACK) {
            return None;
        }
        let kind = self.layout.branch_sample_type;
        let mut at = usize::from(self.at.branch_stack);
        let count = self.word(at)? as usize;
        at += 8;
        let mut hw_idx = None;
        if kind.contains(BranchSampleType::HW_INDEX) && !self.at.no_hw_idx {
            hw_idx = self.word(at);
            at += 8;
        }
        let entries = BranchEntries(self.words(at, count * ENTRY));
        at += count * ENTRY * 8;
        let counters = kind.contains(BranchSampleType::COUNTERS).then(|| self.words(at, count));
        Some(BranchStack { hw_idx, entries, counters })
    }

    fn regs(&self, at: u16, mask: u64) -> Option<Regs<'a>> {
        let at = usize::from(at);
        Some(match RegsAbi::of(self.word(at)?) {
            RegsAbi::None => Regs::NONE,
            abi => Regs { abi, mask, words: self.words(at + 8, mask.count_ones() as usize) },
        })
    }

    /// `PERF_SAMPLE_REGS_USER`: the user registers.
    pub fn regs_user(&self) -> Option<Regs<'a>> {
        if !self.has(SampleType::REGS_USER) {
            return None;
        }
        self.regs(self.at.regs_user, self.layout.regs_user)
    }

    /// `PERF_SAMPLE_STACK_USER`: a piece of the user stack.
    pub fn stack_user(&self) -> Option<StackUser<'a>> {
        if !self.has(SampleType::STACK_USER) {
            return None;
        }
        let at = usize::from(self.at.stack_user);
        match self.word(at)? as usize {
            0 => Some(StackUser { data: &[], dyn_size: 0 }),
            size => {
                let data = self.body.get(at + 8..)?.get(..size)?;
                Some(StackUser { data, dyn_size: self.word(at + 8 + size)? })
            }
        }
    }

    /// The word of `field` in a group of fields of one word each.
    fn word_of(&self, start: u16, group: SampleType, before: SampleType, field: SampleType) -> Option<u64> {
        let there = self.layout.sample_type.intersection(group);
        if !there.intersects(field) {
            return None;
        }
        self.word(usize::from(start) + there.intersection(before).bits().count_ones() as usize * 8)
    }

    /// `PERF_SAMPLE_WEIGHT`, `PERF_SAMPLE_WEIGHT_STRUCT`: the weights.
    pub fn weight(&self) -> Option<Weight> {
        let kinds = SampleType::WEIGHT | SampleType::WEIGHT_STRUCT;
        let word = self.word_of(self.at.weights, WEIGHTS, SampleType::empty(), kinds)?;
        Some(if self.has(SampleType::WEIGHT) { Weight::Full(word) } else { Weight::of_struct(word) })
    }

    /// `PERF_SAMPLE_DATA_SRC`: where in the memory hierarchy the data came from.
    pub fn data_src(&self) -> Option<DataSrc> {
        let before = SampleType::WEIGHT | SampleType::WEIGHT_STRUCT;
        self.word_of(self.at.weights, WEIGHTS, before, SampleType::DATA_SRC).map(DataSrc)
    }

    /// `PERF_SAMPLE_TRANSACTION`: why a transaction was aborted.
    pub fn transaction(&self) -> Option<Transaction> {
        let before = SampleType::WEIGHT | SampleType::WEIGHT_STRUCT | SampleType::DATA_SRC;
        self.word_of(self.at.weights, WEIGHTS, before, SampleType::TRANSACTION).map(Transaction)
    }

    /// `PERF_SAMPLE_REGS_INTR`: the registers where the event interrupted.
    pub fn regs_intr(&self) -> Option<Regs<'a>> {
        if !self.has(SampleType::REGS_INTR) {
            return None;
        }
        self.regs(self.at.regs_intr, self.layout.regs_intr)
    }

    /// `PERF_SAMPLE_PHYS_ADDR`: the physical address of [`addr`](Self::addr), 0 if there is none.
    pub fn phys_addr(&self) -> Option<u64> {
        self.word_of(self.at.places, PLACES, SampleType::empty(), SampleType::PHYS_ADDR)
    }

    /// `PERF_SAMPLE_CGROUP`: the id of the cgroup of the perf_event subsystem.
    pub fn cgroup(&self) -> Option<u64> {
        self.word_of(self.at.places, PLACES, SampleType::PHYS_ADDR, SampleType::CGROUP)
    }

    /// `PERF_SAMPLE_DATA_PAGE_SIZE`: bytes in the page of [`addr`](Self::addr), 0 if there is none.
    pub fn data_page_size(&self) -> Option<u64> {
        let before = SampleType::PHYS_ADDR | SampleType::CGROUP;
        self.word_of(self.at.places, PLACES, before, SampleType::DATA_PAGE_SIZE)
    }

    /// `PERF_SAMPLE_CODE_PAGE_SIZE`: bytes in the page of [`ip`](Self::ip), 0 if there is none.
    pub fn code_page_size(&self) -> Option<u64> {
        let before = SampleType::PHYS_ADDR | SampleType::CGROUP | SampleType::DATA_PAGE_SIZE;
        self.word_of(self.at.places, PLACES, before, SampleType::CODE_PAGE_SIZE)
    }

    /// `PERF_SAMPLE_AUX`: a snapshot of the AUX area.
    pub fn aux(&self) -> Option<&'a [u8]> {
        if !self.has(SampleType::AUX) {
            return None;
        }
        let at = usize::from(self.at.aux);
        let size = self.word(at)? as usize;
        self.body.get(at + 8..)?.get(..size)
    }

    /// Bytes behind the last field: fields that are not known here, of a newer kernel. Empty otherwise.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.body.get(usize::from(self.at.end)..).unwrap_or_default()
    }

    /// All fields by value.
    pub fn fields(&self) -> SampleFields<'a> {
        SampleFields {
            identifier: self.identifier(),
            ip: self.ip(),
            tid: self.tid(),
            time: self.time(),
            addr: self.addr(),
            id: self.id(),
            stream_id: self.stream_id(),
            cpu: self.cpu(),
            period: self.period(),
            read: self.read(),
            callchain: self.callchain(),
            raw: self.raw(),
            branch_stack: self.branch_stack(),
            regs_user: self.regs_user(),
            stack_user: self.stack_user(),
            weight: self.weight(),
            data_src: self.data_src(),
            transaction: self.transaction(),
            regs_intr: self.regs_intr(),
            phys_addr: self.phys_addr(),
            cgroup: self.cgroup(),
            data_page_size: self.data_page_size(),
            code_page_size: self.code_page_size(),
            aux: self.aux(),
        }
    }
}

impl PartialEq for Sample<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.sample_type() == other.sample_type() && self.fields() == other.fields() && self.rest() == other.rest()
    }
}

impl fmt::Debug for Sample<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields().fmt(f)
    }
}

/// Bytes that the kernel says a raw payload of `len` bytes has.
pub(crate) fn padded_raw(len: usize) -> usize {
    (len + 4).next_multiple_of(8) - 4
}

/// The fields of a sample by value: what [`Sample::fields`] gives, and what [`Encoder::sample`](crate::record::Encoder::sample)
/// writes.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct SampleFields<'a> {
    /// See [`Sample::identifier`].
    pub identifier: Option<u64>,
    /// See [`Sample::ip`].
    pub ip: Option<u64>,
    /// See [`Sample::tid`].
    pub tid: Option<Tid>,
    /// See [`Sample::time`].
    pub time: Option<u64>,
    /// See [`Sample::addr`].
    pub addr: Option<u64>,
    /// See [`Sample::id`].
    pub id: Option<u64>,
    /// See [`Sample::stream_id`].
    pub stream_id: Option<u64>,
    /// See [`Sample::cpu`].
    pub cpu: Option<u32>,
    /// See [`Sample::period`].
    pub period: Option<u64>,
    /// See [`Sample::read`].
    pub read: Option<ReadValues<'a>>,
    /// See [`Sample::callchain`].
    pub callchain: Option<Callchain<'a>>,
    /// See [`Sample::raw`]. Written with zeros behind it up to the padded length.
    pub raw: Option<&'a [u8]>,
    /// See [`Sample::branch_stack`].
    pub branch_stack: Option<BranchStack<'a>>,
    /// See [`Sample::regs_user`].
    pub regs_user: Option<Regs<'a>>,
    /// See [`Sample::stack_user`].
    pub stack_user: Option<StackUser<'a>>,
    /// See [`Sample::weight`].
    pub weight: Option<Weight>,
    /// See [`Sample::data_src`].
    pub data_src: Option<DataSrc>,
    /// See [`Sample::transaction`].
    pub transaction: Option<Transaction>,
    /// See [`Sample::regs_intr`].
    pub regs_intr: Option<Regs<'a>>,
    /// See [`Sample::phys_addr`].
    pub phys_addr: Option<u64>,
    /// See [`Sample::cgroup`].
    pub cgroup: Option<u64>,
    /// See [`Sample::data_page_size`].
    pub data_page_size: Option<u64>,
    /// See [`Sample::code_page_size`].
    pub code_page_size: Option<u64>,
    /// See [`Sample::aux`]. Its length is a multiple of 8.
    pub aux: Option<&'a [u8]>,
}

/// Shows the fields that are there.
impl fmt::Debug for SampleFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Sample");
        macro_rules! show {
            ($($field:ident $(as $how:ident)?),+) => {
                $(if let Some(value) = self.$field { out.field(stringify!($field), show!(@ value $($how)?)); })+
            };
            (@ $value:ident Hex) => { &Hex($value) };
            (@ $value:ident) => { &$value };
        }
        show!(
            identifier,
            ip as Hex,
            tid,
            time,
            addr as Hex,
            id,
            stream_id,
            cpu,
            period,
            read,
            callchain,
            raw,
            branch_stack,
            regs_user,
            stack_user,
            weight,
            data_src,
            transaction,
            regs_intr,
            phys_addr as Hex,
            cgroup,
            data_page_size,
            code_page_size,
            aux
        );
        out.finish()
    }
}

impl SampleType {
    /// The fields in the order in which they stand in a sample, and their names.
    pub(crate) const ORDER: [(Self, &'static str); 25] = [
        (Self::IDENTIFIER, "identifier"),
        (Self::IP, "ip"),
        (Self::TID, "tid"),
        (Self::TIME, "time"),
        (Self::ADDR, "addr"),
        (Self::ID, "id"),
        (Self::STREAM_ID, "stream_id"),
        (Self::CPU, "cpu"),
        (Self::PERIOD, "period"),
        (Self::READ, "read"),
        (Self::CALLCHAIN, "callchain"),
        (Self::RAW, "raw"),
        (Self::BRANCH_STACK, "branch_stack"),
        (Self::REGS_USER, "regs_user"),
        (Self::STACK_USER, "stack_user"),
        (Self::WEIGHT, "weight"),
        (Self::WEIGHT_STRUCT, "weight"),
        (Self::DATA_SRC, "data_src"),
        (Self::TRANSACTION, "transaction"),
        (Self::REGS_INTR, "regs_intr"),
        (Self::PHYS_ADDR, "phys_addr"),
        (Self::CGROUP, "cgroup"),
        (Self::DATA_PAGE_SIZE, "data_page_size"),
        (Self::CODE_PAGE_SIZE, "code_page_size"),
        (Self::AUX, "aux"),
    ];

    /// All fields up to the call chain.
    const CALLCHAIN_IS_LAST: Self = FIXED.union(Self::READ).union(Self::CALLCHAIN);
}

impl SampleFields<'_> {
    /// Whether there is a value for this field.
    fn has(&self, field: SampleType) -> bool {
        match field {
            SampleType::IDENTIFIER => self.identifier.is_some(),
            SampleType::IP => self.ip.is_some(),
            SampleType::TID => self.tid.is_some(),
            SampleType::TIME => self.time.is_some(),
            SampleType::ADDR => self.addr.is_some(),
            SampleType::ID => self.id.is_some(),
            SampleType::STREAM_ID => self.stream_id.is_some(),
            SampleType::CPU => self.cpu.is_some(),
            SampleType::PERIOD => self.period.is_some(),
            SampleType::READ => self.read.is_some(),
            SampleType::CALLCHAIN => self.callchain.is_some(),
            SampleType::RAW => self.raw.is_some(),
            SampleType::BRANCH_STACK => self.branch_stack.is_some(),
            SampleType::REGS_USER => self.regs_user.is_some(),
            SampleType::STACK_USER => self.stack_user.is_some(),
            SampleType::WEIGHT => matches!(self.weight, Some(Weight::Full(_))),
            SampleType::WEIGHT_STRUCT => matches!(self.weight, Some(Weight::Struct { .. })),
            SampleType::DATA_SRC => self.data_src.is_some(),
            SampleType::TRANSACTION => self.transaction.is_some(),
            SampleType::REGS_INTR => self.regs_intr.is_some(),
            SampleType::PHYS_ADDR => self.phys_addr.is_some(),
            SampleType::CGROUP => self.cgroup.is_some(),
            SampleType::DATA_PAGE_SIZE => self.data_page_size.is_some(),
            SampleType::CODE_PAGE_SIZE => self.code_page_size.is_some(),
            SampleType::AUX => self.aux.is_some(),
            _ => false,
        }
    }

    pub(crate) fn put(&self, to: &mut Writer<'_>, layout: &SampleLayout) -> Result<(), EncodeError> {
        for (bit, field) in SampleType::ORDER {
            match (layout.sample_type.contains(bit), self.has(bit)) {
                (true, false) => return Err(EncodeError::Missing { field }),
                (false, true) => return Err(EncodeError::NotInLayout { field }),
                _ => {}
            }
        }
        // Each is there if the layout has it, as was just seen.
        let words =
            |to: &mut Writer<'_>, words: [Option<u64>; 2]| words.into_iter().flatten().for_each(|word| to.int(word));
        words(to, [self.identifier, self.ip]);
        if let Some(Tid { pid, tid }) = self.tid {
            to.int(pid);
            to.int(tid);
        }
        words(to, [self.time, self.addr]);
        words(to, [self.id, self.stream_id]);
        if let Some(cpu) = self.cpu {
            to.int(cpu);
            to.int(0_u32);
        }
        words(to, [self.period, None]);
        if let Some(read) = self.read {
            read.put(to, layout.read_format)?;
        }
        if let Some(chain) = self.callchain {
            to.int(chain.len() as u64);
            to.words(chain.words());
        }
        if let Some(raw) = self.raw {
            let size = padded_raw(raw.len());
            let size = u32::try_from(size).map_err(|_| EncodeError::TooLarge { size })?;
            to.int(size);
            to.bytes(raw);
            to.pad();
        }
        if let Some(stack) = self.branch_stack {
            stack.put(to, layout.branch_sample_type)?;
        }
        if let Some(regs) = self.regs_user {
            put_regs(to, "regs_user", regs, layout.regs_user)?;
        }
        if let Some(StackUser { data, dyn_size }) = self.stack_user {
            multiple_of_8("stack_user", data)?;
            to.int(data.len() as u64);
            if !data.is_empty() {
                to.bytes(data);
                to.int(dyn_size);
            }
        }
        words(to, [self.weight.map(Weight::word), self.data_src.map(|data_src| data_src.0)]);
        words(to, [self.transaction.map(|transaction| transaction.0), None]);
        if let Some(regs) = self.regs_intr {
            put_regs(to, "regs_intr", regs, layout.regs_intr)?;
        }
        words(to, [self.phys_addr, self.cgroup]);
        words(to, [self.data_page_size, self.code_page_size]);
        if let Some(aux) = self.aux {
            multiple_of_8("aux", aux)?;
            to.int(aux.len() as u64);
            to.bytes(aux);
        }
        Ok(())
    }
}

fn multiple_of_8(field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
    match bytes.len().is_multiple_of(8) {
        true => Ok(()),
        false => Err(EncodeError::Shape { field, what: "a multiple of 8 bytes" }),
    }
}

fn put_regs(to: &mut Writer<'_>, field: &'static str, regs: Regs<'_>, mask: u64) -> Result<(), EncodeError> {
    match regs.abi {
        RegsAbi::None => to.int(0_u64),
        RegsAbi::Other(_) => return Err(EncodeError::Shape { field, what: "an abi that the uapi defines" }),
        abi if regs.mask == mask => {
            to.int(abi.value());
            to.words(regs.words);
        }
        _ => return Err(EncodeError::Shape { field, what: "the registers of the layout's mask" }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Attr;

    /// The index, how many branches, the weight, the bytes of `AUX` and of the rest.
    type Read = (Option<u64>, usize, Option<Weight>, usize, usize);

    /// Reads `BRANCH_STACK`, `WEIGHT` and `AUX`, given as words.
    fn sample(words: &[u64]) -> Result<Read, Defect> {
        let attr = Attr {
            sample_type: SampleType::BRANCH_STACK | SampleType::WEIGHT | SampleType::AUX,
            branch_sample_type: BranchSampleType::HW_INDEX,
            ..Attr::default()
        };
        let layout = SampleLayout::new(&attr, ByteOrder::NATIVE).unwrap();
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let sample = Sample::new(&layout, &body)?;
        let stack = sample.branch_stack().unwrap();
        let (aux, rest) = (sample.aux().unwrap().len(), sample.rest().len());
        Ok((stack.hw_idx, stack.entries.len(), sample.weight(), aux, rest))
    }

    #[test]
    fn an_empty_branch_stack_with_and_without_its_index() {
        let weight = |word| Some(Weight::Full(word));
        assert_eq!(sample(&[1, 7, 10, 11, 12, 5, 8, 99]), Ok((Some(7), 1, weight(5), 8, 0)));
        assert_eq!(sample(&[0, 7, 5, 8, 99]), Ok((Some(7), 0, weight(5), 8, 0)));
        assert_eq!(sample(&[0, 5, 8, 99]), Ok((None, 0, weight(5), 8, 0)), "with an index aux would not fit");
        assert_eq!(sample(&[0, 5, 0]), Ok((None, 0, weight(5), 0, 0)), "with an index aux would be missing");
        assert_eq!(sample(&[0]).unwrap_err().field, "weight");
        assert_eq!(sample(&[1, 7, 10]).unwrap_err().field, "branch_stack");
        assert_eq!(
            sample(&[0, 7, 5, 8, 99, 1]),
            Ok((Some(7), 0, weight(5), 8, 8)),
            "neither way ends where the record does"
        );
    }
}
