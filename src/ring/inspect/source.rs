//! Where the bytes of an inspected ring come from.

use super::InspectError;
use crate::ring::Mode;
use crate::ring::describe::{Description, MAX_HEADER};
use crate::ring::error::AttachError;
use crate::ring::layout::{DATA_TAIL, Geometry, describe as at};
use crate::ring::open::{RingFds, read_description};
use crate::ring::order::Site;
use crate::sync::fence_at;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A ring's header area and data area.
#[derive(Debug)]
pub(super) enum Bytes<'a> {
    Image(&'a [u8]),
    File(File),
    Memfds { header: File, data: File },
}

fn io(doing: &'static str) -> impl Fn(io::Error) -> AttachError {
    move |source| AttachError::Io { doing, source }
}

impl Bytes<'_> {
    pub(super) fn open(path: &Path) -> Result<Self, AttachError> {
        File::open(path).map(Self::File).map_err(io("open the ring file"))
    }

    pub(super) fn of(fds: &RingFds) -> Result<Self, AttachError> {
        let duplicate = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().map(File::from);
        let io = io("duplicate the ring's descriptors");
        Ok(Self::Memfds { header: duplicate(&fds.header).map_err(&io)?, data: duplicate(&fds.data).map_err(&io)? })
    }

    pub(super) fn describe(&self) -> Result<Description, AttachError> {
        match self {
            Self::Image(image) => {
                let header = image.get(..image.len().min(MAX_HEADER as usize)).unwrap_or_default();
                Description::parse(header, image.len() as u64)
            }
            Self::File(file) => read_description(file),
            Self::Memfds { header, data } => {
                let io = io("read the ring's header");
                let header_len = header.metadata().map_err(&io)?.len();
                let data_len = data.metadata().map_err(&io)?.len();
                let mut area = vec![0; header_len.min(MAX_HEADER) as usize];
                header.read_exact_at(&mut area, 0).map_err(&io)?;
                let description = Description::parse(&area, u64::MAX)?;
                if header_len < description.data_offset || data_len < description.data_size {
                    let len = header_len.saturating_add(data_len);
                    return Err(AttachError::Truncated { len, needed: description.len() });
                }
                Ok(description)
            }
        }
    }

    /// Fills `into` with the bytes from `offset` of the data area on.
    fn read(&self, data_offset: u64, offset: u64, into: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Image(image) => {
                let from = usize::try_from(data_offset + offset).unwrap_or(usize::MAX);
                let bytes = image.get(from..).and_then(|rest| rest.get(..into.len()));
                into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File(file) => file.read_exact_at(into, data_offset + offset),
            Self::Memfds { data, .. } => data.read_exact_at(into, offset),
        }
    }

    /// A word of the header page as it is now. `None`: nobody changes it.
    fn header_word(&self, at: usize) -> Option<io::Result<u64>> {
        let file = match self {
            Self::Image(_) => return None,
            Self::File(file) | Self::Memfds { header: file, .. } => file,
        };
        let mut word = [0; 8];
        Some(file.read_exact_at(&mut word, at as u64).map(|()| u64::from_ne_bytes(word)))
    }
}

/// One page of the data area at a time, and what of it could not have been overwritten when it was read.
#[derive(Debug)]
pub(super) struct PageReader<'a> {
    bytes: &'a Bytes<'a>,
    geometry: Geometry,
    mode: Mode,
    data_offset: u64,
    page: Option<u64>,
    buffer: Vec<u8>,
    /// Where the producer, or in a lossless ring the consumer, stood when the page was read.
    moved: Option<u64>,
}

impl<'a> PageReader<'a> {
    pub(super) fn new(bytes: &'a Bytes<'a>, description: &Description, geometry: Geometry) -> Self {
        let (mode, data_offset) = (description.mode, description.data_offset);
        Self { bytes, geometry, mode, data_offset, page: None, buffer: Vec::new(), moved: None }
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Reads the page that `position` lies in, unless it is the one that is there.
    pub(super) fn load(&mut self, position: u64) -> Result<(), InspectError> {
        let granule = self.geometry.granule();
        let page = self.geometry.offset(position) as u64 / granule;
        if self.page == Some(page) {
            return Ok(());
        }
        let failed = |source| InspectError::Read { page, source };
        self.page = None;
        self.buffer.resize(granule as usize, 0);
        self.bytes.read(self.data_offset, page * granule, &mut self.buffer).map_err(failed)?;
        // What is read of the header next is not older than the page.
        fence_at!(Site::SnapshotFence);
        let limit = if self.mode == Mode::Lossless { DATA_TAIL } else { at::RESERVED };
        self.moved = self.bytes.header_word(limit).transpose().map_err(failed)?;
        self.page = Some(page);
        Ok(())
    }

    /// The bytes from `position` on to the end of the page that is there.
    pub(super) fn rest(&self, position: u64) -> &[u8] {
        let within = position & (self.geometry.granule() - 1);
        self.buffer.get(within as usize..).unwrap_or_default()
    }

    pub(super) fn word(&self, position: u64) -> u64 {
        self.rest(position).first_chunk().map_or(0, |word| u64::from_ne_bytes(*word))
    }

    /// In rings that grow forward, the position from which on nothing was overwritten when the page was read.
    pub(super) fn valid_from(&self) -> Option<u64> {
        let moved = self.moved.filter(|moved| moved.is_multiple_of(8))?;
        match self.mode {
            Mode::Lossless => Some(moved),
            Mode::OverwriteForward => Some(moved.wrapping_sub(self.geometry.size())),
            Mode::OverwriteBackward => None,
        }
    }

    /// Whether a record starts at [`valid_from`](Self::valid_from).
    pub(super) fn enters_at_limit(&self) -> bool {
        self.mode == Mode::Lossless
    }

    /// In a ring that grows backward, the position up to which nothing was overwritten when the page was read.
    pub(super) fn valid_to(&self) -> Option<u64> {
        let moved = self.moved.filter(|moved| moved.is_multiple_of(8))?;
        (self.mode == Mode::OverwriteBackward).then(|| moved.wrapping_add(self.geometry.size()))
    }
}
