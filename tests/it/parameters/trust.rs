//! Certificates, made for one test.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use gateway_tests::process;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// An authority, and what it has signed.
pub(super) struct Trust {
    /// Its certificate.
    pub(super) authority: String,
    /// A server `mx.test` that asks for a certificate.
    pub(super) server: Arc<ServerConfig>,
    /// The same, with an authority between it and the first.
    pub(super) deep: Arc<ServerConfig>,
    /// The certificate of the first server.
    pub(super) certificate: String,
    /// A client's certificate, and its key.
    pub(super) client: (String, String),
}

impl Trust {
    pub(super) fn new() -> anyhow::Result<Self> {
        let (root, key) = (authority("root")?, KeyPair::generate()?);
        let root_certificate = root.self_signed(&key)?;
        let root = Issuer::new(root, key);
        let (between, key) = (authority("between")?, KeyPair::generate()?);
        let between_certificate = between.signed_by(&key, &root)?;
        let between = Issuer::new(between, key);
        let named = || CertificateParams::new(vec!["mx.test".to_owned()]);
        let (key, deep_key, client_key) = (KeyPair::generate()?, KeyPair::generate()?, KeyPair::generate()?);
        let certificate = named()?.signed_by(&key, &root)?;
        let deep = named()?.signed_by(&deep_key, &between)?;
        let client = CertificateParams::new(vec!["gw.test".to_owned()])?.signed_by(&client_key, &root)?;
        let trusted = root_certificate.der().clone();
        Ok(Self {
            authority: root_certificate.pem(),
            server: server(vec![certificate.der().clone()], &key, trusted.clone())?,
            deep: server(vec![deep.der().clone(), between_certificate.der().clone()], &deep_key, trusted)?,
            certificate: certificate.pem(),
            client: (client.pem(), client_key.serialize_pem()),
        })
    }
}

/// A certificate's fingerprint in hexadecimal digits.
pub(super) fn fingerprint(certificate: &str, digest: &str, folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("certificate.pem");
    std::fs::write(&path, certificate)?;
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-fingerprint", &format!("-{digest}"), "-in"]).arg(path);
    Ok(process::done(&mut command)?.trim().rsplit('=').next().unwrap_or_default().to_owned())
}

fn authority(name: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
    trusted: CertificateDer<'static>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(trusted)?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    Ok(Arc::new(config))
}
