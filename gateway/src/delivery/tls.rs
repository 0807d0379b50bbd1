//! TLS towards servers: what the operator demands of a server, mapped onto rustls.
//!
//! Owns settings, not handshakes: [`super::connection`] makes those. What rustls does not have (TLS before 1.2,
//! CBC and anonymous suites, matching a certificate's common name) is not had here either; nothing is made
//! weaker for it.
//!
//! A session is resumed only where everything that was demanded of the server is the same, so that a resumed
//! one is as verified as the first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use crate::smtp::client::TlsLevel;

mod ciphers;
mod fingerprint;
mod policy;
mod sessions;
#[cfg(test)]
mod tests;
mod verifier;
mod versions;

pub use ciphers::Ciphers;
pub use fingerprint::Fingerprint;
pub use policy::{Means, PolicyError, TlsPolicies};
use sessions::Sessions;
use verifier::Verifier;
pub use versions::Versions;

/// Demands for which settings are kept ready.
const MOST_CONFIGS: usize = 1_024;
/// Sessions that may be resumed, for each of them.
const SESSIONS: usize = 64;

/// Why TLS cannot be set up: for the operator.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file holds no certificates, or what is none.
    #[error("no certificates in PEM form")]
    Certificates,
    /// A file holds no key, or what is none.
    #[error("no unencrypted private key in PEM form")]
    Key,
    /// A certificate cannot be used.
    #[error("{0}")]
    Library(#[from] rustls::Error),
    /// A fingerprint is no list of hexadecimal digits of the length of its digest.
    #[error("`{text}` is no {by} fingerprint; write its {digits} hexadecimal digits")]
    Fingerprint {
        /// What it is.
        text: String,
        /// How many digits it should have.
        digits: usize,
        /// The digest.
        by: &'static str,
    },
    /// No certificate could be what is demanded.
    #[error("at the level {0} nothing is listed that a certificate could match")]
    NothingMatches(&'static str),
    /// A word in a list of versions means nothing.
    #[error("`{0}` is not a TLS version; write for example `>=TLSv1.2`")]
    Version(String),
    /// Neither TLS 1.2 nor TLS 1.3 may be used.
    #[error("no TLS version that may be used")]
    NoVersion,
    /// A word in a list of excluded ciphers is an order to OpenSSL.
    #[error("`{0}` is no cipher to be excluded; write for example `AES128`, without a sign before it")]
    Cipher(String),
    /// All cipher suites are excluded, or all of the versions that may be used.
    #[error("no cipher suite that may be used")]
    NoCipher,
}

/// Which names a certificate may have (`verify-cert-match`, `secure-cert-match`); one that fits is enough.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NameMatch {
    /// The server's, as the MX record or the operator has it.
    Hostname,
    /// The next hop's.
    NextHop,
    /// Any below the next hop's.
    BelowNextHop,
    /// This one.
    Name(String),
    /// Any below this one.
    Below(String),
}

impl From<&str> for NameMatch {
    fn from(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "hostname" => Self::Hostname,
            "nexthop" => Self::NextHop,
            "dot-nexthop" => Self::BelowNextHop,
            word => word
                .strip_prefix('.')
                .map_or_else(|| Self::Name(word.to_owned()), |name| Self::Below(name.to_owned())),
        }
    }
}

/// What is demanded of the servers of a destination.
#[derive(Clone, Debug)]
pub struct TlsPolicy {
    /// How much TLS is wanted.
    pub level: TlsLevel,
    /// Names that certificates may have, at the levels verify and secure.
    pub names: Vec<NameMatch>,
    /// Certificates and keys that servers may have, at the level fingerprint.
    pub fingerprints: Vec<Fingerprint>,
    /// TLS 1.2 may be used.
    pub tls12: bool,
    /// TLS 1.3 may be used.
    pub tls13: bool,
    /// Cipher suites that may be used.
    pub ciphers: Ciphers,
    /// Certificates between a server's and the trusted one (`scert-verifydepth`); more than 6 are never followed.
    pub verify_depth: usize,
    /// The name that is asked for (`servername`, RFC 6066 section 3).
    pub server_name: Option<String>,
    /// How long sessions may be resumed; zero: never (`session-cache-timeout`).
    pub resume: Duration,
    /// Connections may be kept for further mail (`connection_reuse`).
    pub reusable: bool,
}

impl TlsPolicy {
    /// The defaults at this level.
    #[must_use]
    pub fn new(level: TlsLevel) -> Self {
        let names = match level {
            TlsLevel::Verify => vec![NameMatch::Hostname],
            TlsLevel::Secure => vec![NameMatch::NextHop, NameMatch::BelowNextHop],
            TlsLevel::None | TlsLevel::May | TlsLevel::Encrypt | TlsLevel::Fingerprint => Vec::new(),
        };
        Self {
            level,
            names,
            fingerprints: Vec::new(),
            tls12: true,
            tls13: true,
            ciphers: Ciphers::ALL,
            verify_depth: 9,
            server_name: None,
            resume: Duration::from_secs(3_600),
            reusable: true,
        }
    }
}

/// A name in a certificate, as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    Name(String),
    Below(String),
}

/// What a certificate must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Demand {
    /// Whatever it is.
    Any,
    /// It or its key is one of these.
    Listed(Vec<Fingerprint>),
    /// It is trusted, and has one of these names.
    Trusted { names: Vec<Wanted>, depth: usize },
}

/// All that settings depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    level: TlsLevel,
    demand: Demand,
    tls12: bool,
    tls13: bool,
    ciphers: Ciphers,
    resume: Duration,
    asks_for_name: bool,
}

/// The TLS side of all deliveries.
#[derive(Debug)]
pub struct TlsClient {
    anchors: Arc<[TrustAnchor<'static>]>,
    identities: Arc<Identities>,
    configs: Mutex<HashMap<Key, Arc<ClientConfig>>>,
}

impl TlsClient {
    /// A client that trusts the certificates in `trusted`, in PEM form; none, when it is empty.
    ///
    /// # Errors
    ///
    /// When `trusted` is not empty and has no certificate that can be used.
    pub fn new(trusted: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(trusted).filter_map(Result::ok);
        let (usable, _) = roots.add_parsable_certificates(certificates);
        if usable == 0 && !trusted.trim_ascii().is_empty() {
            return Err(TlsError::Certificates);
        }
        Ok(Self { anchors: roots.roots.into(), identities: Arc::default(), configs: Mutex::default() })
    }

    /// The same with a certificate of its own, followed by those between it and its root, and its key; both in
    /// PEM form. Of several, servers are shown the first whose key they can use.
    ///
    /// # Errors
    ///
    /// When one of them is not there, or they do not belong together.
    pub fn with_identity(mut self, certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::Certificates)?;
        if chain.is_empty() {
            return Err(TlsError::Certificates);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        certified.keys_match()?;
        let mut identities = Identities::clone(&self.identities);
        identities.0.push(Arc::new(certified));
        self.identities = Arc::new(identities);
        Ok(self)
    }

    /// The settings for a server `host` of `next_hop`, a name without brackets and port.
    ///
    /// # Errors
    ///
    /// When the policy cannot be met by any server.
    pub fn config(
        &self,
        policy: &TlsPolicy,
        host: &str,
        next_hop: &str,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let key = Key {
            level: policy.level,
            demand: demand(policy, host, next_hop)?,
            tls12: policy.tls12,
            tls13: policy.tls13,
            ciphers: policy.ciphers,
            resume: policy.resume,
            asks_for_name: policy.server_name.is_some(),
        };
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make(&key)?);
        if configs.len() >= MOST_CONFIGS {
            configs.clear();
        }
        configs.insert(key, Arc::clone(&config));
        Ok(config)
    }

    fn make(&self, key: &Key) -> Result<ClientConfig, TlsError> {
        let versions = [(key.tls12, &rustls::version::TLS12), (key.tls13, &rustls::version::TLS13)];
        let versions: Vec<_> =
            versions.into_iter().filter(|(may, _)| *may).map(|(_, version)| version).collect();
        if versions.is_empty() {
            return Err(TlsError::NoVersion);
        }
        let provider = key.ciphers.provider();
        let usable = provider.cipher_suites.iter().any(|suite| versions.contains(&suite.version()));
        if !usable {
            return Err(TlsError::NoCipher);
        }
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Verifier::new(key.demand.clone(), Arc::clone(&self.anchors), algorithms);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = builder.with_client_cert_resolver(Arc::<Identities>::clone(&self.identities));
        config.enable_sni = key.asks_for_name;
        config.resumption = if key.resume.is_zero() {
            Resumption::disabled()
        } else {
            Resumption::store(Arc::new(Sessions::new(SESSIONS, key.resume)))
        };
        Ok(config)
    }
}

/// The gateway's own certificates.
#[derive(Clone, Debug, Default)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identities {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|certified| certified.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

fn demand(policy: &TlsPolicy, host: &str, next_hop: &str) -> Result<Demand, TlsError> {
    match policy.level {
        TlsLevel::None | TlsLevel::May | TlsLevel::Encrypt => Ok(Demand::Any),
        TlsLevel::Fingerprint if policy.fingerprints.is_empty() => {
            Err(TlsError::NothingMatches("fingerprint"))
        }
        TlsLevel::Fingerprint => Ok(Demand::Listed(policy.fingerprints.clone())),
        TlsLevel::Verify | TlsLevel::Secure => {
            let names: Vec<_> = policy
                .names
                .iter()
                .map(|name| match name {
                    NameMatch::Hostname => Wanted::Name(host.to_ascii_lowercase()),
                    NameMatch::NextHop => Wanted::Name(next_hop.to_ascii_lowercase()),
                    NameMatch::BelowNextHop => Wanted::Below(next_hop.to_ascii_lowercase()),
                    NameMatch::Name(name) => Wanted::Name(name.to_ascii_lowercase()),
                    NameMatch::Below(name) => Wanted::Below(name.to_ascii_lowercase()),
                })
                .collect();
            let level = if policy.level == TlsLevel::Verify { "verify" } else { "secure" };
            if names.is_empty() {
                return Err(TlsError::NothingMatches(level));
            }
            Ok(Demand::Trusted { names, depth: policy.verify_depth })
        }
    }
}
