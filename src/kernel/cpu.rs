//! Which CPUs there are.

use std::io;
use std::path::Path;

use crate::kernel::Error;

const ONLINE: &str = "/sys/devices/system/cpu/online";

/// The CPUs that are online now, in ascending order, from `/sys/devices/system/cpu/online`.
///
/// # Errors
///
/// [`Error::Read`] when the file cannot be read or is not a CPU list.
///
/// ```
/// # fn main() -> Result<(), perfring::kernel::Error> {
/// assert!(!perfring::kernel::online_cpus()?.is_empty());
/// # Ok(())
/// # }
/// ```
pub fn online_cpus() -> Result<Vec<u32>, Error> {
    let failed = |source| Error::Read { path: ONLINE.into(), source };
    let text = std::fs::read_to_string(Path::new(ONLINE)).map_err(failed)?;
    parse(&text)
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is not a list of CPUs"))))
}

/// The list as the kernel writes it, for messages.
pub(super) fn online_text() -> String {
    std::fs::read_to_string(ONLINE).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// `0-3,6` and the like.
pub(super) fn parse(text: &str) -> Option<Vec<u32>> {
    // Beyond any machine; keeps a damaged list from filling the memory.
    const MOST: u32 = 1 << 20;
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST || cpus.last().is_some_and(|&before| before >= first) {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lists() {
        assert_eq!(parse("0\n"), Some(vec![0]));
        assert_eq!(parse("0-3,6,8-9\n"), Some(vec![0, 1, 2, 3, 6, 8, 9]));
        for damaged in ["", "\n", "a", "1-", "3-1", "1,1", "2,0-1", "0-4294967295", "-1", "0,,1"] {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
    }
}
