//! What a program may do with its context.

use std::ops::Range;
use thiserror::Error;

/// The largest context that has fields.
pub const MAX_CONTEXT_SIZE: usize = 2048;

/// Something that lies elsewhere and to which a field of the context leads. Its address never stands in the bytes of the
/// context: a load of the field gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pointer {
    /// The first byte of the packet.
    Packet,
    /// The byte behind the packet's last.
    PacketEnd,
    /// The first byte of the writable buffer with this id; 0 while it is closed.
    Buffer(u32),
    /// The byte behind the last of that buffer; 0 while it is closed.
    BufferEnd(u32),
}

/// What programs may do with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldKind {
    /// Numbers of `element` bytes each.
    Scalar {
        /// Bytes of an element: 1, 2, 4 or 8.
        element: u8,
        /// Whether a part of an element may be loaded, aligned to its own size.
        narrow: bool,
        /// Whether programs may store to it, whole elements at a time.
        writable: bool,
        /// Whether loads, and where it is writable stores, may be of 1, 2, 4 and 8 bytes, whatever the elements are: all within
        /// the field, and aligned to their size from the start of the context.
        any_size: bool,
    },
    /// An address, loaded whole; in registers it has 64 bits, whatever the size of the field.
    Pointer(Pointer),
}

/// A field of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name, for messages and for access by name.
    pub name: String,
    /// Bytes from the start of the context.
    pub offset: u32,
    /// Bytes: a multiple of the element's, for an array of them.
    pub size: u32,
    /// What programs may do with it.
    pub kind: FieldKind,
}

impl Field {
    /// An element, or an array of `count` elements, of `element` bytes, that programs read, in parts too.
    pub fn read_only(name: &str, offset: u32, element: u8, count: u32) -> Self {
        let kind = FieldKind::Scalar { element, narrow: true, writable: false, any_size: false };
        Self { name: name.to_owned(), offset, size: u32::from(element).saturating_mul(count), kind }
    }

    /// The same, read as whole elements only.
    #[must_use]
    pub fn whole(mut self) -> Self {
        if let FieldKind::Scalar { narrow, .. } = &mut self.kind {
            *narrow = false;
        }
        self
    }

    /// The same, and stores of whole elements.
    #[must_use]
    pub fn writable(mut self) -> Self {
        if let FieldKind::Scalar { writable, .. } = &mut self.kind {
            *writable = true;
        }
        self
    }

    /// The same, loaded, and where it is writable stored to, by 1, 2, 4 or 8 bytes: wherever they are within the field, and
    /// aligned to their size from the start of the context.
    #[must_use]
    pub fn any_size(mut self) -> Self {
        if let FieldKind::Scalar { any_size, .. } = &mut self.kind {
            *any_size = true;
        }
        self
    }

    /// An address, in a field of `size` bytes: 4 or 8.
    pub fn pointer(name: &str, offset: u32, size: u8, pointer: Pointer) -> Self {
        Self { name: name.to_owned(), offset, size: u32::from(size), kind: FieldKind::Pointer(pointer) }
    }

    fn buffer(&self) -> Option<u32> {
        match self.kind {
            FieldKind::Pointer(Pointer::Buffer(id) | Pointer::BufferEnd(id)) => Some(id),
            _ => None,
        }
    }

    fn range(&self) -> Range<u64> {
        u64::from(self.offset)..u64::from(self.offset) + u64::from(self.size)
    }

    /// The accesses that may start `at` bytes behind its start: loads of 1, 2, 4 and 8 bytes in the lower bits, stores in the upper
    /// ones. None of addresses.
    fn allowed(&self, at: u32) -> u8 {
        let FieldKind::Scalar { element, narrow, writable, any_size } = self.kind else { return 0 };
        let sizes = |may: &dyn Fn(u8) -> bool| -> u8 { [1, 2, 4, 8].into_iter().filter(|size| may(*size)).sum() };
        let fits = |size: u8| {
            let size = u32::from(size);
            any_size && (self.offset + at).is_multiple_of(size) && at + size <= self.size
        };
        let loads = |size: u8| {
            fits(size) || (at.is_multiple_of(size.into()) && (size == element || (narrow && size < element)))
        };
        let stores = |size: u8| writable && (fits(size) || (size == element && at.is_multiple_of(element.into())));
        sizes(&loads) | sizes(&stores) << 4
    }
}

/// What is wrong with a layout.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// A field with elements of 0, 3, 5, 6, 7 or more than 8 bytes, or a pointer that has not 4 or 8.
    #[error("the field {name} has elements of {size} bytes")]
    Element {
        /// Field.
        name: String,
        /// Bytes.
        size: u32,
    },
    /// A field that is not aligned, or whose size is not one of whole elements.
    #[error("the field {name} of {size} bytes at {offset} is not aligned to its elements")]
    Misaligned {
        /// Field.
        name: String,
        /// Its offset.
        offset: u32,
        /// Its size.
        size: u32,
    },
    /// A field that ends behind the context, or a context larger than [`MAX_CONTEXT_SIZE`].
    #[error("the field {name} ends at {end} of a context of {size} bytes, of which there may be {MAX_CONTEXT_SIZE}")]
    Outside {
        /// Field.
        name: String,
        /// Where it ends.
        end: u64,
        /// Bytes in the context.
        size: u32,
    },
    /// Two fields with a byte in common.
    #[error("the fields {first} and {second} overlap")]
    Overlap {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A buffer with only one of its two fields, or with one of them twice.
    #[error("the buffer {id} has {starts} fields for its start, and {ends} for its end")]
    Buffer {
        /// Its id.
        id: u32,
        /// Fields for the start.
        starts: usize,
        /// Fields for the end.
        ends: usize,
    },
}

/// What an access to the context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextAccess {
    /// Of the context's own bytes, where they are.
    Bytes,
    /// A load of an address.
    Pointer(Pointer),
}

/// What a context holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextLayout {
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// Bytes of any number, for accesses of any size and alignment.
    Memory { writable: bool, hidden: u32 },
    Fields {
        size: u32,
        fields: Vec<Field>,
        /// For each byte of the context the accesses that may start there: loads of 1, 2, 4 and 8 bytes in the lower bits, stores
        /// in the upper ones. Loads of addresses are not among them.
        allowed: Box<[u8]>,
        /// The ids of the writable buffers.
        buffers: Vec<u32>,
    },
}

impl ContextLayout {
    /// Plain memory, as many bytes as a run brings; of the first `hidden` programs see nothing.
    pub const fn memory(writable: bool, hidden: u32) -> Self {
        Self { shape: Shape::Memory { writable, hidden } }
    }

    /// A struct of `size` bytes. What no field covers can't be accessed.
    ///
    /// # Errors
    /// [`LayoutError`]
    pub fn fields(size: u32, fields: impl Into<Vec<Field>>) -> Result<Self, LayoutError> {
        let mut fields = fields.into();
        fields.sort_by_key(|field| field.offset);
        for field in &fields {
            let (name, offset) = (field.name.clone(), field.offset);
            let element = match field.kind {
                FieldKind::Scalar { element, .. } => u32::from(element),
                FieldKind::Pointer(_) => field.size,
            };
            let sizes: &[u32] = if matches!(field.kind, FieldKind::Pointer(_)) { &[4, 8] } else { &[1, 2, 4, 8] };
            if !sizes.contains(&element) {
                return Err(LayoutError::Element { name, size: element });
            }
            if !offset.is_multiple_of(element) || !field.size.is_multiple_of(element) || field.size == 0 {
                return Err(LayoutError::Misaligned { name, offset, size: field.size });
            }
            let end = field.range().end;
            if end > u64::from(size) || size as usize > MAX_CONTEXT_SIZE {
                return Err(LayoutError::Outside { name, end, size });
            }
        }
        if let Some([first, second]) =
            fields.array_windows().find(|[first, second]| first.range().end > second.range().start)
        {
            return Err(LayoutError::Overlap { first: first.name.clone(), second: second.name.clone() });
        }
        let mut allowed = vec![0; size as usize].into_boxed_slice();
        for field in &fields {
            for (at, accesses) in (0..).zip(&mut allowed[field.offset as usize..field.range().end as usize]) {
                *accesses = field.allowed(at);
            }
        }
        let mut buffers: Vec<u32> = fields.iter().filter_map(Field::buffer).collect();
        buffers.sort_unstable();
        buffers.dedup();
        let this = Self { shape: Shape::Fields { size, fields, allowed, buffers } };
        for id in this.buffers().iter().copied() {
            let count = |wanted| this.all().iter().filter(|field| field.kind == FieldKind::Pointer(wanted)).count();
            let (starts, ends) = (count(Pointer::Buffer(id)), count(Pointer::BufferEnd(id)));
            if (starts, ends) != (1, 1) {
                return Err(LayoutError::Buffer { id, starts, ends });
            }
        }
        Ok(this)
    }

    /// Bytes in a context; none where it is as long as a run makes it.
    pub fn size(&self) -> Option<usize> {
        match &self.shape {
            Shape::Memory { .. } => None,
            Shape::Fields { size, .. } => Some(*size as usize),
        }
    }

    /// Bytes at the start that programs see nothing of.
    pub(crate) fn hidden(&self) -> u64 {
        match self.shape {
            Shape::Memory { hidden, .. } => u64::from(hidden),
            Shape::Fields { .. } => 0,
        }
    }

    /// The fields, by their offsets; none where it is plain memory.
    pub fn all(&self) -> &[Field] {
        match &self.shape {
            Shape::Memory { .. } => &[],
            Shape::Fields { fields, .. } => fields,
        }
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.all().iter().find(|field| field.name == name)
    }

    /// For each byte the sizes of loads that may start there, but those of addresses, in the lower bits; empty where it is plain
    /// memory.
    pub(crate) fn allowed(&self) -> &[u8] {
        match &self.shape {
            Shape::Memory { .. } => &[],
            Shape::Fields { allowed, .. } => allowed,
        }
    }

    /// Whether a field leads to a packet.
    pub(crate) fn has_packet(&self) -> bool {
        self.all().iter().any(|field| field.kind == FieldKind::Pointer(Pointer::Packet))
    }

    /// The ids of the writable buffers.
    pub fn buffers(&self) -> &[u32] {
        match &self.shape {
            Shape::Memory { .. } => &[],
            Shape::Fields { buffers, .. } => buffers,
        }
    }

    /// What an access of `size` bytes at `offset` is, for a context of `len` bytes; none if programs may not make it.
    #[inline]
    pub fn access(&self, offset: u64, size: usize, write: bool, len: usize) -> Option<ContextAccess> {
        match &self.shape {
            Shape::Memory { writable, hidden } => {
                let end = len as u64 + u64::from(cfg!(perfring_planted_bug));
                let inside = offset >= u64::from(*hidden) && offset.checked_add(size as u64)? <= end;
                (inside && (*writable || !write)).then_some(ContextAccess::Bytes)
            }
            Shape::Fields { fields, allowed, .. } => {
                let accesses = *allowed.get(usize::try_from(offset).ok()?)?;
                let bit = u8::try_from(size).ok().filter(|size| size.is_power_of_two() && *size <= 8)?;
                if accesses & if write { bit << 4 } else { bit } != 0 {
                    return Some(ContextAccess::Bytes);
                }
                if write {
                    return None;
                }
                fields.iter().find_map(|field| match field.kind {
                    FieldKind::Pointer(pointer)
                        if u64::from(field.offset) == offset && field.size == u32::from(bit) =>
                    {
                        Some(ContextAccess::Pointer(pointer))
                    }
                    _ => None,
                })
            }
        }
    }
}
