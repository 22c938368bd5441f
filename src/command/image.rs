//! Ring images out of recordings.

use super::output::{Complaints, Failure, Outcome};
use perfring::replay::{Records, RingImage, Shape};
use std::path::Path;

/// Writes an image of a ring that holds all records of a recording that a ring can hold.
pub(super) fn write(records: Records, shape: Shape, file: &Path, image: &Path) -> Result<Outcome, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::file("write", image, error);
    let out = std::fs::File::create(image).map_err(|error| failed(&error))?;
    let mut complaints = Complaints::default();
    let mut written = RingImage::start(records, shape, out).map_err(|error| failed(&error))?;
    while let Some(error) = written.copy().map_err(|error| failed(&error))? {
        complaints.defect(&error);
    }
    complaints.warnings(written.records().metadata());
    let (stats, description) = written.finish().map_err(|error| failed(&error))?;
    eprintln!(
        "{} records, {} bytes, in a ring of {} bytes; {} records left out that no ring holds",
        stats.records, stats.bytes, description.data_size, stats.beside,
    );
    Ok(complaints.outcome(file))
}
