//! The operator's HTTP server, which is told of locks.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use sha2::Sha256;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::config::file as config;
use crate::http;
use crate::ipc::offender::{End, Offender};

/// Octets of an answer that are read: nobody looks at it.
const ANSWER_LENGTH: usize = 64 * 1024;
/// Pauses before further attempts.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Why a server cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificates.
    #[error("`on-lock.webhook.ca-file`: cannot read {}", path.display())]
    CaFile {
        /// Their file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There are none.
    #[error("`on-lock.webhook.ca-file`: there is no certificate in {}", .0.display())]
    NoCertificate(PathBuf),
    /// The name of the server.
    #[error("`on-lock.webhook.url`: no certificate can be for `{0}`")]
    Name(String),
    /// The TLS library.
    #[error("TLS does not work")]
    Library(#[source] rustls::Error),
}

/// Why one attempt has failed.
enum Failure {
    /// It took too long.
    Overdue,
    /// Another one may succeed.
    Passing(String),
    /// None will.
    Lasting(String),
}

/// A server that is told of locks.
pub(super) struct Webhook {
    rules: config::Webhook,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Webhook {
    pub(super) fn new(rules: &config::Webhook) -> Result<Self, Error> {
        let tls = rules.url.secure.then(|| secure(rules)).transpose()?;
        Ok(Self { rules: rules.clone(), tls })
    }

    /// Tells of `offender`, in a few attempts.
    pub(super) async fn tell(&self, offender: &Offender) -> End {
        let document = Bytes::from(document(offender).to_string());
        let mut pauses = PAUSES.into_iter();
        loop {
            let attempt = timeout(self.rules.timeout.duration(), self.post(document.clone())).await;
            let failure = match attempt.unwrap_or(Err(Failure::Overdue)) {
                Ok(()) => return End::Done,
                Err(failure) => failure,
            };
            let end = match failure {
                Failure::Lasting(reason) => return End::Failed { reason },
                Failure::Passing(reason) => End::Failed { reason },
                Failure::Overdue => End::Overdue,
            };
            let Some(pause) = pauses.next() else { return end };
            sleep(pause).await;
        }
    }

    async fn post(&self, document: Bytes) -> Result<(), Failure> {
        let passing =
            |what: &str, error: &dyn std::fmt::Display| Failure::Passing(format!("{what}: {error}"));
        let request = self.request(document).map_err(|error| Failure::Lasting(error.to_string()))?;
        let url = &self.rules.url;
        let stream = TcpStream::connect((url.host.as_str(), url.port));
        let stream = stream.await.map_err(|error| passing("cannot connect", &error))?;
        let asked = match &self.tls {
            None => http::ask(stream, request, ANSWER_LENGTH, || {}).await,
            Some((tls, name)) => {
                let stream = tls.connect(name.clone(), stream).await;
                let stream = stream.map_err(|error| passing("no TLS", &error))?;
                http::ask(stream, request, ANSWER_LENGTH, || {}).await
            }
        };
        let status = asked.map_err(|error| passing("no answer", &error))?.status();
        let said = format!("HTTP {}", status.as_u16());
        if status.is_success() {
            Ok(())
        } else if status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        {
            Err(Failure::Passing(said))
        } else {
            Err(Failure::Lasting(said))
        }
    }

    fn request(&self, document: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let url = &self.rules.url;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&url.target)
            .header(HOST, &url.authority)
            .header(USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.rules.authorization {
            request = request.header(AUTHORIZATION, key.reveal());
        }
        if let Some(key) = &self.rules.secret {
            request = request.header("X-Gateway-Signature", signature(key.reveal().as_bytes(), &document));
        }
        request.body(Full::new(document))
    }
}

/// Trust in the certificates of the file, and the name that one must be for.
fn secure(rules: &config::Webhook) -> Result<(TlsConnector, ServerName<'static>), Error> {
    let (path, host) = (&rules.ca_file, &rules.url.host);
    let text = fs::read(path).map_err(|source| Error::CaFile { path: path.clone(), source })?;
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(Error::NoCertificate(path.clone()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(Error::Library)?.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.clone()).map_err(|_| Error::Name(host.clone()))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// `sha256=` and the HMAC-SHA-256 of the document.
fn signature(key: &[u8], document: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(document).finalize());
    let octets = mac.map(|mac| mac.into_bytes().to_vec()).unwrap_or_default();
    octets.iter().fold("sha256=".to_owned(), |text, octet| format!("{text}{octet:02x}"))
}

/// What is told: the same as the script's environment, in the words of the records.
fn document(offender: &Offender) -> serde_json::Value {
    let address =
        |socket: std::net::SocketAddr| json!({"address": socket.ip().to_canonical(), "port": socket.port()});
    let scene = &offender.scene;
    json!({
        "gateway": offender.gateway,
        "found": offender.found.name(),
        "detail": offender.detail,
        "lock": offender.lock,
        "seconds": offender.duration.map(|span| span.as_secs()),
        "session": offender.session,
        "began": offender.session.began(),
        "client": address(offender.client.socket()),
        "identity": offender.identity,
        "sessions": offender.sessions,
        "server": address(offender.destination.socket()),
        "listener": offender.listener.map(address),
        "helo": scene.helo,
        "sender": scene.sender,
        "recipients": scene.recipients,
        "size": scene.size,
        "transaction": scene.transaction,
        "auth": scene.auth,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf %s '{}' | openssl dgst -sha256 -hmac key`
    #[test]
    fn a_document_is_signed_as_openssl_does() {
        let signed = "sha256=a777724d943eb48dc69bca8a4a6d57a04db3f9ec7e1de4e581e860265bdf3032";
        assert_eq!(signature(b"key", b"{}"), signed);
    }
}
