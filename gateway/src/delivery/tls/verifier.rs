//! Whether a server's certificate is what was demanded. The signature by which the server shows that it has
//! the certificate's key is checked whatever was demanded.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use super::{Demand, Fingerprint, Wanted};

#[derive(Debug)]
pub(super) struct Verifier {
    demand: Demand,
    anchors: Arc<[TrustAnchor<'static>]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) const fn new(
        demand: Demand,
        anchors: Arc<[TrustAnchor<'static>]>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { demand, anchors, algorithms }
    }

    fn verify_chain(
        &self,
        certificate: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        depth: usize,
        now: UnixTime,
    ) -> Result<(), Error> {
        let is_short = |path: &webpki::VerifiedPath<'_>| {
            let count = path.intermediate_certificates().count();
            if count <= depth { Ok(()) } else { Err(webpki::Error::MaximumPathDepthExceeded) }
        };
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                intermediates,
                now,
                KeyUsage::server_auth(),
                None,
                Some(&is_short),
            )
            .map_err(untrusted)?;
        Ok(())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.demand {
            Demand::Any => {}
            Demand::Listed(fingerprints) => {
                let key = EndEntityCert::try_from(end_entity).map_err(untrusted)?.subject_public_key_info();
                let is_listed =
                    |fingerprint: &Fingerprint| fingerprint.is_of(end_entity) || fingerprint.is_of(&key);
                if !fingerprints.iter().any(is_listed) {
                    return Err(CertificateError::ApplicationVerificationFailure.into());
                }
            }
            Demand::Trusted { names, depth } => {
                let certificate = EndEntityCert::try_from(end_entity).map_err(untrusted)?;
                self.verify_chain(&certificate, intermediates, *depth, now)?;
                if !names.iter().any(|wanted| has_name(&certificate, wanted)) {
                    return Err(CertificateError::NotValidForName.into());
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A wildcard stands for one whole label (RFC 6125 section 6.4.3). A name below another may be a wildcard.
fn has_name(certificate: &EndEntityCert<'_>, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Name(name) => ServerName::try_from(name.as_str())
            .is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok()),
        Wanted::Below(domain) => {
            let is_below = |name: &str| {
                let name = name.to_ascii_lowercase();
                let above = name.strip_suffix(domain).and_then(|above| above.strip_suffix('.'));
                !domain.is_empty() && above.is_some_and(|above| !above.is_empty())
            };
            certificate.valid_dns_names().any(is_below)
        }
    }
}

fn untrusted(error: webpki::Error) -> Error {
    // For records: the usual reasons have short names.
    Error::InvalidCertificate(if matches!(error, webpki::Error::CertExpired { .. }) {
        CertificateError::Expired
    } else if matches!(error, webpki::Error::CertNotValidYet { .. }) {
        CertificateError::NotValidYet
    } else if error == webpki::Error::UnknownIssuer {
        CertificateError::UnknownIssuer
    } else {
        CertificateError::Other(OtherError(Arc::new(error)))
    })
}
