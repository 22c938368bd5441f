//! What programs can look up of the probes that fire them.

use super::error::SessionError;
use super::probe::ProbeInfo;
use crate::bpf::map::{Map, MapType, UpdateFlags};

/// The name of the map.
pub(super) const MAP: &str = "dtrace_probes";
/// Bytes of provider, module, function and name in `struct dtrace_probe`, each with a 0 at the end.
const TEXTS: [usize; 4] = [64, 64, 128, 64];
/// Bytes of `struct dtrace_probe`.
const SIZE: usize = 328;

/// Fills the map: the probe of number n is element n.
pub(super) fn fill<'a>(map: &Map, probes: impl ExactSizeIterator<Item = &'a ProbeInfo>) -> Result<(), SessionError> {
    let def = map.def();
    if def.type_ != MapType::Array || def.value_size as usize != SIZE {
        return Err(SessionError::ProbesMap { type_: def.type_, value_size: def.value_size });
    }
    if probes.len() >= def.max_entries as usize {
        return Err(SessionError::TooManyProbes { probes: probes.len(), entries: def.max_entries });
    }
    for (number, info) in (1_u32..).zip(probes) {
        let mut value = [0; SIZE];
        let mut at = 0;
        let name = &info.name;
        let texts = [&name.provider, &name.module, &name.function, &name.name];
        for (text, size) in texts.into_iter().zip(TEXTS) {
            let len = text.floor_char_boundary(size - 1);
            value[at..at + len].copy_from_slice(&text.as_bytes()[..len]);
            at += size;
        }
        let numbers = [info.args.len() as u32, info.stability as u32];
        for (to, number) in value[at..].chunks_exact_mut(4).zip(numbers) {
            to.copy_from_slice(&number.to_ne_bytes());
        }
        map.update(&number.to_ne_bytes(), &value, UpdateFlags::Any)?;
    }
    Ok(())
}
