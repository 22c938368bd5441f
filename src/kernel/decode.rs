//! From an event's attribute to the decoder of its records.

use crate::kernel::Event;
use crate::record::{Attr, AttrError, ByteOrder, Decoder, LayoutError};

/// Why the records of an event cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecoderError {
    /// The attribute has fields that are not known.
    #[error(transparent)]
    Attr(#[from] AttrError),
    /// The records hold what is not known.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Event {
    /// The attribute with which the event was opened, as the layer of records sees it.
    ///
    /// # Errors
    ///
    /// [`AttrError`], when the attribute was made by hand and is not one.
    pub fn record_attr(&self) -> Result<Attr, AttrError> {
        Attr::from_bytes(self.attr_bytes(), ByteOrder::NATIVE).map(|(attr, _)| attr)
    }

    /// What decodes the event's records.
    ///
    /// # Errors
    ///
    /// [`DecoderError`]
    ///
    /// ```no_run
    /// use perfring::kernel::{EventBuilder, SampleType, Software, Target};
    /// use perfring::record::Body;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut event = EventBuilder::software(Software::PageFaults)
    ///     .sample_period(1)
    ///     .sample_type(SampleType::IP | SampleType::ADDR)
    ///     .exclude_kernel(true)
    ///     .open(Target::CallingThread)?;
    /// let decoder = event.decoder()?;
    /// let mut consumer = event.mmap(8)?;
    /// let touched = vec![1_u8; 1 << 20];
    /// let mut drain = consumer.drain();
    /// while let Some(record) = drain.next() {
    ///     if let Body::Sample(fault) = decoder.decode(record?.bytes())?.body {
    ///         println!("{:#x?} touched {:#x?}", fault.ip(), fault.addr());
    ///     }
    /// }
    /// # drop(touched);
    /// # Ok(())
    /// # }
    /// ```
    pub fn decoder(&self) -> Result<Decoder, DecoderError> {
        Ok(Decoder::new(&self.record_attr()?)?)
    }
}
