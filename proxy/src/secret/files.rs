//! Reading of files that hold secrets.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::unavailable::Unavailable;

/// Largest file that is read as a credential, in bytes; a login file with a
/// few tokens has some 10 KB.
const MAX_BYTES: u64 = 1024 * 1024;

/// Longest wait for a file, which may be on a file system that hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// The whole content of a small regular file, read on another thread, as its
/// file system may be slow.
pub(crate) async fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Unavailable> {
    blocking(path, read_now).await
}

/// As [`read`], on this thread.
pub(crate) fn read_now(path: &Path) -> Result<Zeroizing<Vec<u8>>, Unavailable> {
    read_if_exists(path)?.ok_or_else(|| {
        Unavailable::missing(format!("the file {} does not exist", path.display()))
            .with_hint("create the file, or correct its path in the configuration")
    })
}

/// Does blocking work on a file in another thread, within a deadline.
pub(crate) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, Unavailable> + Send + 'static,
) -> Result<T, Unavailable> {
    let failed = |error| Unavailable::broken(format!("cannot read {}", path.display()), error);
    let owned = path.to_owned();
    let task = tokio::task::spawn_blocking(move || work(&owned));
    match tokio::time::timeout(DEADLINE, task).await {
        Ok(done) => done.unwrap_or_else(|error| Err(failed(io::Error::other(error)))),
        Err(_elapsed) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}

/// As [`read`]; a file that does not exist is nothing.
pub(crate) fn read_if_exists(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Unavailable> {
    match read_bounded(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unavailable::broken(
            format!("cannot read {}", path.display()),
            error,
        )),
    }
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    if metadata.len() > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has {} bytes, more than {MAX_BYTES}", metadata.len()),
        ));
    }
    // With room for all of it, no copy is left behind in a buffer that grew.
    let room = usize::try_from(metadata.len()).unwrap_or_default() + 64;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    File::open(path)?
        .take(MAX_BYTES)
        .read_to_end(&mut content)?;
    Ok(content)
}
