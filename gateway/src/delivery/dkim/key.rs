//! Private keys: from a file to what signs.

use std::io;

use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

/// Why a file has no key that can sign: for the operator.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("cannot be read by the account of the gateway: {0}")]
    Read(#[from] io::Error),
    /// Others than its owner and his group could have it, or put another in its place.
    #[error("is open to others (mode {0:04o}): whoever reads it can sign in your name; `chmod 640` it")]
    Open(u32),
    /// There is none in it.
    #[error("holds no private key in PEM form that is open to whoever reads the file")]
    None,
    /// It is not for signatures on mail.
    #[error(
        "its key cannot sign mail ({0}); make one with `openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048`, or with \
         `-algorithm ed25519`"
    )]
    Unusable(String),
}

/// The key in a file's text.
///
/// # Errors
///
/// There is none, or one that cannot sign: RSA of less than 2,048 or more than 4,096 bits, an elliptic curve.
pub(super) fn read(pem: &[u8]) -> Result<DkimKey, KeyError> {
    let unusable = |error: mail_auth::Error| KeyError::Unusable(error.to_string());
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::None)?;
    if let PrivateKeyDer::Pkcs8(der) = &key
        && let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der())
    {
        return Ok(key.into());
    }
    Ok(RsaKey::from_key_der(key).map_err(unusable)?.into())
}
