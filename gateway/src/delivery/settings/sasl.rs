//! What `sasl` means.

use super::{Files, SettingsError, files};
use crate::config::file::delivery::{Delivery, Sasl, SaslOption, Starttls};
use crate::delivery::password::Passwords;
use crate::smtp::client::Protocol;
use crate::smtp::client::sasl::{MechanismFilter, SecurityOptions};

/// The passwords, and how they may be used.
pub(super) fn passwords(
    section: &Delivery,
    protocol: Protocol,
    files: &impl Files,
) -> Result<Passwords, SettingsError> {
    let (sasl, starttls): (&Sasl, &Starttls) = (&section.sasl, &section.starttls);
    let tls = starttls.sasl_tls_security_options.as_ref().unwrap_or(&sasl.sasl_security_options);
    let verified = starttls.sasl_tls_verified_security_options.as_ref().unwrap_or(tls);
    Ok(Passwords {
        maps: files::maps(&sasl.sasl_password_maps, files)?,
        by_sender: sasl.sender_dependent_authentication && protocol == Protocol::Smtp,
        authzid: section.compatibility.send_cyrus_sasl_authzid,
        filter: MechanismFilter::new(sasl.sasl_mechanism_filter.iter().map(String::as_str)),
        clear: options(&sasl.sasl_security_options),
        tls: options(tls),
        verified: options(verified),
    })
}

fn options(words: &[SaslOption]) -> SecurityOptions {
    let has = |option| words.contains(&option);
    SecurityOptions {
        noplaintext: has(SaslOption::NoPlaintext),
        noactive: has(SaslOption::NoActive),
        nodictionary: has(SaslOption::NoDictionary),
        noanonymous: has(SaslOption::NoAnonymous),
        mutual_auth: has(SaslOption::MutualAuth),
    }
}
