//! TLS towards upstreams: the platform's roots, plus files of extra ones.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of extra roots cannot be read.
    #[error("cannot read root certificates from {}", path.display())]
    RootFile {
        /// The file.
        path: PathBuf,
        /// The error in it.
        source: rustls::pki_types::pem::Error,
    },
    /// A file of extra roots holds none.
    #[error("there is no PEM certificate in {}", .0.display())]
    NoRoots(PathBuf),
    /// The platform's roots cannot be used.
    #[error("the platform's root certificates cannot be used")]
    Platform(#[source] rustls::Error),
}

impl TlsError {
    /// The fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::RootFile { .. } | Self::NoRoots(_) => None,
            Self::Platform(_) => {
                Some("install the system's CA bundle (package ca-certificates)".into())
            }
        }
    }
}

/// The TLS settings that all upstream connections share.
///
/// # Errors
/// A root file is missing or empty, or the platform has no roots.
pub(crate) fn client_config(extra_roots: &[PathBuf]) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = Vec::new();
    for path in extra_roots {
        roots.extend(read_roots(path)?);
    }
    let verifier = if roots.is_empty() {
        Verifier::new(Arc::clone(&provider))
    } else {
        Verifier::new_with_extra_roots(roots, Arc::clone(&provider))
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Platform)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier.map_err(TlsError::Platform)?))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::RootFile {
        path: path.to_owned(),
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let roots = certificates
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    if roots.is_empty() {
        return Err(TlsError::NoRoots(path.to_owned()));
    }
    Ok(roots)
}
