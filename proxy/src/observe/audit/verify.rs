//! Checks audit files against their own chain and an anchor.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::chain::{self, Anchor};

/// No record is near this long; what is, is not one.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// The content of intact files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The number of records.
    pub records: u64,
    /// Number of the first one. More than 1 when earlier files were not given.
    pub first: u64,
    /// The last one: an anchor for the next verification.
    pub last: Anchor,
}

/// A fault of audit files, and its place.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not a record, or its hash does not fit its text.
    #[error("{} line {line} was changed: {what}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// The fault.
        what: &'static str,
    },
    /// A record does not follow the one before it.
    #[error(
        "{} line {line}: record {found} follows record {before}; records were removed, added or moved",
        path.display()
    )]
    OutOfOrder {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// The number of the record there.
        found: u64,
        /// The number of the record before it.
        before: u64,
    },
    /// The anchored record is not there.
    #[error("record {anchor} is missing: the records end at {last}, so their end was cut off")]
    CutOff {
        /// The number of the anchored record.
        anchor: u64,
        /// The number of the last record there.
        last: u64,
    },
    /// The anchored record is there with another hash.
    #[error("record {0} is not the anchored one: the records were written anew")]
    Rewritten(u64),
    /// The anchored record is before the first one given.
    #[error("record {anchor} is before the first one given, {first}")]
    NotGiven {
        /// The number of the anchored record.
        anchor: u64,
        /// The number of the first record there.
        first: u64,
    },
}

impl VerifyError {
    /// The fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NotGiven { .. } => Some("give the earlier files too, oldest first".into()),
            _ => None,
        }
    }
}

/// Verifies files that continue each other, oldest first.
///
/// # Errors
/// They are not as they were written; see [`VerifyError`].
pub fn verify(files: &[PathBuf], anchor: Option<Anchor>) -> Result<Report, VerifyError> {
    let mut walk = Walk::default();
    for path in files {
        walk.file(path, anchor)?;
    }
    let (first, last) = walk.ends.unwrap_or((1, Anchor::START));
    if let Some(anchor) = anchor.filter(|anchor| anchor.seq > 0) {
        if anchor.seq > last.seq {
            let (anchor, last) = (anchor.seq, last.seq);
            return Err(VerifyError::CutOff { anchor, last });
        }
        // The record right before the first one is vouched for by its link.
        if anchor.seq + 1 < first {
            let anchor = anchor.seq;
            return Err(VerifyError::NotGiven { anchor, first });
        }
    }
    Ok(Report {
        records: walk.records,
        first,
        last,
    })
}

#[derive(Default)]
struct Walk {
    records: u64,
    /// Number of the first record, and the last record.
    ends: Option<(u64, Anchor)>,
}

impl Walk {
    fn file(&mut self, path: &Path, anchor: Option<Anchor>) -> Result<(), VerifyError> {
        let unreadable = |source| VerifyError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            let mut bounded = Read::take(&mut file, MAX_LINE_BYTES);
            if bounded.read_until(b'\n', &mut text).map_err(unreadable)? == 0 {
                break;
            }
            let changed = |what| VerifyError::Changed {
                path: path.to_owned(),
                line,
                what,
            };
            let record = text
                .strip_suffix(b"\n")
                .ok_or_else(|| changed("its end is missing"))?;
            let link = chain::read(record).ok_or_else(|| changed("it is not a record"))?;
            if !link.is_genuine {
                return Err(changed("its hash does not fit its text"));
            }
            let (first, before) = match self.ends {
                Some(ends) => ends,
                // The first record given may continue a file that is not.
                None => (
                    link.place.seq,
                    Anchor {
                        seq: link.place.seq.saturating_sub(1),
                        hash: link.prev,
                    },
                ),
            };
            let is_start_forged = before.seq == 0 && link.prev != Anchor::START.hash;
            if link.place.seq != before.seq + 1 || link.prev != before.hash || is_start_forged {
                return Err(VerifyError::OutOfOrder {
                    path: path.to_owned(),
                    line,
                    found: link.place.seq,
                    before: before.seq,
                });
            }
            for place in [before, link.place] {
                if anchor.is_some_and(|anchor| anchor.seq == place.seq && anchor != place) {
                    return Err(VerifyError::Rewritten(place.seq));
                }
            }
            self.records += 1;
            self.ends = Some((first, link.place));
        }
        Ok(())
    }
}
