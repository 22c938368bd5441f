//! What a recording says of itself, as text.

use super::output::{Complaints, Failure, stdout};
use perfring::replay::perf_data::Feature;
use perfring::replay::{Metadata, Records};
use std::io::Write;
use std::path::Path;

/// Prints events and features. A stream is read to its end first, as it says them little by little.
pub(super) fn write(path: &Path, mut records: Records, complaints: &mut Complaints) -> Result<(), Failure> {
    if records.metadata().form() == perfring::replay::Form::Pipe {
        while let Some(batch) = records.next_batch(512) {
            if let Err(error) = batch {
                complaints.defect(&error);
            }
        }
    }
    let metadata = records.metadata();
    let mut out = stdout();
    writeln!(out, "form: {:?}, {:?} endian", metadata.form(), metadata.order())?;
    for (number, event) in metadata.events().iter().enumerate() {
        let name = event.name.as_deref().unwrap_or("without a name");
        writeln!(out, "event {number}: {name}, ids {:?}", event.ids)?;
        writeln!(out, "  {:?}", event.attr)?;
    }
    features(path, metadata, &mut out, complaints)?;
    complaints.warnings(metadata);
    Ok(out.flush()?)
}

fn features(
    path: &Path,
    metadata: &Metadata,
    out: &mut impl Write,
    complaints: &mut Complaints,
) -> Result<(), Failure> {
    for id in metadata.features() {
        let bytes = metadata.feature_bytes(id).map_err(|error| Failure::file("read", path, error))?;
        let Some(bytes) = bytes else { continue };
        match Feature::decode(id, &bytes, metadata.order()) {
            Ok(feature) => {
                let text = feature.to_string();
                match text.lines().count() {
                    0 => writeln!(out, "{id}")?,
                    1 => writeln!(out, "{id}: {}", text.trim_end())?,
                    _ => {
                        writeln!(out, "{id}:")?;
                        text.lines().try_for_each(|line| writeln!(out, "  {line}"))?;
                    }
                }
            }
            Err(error) => complaints.feature(&error),
        }
    }
    Ok(())
}
