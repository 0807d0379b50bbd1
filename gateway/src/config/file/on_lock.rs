//! The section `on-lock`.

use std::path::PathBuf;

use hyper::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spam::Secret;
use crate::config::units::Span;

/// Who is told when a client is locked for what it has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct OnLock {
    /// A program that is run once for each lock, without a shell; not for locks of operators. What is
    /// known of the offence is its environment, and nothing else is in it. Empty (`''`): none.
    pub script: PathBuf,
    /// The account that it runs as where the gateway is started as root. It has no capability and can
    /// gain none, so that sudo(8) is of no use to it.
    pub user: String,
    /// How long it may run, with all it has started; then what is left of that is killed.
    pub time_limit: Span,
    /// How many may run at the same time, 1 to 64. Some more wait; those beyond are counted, not run.
    pub at_once: usize,
    /// A server that is told the same once for each lock, by HTTP. Left out: none.
    pub webhook: Option<Webhook>,
}

/// A server that is told of each lock by a POST with a JSON document. What is no 2xx reply fails; where
/// trying again may help (no connection, 408, 429, 5xx) it is tried three times in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Webhook {
    /// Where, such as `https://abuse.example.net/locks`.
    pub url: WebhookUrl,
    /// How long one attempt may take.
    #[serde(default = "Webhook::default_timeout")]
    pub timeout: Span,
    /// The header field `Authorization`, such as `Bearer …`. Left out: none.
    #[serde(default)]
    pub authorization: Option<Secret>,
    /// Key of the header field `X-Gateway-Signature`: `sha256=` and the HMAC-SHA-256 of the document in
    /// hexadecimal digits. Left out: it is not signed.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// Certificates, in PEM form, one of which must stand behind that of an `https` server. The account
    /// `user` must be able to read it.
    #[serde(default = "Webhook::default_ca_file")]
    pub ca_file: PathBuf,
}

impl Webhook {
    fn default_timeout() -> Span {
        Span::seconds(10)
    }

    fn default_ca_file() -> PathBuf {
        PathBuf::from("/etc/ssl/certs/ca-certificates.crt")
    }
}

/// The address of an HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^https?://"))]
pub struct WebhookUrl {
    text: String,
    /// By TLS.
    pub secure: bool,
    /// Name or address of the server, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `Host` of a request.
    pub authority: String,
    /// Path and query of a request.
    pub target: String,
}

impl TryFrom<String> for WebhookUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if has_account(&text) {
            return Err("a URL here has no account; write `authorization`".to_owned());
        }
        let wrong = || {
            format!(
                "`{text}` is not the address of an HTTP server; write for example `https://abuse.example.net/locks`"
            )
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { secure, host, port, authority: authority.to_string(), target, text })
    }
}

/// Whether a URL names an account, however wrong the rest of it is: no message may repeat it.
fn has_account(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    authority.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

impl From<WebhookUrl> for String {
    fn from(url: WebhookUrl) -> Self {
        url.text
    }
}

impl OnLock {
    /// Whether anybody is told of locks.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.webhook.is_some() || !self.script.as_os_str().is_empty()
    }
}

impl Default for OnLock {
    fn default() -> Self {
        Self {
            script: PathBuf::new(),
            user: "gateway-action".to_owned(),
            time_limit: Span::seconds(30),
            at_once: 4,
            webhook: None,
        }
    }
}
