//! Whether a program file can run in an image that holds nothing else.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Why a file is not a program that runs by itself in a Linux container here.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStatic {
    #[error("cannot read it")]
    Unreadable(#[from] io::Error),
    #[error("it is not a 64-bit Linux program")]
    NotElf,
    #[error(
        "it is made for another processor than this machine's {}",
        std::env::consts::ARCH
    )]
    OtherProcessor,
    #[error("it is not statically linked")]
    Dynamic,
}

/// Machine number of this processor in an ELF header.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") {
    183
} else {
    62
};
/// Kind of the program header that names a dynamic loader.
const PT_INTERP: u32 = 3;

/// Reads the ELF header and the program headers, in the System V ABI's layout.
pub(super) fn require_static(program: &Path) -> Result<(), NotStatic> {
    let mut file = File::open(program)?;
    let mut header = [0; 64];
    file.read_exact(&mut header)
        .map_err(|_| NotStatic::NotElf)?;
    // Magic, 64 bits, little endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(NotStatic::NotElf);
    }
    if u16_at(&header, 18) != MACHINE {
        return Err(NotStatic::OtherProcessor);
    }
    let size = usize::from(u16_at(&header, 54)).max(4);
    let count = usize::from(u16_at(&header, 56));
    file.seek(SeekFrom::Start(u64_at(&header, 32)))?;
    let mut entries = vec![0; size * count];
    file.read_exact(&mut entries)?;
    let mut kinds = entries
        .chunks_exact(size)
        .map(|entry| u32::from(u16_at(entry, 0)) | u32::from(u16_at(entry, 2)) << 16);
    if kinds.any(|kind| kind == PT_INTERP) {
        return Err(NotStatic::Dynamic);
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    (0..4).fold(0, |value, part| {
        value | u64::from(u16_at(bytes, at + 2 * part)) << (16 * part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_test_program_is_dynamic() {
        let program = std::env::current_exe().unwrap();
        let error = require_static(&program).unwrap_err();
        assert!(matches!(error, NotStatic::Dynamic), "{error}");
    }

    #[test]
    fn a_script_is_not_a_program() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#!/bin/sh\nexit 0\n").unwrap();
        let error = require_static(file.path()).unwrap_err();
        assert!(matches!(error, NotStatic::NotElf), "{error}");
    }
}
