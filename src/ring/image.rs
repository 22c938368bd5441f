//! Images of rings, written front to back: for records that are all to be kept, and whose number is not known before.

use super::describe::Description;
use super::layout::{Geometry, HEADER_SIZE, RECORD_OPEN, RECORD_PADDING, RecordHeader};
use super::setup::Builder;
use super::{Mode, Padding};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use thiserror::Error;

/// Why a record cannot be written to an image.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file cannot be written.
    #[error("cannot write the image: {0}")]
    Io(#[from] io::Error),
    /// A record's size is not what its bytes are, not a multiple of 8, or larger than a granule of a confined ring.
    #[error("a record of {size} bytes, with {len} there, in granules of {granule}")]
    Size {
        /// What the header says.
        size: u16,
        /// Bytes of it, header included.
        len: usize,
        /// Bytes in a granule.
        granule: u64,
    },
    /// A type that is the ring's own.
    #[error("records of type {type_:#x} are the ring's own")]
    Type {
        /// The type.
        type_: u32,
    },
    /// Neither a mode nor a granule that an image can have: lossless, and a power of two from the page size to 64 KiB.
    #[error("no image of a {mode} ring with granules of {granule} bytes")]
    Shape {
        /// The mode.
        mode: Mode,
        /// Bytes in a granule.
        granule: u64,
    },
    /// More attrs than a header area holds.
    #[error("{size} bytes of attrs in the header area")]
    Attrs {
        /// Bytes that they take.
        size: usize,
    },
}

/// Writes the image of a ring in which every record is unread, however many come: the data area becomes as large as they
/// need. Nothing is mapped, and nothing but a buffer is held.
///
/// ```
/// use perfring::ring::{Consumer, RecordHeader, Ring};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("image");
/// let mut image = Ring::confined(4).write_image(std::fs::File::create(&path)?)?;
/// for number in 0..1000_u64 {
///     image.record(RecordHeader { type_: 9, misc: 0, size: 16 }, &number.to_ne_bytes())?;
/// }
/// image.finish()?;
/// assert_eq!(Consumer::open_file(&path)?.for_each(|_| {})?, 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ImageWriter {
    file: BufWriter<File>,
    builder: Builder,
    granule: u64,
    page_size: usize,
    data_offset: u64,
    head: u64,
}

impl Builder {
    /// Starts an image in `file`, from its start; what it holds is lost. The number of pages is the least that the data area
    /// will have.
    ///
    /// # Errors
    /// [`ImageError`]
    pub fn write_image(self, file: File) -> Result<ImageWriter, ImageError> {
        let page_size = super::sys::page_size();
        let granule = self.granule.unwrap_or(page_size) as u64;
        let mode = self.mode;
        if mode != Mode::Lossless || !granule.is_power_of_two() || !(page_size as u64..=65536).contains(&granule) {
            return Err(ImageError::Shape { mode, granule });
        }
        let geometry = Geometry::new(4 * granule, granule, self.confined).ok_or(ImageError::Shape { mode, granule })?;
        let area = self.describe(geometry).header_area(page_size);
        if area.len() as u64 > super::describe::MAX_HEADER {
            return Err(ImageError::Attrs { size: area.len() - page_size });
        }
        file.set_len(0)?;
        let mut file = BufWriter::with_capacity(1 << 16, file);
        let data_offset = area.len() as u64;
        // Until it is finished it is no image.
        file.seek(SeekFrom::Start(data_offset))?;
        Ok(ImageWriter { file, builder: Self { start: 0, ..self }, granule, page_size, data_offset, head: 0 })
    }
}

impl ImageWriter {
    /// Writes a record: its header in this machine's byte order, and what follows it.
    ///
    /// # Errors
    /// [`ImageError`]; but for [`Io`](ImageError::Io) nothing was written then.
    pub fn record(&mut self, header: RecordHeader, body: &[u8]) -> Result<(), ImageError> {
        let (size, len) = (header.size, HEADER_SIZE + body.len());
        let most = if self.builder.confined { self.granule } else { u64::MAX };
        if usize::from(size) != len || !size.is_multiple_of(8) || u64::from(size) > most {
            return Err(ImageError::Size { size, len, granule: self.granule });
        }
        if [RECORD_PADDING, RECORD_OPEN].contains(&header.type_) {
            return Err(ImageError::Type { type_: header.type_ });
        }
        let left = self.granule - self.head % self.granule;
        if self.builder.confined && u64::from(size) > left {
            self.gap(left)?;
        }
        self.file.write_all(&header.to_bytes())?;
        self.file.write_all(body)?;
        self.head += u64::from(size);
        Ok(())
    }

    fn gap(&mut self, len: u64) -> io::Result<()> {
        static ZEROS: [u8; 65536] = [0; 65536];
        let padding = RecordHeader { type_: RECORD_PADDING, misc: 0, size: len as u16 };
        let start = match self.builder.padding {
            Padding::Zero => [0; HEADER_SIZE],
            Padding::Header => padding.to_bytes(),
        };
        self.file.write_all(&start)?;
        self.file.write_all(ZEROS.get(..len as usize - HEADER_SIZE).unwrap_or_default())?;
        self.head += len;
        Ok(())
    }

    /// Writes the header, and gives what it says. An image that is dropped before has none.
    ///
    /// # Errors
    /// [`ImageError::Io`]
    pub fn finish(mut self) -> Result<Description, ImageError> {
        self.file.flush()?;
        let least = (self.builder.pages as u64).saturating_mul(self.page_size as u64).max(4 * self.granule);
        // One byte always stays free.
        let size = least.max(self.head + 1).next_power_of_two();
        let shape = ImageError::Shape { mode: self.builder.mode, granule: self.granule };
        let geometry = Geometry::new(size, self.granule, self.builder.confined).ok_or(shape)?;
        let description = Description {
            data_offset: self.data_offset,
            data_head: self.head,
            closed: true,
            ..self.builder.describe(geometry)
        };
        let file = self.file.get_ref();
        file.set_len(description.len())?;
        file.write_all_at(&description.header_area(self.page_size), 0)?;
        Ok(description)
    }
}
