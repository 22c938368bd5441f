//! Opening a recording, whatever its form.

use crate::record::ByteOrder;
use crate::replay::error::{OpenError, Warning};
use crate::replay::input::{Input, ReadAt, read_full_at};
use crate::replay::metadata::{Form, Metadata};
use crate::replay::order::Order;
use crate::replay::part::Source;
use crate::replay::perf_data::{FileHeader, Section};
use crate::replay::records::Records;
use crate::replay::ring_image::RingScanner;
use crate::replay::scan::Scanner;
use crate::ring::{AttachError, Consumer};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A recording: `perf.data` as a file, as a directory or as a stream, or an image of a ring.
///
/// ```no_run
/// use perfring::record::Body;
/// use perfring::replay::{Order, Recording};
///
/// let recording = Recording::open("perf.data")?;
/// for event in recording.metadata().events() {
///     println!("{:?} {:#x}", event.name, event.attr.config);
/// }
/// let mut records = recording.records(Order::default());
/// while let Some(entry) = records.next() {
///     match entry?.decode()?.body {
///         Body::Sample(sample) => println!("{:?} {:#x?}", sample.time(), sample.ip()),
///         other => println!("{other:?}"),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Memory
///
/// Files are read piece by piece, and never mapped: what is held is the [window](Order::Time) of records that wait for
/// their turn, at most 128 MiB of zstd's for each file of a directory, and what the header says, within the bounds that [`Metadata`] names.
pub struct Recording {
    metadata: Metadata,
    sources: Vec<Source>,
}

impl Recording {
    /// The most files that a directory may have.
    pub const MAX_FILES: usize = 1 << 16;

    /// Opens a recording: a file, a directory, a ring image, or something that can only be read from its start on, such as a
    /// FIFO or `/dev/stdin`.
    ///
    /// # Errors
    ///
    /// [`OpenError`]
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let failed = |source| OpenError::Io { what: format!("open {}", path.display()), source };
        let file = File::open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?;
        if kind.is_dir() {
            return Self::open_directory(path);
        }
        match Self::from_file(file) {
            Err(OpenError::Magic { found }) => match Consumer::open_file(path) {
                Ok(consumer) => Ok(Self::from_ring(consumer)),
                Err(AttachError::Magic { .. } | AttachError::TooShort { .. }) => Err(OpenError::Magic { found }),
                Err(error) => Err(error.into()),
            },
            opened => opened,
        }
    }

    /// Opens what an open file holds: from its start, if it can be read at any place, else as a stream from where it is.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; a ring image is known by [`open`](Self::open) only.
    pub fn from_file(file: File) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { what: "read the header".to_owned(), source };
        match file.metadata().map_err(failed)?.is_file() {
            true => Self::from_read_at(file),
            false => Self::from_stream(file),
        }
    }

    /// Opens what `source` holds: a file's bytes, or those of a stream that was stored.
    ///
    /// # Errors
    ///
    /// [`OpenError`]
    pub fn from_read_at(source: impl ReadAt + 'static) -> Result<Self, OpenError> {
        let source: Arc<dyn ReadAt> = Arc::new(source);
        let failed = |source| OpenError::Io { what: "read the header".to_owned(), source };
        let len = source.size().map_err(failed)?;
        let mut header = [0; FileHeader::SIZE];
        let there = read_full_at(&*source, &mut header, 0).map_err(failed)?;
        let header = header.get(..there).unwrap_or_default();
        let (order, size) = Self::check_magic(header)?;
        if size == FileHeader::PIPE_SIZE as u64 {
            let input = Input::At { source, next: size, end: len };
            return Ok(Self::from_pipe(order, input));
        }
        if size != FileHeader::SIZE as u64 {
            return Err(OpenError::HeaderSize { found: size });
        }
        let header = FileHeader::from_bytes(header).ok_or(OpenError::Header { needed: size, len })?;
        Self::with_header(Form::File, header, source, len)
    }

    /// The byte order and the size of the header that starts with these bytes.
    fn check_magic(bytes: &[u8]) -> Result<(ByteOrder, u64), OpenError> {
        if bytes.is_empty() {
            return Err(OpenError::Empty);
        }
        let magic = bytes.first_chunk::<8>();
        if magic == Some(b"PERFFILE") || magic == Some(b"ELIFFREP") {
            return Err(OpenError::Version1);
        }
        let Some(order) = magic.and_then(|magic| FileHeader::order_of(*magic)) else {
            return Err(OpenError::Magic { found: bytes.get(..8).unwrap_or(bytes).to_vec() });
        };
        let size = crate::record::bytes::int_at::<u64>(bytes, 8, order);
        let len = bytes.len() as u64;
        Ok((order, size.ok_or(OpenError::Header { needed: FileHeader::PIPE_SIZE as u64, len })?))
    }

    fn with_header(form: Form, header: FileHeader, source: Arc<dyn ReadAt>, len: u64) -> Result<Self, OpenError> {
        let mut metadata = Metadata::of_file(form, header, Arc::clone(&source), len)?;
        let is_unfinished = metadata.is_unfinished();
        let mut end = header.data.end().unwrap_or(u64::MAX);
        if is_unfinished {
            metadata.warn(Warning::Unfinished);
            end = len.max(header.data.offset);
        } else if end > len {
            metadata.warn(Warning::Short { end, len });
        }
        let Section { offset: next, .. } = header.data;
        let scanner = Scanner::new(Input::At { source, next, end }, header.order, is_unfinished);
        Ok(Self { metadata, sources: vec![Source::Bytes(scanner)] })
    }

    fn from_pipe(order: ByteOrder, input: Input) -> Self {
        let scanner = Scanner::new(input, order, false);
        Self { metadata: Metadata::new(Form::Pipe, order), sources: vec![Source::Bytes(scanner)] }
    }

    /// Opens a stream, as `perf record -o -` writes it.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; [`OpenError::Seek`] where it is a file that came through a pipe.
    pub fn from_stream(mut source: impl Read + Send + 'static) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { what: "read the header".to_owned(), source };
        let mut header = Vec::new();
        let size = FileHeader::PIPE_SIZE;
        source.by_ref().take(size as u64).read_to_end(&mut header).map_err(failed)?;
        match Self::check_magic(&header)? {
            (order, size) if size == FileHeader::PIPE_SIZE as u64 => {
                Ok(Self::from_pipe(order, Input::Stream { source: Box::new(source), next: size }))
            }
            (_, size) if size == FileHeader::SIZE as u64 => Err(OpenError::Seek),
            (_, found) => Err(OpenError::HeaderSize { found }),
        }
    }

    /// Opens the directory that `perf record --threads` makes: the file `data` with the header, and `data.0`, `data.1` and so
    /// on with nothing but records.
    fn open_directory(path: &Path) -> Result<Self, OpenError> {
        let open = |path: &Path| {
            let failed = |source| OpenError::Io { what: format!("open {}", path.display()), source };
            // A FIFO is refused, and nobody is waited for.
            let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
            let len = file.metadata().map_err(failed)?;
            match len.is_file() {
                true => Ok((file, len.len())),
                false => Err(failed(io::Error::other("it is no file"))),
            }
        };
        let first = path.join("data");
        if !first.exists() {
            return Err(OpenError::Directory);
        }
        let (file, _) = open(&first)?;
        let mut recording = Self::from_read_at(file)?;
        if recording.metadata.form() != Form::File {
            return Err(OpenError::PipeInDirectory);
        }
        recording.metadata.set_form(Form::Directory);
        let order = recording.metadata.order();
        for (_, path) in data_files(path)? {
            let (file, len) = open(&path)?;
            let input = Input::At { source: Arc::new(file), next: 0, end: len };
            // Of these no header says how long they are.
            recording.sources.push(Source::Bytes(Scanner::new(input, order, true)));
        }
        Ok(recording)
    }

    /// The records of a ring, those that are there and not yet read: of an image, or of a ring whose writer has ended.
    pub fn from_ring(consumer: Consumer) -> Self {
        let metadata = match consumer.description() {
            Some(description) => Metadata::of_ring(description),
            None => Metadata::new(Form::RingImage, ByteOrder::NATIVE),
        };
        let order = metadata.order();
        Self { metadata, sources: vec![Source::Ring(RingScanner::new(consumer, order))] }
    }

    /// What the recording says of itself. A stream has not said anything yet: see [`Records::metadata`].
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Reads its records.
    pub fn records(self, order: Order) -> Records {
        Records::new(self.metadata, self.sources, order)
    }
}

/// The files `data.N` of a directory, by number.
fn data_files(path: &Path) -> Result<Vec<(u32, PathBuf)>, OpenError> {
    let failed = |source| OpenError::Io { what: format!("list {}", path.display()), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Of several ways to write a number that of perf.
        let number = entry.file_name().to_str().and_then(|name| {
            let text = name.strip_prefix("data.")?;
            text.parse::<u32>().ok().filter(|number| number.to_string() == text)
        });
        files.extend(number.map(|number| (number, entry.path())));
        if files.len() > Recording::MAX_FILES {
            return Err(failed(io::Error::other(format!("more than {} files", Recording::MAX_FILES))));
        }
    }
    files.sort();
    Ok(files)
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}
