//! Looking for a secret where it must not be, in every form it could take.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;

/// A secret and the forms it may hide in: as it is, base64 at each of the three
/// alignments, hexadecimal and percent-encoded.
#[derive(Clone, Debug)]
pub struct Canary {
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Canary {
    /// All forms of a secret.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        let bytes = secret.as_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![
            ("raw", bytes.to_vec()),
            ("hex", hex.to_uppercase().into_bytes()),
            (
                "percent",
                bytes
                    .iter()
                    .map(|byte| format!("%{byte:02X}"))
                    .collect::<String>()
                    .into(),
            ),
            ("percent", secret.replace('-', "%2D").into_bytes()),
            ("reversed", bytes.iter().rev().copied().collect()),
        ];
        forms.push(("hex", hex.into_bytes()));
        for shift in 0..3 {
            let shifted = [&b"\0\0"[..shift], bytes].concat();
            for text in [
                STANDARD_NO_PAD.encode(&shifted),
                URL_SAFE_NO_PAD.encode(&shifted),
            ] {
                // First and last characters also hold bits of the neighbours.
                let start = if shift == 0 { 0 } else { shift + 1 };
                forms.push(("base64", text.as_bytes()[start..text.len() - 2].to_vec()));
            }
        }
        Self { forms }
    }

    /// The form in which the secret is in some bytes, if it is.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Option<&'static str> {
        let found = self
            .forms
            .iter()
            .find(|(_, form)| memmem::find(bytes, form).is_some());
        found.map(|(name, _)| *name)
    }

    /// Fails if the secret is in some bytes.
    ///
    /// # Panics
    /// It is.
    pub fn assert_absent(&self, place: &str, bytes: impl AsRef<[u8]>) {
        if let Some(form) = self.find(bytes.as_ref()) {
            panic!("the key is in {place} ({form})");
        }
    }

    /// Fails if the secret is in a file or a file's name below a folder. Returns
    /// how many files were read, for a search of nothing proves nothing.
    ///
    /// # Panics
    /// It is.
    pub fn assert_absent_below(&self, folder: &Path) -> usize {
        let mut count = 0;
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            self.assert_absent("a file name", path.as_os_str().as_encoded_bytes());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => count += self.assert_absent_below(&path),
                Ok(kind) if kind.is_file() => {
                    if let Ok(bytes) = fs::read(&path) {
                        self.assert_absent(&path.display().to_string(), bytes);
                        count += 1;
                    }
                }
                _ => {}
            }
        }
        count
    }
}
