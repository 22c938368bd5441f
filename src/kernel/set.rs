//! Many rings as one stream in the order of time.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::kernel::{
    ClockId, DecoderError, Error, Event, EventBuilder, ReadFormat, SampleType, Software, Target, cpu, sys,
};
use crate::merge::{Merge, MergeDrain, MergeStats, Peek, Stream, StreamError};
use crate::record::{Attr, Body, ByteOrder, DecodeError, Decoded, Decoder, RecordType};
use crate::ring::{Consumer, Drain, ReadError, Record, Wait};

/// How often the CPUs, or the threads, are looked at again.
const RESCAN: Duration = Duration::from_secs(1);

/// What a clock counts in centuries: a longer delay makes no difference, and an `Instant` cannot be later by any.
const LONGEST_DELAY: Duration = Duration::from_nanos(u64::MAX);

/// What the events of a [`RingSet`] observe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetTarget {
    /// Everything on every CPU, with a ring for each. CPUs that come online later are followed.
    Cpus,
    /// One thread, with a ring for each CPU that it may run on. With [`inherit`](EventBuilder::inherit), also the threads and
    /// processes that it makes from then on: this is how to follow a command. Threads that are there already are not.
    Task {
        /// The thread's id; never 0.
        pid: u32,
    },
    /// The threads of a process, with a ring for each. Threads that it makes later are found within a second: what they do
    /// before is not seen. Events with `inherit` cannot be opened so.
    Threads {
        /// The process' id; never 0.
        pid: u32,
    },
}

/// Why there is no [`RingSet`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// An event could not be opened or mapped, or the CPUs could not be read.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// What an event's records hold cannot be decoded.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// There is no event.
    #[error("a set of rings needs an event")]
    NoEvent,
    /// The events have different clocks, so that their records have no common order.
    #[error("event {event} takes its times from clock {clock}, and the first one from clock {first}")]
    Clocks {
        /// The event's number.
        event: usize,
        /// Its clock: `CLOCK_*`.
        clock: i32,
        /// That of the first event.
        first: i32,
    },
    /// A clock that does not exist.
    #[error("there is no clock {clock}")]
    NoClock {
        /// `CLOCK_*`.
        clock: i32,
    },
    /// An event grows backward: its records do not come in the order of time.
    #[error("event {event} writes backward: such a ring cannot be read while it is written")]
    Backward {
        /// The event's number.
        event: usize,
    },
    /// The threads of a process cannot be listed.
    #[error("cannot list the threads of process {pid}: {source}")]
    Threads {
        /// The process.
        pid: u32,
        /// The system's answer.
        source: io::Error,
    },
    /// epoll(7) failed.
    #[error("cannot watch the rings: {0}")]
    Epoll(#[source] io::Error),
}

/// Describes a [`RingSet`].
pub struct RingSetBuilder {
    events: Vec<EventBuilder>,
    target: SetTarget,
    pages: usize,
    delay: Duration,
    cpus: Cpus,
}

/// Says which CPUs are online.
type Cpus = Box<dyn FnMut() -> Result<Vec<u32>, Error> + Send>;

impl RingSetBuilder {
    /// Adds an event.
    #[must_use]
    pub fn event(mut self, event: EventBuilder) -> Self {
        self.events.push(event);
        self
    }

    /// What the events observe: [`SetTarget::Cpus`] unless this says otherwise.
    #[must_use]
    pub fn target(mut self, target: SetTarget) -> Self {
        self.target = target;
        self
    }

    /// Data pages of each ring, a power of two: 64 unless this says otherwise.
    #[must_use]
    pub fn pages(mut self, pages: usize) -> Self {
        self.pages = pages;
        self
    }

    /// How long a record is held back, so that older ones of other rings can come before it: 10 ms unless this says
    /// otherwise. It has to cover the time between a record's own time and its publication, which is short unless a CPU is
    /// stolen from a virtual machine.
    ///
    /// While a ring is more than half full nothing is held back: better too late than never.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Takes the list of CPUs from elsewhere.
    #[cfg(test)]
    fn cpus(mut self, cpus: impl FnMut() -> Result<Vec<u32>, Error> + Send + 'static) -> Self {
        self.cpus = Box::new(cpus);
        self
    }

    /// Opens all events and maps their rings.
    ///
    /// # Errors
    ///
    /// [`SetError`]
    pub fn open(self) -> Result<RingSet, SetError> {
        let counts_lost = counts_lost();
        let mut clock = None;
        let mut events = Vec::new();
        for (number, event) in self.events.into_iter().enumerate() {
            let mut event = event.sample_id_all(true);
            if event.attr().use_clockid() == 0 {
                event = event.clockid(ClockId::Monotonic);
            }
            if event.attr().write_backward() != 0 {
                return Err(SetError::Backward { event: number });
            }
            let own = event.attr().clockid;
            let first = *clock.get_or_insert(own);
            if own != first {
                return Err(SetError::Clocks { event: number, clock: own, first });
            }
            event.attr_mut().sample_type |= SampleType::TIME.bits();
            if counts_lost {
                event.attr_mut().read_format |= ReadFormat::LOST.bits();
            }
            events.push(event);
        }
        let clock = clock.ok_or(SetError::NoEvent)?;
        sys::clock_ns(clock).ok_or(SetError::NoClock { clock })?;
        let attrs = events
            .iter()
            .map(|event| Ok(Attr::from_bytes(sys::attr_bytes(event.attr()), ByteOrder::NATIVE)?.0))
            .collect::<Result<Vec<_>, DecoderError>>()?;
        let decoders = attrs.iter().map(|attr| Ok(Decoder::new(attr)?)).collect::<Result<Arc<[_]>, DecoderError>>()?;
        let of_time = Arc::clone(&decoders);
        let time: Time = Box::new(move |ring, record| {
            let event = ring.checked_rem(of_time.len())?;
            of_time.get(event)?.time(record.bytes())
        });
        let mut set = RingSet {
            merge: Merge::new([], time),
            rings: Vec::new(),
            places: Vec::new(),
            decoders,
            attrs,
            ids: Vec::new(),
            events,
            target: self.target,
            pages: self.pages,
            delay: self.delay.min(LONGEST_DELAY),
            clock,
            cpus: self.cpus,
            epoll: sys::epoll_create().map_err(SetError::Epoll)?,
            is_on: None,
            scanned: Instant::now(),
            drained: None,
            held: None,
        };
        let places = set.places_now()?;
        // Before the kernel is asked for each of them, which may take it long.
        let limit = sys::nofile_limit();
        if limit.is_some_and(|limit| (places.len() * set.events.len()) as u64 > limit) {
            return Err(Error::TooManyFiles { limit }.into());
        }
        let mut gone = None;
        for place in places {
            match set.open_place(place) {
                Ok(()) => {}
                Err(SetError::Kernel(error @ (Error::NoSuchCpu { .. } | Error::NoSuchTask { .. }))) => {
                    gone = Some(error)
                }
                Err(error) => return Err(error),
            }
        }
        match gone {
            Some(error) if set.rings.is_empty() => Err(error.into()),
            _ => Ok(set),
        }
    }
}

type Time = Box<dyn Fn(usize, &Record<'_>) -> Option<u64> + Send + Sync>;

/// Where the events of a set observe something: each has a ring for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    target: Target,
    /// It is gone, and its rings were given back; should it return, they are opened anew.
    is_closed: bool,
}

/// A ring of a set.
struct SetRing {
    /// Not there any more when its thread ended, in a set of threads: there may be any number of them.
    event: Option<Event>,
    /// Not there any more when all was read that was written before its CPU or task went.
    is_open: bool,
    /// Its CPU or task went: nothing more will be written.
    has_ended: bool,
    /// What events lost that were here before.
    lost_before: u64,
    stats: RingStats,
}

impl SetRing {
    /// Records that found no space, as far as the kernel counts them.
    fn lost(&self) -> Result<u64, Error> {
        let counted = |event: &&Event| event.read_format().contains(ReadFormat::LOST);
        let now = self.event.as_ref().filter(counted).map(Event::read).transpose()?;
        Ok(self.lost_before.saturating_add(now.and_then(|count| count.lost).unwrap_or(0)))
    }

    /// Closes the event, or replaces it.
    fn replace(&mut self, event: Option<Event>) {
        if let Ok(lost) = self.lost() {
            self.lost_before = lost;
        }
        self.event = event;
    }
}

/// Whether the kernel counts what events lose: since Linux 6.0.
fn counts_lost() -> bool {
    static COUNTS: OnceLock<bool> = OnceLock::new();
    let dummy = || EventBuilder::software(Software::Dummy).exclude_kernel(true).exclude_hv(true).disabled(true);
    *COUNTS.get_or_init(|| dummy().read_format(ReadFormat::LOST).open(Target::CallingThread).is_ok())
}

/// What was read of a ring of a [`RingSet`], and what was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingStats {
    /// What the ring's event observes.
    pub target: Target,
    /// Which event it is, in the order in which they were added.
    pub event: usize,
    /// Records that were delivered.
    pub records: u64,
    /// Records that found no space, as the `LOST` records say that were delivered. Those that were lost behind the last record are in
    /// [`RingSet::lost`] only.
    pub lost: u64,
    /// Samples that the hardware lost, as the `LOST_SAMPLES` records say.
    pub lost_samples: u64,
    /// Defects.
    pub errors: u64,
    /// How often the kernel has woken the reader for this ring.
    pub wakeups: u64,
}

/// An id that the records of a [`RingSet`] carry, if their events ask for it (`IDENTIFIER`, `ID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetId {
    /// The id: that of [`Event::id`].
    pub id: u64,
    /// The ring's number: the index of its [`RingStats`].
    pub ring: usize,
    /// Which event it is, in the order in which they were added.
    pub event: usize,
    /// What the ring's event observes.
    pub target: Target,
}

/// Records of a [`RingSet`], unread: see [`RingSet::take_spans`].
#[derive(Clone, Copy, Debug)]
pub struct SetSpan<'a> {
    /// The ring's number: the index of its [`RingStats`].
    pub ring: usize,
    /// The event that wrote it, in the order in which they were added.
    pub event: usize,
    /// What the ring's event observes.
    pub target: Target,
    /// Where the records begin.
    pub first: &'a [u8],
    /// What lies behind the end of the ring's data area. A record may begin in `first` and end here.
    pub second: &'a [u8],
}

/// The consumer of a ring, as long as the ring is there.
struct Slot(Option<Consumer>);

/// Reads a [`Slot`].
struct SlotDrain<'a>(Option<Drain<'a>>);

impl Stream for Slot {
    type Error = ReadError;
    type Drain<'a> = SlotDrain<'a>;

    fn drain(&mut self) -> SlotDrain<'_> {
        SlotDrain(self.0.as_mut().map(Consumer::drain))
    }
}

impl Peek for SlotDrain<'_> {
    type Error = ReadError;

    #[inline]
    fn peek(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        self.0.as_mut()?.peek()
    }

    #[inline]
    fn next(&mut self) -> Option<Result<Record<'_>, ReadError>> {
        self.0.as_mut()?.next()
    }
}

/// Several rings, one for each event on each CPU or thread, waited for at once and read as one stream in the order of time.
///
/// Each record is held back for a [delay](RingSetBuilder::delay), so that older ones of other rings can come before it; what
/// comes later still is delivered all the same, and counted as late. A CPU that goes offline ends its rings: what they hold is
/// delivered, and they are given back. One that comes online gets rings. Both are noticed by [`wait`](Self::wait), within a
/// second.
///
/// The set turns on `sample_id_all` and `TIME` in every event, `LOST` in its `read_format` where the kernel knows it, and lets their
/// times be of `CLOCK_MONOTONIC` unless they choose a clock, which has to be the same for all. Who wrote a record is known by its ring,
/// so nothing needs ids.
///
/// ```no_run
/// use perfring::kernel::{EventBuilder, RingSet, Software};
/// use perfring::ring::Wait;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut set = RingSet::builder()
///     .event(EventBuilder::software(Software::CpuClock).sample_freq(99))
///     .event(EventBuilder::parse("page-faults")?.sample_period(1))
///     .open()?;
/// loop {
///     match set.wait(Some(Duration::from_secs(1)))? {
///         Wait::Closed => break,
///         _ => set.for_each(|record| match record {
///             Ok(record) => match record.decode() {
///                 Ok(decoded) => println!("{decoded}"),
///                 Err(damaged) => eprintln!("{damaged}"),
///             },
///             Err(damaged) => eprintln!("{damaged}"),
///         }),
///     }
/// }
/// set.flush(|_| {});
/// println!("{:?}", set.stats());
/// # Ok(())
/// # }
/// ```
pub struct RingSet {
    /// Ring `place * events.len() + event`.
    merge: Merge<Slot, Time>,
    rings: Vec<SetRing>,
    places: Vec<Place>,
    /// By event.
    decoders: Arc<[Decoder]>,
    attrs: Vec<Attr>,
    ids: Vec<SetId>,
    events: Vec<EventBuilder>,
    target: SetTarget,
    pages: usize,
    delay: Duration,
    clock: i32,
    cpus: Cpus,
    epoll: OwnedFd,
    /// Whether all events were last switched on or off; none of both: as they were opened.
    is_on: Option<bool>,
    /// When the CPUs or threads were looked at.
    scanned: Instant,
    /// When the last drain began.
    drained: Option<Instant>,
    /// Until when what is there is held back.
    held: Option<Instant>,
}

/// A record of a [`RingSet`], lent until the next one is asked for.
#[derive(Clone, Copy)]
pub struct SetRecord<'a> {
    /// The ring's number: the index of its [`RingStats`].
    pub ring: usize,
    /// The event that wrote it, in the order in which they were added.
    pub event: usize,
    /// What the ring's event observes.
    pub target: Target,
    /// Its time, by the clock of the set, in nanoseconds.
    pub time: Option<u64>,
    /// The record.
    pub record: Record<'a>,
    decoder: &'a Decoder,
}

impl<'a> SetRecord<'a> {
    /// The record, decoded.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], which the kernel gives no cause for.
    #[inline]
    pub fn decode(&self) -> Result<Decoded<'a>, DecodeError> {
        self.decoder.decode(self.record.bytes())
    }
}

impl fmt::Debug for SetRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetRecord")
            .field("ring", &self.ring)
            .field("event", &self.event)
            .field("target", &self.target)
            .field("decoded", &self.decode())
            .finish()
    }
}

impl RingSet {
    /// Describes a set: of no events yet, on all CPUs.
    pub fn builder() -> RingSetBuilder {
        RingSetBuilder {
            events: Vec::new(),
            target: SetTarget::Cpus,
            pages: 64,
            delay: Duration::from_millis(10),
            cpus: Box::new(cpu::online_cpus),
        }
    }

    /// Where there is something to observe now.
    fn places_now(&mut self) -> Result<Vec<Target>, SetError> {
        Ok(match self.target {
            SetTarget::Cpus => (self.cpus)()?.into_iter().map(|cpu| Target::Cpu { cpu }).collect(),
            SetTarget::Task { pid } => (self.cpus)()?.into_iter().map(|cpu| Target::TaskOnCpu { pid, cpu }).collect(),
            SetTarget::Threads { pid } => {
                let failed = |source| SetError::Threads { pid, source };
                let mut threads = Vec::new();
                for entry in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
                    let name = entry.map_err(failed)?.file_name();
                    threads.extend(name.to_str().and_then(|name| name.parse().ok()).map(|pid| Target::Task { pid }));
                }
                threads
            }
        })
    }

    /// Opens the rings of a place: all or none.
    fn open_place(&mut self, target: Target) -> Result<(), SetError> {
        let place = self.places.iter().position(|place| place.target == target).unwrap_or(self.places.len());
        let first = place * self.events.len();
        let mut opened = Vec::new();
        for (ring, builder) in (first..).zip(&self.events) {
            let mut event = builder.open(target)?;
            let consumer = event.mmap(self.pages)?;
            match self.is_on {
                Some(true) => event.enable()?,
                Some(false) => event.disable()?,
                None => {}
            }
            // Here, where a failure leaves nothing behind: epoll forgets what is closed.
            if let Some(fd) = consumer.as_fd() {
                sys::epoll_add(self.epoll.as_fd(), fd, ring as u64).map_err(SetError::Epoll)?;
            }
            let (attr, _) = Attr::from_bytes(event.attr_bytes(), ByteOrder::NATIVE).map_err(DecoderError::from)?;
            opened.push((attr, event.id()?, event, consumer));
        }
        for (number, (attr, id, event, consumer)) in opened.into_iter().enumerate() {
            let ring = first + number;
            self.ids.push(SetId { id, ring, event: number, target });
            if let Some(known) = self.attrs.get_mut(number) {
                *known = attr;
            }
            match (self.merge.streams_mut().get_mut(ring), self.rings.get_mut(ring)) {
                (Some(slot), Some(known)) => {
                    *slot = Slot(Some(consumer));
                    known.replace(Some(event));
                    (known.is_open, known.has_ended) = (true, false);
                }
                _ => {
                    self.merge.push(Slot(Some(consumer)));
                    let stats = RingStats {
                        target,
                        event: number,
                        records: 0,
                        lost: 0,
                        lost_samples: 0,
                        errors: 0,
                        wakeups: 0,
                    };
                    let event = Some(event);
                    self.rings.push(SetRing { event, is_open: true, has_ended: false, lost_before: 0, stats });
                }
            }
        }
        let opened = Place { target, is_closed: false };
        match self.places.get_mut(place) {
            Some(known) => *known = opened,
            None => self.places.push(opened),
        }
        Ok(())
    }

    /// Looks for CPUs, or threads, that came or went: opens rings for those that came, and ends those of CPUs that went.
    /// [`wait`](Self::wait) does so once a second.
    ///
    /// # Errors
    ///
    /// [`SetError`], when a ring cannot be opened for another reason than that its CPU or thread went again.
    pub fn rescan(&mut self) -> Result<(), SetError> {
        self.scanned = Instant::now();
        let now = match self.places_now() {
            Ok(now) => now,
            // The process ended.
            Err(SetError::Threads { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let events = self.events.len();
        for (number, place) in self.places.iter().enumerate() {
            // A task's own end is told by its rings.
            let is_cpu = !matches!(place.target, Target::Task { .. });
            if !place.is_closed && is_cpu && !now.contains(&place.target) {
                self.rings.iter_mut().skip(number * events).take(events).for_each(|ring| ring.has_ended = true);
            }
        }
        self.close_ended();
        for target in now {
            let known = self.places.iter().find(|place| place.target == target);
            // A task that ended does not come back. (Where execve(2) gives the main thread's number to its caller, the caller's
            // ring goes on.)
            let is_wanted = match (known, target) {
                (None, _) => true,
                (Some(place), Target::Cpu { .. }) => place.is_closed,
                (Some(_), _) => false,
            };
            if !is_wanted {
                continue;
            }
            match self.open_place(target) {
                Ok(()) | Err(SetError::Kernel(Error::NoSuchCpu { .. } | Error::NoSuchTask { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the rings back that have ended and were read.
    fn close_ended(&mut self) {
        let keeps_events = !matches!(self.target, SetTarget::Threads { .. });
        let slots = self.merge.streams_mut().iter_mut();
        for (slot, ring) in slots.zip(&mut self.rings) {
            let Some(consumer) = &slot.0 else { continue };
            if ring.has_ended && !consumer.is_ready() {
                if let Some(fd) = consumer.as_fd() {
                    // It may have been taken out before, when it hung up.
                    let _ = sys::epoll_delete(self.epoll.as_fd(), fd);
                }
                slot.0 = None;
                ring.is_open = false;
                if !keeps_events {
                    ring.replace(None);
                }
            }
        }
        let events = self.events.len().max(1);
        for (place, rings) in self.places.iter_mut().zip(self.rings.chunks(events)) {
            place.is_closed = rings.iter().all(|ring| !ring.is_open);
        }
    }

    /// Switches all events on, and those that come later.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]; the events before that one are on.
    pub fn enable(&mut self) -> Result<(), Error> {
        self.is_on = Some(true);
        self.open_events().try_for_each(Event::enable)
    }

    /// Switches all events off, and those that come later.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]; the events before that one are off.
    pub fn disable(&mut self) -> Result<(), Error> {
        self.is_on = Some(false);
        self.open_events().try_for_each(Event::disable)
    }

    fn open_events(&self) -> impl Iterator<Item = &Event> {
        self.rings.iter().filter(|ring| ring.is_open).filter_map(|ring| ring.event.as_ref())
    }

    /// The event of a ring, to read its counter, say. With [`SetTarget::Threads`] it goes with its thread's ring.
    pub fn event(&self, ring: usize) -> Option<&Event> {
        self.rings.get(ring)?.event.as_ref()
    }

    /// What decodes the records of an event.
    pub fn decoder(&self, event: usize) -> Option<&Decoder> {
        self.decoders.get(event)
    }

    /// The attribute of an event, as the kernel took it.
    pub fn attr(&self, event: usize) -> Option<&Attr> {
        self.attrs.get(event)
    }

    /// The ids of all events, in the order in which their rings were opened: those of CPUs and threads that come later are
    /// added at the end, and those of rings that are gone stay. A CPU that returns has other ones.
    pub fn ids(&self) -> &[SetId] {
        &self.ids
    }

    /// Calls `action` with all that is published in each ring now, unread: to write it into a recording, say. Gives how many
    /// bytes there were. The space of a ring is given back when `action` returns.
    ///
    /// The [delay](RingSetBuilder::delay) does not matter here, nor does the order of time: whoever reads the recording sorts
    /// it. For that, all events need [`IDENTIFIER`](SampleType::IDENTIFIER), and the recorder tells their [`attr`](Self::attr)s
    /// and [`ids`](Self::ids). Nothing is looked at, so [`RingStats`] do not count these records, nor what their `LOST` records
    /// say; how many were lost [`lost`](Self::lost) knows.
    ///
    /// ```no_run
    /// # use perfring::kernel::{EventBuilder, RingSet, SampleType};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let event = EventBuilder::parse("page-faults")?.sample_period(1).sample_type(SampleType::IDENTIFIER | SampleType::IP);
    /// let mut set = RingSet::builder().event(event).open()?;
    /// let mut recorded = Vec::new();
    /// set.wait(None)?;
    /// set.take_spans(|span| match span {
    ///     Ok(span) => recorded.extend([span.first, span.second].concat()),
    ///     Err(damaged) => eprintln!("{damaged}"),
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_spans(&mut self, mut action: impl FnMut(Result<SetSpan<'_>, StreamError<ReadError>>)) -> u64 {
        (self.drained, self.held) = (None, None);
        let mut bytes = 0;
        let slots = self.merge.streams_mut().iter_mut().enumerate();
        for ((number, slot), ring) in slots.zip(&mut self.rings) {
            let Some(consumer) = &mut slot.0 else { continue };
            let RingStats { target, event, .. } = ring.stats;
            let taken = consumer.take_span(|first, second| {
                action(Ok(SetSpan { ring: number, event, target, first, second }));
                (first.len() + second.len()) as u64
            });
            match taken {
                Ok(len) => bytes += len.unwrap_or(0),
                Err(error) => {
                    ring.stats.errors += 1;
                    action(Err(StreamError { stream: number, error }));
                }
            }
        }
        bytes
    }

    /// What was read of each ring, and what was not, by the rings' numbers. Rings that are gone stay.
    pub fn rings(&self) -> impl ExactSizeIterator<Item = RingStats> + '_ {
        self.rings.iter().map(|ring| ring.stats)
    }

    /// Records that found no space in the rings, those that are gone included, as the kernel counts them: also what was lost behind the
    /// last record, of which nothing in the rings tells. None where it does not count them: before Linux 6.0. Each event is asked by a
    /// system call, which interrupts the CPU that it is on.
    ///
    /// # Errors
    ///
    /// Those of [`Event::read`].
    pub fn lost(&self) -> Result<Option<u64>, Error> {
        (0..self.events.len()).try_fold(Some(0), |sum: Option<u64>, event| {
            let lost = self.lost_of(event)?;
            Ok(sum.zip(lost).map(|(sum, lost)| sum.saturating_add(lost)))
        })
    }

    /// The same of one event, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// Those of [`Event::read`].
    pub fn lost_of(&self, event: usize) -> Result<Option<u64>, Error> {
        if !self.attr(event).is_some_and(|attr| attr.read_format.contains(ReadFormat::LOST)) {
            return Ok(None);
        }
        let rings = self.rings.iter().filter(|ring| ring.stats.event == event);
        rings.map(SetRing::lost).sum::<Result<u64, Error>>().map(Some)
    }

    /// What was delivered of all rings: records, late ones and defects.
    pub fn stats(&self) -> MergeStats {
        self.merge.stats()
    }

    /// Starts reading what is published now, up to the time at which records are as old as the delay; all of it, if a ring is more
    /// than half full.
    pub fn drain(&mut self) -> SetDrain<'_> {
        if self.is_pressed() {
            return self.drain_until(None);
        }
        // The clock is read before the heads are, as `merge` explains.
        let delay = u64::try_from(self.delay.as_nanos()).unwrap_or(u64::MAX);
        let until = sys::clock_ns(self.clock).unwrap_or(u64::MAX).saturating_sub(delay);
        self.drain_until(Some(until))
    }

    /// Starts reading all that is published now, however young.
    pub fn drain_all(&mut self) -> SetDrain<'_> {
        self.drain_until(None)
    }

    fn drain_until(&mut self, until: Option<u64>) -> SetDrain<'_> {
        self.drained = Some(Instant::now());
        self.held = None;
        SetDrain { merge: self.merge.drain(until), rings: &mut self.rings, decoders: &self.decoders }
    }

    /// Calls `action` with every record and every defect that [`drain`](Self::drain) gives.
    pub fn for_each(&mut self, mut action: impl FnMut(Result<SetRecord<'_>, StreamError<ReadError>>)) {
        let mut drain = self.drain();
        while let Some(record) = drain.next() {
            action(record);
        }
    }

    /// Calls `action` with everything that is published now, however young: for the end, when nothing is written any more.
    pub fn flush(&mut self, mut action: impl FnMut(Result<SetRecord<'_>, StreamError<ReadError>>)) {
        let mut drain = self.drain_all();
        while let Some(record) = drain.next() {
            action(record);
        }
    }

    fn has_closed(&self) -> bool {
        self.rings.iter().all(|ring| !ring.is_open)
    }

    fn is_ready(&self) -> bool {
        self.merge.streams().iter().any(|slot| slot.0.as_ref().is_some_and(Consumer::is_ready))
    }

    /// Whether a ring is about to lose records.
    fn is_pressed(&self) -> bool {
        let mut consumers = self.merge.streams().iter().filter_map(|slot| slot.0.as_ref());
        consumers.any(|consumer| consumer.unread() > consumer.size() / 2)
    }

    /// When [`wait`](Self::wait) would look again by itself, were it not woken: because records are old enough then, or to
    /// look for CPUs.
    pub fn next_look(&self) -> Instant {
        let scan = self.scanned + RESCAN;
        self.held.map_or(scan, |held| held.min(scan))
    }

    /// Sleeps until there are records that [`drain`](Self::drain) would give, but no longer than `timeout` (`None`: for
    /// ever).
    ///
    /// The kernel wakes at the watermark of a ring (`wakeup_events`, `wakeup_watermark`), so records below it are found by
    /// the next call, or within a second. `Closed` says that all rings have ended, and that everything was read.
    ///
    /// # Errors
    ///
    /// [`SetError`]
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Wait, SetError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut has_slept = false;
        loop {
            if self.scanned.elapsed() >= RESCAN {
                self.rescan()?;
            }
            let now = Instant::now();
            if self.is_ready() {
                // What the last drain left was younger than the delay then.
                self.held = self.held.or_else(|| match self.drained {
                    Some(drained) => drained.checked_add(self.delay),
                    None => Some(now),
                });
                if self.held.is_some_and(|held| now >= held) || self.is_pressed() {
                    return Ok(Wait::Ready);
                }
            } else {
                self.held = None;
                self.close_ended();
                if self.has_closed() {
                    // The last thread may have made another one since they were looked at.
                    if matches!(self.target, SetTarget::Threads { .. }) {
                        self.rescan()?;
                    }
                    if self.has_closed() {
                        return Ok(Wait::Closed);
                    }
                }
            }
            // The descriptors are asked once, even if there is no time for it: only they say that a task has ended.
            if has_slept && deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(Wait::TimedOut);
            }
            let until = deadline.map_or(self.next_look(), |deadline| deadline.min(self.next_look()));
            self.sleep(until.saturating_duration_since(now))?;
            has_slept = true;
        }
    }

    /// Waits for the descriptors, and notes what they say.
    fn sleep(&mut self, timeout: Duration) -> Result<(), SetError> {
        // All at once: a reactor that watches the descriptor does not hear again of what is left.
        let most = self.rings.len();
        for woken in sys::epoll_wait(self.epoll.as_fd(), most, Some(timeout)).map_err(SetError::Epoll)? {
            let Some(number) = usize::try_from(woken.data).ok() else { continue };
            let Some(ring) = self.rings.get_mut(number) else { continue };
            ring.stats.wakeups += u64::from(woken.is_readable);
            if woken.has_hung_up {
                // It would say so for ever.
                ring.has_ended = true;
                if let Some(fd) = self.merge.streams().get(number).and_then(|slot| slot.0.as_ref()?.as_fd()) {
                    sys::epoll_delete(self.epoll.as_fd(), fd).map_err(SetError::Epoll)?;
                }
            }
        }
        Ok(())
    }
}

/// To be watched by a loop of one's own: readable when the kernel has woken a ring. Then call [`RingSet::wait`] with a timeout
/// of 0, and not later than [`RingSet::next_look`].
impl AsFd for RingSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl AsRawFd for RingSet {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

impl fmt::Debug for RingSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingSet")
            .field("target", &self.target)
            .field("events", &self.events)
            .field("rings", &self.rings.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The records of a [`RingSet`] in the order of time. Dropping it gives back the space of what was delivered.
pub struct SetDrain<'a> {
    merge: MergeDrain<'a, Slot, Time>,
    rings: &'a mut [SetRing],
    decoders: &'a [Decoder],
}

impl SetDrain<'_> {
    /// The next record, lent until the next call, or a defect of a ring.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Option<Result<SetRecord<'_>, StreamError<ReadError>>> {
        let merged = match self.merge.next()? {
            Ok(merged) => merged,
            Err(error) => {
                if let Some(ring) = self.rings.get_mut(error.stream) {
                    ring.stats.errors += 1;
                }
                return Some(Err(error));
            }
        };
        let stats = &mut self.rings.get_mut(merged.stream)?.stats;
        let decoder = self.decoders.get(stats.event)?;
        stats.records += 1;
        match RecordType(merged.record.header().type_) {
            RecordType::LOST | RecordType::LOST_SAMPLES => count_lost(stats, decoder, merged.record.bytes()),
            _ => {}
        }
        Some(Ok(SetRecord {
            ring: merged.stream,
            event: stats.event,
            target: stats.target,
            time: merged.time,
            record: merged.record,
            decoder,
        }))
    }
}

#[cold]
fn count_lost(stats: &mut RingStats, decoder: &Decoder, record: &[u8]) {
    match decoder.decode(record).map(|decoded| decoded.body) {
        Ok(Body::Lost(lost)) => stats.lost = stats.lost.saturating_add(lost.lost),
        Ok(Body::LostSamples(lost)) => stats.lost_samples = stats.lost_samples.saturating_add(lost.lost),
        _ => stats.errors += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Software;
    use std::sync::Mutex;

    fn faults() -> EventBuilder {
        EventBuilder::software(Software::PageFaults).sample_period(1).exclude_kernel(true).exclude_hv(true)
    }

    #[test]
    fn a_cpu_that_goes_is_read_and_comes_back() {
        if let Err(error) = faults().open(Target::Cpu { cpu: 0 }) {
            assert!(error.is_refusal(), "{error}");
            assert!(std::env::var_os("PERFRING_REQUIRE_KERNEL").is_none_or(|value| value != "1"), "{error}");
            eprintln!("SKIPPED: a_cpu_that_goes_is_read_and_comes_back: {error}");
            return;
        }
        let online = Arc::new(Mutex::new(vec![0]));
        let list = Arc::clone(&online);
        let set = RingSet::builder().event(faults()).event(faults()).pages(8).delay(Duration::ZERO);
        let mut set = set.cpus(move || Ok(list.lock().unwrap().clone())).open().unwrap();
        assert_eq!(set.rings().len(), 2);

        // A CPU that never was is no error, and gets no ring.
        online.lock().unwrap().push(cpu::online_cpus().unwrap().last().unwrap() + 1000);
        set.rescan().unwrap();
        assert_eq!(set.rings().len(), 2);

        // Somebody comes by on that CPU.
        while !set.is_ready() {
            std::thread::spawn(|| std::hint::black_box(vec![1_u8; 1 << 20])).join().unwrap();
        }
        // A CPU that is really gone writes nothing more.
        set.disable().unwrap();
        online.lock().unwrap().clear();
        set.rescan().unwrap();
        // What was written before is still there.
        let mut seen = 0;
        set.flush(|record| seen += usize::from(record.is_ok()));
        assert!(seen > 0);
        assert_eq!(set.wait(Some(Duration::ZERO)).unwrap(), Wait::Closed);
        assert!(set.rings.iter().all(|ring| !ring.is_open));

        online.lock().unwrap().push(0);
        set.rescan().unwrap();
        assert_eq!(set.rings().len(), 2, "the places are the same");
        assert!(set.rings.iter().all(|ring| ring.is_open && !ring.has_ended));
        assert_ne!(set.wait(Some(Duration::ZERO)).unwrap(), Wait::Closed);
    }
}
