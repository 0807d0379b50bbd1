//! Names of domains, and what may be written for several of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::delivery::destination::host_name;

/// A name of the DNS, in lower case and A-labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct DomainName(String);

impl DomainName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DomainName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        host_name(&text)
            .map(Self)
            .map_err(|_| format!("`{text}` is no name of the DNS; write for example `example.net`"))
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> Self {
        name.0
    }
}

/// One domain, all below one, or any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum DomainPattern {
    /// This one, in lower case and A-labels.
    Is(String),
    /// All below this one.
    Below(String),
    /// Any.
    Any,
}

impl DomainPattern {
    /// Whether it names that domain, which is in lower case and A-labels. [`Self::Any`] names none.
    #[must_use]
    pub fn names(&self, domain: &str) -> bool {
        match self {
            Self::Is(own) => own == domain,
            Self::Below(above) => domain.strip_suffix(above.as_str()).is_some_and(|rest| rest.ends_with('.')),
            Self::Any => false,
        }
    }
}

impl TryFrom<String> for DomainPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad =
            || format!("`{text}` is no domain; write `example.net`, `.example.net` for all below it, or `*`");
        match text.strip_prefix('.') {
            _ if text == "*" => Ok(Self::Any),
            Some(above) => host_name(above).map(Self::Below).map_err(|_| bad()),
            None => host_name(&text).map(Self::Is).map_err(|_| bad()),
        }
    }
}

impl From<DomainPattern> for String {
    fn from(domain: DomainPattern) -> Self {
        match domain {
            DomainPattern::Is(domain) => domain,
            DomainPattern::Below(domain) => format!(".{domain}"),
            DomainPattern::Any => "*".to_owned(),
        }
    }
}
