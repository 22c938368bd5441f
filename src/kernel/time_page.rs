//! The time page of an event.

use crate::kernel::event::map_error;
use crate::kernel::{Error, Event, sys};
use crate::ring::TimePage;

impl Event {
    /// The times, the clock's conversion and the counter of the event, read from its header page without a system call
    /// (`struct perf_event_mmap_page`, see perf_event_open(2)).
    ///
    /// It shares the mapping of the event's ring as long as there is one, and keeps it alive. Without a ring the header
    /// page is mapped alone, which is enough for counting; a ring can be mapped only when the time pages made so are gone.
    ///
    /// The hardware counter is read ([`TimeSnapshot::count`](crate::ring::TimeSnapshot::count)) only for an event of
    /// [`Target::CallingThread`](crate::kernel::Target::CallingThread), and only on the thread that opened it.
    ///
    /// # Errors
    ///
    /// [`Error::MapInherited`], [`Error::MlockLimit`], [`Error::Map`] (with 0 data pages), [`Error::Attach`].
    ///
    /// ```no_run
    /// use perfring::kernel::{EventBuilder, Software, Target};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut event = EventBuilder::software(Software::TaskClock).exclude_kernel(true).open(Target::CallingThread)?;
    /// let page = event.time_page()?;
    /// let now = page.read()?;
    /// println!("enabled for {} ns at the last update", now.fields.time_enabled);
    /// if let Some(time) = now.time() {
    ///     println!("a record written now would have the time {time}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn time_page(&mut self) -> Result<TimePage, Error> {
        self.check_mappable()?;
        let page_size = sys::page_size();
        self.fd.time_page(page_size).map_err(|error| map_error(0, page_size, error))
    }
}
