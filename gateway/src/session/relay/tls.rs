//! The certificates that clients are shown.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::file::{Certificate, RelayTls};

/// Why a certificate cannot be shown: for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("relay.tls.certificates: {}: {source}; the account of the proxy process must be able to read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("relay.tls.certificates: {} holds no {what} in PEM form", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// Certificate and key do not go together.
    #[error("relay.tls.certificates: {} cannot be used with its key: {source}", path.display())]
    Mismatch {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// TLS cannot be set up.
    #[error("relay.tls: {0}")]
    Setup(#[from] rustls::Error),
}

/// Reads the certificates; `None` where there are none. Blocks.
///
/// # Errors
///
/// [`Error`] names the file and what is wrong with it.
pub fn acceptor(tls: &RelayTls) -> Result<Option<Acceptor>, Error> {
    if tls.certificates.is_empty() {
        return Ok(None);
    }
    let keys = tls.certificates.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(keys)));
    // Mail is not sent ahead of a handshake.
    config.max_early_data_size = 0;
    Ok(Some(Acceptor(Arc::new(config).into())))
}

/// Agrees on TLS with clients.
#[derive(Clone)]
pub struct Acceptor(pub(super) TlsAcceptor);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn load(certificate: &Certificate) -> Result<Arc<CertifiedKey>, Error> {
    let Certificate { chain, key } = certificate;
    let content = |path: &Path, what| Error::Content { path: path.to_owned(), what };
    let certificates = read(chain)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&certificates)
        .collect::<Result<_, _>>()
        .map_err(|_| content(chain, "certificate"))?;
    if certificates.is_empty() {
        return Err(content(chain, "certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| content(key, "private key"))?;
    let certified = CertifiedKey::from_der(certificates, key, &ring::default_provider());
    let certified = certified.and_then(|certified| certified.keys_match().map(|()| certified));
    certified.map(Arc::new).map_err(|source| Error::Mismatch { path: chain.clone(), source })
}

/// Shows the first certificate that holds for the name that is asked for, or else the first.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |key: &&Arc<CertifiedKey>| {
            let certificate = key.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
            certificate.zip(name.as_ref()).is_some_and(|(leaf, name)| verify_server_name(&leaf, name).is_ok())
        };
        self.0.iter().find(fits).or_else(|| self.0.first()).cloned()
    }
}
