//! Ring images out of recordings, and recordings out of ring images.

use super::output::{Complaints, Failure, Outcome, create};
use perfring::replay::perf_data::{WriteOptions, Writer};
use perfring::replay::{Order, Recording, Records, RingImage, Shape, copy};
use std::path::Path;

/// Writes an image of a ring that holds all records of a recording that a ring can hold.
pub(super) fn write(records: Records, shape: Shape, file: &Path, image: &Path) -> Result<Outcome, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::file("write", image, error);
    let out = create(image, file)?;
    let mut complaints = Complaints::default();
    let mut written = RingImage::start(records, shape, out).map_err(|error| failed(&error))?;
    while let Some(error) = written.copy().map_err(|error| failed(&error))? {
        complaints.defect(&error);
    }
    complaints.warnings(written.records().metadata());
    let (stats, description) = written.finish().map_err(|error| failed(&error))?;
    say!(
        "{} records, {} bytes, in a ring of {} bytes; {} records left out that no ring holds",
        stats.records,
        stats.bytes,
        description.data_size,
        stats.beside,
    );
    Ok(complaints.outcome(file))
}

/// Writes a `perf.data` file that holds what a recording does.
pub(super) fn write_data(
    recording: Recording,
    order: Order,
    level: Option<u8>,
    file: &Path,
    data: &Path,
) -> Result<Outcome, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::file("write", data, error);
    let options = WriteOptions::default().order(recording.metadata().order());
    let options = match level {
        Some(level) => options.zstd(level),
        None => options,
    };
    let mut complaints = Complaints::default();
    complaints.warnings(recording.metadata());
    let out = create(data, file)?;
    let writer = Writer::file(out, options).map_err(|error| failed(&error))?;
    let copied = copy(recording.records(order), writer, |defect| complaints.defect(defect));
    let copied = copied.map_err(|error| failed(&error))?;
    say!(
        "{} records, and {} of perf, in {} bytes; {} left out",
        copied.records,
        copied.user,
        copied.written.data,
        copied.left_out
    );
    Ok(complaints.outcome(file))
}
