//! Which names decide what is read at a path.

use std::path::{Component, Path, PathBuf};

/// More links than a system follows.
const MAX_LINKS: usize = 64;

/// The file itself, links resolved, and each link on the way to it: who can
/// replace one of them decides what is read. The file need not be there.
pub(super) fn names_on_the_way(path: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let (at, target) = up_to_a_link(&path, &mut names);
        names.push(at);
        match target {
            Some(target) => path = target,
            None => break,
        }
    }
    names
}

/// The first link in a path, and the path with that link followed; or else the
/// path, plain. What `..` leaves again could be a link the next time.
fn up_to_a_link(path: &Path, left: &mut Vec<PathBuf>) -> (PathBuf, Option<PathBuf>) {
    let mut at = PathBuf::new();
    let mut parts = path.components();
    while let Some(part) = parts.next() {
        if part == Component::ParentDir {
            left.push(at.clone());
            at.pop();
            continue;
        }
        at.push(part);
        if let (Ok(target), Some(folder)) = (at.read_link(), at.parent()) {
            let target = folder.join(target).join(parts.as_path());
            return (at, Some(target));
        }
    }
    (at, None)
}
