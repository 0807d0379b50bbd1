//! Which TLS is demanded of whom (`tls-policy-maps`, `tls-per-site`, and what holds for all others).
//!
//! Owns the notation of the tables. What it cannot be understood as, or cannot be had here, is an error: mail
//! waits rather than goes with less than was asked for.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{Ciphers, Fingerprint, NameMatch, TlsError, TlsPolicy, Versions};
use crate::config::file::delivery::FingerprintDigest;
use crate::smtp::client::TlsLevel;
use crate::table::Maps;

/// Why a destination's policy cannot be carried out: for the operator.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// There is a value, and nothing in it.
    #[error("its TLS policy is empty; write a level such as `encrypt`")]
    Empty,
    /// The first word is no level.
    #[error("`{0}` is no TLS level; write none, may, encrypt, fingerprint, verify or secure")]
    Level(String),
    /// A word is no `name=value`.
    #[error("`{0}` is no attribute of a TLS policy; write `name=value`")]
    Pair(String),
    /// The name of an attribute is not known.
    #[error(
        "`{0}` is no attribute of a TLS policy; write match, protocols, ciphers, exclude, servername or connection_reuse"
    )]
    Attribute(String),
    /// An attribute that may stand once stands twice.
    #[error("the attribute `{0}` of its TLS policy stands twice")]
    Twice(&'static str),
    /// An attribute has no sense at this level.
    #[error("the attribute `match` has no sense at this TLS level")]
    Match,
    /// The value of an attribute means nothing.
    #[error("`{value}` is no value of the attribute `{name}` of a TLS policy")]
    Value {
        /// The attribute.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// An attribute that has no counterpart here.
    #[error("the attribute `{0}` of its TLS policy is not supported")]
    Unsupported(&'static str),
    /// A value of `tls-per-site` means nothing.
    #[error("`{0}` is no value of `tls-per-site`; write NONE, MAY, MUST or MUST_NOPEERMATCH")]
    Site(String),
    /// An attribute's value is wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// With what a session may be made.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// Versions.
    pub versions: Versions,
    /// Cipher suites.
    pub ciphers: Ciphers,
}

/// The operator's policies.
#[derive(Clone, Debug)]
pub struct TlsPolicies {
    /// The level where no table has another (`tls-security-level`).
    pub level: TlsLevel,
    /// Names at level verify (`tls-verify-cert-match`).
    pub verify: Vec<NameMatch>,
    /// Names at level secure (`tls-secure-cert-match`).
    pub secure: Vec<NameMatch>,
    /// Certificates and keys at level fingerprint (`tls-fingerprint-cert-match`).
    pub fingerprints: Vec<Fingerprint>,
    /// The digest of those in `maps` (`tls-fingerprint-digest`).
    pub digest: FingerprintDigest,
    /// Where clear text would do (`tls-protocols`, `tls-ciphers`, `tls-exclude-ciphers`).
    pub optional: Means,
    /// Where it would not (`tls-mandatory-…`).
    pub mandatory: Means,
    /// `tls-scert-verifydepth`.
    pub verify_depth: usize,
    /// `tls-session-cache-timeout`.
    pub resume: Duration,
    /// By destination (`tls-policy-maps`).
    pub maps: Maps,
    /// By destination and by server, older (`tls-per-site`).
    pub per_site: Maps,
}

impl TlsPolicies {
    /// What is demanded of a server `host` of a next hop, whose keys in tables these are, and its name without
    /// brackets and port.
    ///
    /// # Errors
    ///
    /// A table says what cannot be carried out.
    pub fn find(&self, keys: &[String], host: &str, name: &str) -> Result<TlsPolicy, PolicyError> {
        if !self.maps.is_empty() {
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            return match self.maps.first_of(&keys) {
                Some((_, value)) => self.read(&value, host, name),
                None => Ok(self.at(self.level)),
            };
        }
        if !self.per_site.is_empty() {
            let first = keys.first().map_or("", String::as_str);
            return Ok(self.at(self.site(&[first, host])?));
        }
        Ok(self.at(self.level))
    }

    /// The policy at a level, as it is without attributes.
    fn at(&self, level: TlsLevel) -> TlsPolicy {
        let means = if level.is_mandatory() { self.mandatory } else { self.optional };
        TlsPolicy {
            names: match level {
                TlsLevel::Verify => self.verify.clone(),
                TlsLevel::Secure => self.secure.clone(),
                TlsLevel::None | TlsLevel::May | TlsLevel::Encrypt | TlsLevel::Fingerprint => Vec::new(),
            },
            fingerprints: self.fingerprints.clone(),
            tls12: means.versions.tls12,
            tls13: means.versions.tls13,
            ciphers: means.ciphers,
            verify_depth: self.verify_depth,
            resume: self.resume,
            ..TlsPolicy::new(level)
        }
    }

    /// `level name=value …`, divided by blanks or commas; braces hold a pair with blanks together.
    fn read(&self, text: &str, host: &str, name: &str) -> Result<TlsPolicy, PolicyError> {
        let mut words = words(text).into_iter();
        let word = words.next().ok_or(PolicyError::Empty)?;
        let level = level(word).ok_or_else(|| PolicyError::Level(word.to_owned()))?;
        let mut policy = self.at(level);
        // Attributes of a session that is never made have no sense, and do no harm.
        if level == TlsLevel::None {
            return Ok(policy);
        }
        let mut given = Attributes::default();
        for word in words {
            given.take(word)?;
        }
        given.apply(&mut policy, self.digest, host, name)?;
        Ok(policy)
    }

    /// The strongest of the values for these keys; NONE outdoes MAY, and the level for all outdoes MAY.
    fn site(&self, keys: &[&str]) -> Result<TlsLevel, PolicyError> {
        let mut found: Option<TlsLevel> = None;
        for value in keys.iter().filter_map(|key| self.per_site.text(key)) {
            let level = match value.trim().to_ascii_uppercase().as_str() {
                "NONE" => TlsLevel::None,
                "MAY" => TlsLevel::May,
                "MUST_NOPEERMATCH" => TlsLevel::Encrypt,
                "MUST" => TlsLevel::Verify,
                _ => return Err(PolicyError::Site(value)),
            };
            found = Some(match (found, level) {
                (Some(TlsLevel::None), TlsLevel::May) | (Some(TlsLevel::May), TlsLevel::None) => {
                    TlsLevel::None
                }
                (Some(before), level) => before.max(level),
                (None, level) => level,
            });
        }
        Ok(match found {
            None => self.level,
            Some(TlsLevel::May) => self.level.max(TlsLevel::May),
            Some(level) => level,
        })
    }
}

/// What the attributes of one policy say.
#[derive(Default)]
struct Attributes<'v> {
    matches: Vec<&'v str>,
    protocols: Option<&'v str>,
    ciphers: Option<&'v str>,
    exclude: Option<&'v str>,
    server_name: Option<&'v str>,
    reusable: Option<bool>,
}

impl<'v> Attributes<'v> {
    fn take(&mut self, word: &'v str) -> Result<(), PolicyError> {
        let pair = word.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let (name, value) =
            pair.filter(|(name, _)| !name.is_empty()).ok_or_else(|| PolicyError::Pair(word.to_owned()))?;
        let once = |place: &mut Option<&'v str>, name| match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(PolicyError::Twice(name)),
        };
        match name.to_ascii_lowercase().as_str() {
            "match" => {
                self.matches.push(value);
                Ok(())
            }
            "protocols" => once(&mut self.protocols, "protocols"),
            "ciphers" => once(&mut self.ciphers, "ciphers"),
            "exclude" => once(&mut self.exclude, "exclude"),
            "servername" => once(&mut self.server_name, "servername"),
            // Trust by destination; the public keys of RFC 7250; and what plug-ins for MTA-STS say.
            "tafile" => Err(PolicyError::Unsupported("tafile")),
            "enable_rpk" if value == "no" => Ok(()),
            "enable_rpk" => Err(PolicyError::Unsupported("enable_rpk")),
            "connection_reuse" => {
                let reusable = match value {
                    "yes" => true,
                    "no" => false,
                    _ => {
                        return Err(PolicyError::Value { name: "connection_reuse", value: value.to_owned() });
                    }
                };
                self.reusable = Some(reusable);
                Ok(())
            }
            "policy_type" => Err(PolicyError::Unsupported("policy_type")),
            _ => Err(PolicyError::Attribute(name.to_owned())),
        }
    }

    fn apply(
        &self,
        policy: &mut TlsPolicy,
        digest: FingerprintDigest,
        host: &str,
        name: &str,
    ) -> Result<(), PolicyError> {
        if let Some(protocols) = self.protocols {
            let versions = Versions::parse(protocols, policy.level)?;
            (policy.tls12, policy.tls13) = (versions.tls12, versions.tls13);
        }
        if let Some(grade) = self.ciphers
            && !["high", "medium", "low", "export"].iter().any(|known| known.eq_ignore_ascii_case(grade))
        {
            return Err(PolicyError::Value { name: "ciphers", value: grade.to_owned() });
        }
        if let Some(exclude) = self.exclude {
            policy.ciphers = Ciphers::ALL.without([exclude])?.0;
        }
        policy.reusable = self.reusable.unwrap_or(policy.reusable);
        if let Some(server_name) = self.server_name {
            policy.server_name = Some(match server_name {
                "hostname" => host.to_owned(),
                "nexthop" => name.to_owned(),
                other => other.to_owned(),
            });
        }
        if self.matches.is_empty() {
            return Ok(());
        }
        match policy.level {
            TlsLevel::Verify | TlsLevel::Secure => {
                let names = self.matches.iter().flat_map(|value| value.split(':'));
                policy.names = names.filter(|name| !name.is_empty()).map(NameMatch::from).collect();
            }
            TlsLevel::Fingerprint => {
                let digests = self.matches.iter().flat_map(|value| value.split('|'));
                let digests = digests.map(str::trim).filter(|text| !text.is_empty());
                policy.fingerprints =
                    digests.map(|text| Fingerprint::parse(text, digest)).collect::<Result<_, _>>()?;
            }
            TlsLevel::None | TlsLevel::May | TlsLevel::Encrypt => return Err(PolicyError::Match),
        }
        Ok(())
    }
}

fn level(word: &str) -> Option<TlsLevel> {
    Some(match word.to_ascii_lowercase().as_str() {
        "none" => TlsLevel::None,
        "may" => TlsLevel::May,
        "encrypt" => TlsLevel::Encrypt,
        "fingerprint" => TlsLevel::Fingerprint,
        "verify" => TlsLevel::Verify,
        "secure" => TlsLevel::Secure,
        _ => return None,
    })
}

fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            Some((inside, after)) => (inside.trim(), after),
            None => rest.split_once([' ', '\t', ',']).unwrap_or((rest, "")),
        };
        words.push(word);
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    words
}
