//! The AUX area of an event.

use crate::kernel::event::map_error;
use crate::kernel::mmap::{AuxMapError, MapError};
use crate::kernel::{Error, Event, sys};
use crate::ring::{AuxConsumer, AuxSnapshot};

impl Event {
    /// Maps an AUX area of `pages` pages, a power of two, for the bytes of a hardware trace (`intel_pt`, `cs_etm`,
    /// `arm_spe`...). The trace stops where it is not read, and says so in its `PERF_RECORD_AUX`
    /// (`PERF_AUX_FLAG_TRUNCATED`).
    ///
    /// The event's ring comes first: [`mmap`](Self::mmap). Its header page, which the AUX area keeps mapped, says where
    /// the area is, and its `PERF_RECORD_AUX` records, one for each `aux_watermark` bytes of the attr, what is in it: see
    /// [`AuxConsumer::span`]. The area is mapped once in the event's life.
    ///
    /// # Errors
    ///
    /// [`Error::Pages`], [`Error::AuxNotMapped`], [`Error::AuxAlreadyMapped`], [`Error::AuxBackward`], [`Error::NoAux`]
    /// where the event's PMU has none, [`Error::MlockLimit`], [`Error::MapAux`], [`Error::Attach`].
    ///
    /// ```no_run
    /// use perfring::kernel::{EventBuilder, Target};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let type_ = std::fs::read_to_string("/sys/bus/event_source/devices/intel_pt/type")?;
    /// let mut event = EventBuilder::new(type_.trim().parse()?, 0).exclude_kernel(true).open(Target::CallingThread)?;
    /// let _consumer = event.mmap(8)?;
    /// let mut aux = event.mmap_aux(64)?;
    /// // ...run what is to be traced, then:
    /// event.disable()?;
    /// let data = aux.read()?;
    /// let (first, rest) = data.slices();
    /// println!("{} bytes of trace", first.len() + rest.len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn mmap_aux(&mut self, pages: usize) -> Result<AuxConsumer, Error> {
        let len = aux_len(pages)?;
        self.fd.aux_consumer(len).map_err(|error| self.aux_error(pages, error))
    }

    /// Maps an AUX area of `pages` pages, a power of two, read-only: the trace goes on for ever and overwrites its oldest
    /// bytes. Switch the event off ([`disable`](Self::disable)) before taking a snapshot.
    ///
    /// # Errors
    ///
    /// As for [`mmap_aux`](Self::mmap_aux).
    pub fn mmap_aux_snapshot(&mut self, pages: usize) -> Result<AuxSnapshot, Error> {
        let len = aux_len(pages)?;
        self.fd.aux_snapshot(len).map_err(|error| self.aux_error(pages, error))
    }

    fn aux_error(&self, pages: usize, error: AuxMapError) -> Error {
        let event = self.name.clone();
        match error {
            AuxMapError::AlreadyMapped => Error::AuxAlreadyMapped,
            AuxMapError::NoRing => Error::AuxNotMapped,
            AuxMapError::Backward => Error::AuxBackward,
            AuxMapError::Attach(error) => Error::Attach(error),
            AuxMapError::System(source) => match source.raw_os_error() {
                Some(libc::EOPNOTSUPP) => Error::NoAux { event, source },
                Some(libc::EPERM) => map_error(pages, sys::page_size(), MapError::System(source)),
                _ => Error::MapAux { event, pages, source },
            },
        }
    }
}

/// Bytes in an AUX area of `pages` pages.
fn aux_len(pages: usize) -> Result<usize, Error> {
    pages
        .checked_mul(sys::page_size())
        .filter(|&len| pages.is_power_of_two() && isize::try_from(len).is_ok())
        .ok_or(Error::Pages { pages })
}
