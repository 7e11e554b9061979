//! `credential-proxy audit`.

use std::path::PathBuf;

use drawbridge_shared::exit::Exit;

use super::{Failure, output};
use crate::observe::audit;

pub(super) fn verify(files: &[PathBuf], anchor: Option<&str>) -> Result<Exit, Failure> {
    let anchor = anchor.map(str::parse).transpose().map_err(Failure::usage)?;
    let report = audit::verify(files, anchor).map_err(Failure::infrastructure)?;
    let (first, last) = (report.first, report.last.seq);
    let records = report.records;
    output::line(&format!(
        "intact: {records} records, {first} to {last}; anchor {}",
        report.last
    ));
    Ok(Exit::Success)
}
