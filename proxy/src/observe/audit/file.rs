//! The audit file on disk: opened, read from its end, and its anchor next to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use drawbridge_shared::file::{Access, Durability, Replacement};

use super::chain::Anchor;

/// Enough for the last record of a file.
const LAST_BYTES: u64 = 1024 * 1024;

pub(super) fn open(path: &Path) -> io::Result<File> {
    // Paths of requests are nobody else's business.
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// The anchor lies next to the file.
pub(super) fn anchor_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".anchor");
    PathBuf::from(name)
}

pub(super) fn read_anchor(path: &Path) -> io::Result<Option<Anchor>> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let anchor = text.parse();
            anchor
                .map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn write_anchor(path: &Path, anchor: Anchor) -> io::Result<()> {
    let line = format!("{anchor}\n");
    // Each batch of records writes it again.
    Replacement::prepare(path, Access::Private)?.write(line.as_bytes(), Durability::Unsynced)
}

/// A crash may leave the beginning of a record, which nobody can have read.
pub(super) fn remove_unfinished(file: &mut File) -> io::Result<Option<u64>> {
    let (start, tail) = read_tail(file)?;
    if tail.is_empty() || tail.ends_with(b"\n") {
        return Ok(None);
    }
    let whole = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    file.set_len(start + whole as u64)?;
    Ok(Some((tail.len() - whole) as u64))
}

pub(super) fn last_line(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let (_, tail) = read_tail(file)?;
    let lines = tail.strip_suffix(b"\n");
    Ok(lines
        .and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next())
        .map(<[u8]>::to_vec))
}

/// The last bytes of a file, and where they begin.
fn read_tail(file: &mut File) -> io::Result<(u64, Vec<u8>)> {
    let start = file.metadata()?.len().saturating_sub(LAST_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    Read::take(file, LAST_BYTES).read_to_end(&mut tail)?;
    Ok((start, tail))
}
