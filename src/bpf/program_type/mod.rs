//! Program types: what the context of a program is, which helpers it has, and from which other types it is called.

mod builtin;
mod context;
mod conversion;

pub use context::{ContextAccess, ContextLayout, Field, FieldKind, LayoutError, MAX_CONTEXT_SIZE, Pointer};
pub use conversion::Conversion;

use super::helper::HelperId;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A program type. Two are equal when one is a clone of the other.
///
/// The types of the kernel have functions of their own; [`ProgramType::builder`] makes others.
#[derive(Clone)]
pub struct ProgramType(Arc<Inner>);

type Accepts = dyn Fn(&ProgramType) -> bool + Send + Sync;
type Convert = dyn Fn(&mut Conversion<'_>) -> bool + Send + Sync;

struct Inner {
    name: String,
    context: ContextLayout,
    helpers: Option<BTreeSet<HelperId>>,
    accepts: Option<Box<Accepts>>,
    convert: Option<Box<Convert>>,
    ecb: Option<Ecb>,
    legacy_packet: bool,
    length: bool,
}

/// Where `finalize_context` stores what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ecb {
    pub(crate) id: u32,
    pub(crate) probe_id: u32,
}

impl PartialEq for ProgramType {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ProgramType {}

impl fmt::Debug for ProgramType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProgramType").field(&self.0.name).finish()
    }
}

impl fmt::Display for ProgramType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.name)
    }
}

impl ProgramType {
    /// A type with this context. It has no helpers, and is called from no other type, unless the builder is told so.
    pub fn builder(name: &str, context: ContextLayout) -> ProgramTypeBuilder {
        ProgramTypeBuilder(Inner {
            name: name.to_owned(),
            context,
            helpers: Some(BTreeSet::new()),
            accepts: None,
            convert: None,
            ecb: None,
            legacy_packet: false,
            length: false,
        })
    }

    /// The uapi's name in lower case, without its prefix.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the context of its programs is.
    pub fn context(&self) -> &ContextLayout {
        &self.0.context
    }

    /// Whether its programs may call this helper.
    pub fn has_helper(&self, id: HelperId) -> bool {
        self.0.helpers.as_ref().is_none_or(|helpers| helpers.contains(&id))
    }

    /// `is_valid_tail_call`: whether its programs may be called from one of the type `source`. Always from their own.
    pub fn is_valid_tail_call(&self, source: &ProgramType) -> bool {
        self == source || self.0.accepts.as_ref().is_some_and(|accepts| accepts(source))
    }

    /// `convert_ctx`: whether the context of a caller was made into one of this type. False where the type has no conversion.
    pub(crate) fn convert(&self, conversion: &mut Conversion<'_>) -> bool {
        self.0.convert.as_ref().is_some_and(|convert| convert(conversion))
    }

    pub(crate) fn ecb(&self) -> Option<Ecb> {
        self.0.ecb
    }

    /// Whether its programs may use the legacy loads from packets.
    pub fn has_legacy_packet(&self) -> bool {
        self.0.legacy_packet
    }

    /// Whether `r2` is the number of bytes in the context when a program starts.
    pub fn has_length(&self) -> bool {
        self.0.length
    }
}

/// Makes a [`ProgramType`].
pub struct ProgramTypeBuilder(Inner);

impl fmt::Debug for ProgramTypeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProgramTypeBuilder").field(&self.0.name).finish()
    }
}

impl ProgramTypeBuilder {
    /// The helpers that its programs may call, beside those named before.
    #[must_use]
    pub fn helpers(mut self, ids: impl IntoIterator<Item = HelperId>) -> Self {
        self.0.helpers.get_or_insert_default().extend(ids);
        self
    }

    /// Its programs may call every helper that there is.
    #[must_use]
    pub fn all_helpers(mut self) -> Self {
        self.0.helpers = None;
        self
    }

    /// Lets programs of the types that `accepts` (`is_valid_tail_call`) agrees to tail-call those of this type. At the call
    /// `convert` (`convert_ctx`) makes the caller's context into one of this type, which is zero when it is called; the call
    /// falls through where it gives false.
    ///
    /// Neither is called where caller and callee are of the same type: the context is then passed on as it is.
    #[must_use]
    pub fn casts(
        mut self,
        accepts: impl Fn(&ProgramType) -> bool + Send + Sync + 'static,
        convert: impl Fn(&mut Conversion<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.0.accepts = Some(Box::new(accepts));
        self.0.convert = Some(Box::new(convert));
        self
    }

    /// Where `finalize_context` stores the two fields of a `struct dtrace_ecb`: bytes from the start of the context, of
    /// 4 bytes each. Without this it refuses the context.
    #[must_use]
    pub fn finalized_at(mut self, ecb_id: u32, probe_id: u32) -> Self {
        self.0.ecb = Some(Ecb { id: ecb_id, probe_id });
        self
    }

    /// Its programs may use the legacy loads from packets (RFC 9669 section 5.5).
    #[must_use]
    pub fn legacy_packet(mut self) -> Self {
        self.0.legacy_packet = true;
        self
    }

    /// `r2` is the number of bytes in the context when a program starts.
    #[must_use]
    pub fn length(mut self) -> Self {
        self.0.length = true;
        self
    }

    /// The type.
    pub fn build(self) -> ProgramType {
        ProgramType(Arc::new(self.0))
    }
}
