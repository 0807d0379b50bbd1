//! What `starttls` means.

use super::{Files, SettingsError, files};
use crate::config::file::delivery::{SecurityLevel, Starttls};
use crate::delivery::tls::{
    Ciphers, Fingerprint, Means, NameMatch, TlsClient, TlsError, TlsPolicies, Versions,
};
use crate::smtp::client::TlsLevel;

/// What is demanded of servers.
pub(super) fn policies(starttls: &Starttls, files: &impl Files) -> Result<TlsPolicies, SettingsError> {
    let names = |words: &[String]| {
        let words = words.iter().flat_map(|word| word.split(':')).filter(|word| !word.is_empty());
        words.map(NameMatch::from).collect::<Vec<_>>()
    };
    let wrong = |key| move |error| SettingsError::Key { key, error };
    let fingerprints = starttls.tls_fingerprint_cert_match.iter();
    let fingerprints = fingerprints.map(|text| Fingerprint::parse(text, starttls.tls_fingerprint_digest));
    let optional = means(&starttls.tls_protocols, &starttls.tls_exclude_ciphers, &[], TlsLevel::May);
    let mandatory = means(
        &starttls.tls_mandatory_protocols,
        &starttls.tls_exclude_ciphers,
        &starttls.tls_mandatory_exclude_ciphers,
        TlsLevel::Encrypt,
    );
    Ok(TlsPolicies {
        level: match starttls.tls_security_level {
            SecurityLevel::None => TlsLevel::None,
            SecurityLevel::May => TlsLevel::May,
            SecurityLevel::Encrypt => TlsLevel::Encrypt,
            SecurityLevel::Fingerprint => TlsLevel::Fingerprint,
            SecurityLevel::Verify => TlsLevel::Verify,
            SecurityLevel::Secure => TlsLevel::Secure,
        },
        verify: names(&starttls.tls_verify_cert_match),
        secure: names(&starttls.tls_secure_cert_match),
        fingerprints: fingerprints.collect::<Result<_, _>>().map_err(wrong("tls-fingerprint-cert-match"))?,
        digest: starttls.tls_fingerprint_digest,
        optional: optional.map_err(wrong("tls-protocols"))?,
        mandatory: mandatory.map_err(wrong("tls-mandatory-protocols"))?,
        verify_depth: usize::try_from(starttls.tls_scert_verifydepth).unwrap_or(usize::MAX),
        resume: starttls.tls_session_cache_timeout.duration(),
        maps: files::maps(&starttls.tls_policy_maps, files)?,
        per_site: files::maps(&starttls.tls_per_site, files)?,
    })
}

fn means(
    protocols: &[String],
    exclude: &[String],
    more: &[String],
    level: TlsLevel,
) -> Result<Means, TlsError> {
    let versions = Versions::parse(&protocols.join(" "), level)?;
    let (ciphers, _) = Ciphers::ALL.without(exclude.iter().chain(more).map(String::as_str))?;
    Ok(Means { versions, ciphers })
}

/// The gateway as a client of TLS: whom it trusts, and who it is.
pub(super) fn client(starttls: &Starttls, files: &impl Files) -> Result<TlsClient, SettingsError> {
    let Starttls { tls_cafile, tls_capath, .. } = starttls;
    let trusted = files::authorities(tls_cafile.as_deref(), tls_capath.as_deref(), files)?;
    let shown =
        tls_cafile.as_ref().or(tls_capath.as_ref()).map_or(String::new(), |path| path.display().to_string());
    let mut client = TlsClient::new(&trusted).map_err(|error| SettingsError::File { path: shown, error })?;
    for (certificate, key) in [
        (&starttls.tls_eccert_file, &starttls.tls_eckey_file),
        (&starttls.tls_cert_file, &starttls.tls_key_file),
    ] {
        let Some(certificate) = certificate else { continue };
        let key = key.as_ref().unwrap_or(certificate);
        let (chain, secret) = (files::read(certificate, files)?, files::read(key, files)?);
        let path = certificate.display().to_string();
        client =
            client.with_identity(&chain, &secret).map_err(|error| SettingsError::File { path, error })?;
    }
    Ok(client)
}
