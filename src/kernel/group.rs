//! Groups: events that count together.

use crate::kernel::{Error, Event, EventBuilder, GroupCount, ReadFormat, Target, sys};

/// Events that are put on the hardware together, so that their values are of the same time.
///
/// ```no_run
/// use perfring::kernel::{EventBuilder, Software, Target};
///
/// # fn main() -> Result<(), perfring::kernel::Error> {
/// let builder = |event| EventBuilder::software(event).exclude_kernel(true).exclude_hv(true);
/// let group = builder(Software::TaskClock)
///     .disabled(true)
///     .open_group(Target::CallingThread, &[builder(Software::PageFaults)])?;
/// group.enable()?;
/// let touched = vec![1_u8; 1 << 20];
/// group.disable()?;
/// let read = group.read()?;
/// println!("{} faults in {} ns", read.counts[1].value, read.counts[0].value);
/// # drop(touched);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Group {
    /// The leader, and the members in the order in which they were opened; never empty.
    events: Vec<Event>,
}

impl EventBuilder {
    /// Opens this event as the leader of a group, and then its members.
    ///
    /// Adds `GROUP` and `ID` to the leader's `read_format`. A group counts while its leader does: start the leader
    /// `disabled` and the members not. `pinned` and `exclusive` are for the leader.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), of whichever of the events, and [`Error::GroupTooLarge`].
    pub fn open_group(&self, target: Target, members: &[EventBuilder]) -> Result<Group, Error> {
        let mut leader = self.clone();
        leader.attr.read_format |= (ReadFormat::GROUP | ReadFormat::ID).bits();
        let leader = leader.open_in(target, None)?;
        let members: Vec<_> =
            members.iter().map(|member| member.open_in(target, Some(leader.fd()))).collect::<Result<_, _>>()?;
        let mut events = vec![leader];
        events.extend(members);
        Ok(Group { events })
    }
}

impl Group {
    /// The leader.
    pub fn leader(&self) -> &Event {
        &self.events[0]
    }

    /// All events: the leader, then the members in the order in which they were opened.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// All events, such as to map them or to redirect their output.
    pub fn events_mut(&mut self) -> &mut [Event] {
        &mut self.events
    }

    /// The events by themselves. The members go on as events without a group when the leader is dropped.
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Switches all events on.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn enable(&self) -> Result<(), Error> {
        let leader = self.leader();
        sys::enable(leader.fd(), true).map_err(|source| leader.ioctl_error("PERF_EVENT_IOC_ENABLE", source))
    }

    /// Switches all events off.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn disable(&self) -> Result<(), Error> {
        let leader = self.leader();
        sys::disable(leader.fd(), true).map_err(|source| leader.ioctl_error("PERF_EVENT_IOC_DISABLE", source))
    }

    /// Sets all values to 0; the times go on.
    ///
    /// # Errors
    ///
    /// [`Error::Ioctl`]
    pub fn reset(&self) -> Result<(), Error> {
        let leader = self.leader();
        sys::reset(leader.fd(), true).map_err(|source| leader.ioctl_error("PERF_EVENT_IOC_RESET", source))
    }

    /// The values of all events at once, by the leader's `read_format`: in the order of [`events`](Self::events).
    ///
    /// # Errors
    ///
    /// [`Error::ReadEnded`], [`Error::ReadLength`], [`Error::ReadFormat`], [`Error::ReadEvent`].
    pub fn read(&self) -> Result<GroupCount, Error> {
        self.leader().read_all()
    }
}
