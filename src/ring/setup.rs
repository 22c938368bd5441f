//! Making rings, and handing out their ends.

use super::consumer::Consumer;
use super::describe::{AttrEntry, Description};
use super::error::SetupError;
use super::layout::Geometry;
use super::lost::LostRecord;
use super::memory::{ForkGuard, Memory};
use super::order::Site;
use super::overwrite::OverwriteProducer;
use super::producer::{Equipment, Producer};
use super::shared::SharedProducer;
use super::source::{Alarm, Source};
use super::wakeup::{Bell, Signal, Wake};
use super::{Mode, Padding};
use crate::sync::AtomicBool;
use std::fmt;
use std::sync::Arc;

/// What a ring will be like. Made by [`Ring::confined`] or [`Ring::free`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(super) pages: usize,
    pub(super) confined: bool,
    pub(super) granule: Option<usize>,
    pub(super) mode: Mode,
    pub(super) padding: Padding,
    pub(super) wake: Wake,
    pub(super) lost: Option<LostRecord>,
    pub(super) attrs: Vec<AttrEntry>,
    pub(super) swapped: bool,
    pub(super) start: u64,
}

impl Builder {
    pub(super) fn new(pages: usize, confined: bool) -> Self {
        Self {
            pages,
            confined,
            granule: None,
            mode: Mode::Lossless,
            padding: Padding::Zero,
            wake: Wake::Events(1),
            lost: Some(LostRecord::bare(0)),
            attrs: Vec::new(),
            swapped: false,
            start: 0,
        }
    }

    /// What records do not cross the end of: a power of two from the page size (the default) to 64 KiB.
    pub fn granule(mut self, bytes: usize) -> Self {
        self.granule = Some(bytes);
        self
    }

    /// What happens when the ring is full. The default is [`Mode::Lossless`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How gaps are filled in a confined ring. The default is [`Padding::Zero`].
    pub fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// When a sleeping consumer is woken. The default is [`Wake::Events(1)`](Wake::Events): at each publication, which costs
    /// a full fence each time, and a system call where the consumer sleeps. A watermark of more makes both rare.
    pub fn wake(mut self, wake: Wake) -> Self {
        self.wake = wake;
        self
    }

    /// The record that reports losses in the ring, or `None` for no such records. The default is
    /// [`LostRecord::bare(0)`](LostRecord::bare).
    pub fn lost_record(mut self, lost: Option<LostRecord>) -> Self {
        self.lost = lost;
        self
    }

    /// Adds an event that records in the ring belong to, to the ring's description of itself.
    pub fn attr(mut self, attr: impl Into<Vec<u8>>, ids: impl Into<Vec<u64>>) -> Self {
        self.attrs.push(AttrEntry { attr: attr.into(), ids: ids.into() });
        self
    }

    /// Says whether the bodies of records are in the byte order that is not this machine's, as those of a recording of
    /// another machine are. By default they are not.
    pub fn swapped(mut self, swapped: bool) -> Self {
        self.swapped = swapped;
        self
    }

    /// Lets positions start at `position`, rounded down to a granule, instead of 0. For tests: positions wrap at 2^64.
    pub fn start_position(mut self, position: u64) -> Self {
        self.start = position;
        self
    }

    pub(super) fn check_lost(&self, granule: u64) -> Result<(), SetupError> {
        match &self.lost {
            Some(lost) if lost.size() as u64 > granule => {
                Err(SetupError::LostTemplate { len: lost.size(), reason: "larger than a granule" })
            }
            _ => Ok(()),
        }
    }
}

/// Where a ring's memory is.
pub(super) enum Home {
    /// Memory of this process.
    Private,
    #[cfg(not(perfring_loom))]
    Memfd { header: std::os::fd::OwnedFd, data: std::os::fd::OwnedFd, bell: Option<std::os::fd::OwnedFd> },
    #[cfg(not(perfring_loom))]
    File { file: std::fs::File },
}

/// A ring of ours, from which its producer and its consumer are taken.
pub struct Ring {
    memory: Arc<Memory>,
    pub(super) home: Home,
    wake: Wake,
    padding: Padding,
    lost: Option<LostRecord>,
    pub(super) signal: Option<Signal>,
    description: Description,
    producer_taken: AtomicBool,
    consumer_taken: AtomicBool,
    /// Nobody but this process can write the header page.
    own_header: bool,
    /// A forked child has no producer to give.
    guard: ForkGuard,
}

impl Ring {
    /// A ring whose every granule starts with a record: at least 4 granules, a power of two of pages.
    pub fn confined(pages: usize) -> Builder {
        Builder::new(pages, true)
    }

    /// A ring whose records may cross pages and wrap at its end, as those of the kernel do.
    pub fn free(pages: usize) -> Builder {
        Builder::new(pages, false)
    }

    pub(super) fn from_parts(
        memory: Memory,
        home: Home,
        builder: Builder,
        signal: Option<Signal>,
        description: Description,
    ) -> Result<Self, SetupError> {
        let guard =
            ForkGuard::new().map_err(|source| SetupError::Io { doing: "map a page that fork wipes", source })?;
        Ok(Self {
            guard,
            memory: Arc::new(memory),
            own_header: matches!(home, Home::Private),
            home,
            wake: if signal.is_some() { builder.wake } else { Wake::Never },
            padding: description.padding,
            lost: builder.lost,
            signal,
            description,
            producer_taken: AtomicBool::new(false),
            consumer_taken: AtomicBool::new(false),
        })
    }

    /// What the ring said of itself when it was made or opened.
    pub fn description(&self) -> &Description {
        &self.description
    }

    fn take_producer(&self, mode_fits: bool, wanted: &'static str) -> Result<Equipment, SetupError> {
        if !mode_fits {
            return Err(SetupError::WrongMode { mode: self.memory.mode(), wanted });
        }
        if !self.guard.alive() {
            return Err(SetupError::Forked);
        }
        let guard =
            ForkGuard::new().map_err(|source| SetupError::Io { doing: "map a page that fork wipes", source })?;
        if self.producer_taken.swap(true, Site::Taken.order()) {
            return Err(SetupError::Taken { handle: "producer" });
        }
        Ok(Equipment {
            guard,
            bell: Bell::new(self.signal.clone()),
            wake: self.wake,
            padding: self.padding,
            lost: self.lost.clone(),
            own_header: self.own_header,
        })
    }

    /// The producer for one thread.
    ///
    /// # Errors
    /// [`SetupError::Taken`] when any producer of this ring was taken before, [`SetupError::WrongMode`] for rings that
    /// overwrite.
    pub fn producer(&self) -> Result<Producer, SetupError> {
        let equipment = self.take_producer(self.memory.mode() == Mode::Lossless, "producer that waits")?;
        let Description { data_head, lost_total, .. } = self.description;
        Ok(Producer::new(self.memory.clone(), equipment, data_head, lost_total))
    }

    /// The producer for many threads and signal handlers. It needs as much private memory as the ring has data.
    ///
    /// # Errors
    /// As [`producer`](Self::producer).
    pub fn shared_producer(&self) -> Result<SharedProducer, SetupError> {
        let equipment = self.take_producer(self.memory.mode() == Mode::Lossless, "shared producer")?;
        let Description { data_head, lost_total, .. } = self.description;
        Ok(SharedProducer::new(self.memory.clone(), equipment, data_head, lost_total))
    }

    /// The producer for one thread, of a ring that overwrites.
    ///
    /// # Errors
    /// [`SetupError::Taken`] when any producer of this ring was taken before, [`SetupError::WrongMode`] for lossless rings.
    pub fn overwrite_producer(&self) -> Result<OverwriteProducer, SetupError> {
        let equipment = self.take_producer(self.memory.mode() != Mode::Lossless, "overwriting producer")?;
        let Description { data_head, reserved, lost_total, .. } = self.description;
        Ok(OverwriteProducer::new(self.memory.clone(), equipment, data_head, reserved, lost_total))
    }

    /// The consumer in this process.
    ///
    /// # Errors
    /// [`SetupError::Taken`] when it was taken before; [`SetupError::Attach`] when the memfds or the file cannot be mapped
    /// or read.
    pub fn consumer(&self) -> Result<Consumer, SetupError> {
        if self.consumer_taken.swap(true, Site::Taken.order()) {
            return Err(SetupError::Taken { handle: "consumer" });
        }
        let Description { data_tail, .. } = self.description;
        match &self.home {
            Home::Private => {
                let source = Source::Memory { memory: self.memory.clone(), kernel: false };
                let alarm = self.signal.clone().map_or(Alarm::Clock, Alarm::Bell);
                let description = Some(self.description.clone());
                Ok(Consumer::new(source, self.memory.geometry(), self.memory.mode(), data_tail, alarm, description))
            }
            #[cfg(not(perfring_loom))]
            Home::Memfd { .. } => Ok(Consumer::attach(self.fds()?)?),
            #[cfg(not(perfring_loom))]
            Home::File { file } => {
                let io = |source| SetupError::Io { doing: "duplicate the ring file's descriptor", source };
                Ok(Consumer::of_file(file.try_clone().map_err(io)?, true)?)
            }
        }
    }

    /// A ring in loom's cells, of any power of two of bytes. `own_header` as in a ring that no other process sees.
    #[cfg(perfring_loom)]
    pub fn model(size: u64, granule: u64, builder: Builder, own_header: bool) -> Self {
        use super::memory::{Backing, Data, HeaderWords, Trust};
        let geometry = Geometry::new(size, granule, builder.confined).expect("powers of two");
        builder.check_lost(granule).expect("a lost record that fits");
        let memory = Memory::new(
            HeaderWords::model(builder.start),
            Data::model(geometry, builder.mode == Mode::Lossless),
            geometry,
            builder.mode,
            Trust::Exclusive,
            Backing,
        );
        let signal = (builder.wake != Wake::Never).then(|| Signal::new().expect("a signal"));
        let description = builder.describe(geometry);
        let mut ring = Self::from_parts(memory, Home::Private, builder, signal, description).expect("a ring");
        ring.own_header = own_header;
        ring
    }
}

impl Builder {
    /// What a new ring says of itself, but for `data_offset`.
    pub(super) fn describe(&self, geometry: Geometry) -> Description {
        let start = self.start & !(geometry.granule() - 1);
        Description {
            data_offset: 0,
            data_size: geometry.size(),
            mode: self.mode,
            confined: self.confined,
            granule: geometry.granule(),
            padding: self.padding,
            producer_pid: 0,
            producer_start: 0,
            producer_pid_namespace: 0,
            swapped: self.swapped,
            attrs: self.attrs.clone(),
            data_head: start,
            data_tail: start,
            lost_total: 0,
            reserved: start,
            closed: false,
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("description", &self.description).finish_non_exhaustive()
    }
}
