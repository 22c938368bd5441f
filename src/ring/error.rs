//! What can go wrong, one variant a defect.

use std::io;
use thiserror::Error;

/// Why a ring cannot be made, or a handle of it not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The number of data pages is not a power of two.
    #[error("{pages} data pages: not a power of two")]
    PagesNotPowerOfTwo {
        /// Data pages asked for.
        pages: usize,
    },
    /// The ring would not fit into the address space.
    #[error("{pages} data pages: more than can be mapped")]
    TooManyPages {
        /// Data pages asked for.
        pages: usize,
    },
    /// A granule is a power of two from the page size to 64 KiB.
    #[error("granule of {granule} bytes: not a power of two from the page size ({page_size}) to 65536")]
    Granule {
        /// Granule asked for, in bytes.
        granule: usize,
        /// The machine's page size, in bytes.
        page_size: usize,
    },
    /// A confined ring has at least 4 granules, so that a record, a lost record and the gaps before them always fit.
    #[error("{size} bytes in granules of {granule}: a confined ring has at least 4 granules")]
    TooFewGranules {
        /// Bytes in the data area.
        size: usize,
        /// Bytes in a granule.
        granule: usize,
    },
    /// A forward ring that overwrites can be read only if it is confined.
    #[error("a ring that overwrites forward must be confined")]
    OverwriteNeedsConfined,
    /// A backward ring is free: it is entered at its head, not at granules.
    #[error("a ring that overwrites backward cannot be confined")]
    BackwardIsFree,
    /// The template of lost records is no record, or a field of it lies outside.
    #[error("lost record template of {len} bytes: {reason}")]
    LostTemplate {
        /// Bytes in the template.
        len: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The attrs are larger than a header area may be.
    #[error("{size} bytes of attrs: more than {max}")]
    AttrsTooLarge {
        /// Bytes that the attrs take.
        size: usize,
        /// The most that they may take.
        max: usize,
    },
    /// The handle was given out before.
    #[error("the ring's {handle} was taken before")]
    Taken {
        /// `"producer"` or `"consumer"`.
        handle: &'static str,
    },
    /// This process is a fork of the one that made the ring, which alone takes its producers.
    #[error("the ring belongs to the process that this one was forked from")]
    Forked,
    /// The kind of producer does not go with the ring's mode.
    #[error("a {mode} ring has no {wanted}")]
    WrongMode {
        /// The ring's mode.
        mode: super::Mode,
        /// The producer asked for.
        wanted: &'static str,
    },
    /// Another process, or another handle in this one, writes the file.
    #[error("the ring file is being written by someone else")]
    Locked,
    /// The file holds something that is no ring.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The system refused memory, a descriptor or a file.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// Why memory, a file or a pair of descriptors is not a ring that can be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Too short to hold a header page.
    #[error("{len} bytes: too short for a header page")]
    TooShort {
        /// Bytes there are.
        len: u64,
    },
    /// The header page is not one of a ring of ours.
    #[error("no ring: the magic is {found:#x}")]
    Magic {
        /// What stands in its place.
        found: u64,
    },
    /// Written by a version of the layout that this one does not know.
    #[error("ring layout version {found}, not {known}")]
    Version {
        /// The version found.
        found: u32,
        /// The version known.
        known: u32,
    },
    /// Written on a machine of the other byte order.
    #[error("the ring has the other byte order")]
    ByteOrder,
    /// Neither this byte order nor the other.
    #[error("byte order mark {found:#x}")]
    ByteOrderMark {
        /// The mark found.
        found: u32,
    },
    /// An unknown mode.
    #[error("unknown mode {found}")]
    Mode {
        /// The number found.
        found: u32,
    },
    /// An unknown kind of padding.
    #[error("unknown kind of padding {found}")]
    Padding {
        /// The number found.
        found: u32,
    },
    /// Neither confined nor free.
    #[error("confinement is {found}, not 0 or 1")]
    Confined {
        /// The number found.
        found: u32,
    },
    /// Records neither in this byte order nor in the other.
    #[error("the bodies of records are said to be swapped {found} times, not 0 or 1")]
    Swapped {
        /// The number found.
        found: u32,
    },
    /// `data_offset` is no multiple of the page size, or 0, or absurd.
    #[error("data_offset {found}")]
    DataOffset {
        /// The offset found.
        found: u64,
    },
    /// `data_size` is not a power of two, or smaller than a page.
    #[error("data_size {found}")]
    DataSize {
        /// The size found.
        found: u64,
    },
    /// The granule does not go with `data_size`.
    #[error("granule {found} in a data area of {data_size} bytes")]
    Granule {
        /// The granule found.
        found: u64,
        /// The size of the data area.
        data_size: u64,
    },
    /// Mode and confinement contradict each other.
    #[error("a {mode} ring that is {}confined", if *.confined { "" } else { "not " })]
    ModeConfined {
        /// The mode found.
        mode: super::Mode,
        /// Whether it says that it is confined.
        confined: bool,
    },
    /// The header area and the data area do not fit into what there is.
    #[error("truncated: {len} bytes where the header speaks of {needed}")]
    Truncated {
        /// Bytes there are.
        len: u64,
        /// Bytes that the header page speaks of.
        needed: u64,
    },
    /// The attrs do not lie in the header area.
    #[error("attrs at {offset}, {size} bytes, in a header area of {header_len}")]
    Attrs {
        /// Where they start.
        offset: u64,
        /// Bytes they take.
        size: u64,
        /// Bytes in the header area.
        header_len: u64,
    },
    /// The list of attrs is damaged.
    #[error("the list of attrs ends in the middle of entry {entry}")]
    AttrsCut {
        /// The entry, counted from 0.
        entry: u32,
    },
    /// `data_head` and `data_tail` are more than the ring's size apart, or not multiples of 8.
    #[error("data_head {head:#x} and data_tail {tail:#x} in a data area of {data_size} bytes")]
    Positions {
        /// `data_head`.
        head: u64,
        /// `data_tail`.
        tail: u64,
        /// The size of the data area.
        data_size: u64,
    },
    /// A memfd lacks seals: it could shrink, or be written by others, while it is mapped.
    #[error("{which} memfd has seals {found:#x}, needs {needed:#x}")]
    Seals {
        /// `"header"` or `"data"`.
        which: &'static str,
        /// `F_SEAL_*` bits it has.
        found: i32,
        /// `F_SEAL_*` bits it needs.
        needed: i32,
    },
    /// A kernel mapping whose header page does not describe a ring inside of it.
    #[error("data_offset {data_offset} and data_size {data_size} in a mapping of {mapped} bytes")]
    Mapping {
        /// `data_offset` of the header page.
        data_offset: u64,
        /// `data_size` of the header page.
        data_size: u64,
        /// Bytes mapped.
        mapped: u64,
    },
    /// An AUX area whose size in the header page is not the one that is mapped, or no power of two of pages.
    #[error("aux_size {aux_size} in a mapping of {mapped} bytes")]
    AuxSize {
        /// `aux_size` of the header page.
        aux_size: u64,
        /// Bytes mapped.
        mapped: u64,
    },
    /// The system refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// Why nothing was reserved.
///
/// [`Full`](Self::Full), [`CorruptTail`](Self::CorruptTail) and [`Paused`](Self::Paused) mean that the ring could not take a
/// record that it could take at another time: they count as lost. The others are mistakes of the caller: nothing is counted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BeginError {
    /// A record has at least its header.
    #[error("a record of 0 bytes")]
    ZeroSize,
    /// Records are multiples of 8 bytes.
    #[error("a record of {size} bytes: not a multiple of 8")]
    Unaligned {
        /// Bytes asked for.
        size: usize,
    },
    /// The header's size field has 16 bits.
    #[error("a record of {size} bytes: more than 65528")]
    TooLarge {
        /// Bytes asked for.
        size: usize,
    },
    /// A record of a confined ring fits into a granule.
    #[error("a record of {size} bytes in granules of {granule}")]
    OverGranule {
        /// Bytes asked for.
        size: usize,
        /// Bytes in a granule.
        granule: usize,
    },
    /// The ring could not hold the record even when empty.
    #[error("a record of {size} bytes in a ring for {capacity}")]
    OverRing {
        /// Bytes asked for.
        size: usize,
        /// Bytes that the ring can hold.
        capacity: usize,
    },
    /// `begin_forward` may cross pages, and every granule of a confined ring starts with a record.
    #[error("the ring is confined: use begin_forward_in_page")]
    Confined,
    /// The ring grows the other way.
    #[error("a {mode} ring does not grow that way")]
    Direction {
        /// The ring's mode.
        mode: super::Mode,
    },
    /// Not enough is free until the consumer gives bytes back, or, in overwrite modes, until the oldest reservation is closed.
    #[error("full: {needed} bytes needed, {free} free")]
    Full {
        /// Bytes needed, gap and lost record included.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The consumer stored a `data_tail` that is not in the ring: full until it stores a sound one.
    #[error("data_tail {tail:#x} is not between data_head {head:#x} and a ring's size before it")]
    CorruptTail {
        /// The tail found.
        tail: u64,
        /// What has been published.
        head: u64,
    },
    /// A reader has paused the ring.
    #[error("paused by a reader")]
    Paused,
    /// This process is a fork of the one that the producer belongs to.
    #[error("the producer belongs to the process that this one was forked from")]
    Forked,
}

/// Where a ring's content is not as it must be, and how much was left out for it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("at position {position:#x}: {kind}; {skipped} bytes skipped")]
pub struct ReadError {
    /// The position of the defect.
    pub position: u64,
    /// What is wrong there.
    pub kind: ReadErrorKind,
    /// Bytes that the consumer steps over to go on: to the next granule, or to the head where granules are not confined.
    pub skipped: u64,
}

/// The defects that a consumer finds.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// `data_head` is not a multiple of 8, or further from what was read than the ring is long.
    #[error("data_head {head:#x} is not in the ring")]
    Head {
        /// The head found.
        head: u64,
    },
    /// A header of zeros where no gap can be.
    #[error("a zero header outside of a gap")]
    ZeroHeader,
    /// A gap is zero up to its granule's end.
    #[error("a gap with {word:#x} in it")]
    DirtyGap {
        /// The first word that is not zero.
        word: u64,
    },
    /// A size below that of a header.
    #[error("a record of {size} bytes")]
    TooSmall {
        /// The size found.
        size: u16,
    },
    /// A size that is not a multiple of 8.
    #[error("a record of {size} bytes: not a multiple of 8")]
    Unaligned {
        /// The size found.
        size: u16,
    },
    /// A record that ends behind the head.
    #[error("a record of {size} bytes with {left} bytes left")]
    BeyondHead {
        /// The size found.
        size: u16,
        /// Bytes to the head.
        left: u64,
    },
    /// A record of a confined ring that crosses its granule's end.
    #[error("a record of {size} bytes with {left} bytes left in its granule")]
    CrossesGranule {
        /// The size found.
        size: u16,
        /// Bytes to the granule's end.
        left: u64,
    },
    /// A record that its producer never closed, below the head.
    #[error("an open reservation of {size} bytes below the head")]
    Open {
        /// The reservation's size.
        size: u16,
    },
    /// The producer overwrote these bytes before they were read; no defect of the ring, but records are missing here.
    #[error("overwritten before it was read")]
    Overwritten,
    /// Nothing of the ring can be lent unread: it may have padding in it, be overwritten, or be written by others than the
    /// kernel and this process. No defect of the ring.
    #[error("this ring cannot be taken in spans")]
    NoSpans,
    /// Reading the ring's file failed, or it ended early.
    #[error("cannot read the ring's file: {0:?}")]
    File(std::io::ErrorKind),
}
