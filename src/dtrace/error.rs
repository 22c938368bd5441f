//! What goes wrong with sessions.

use super::name::{PatternError, ProbeName};
use crate::bpf::map::{MapError, MapType};
use crate::bpf::{EventError, LoaderError, SetEventError};
use crate::record::LayoutError;
use crate::ring::SetupError;
use std::sync::Arc;
use thiserror::Error;

/// Why a session cannot do what it was asked for.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The object was not loaded.
    #[error(transparent)]
    Load(Arc<LoaderError>),
    /// A ring could not be made.
    #[error(transparent)]
    Ring(Arc<SetupError>),
    /// Samples of this type cannot be decoded.
    #[error(transparent)]
    SampleType(LayoutError),
    /// Samples of this type cannot be filled in.
    #[error(transparent)]
    Event(EventError),
    /// An event could not be put into its map.
    #[error(transparent)]
    SetEvent(#[from] SetEventError),
    /// A map could not be used.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A text that is no pattern of probes.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The object has no such program, or it was not loaded.
    #[error("there is no program {program}")]
    NoProgram {
        /// Its name.
        program: String,
    },
    /// A program of a type that the probe does not fire.
    #[error("{program}: the probe {probe} does not fire programs of type {type_}")]
    ProgramType {
        /// The program.
        program: String,
        /// Its type.
        type_: String,
        /// The probe.
        probe: Box<ProbeName>,
    },
    /// The session has no such probe, or it is not for the one who asked to fire it.
    #[error("there is no probe {id} to be fired")]
    NoProbe {
        /// Its number.
        id: u32,
    },
    /// The map `dtrace_probes` is not what the header says.
    #[error("the map dtrace_probes is of type {} with values of {value_size} bytes, not an array of struct dtrace_probe", type_.name())]
    ProbesMap {
        /// Its type.
        type_: MapType,
        /// Bytes of its values.
        value_size: u32,
    },
    /// The map `dtrace_probes` has fewer elements than there are probes, and one.
    #[error("the map dtrace_probes has {entries} elements, not one for each of {probes} probes, and element 0")]
    TooManyProbes {
        /// How many have programs.
        probes: usize,
        /// Elements.
        entries: u32,
    },
    /// The session is enabled, or was: programs are attached before, and it is enabled once.
    #[error("the session is enabled, or was")]
    Enabled,
    /// This thread runs a program, or is in a signal handler that came at a bad time.
    #[error("this thread runs a program, or changes a map")]
    Reentrant,
}

impl From<LoaderError> for SessionError {
    fn from(error: LoaderError) -> Self {
        Self::Load(Arc::new(error))
    }
}

impl From<SetupError> for SessionError {
    fn from(error: SetupError) -> Self {
        Self::Ring(Arc::new(error))
    }
}
