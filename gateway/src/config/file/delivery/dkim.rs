//! Signatures on mail that leaves: `delivery.dkim`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::domain::{DomainName, DomainPattern};
use crate::config::condition::Network;
use crate::config::units::Span;

/// A signature on mail that leaves (DKIM, RFC 6376), with one key. A message has one by each entry that names the domain of
/// its From field.
///
/// Signed is mail that came through a rule of `lanes` with `sign: true`, and what the gateway itself writes; never mail that
/// merely passes, whoever it says that it is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Dkim {
    /// The domain that signs (`d=`). The public key is its TXT record `SELECTOR._domainkey.DOMAIN`.
    pub domain: DomainName,
    /// Which of its keys this is (`s=`).
    pub selector: DomainName,
    /// File with the private key in PEM form: RSA with 2,048 to 4,096 bits, or Ed25519 (RFC 8463). The account `user` must be
    /// able to read it, and nobody else but its group. It is read again at each reload.
    pub key: PathBuf,
    /// Domains of From fields that are signed for: `example.net`, `.example.net` for all below it, or `*` for those that no
    /// entry names. Left out: `domain` itself and all below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<DomainPattern>,
    /// Clients whose mail is signed, of those that a rule with `sign: true` lets in: addresses or networks. Left out: all. Name
    /// them where one of your clients must not write mail in the name of another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client: Vec<Network>,
    /// Fields that are signed, each as often as it is there (RFC 6376 section 5.4.1, and those that say what the body is).
    #[serde(default = "Dkim::default_headers")]
    pub headers: Vec<FieldName>,
    /// Fields of `headers` that are signed once more than they are there, so that nobody can add one.
    #[serde(default = "Dkim::default_oversign")]
    pub oversign: Vec<FieldName>,
    /// How much header and body may change on the way: blanks and line breaks (`relaxed`), or nothing (`simple`).
    #[serde(default)]
    pub canonicalization: Canonicalization,
    /// How long the signature holds (`x=`); 0: for ever.
    #[serde(default = "Dkim::default_expiry")]
    pub expiry: Span,
}

impl Dkim {
    fn default_headers() -> Vec<FieldName> {
        let names = [
            "From",
            "Reply-To",
            "Subject",
            "Date",
            "To",
            "Cc",
            "Message-ID",
            "In-Reply-To",
            "References",
            "Resent-Date",
            "Resent-From",
            "Resent-To",
            "Resent-Cc",
            "List-Id",
            "List-Help",
            "List-Unsubscribe",
            "List-Unsubscribe-Post",
            "List-Subscribe",
            "List-Post",
            "List-Owner",
            "List-Archive",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
        ];
        names.map(|name| FieldName(name.to_owned())).to_vec()
    }

    fn default_oversign() -> Vec<FieldName> {
        vec![FieldName("From".to_owned())]
    }

    const fn default_expiry() -> Span {
        Span::seconds(0)
    }

    /// The From domains that are signed for.
    #[must_use]
    pub fn from_domains(&self) -> Vec<DomainPattern> {
        if self.domains.is_empty() {
            let domain = self.domain.as_str().to_owned();
            return vec![DomainPattern::Is(domain.clone()), DomainPattern::Below(domain)];
        }
        self.domains.clone()
    }
}

/// The name of a header field (RFC 5322 section 2.2).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct FieldName(String);

impl FieldName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for FieldName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl TryFrom<String> for FieldName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The semicolon would end the list in which it stands (RFC 6376 section 3.5).
        let is_name =
            |text: &str| text.bytes().all(|octet| octet.is_ascii_graphic() && !b":;".contains(&octet));
        if text.is_empty() || text.len() > 70 || !is_name(&text) {
            return Err(format!(
                "`{text}` is not the name of a header field; write for example `Subject`, without a colon"
            ));
        }
        Ok(Self(text))
    }
}

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.0
    }
}

/// How much of header and body may change on the way (RFC 6376 section 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Canonicalization {
    /// Blanks and line breaks in both.
    #[default]
    #[serde(rename = "relaxed/relaxed")]
    Relaxed,
    /// Blanks and line breaks in the header; nothing in the body.
    #[serde(rename = "relaxed/simple")]
    RelaxedSimple,
    /// Nothing in the header; blanks in the body.
    #[serde(rename = "simple/relaxed")]
    SimpleRelaxed,
    /// Nothing.
    #[serde(rename = "simple/simple")]
    Simple,
}
