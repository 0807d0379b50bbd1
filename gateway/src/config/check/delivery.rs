//! How mail is delivered: `delivery`.

use super::Findings;
use crate::config::file::Config;
use crate::config::file::delivery::{Delivery, FingerprintDigest, InetProtocol, SecurityLevel, Starttls};
use crate::config::units::Span;
use crate::delivery::tls::{Ciphers, Fingerprint, TlsError, Versions};
use crate::smtp::client::TlsLevel;

/// The longest that mail may wait, and the longest time limit of a step (postconf(5) has no limit of its own).
const LONGEST: Span = Span::minutes(100 * 24 * 60);
/// Most digits behind the point of a delay.
const MOST_DIGITS: u8 = 6;
/// The highest level of detail of what is logged about TLS.
const MOST_DETAIL: u8 = 4;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    Section { findings, own: false }.check(&config.delivery);
    schedule(&config.delivery, findings);
    // What LMTP inherits was told already.
    if findings.is_written("delivery.lmtp") {
        Section { findings, own: true }.check(&config.delivery.for_lmtp());
    }
}

/// The keys of SMTP, or LMTP's own.
struct Section<'f, 'r> {
    findings: &'f mut Findings<'r>,
    own: bool,
}

impl Section<'_, '_> {
    fn key(&self, key: &str) -> Option<String> {
        if !self.own {
            return Some(format!("delivery.{key}"));
        }
        let key = format!("delivery.lmtp.{key}");
        self.findings.is_written(&key).then_some(key)
    }

    fn error(&mut self, key: &str, message: impl Into<String>) {
        if let Some(key) = self.key(key) {
            self.findings.error(&[&key], message);
        }
    }

    fn warn(&mut self, key: &str, message: impl Into<String>) {
        if let Some(key) = self.key(key) {
            self.findings.warn(&[&key], message);
        }
    }

    fn check(&mut self, section: &Delivery) {
        self.times(section);
        self.sasl(section);
        self.tls(&section.starttls);
        self.others(section);
    }

    fn times(&mut self, section: &Delivery) {
        let Delivery { compatibility, starttls, resources, .. } = section;
        for (key, value) in [
            ("compatibility.pix-workaround-delay-time", compatibility.pix_workaround_delay_time),
            ("starttls.starttls-timeout", starttls.starttls_timeout),
            ("resources.helo-timeout", resources.helo_timeout),
            ("resources.xforward-timeout", resources.xforward_timeout),
            ("resources.mail-timeout", resources.mail_timeout),
            ("resources.rcpt-timeout", resources.rcpt_timeout),
            ("resources.data-init-timeout", resources.data_init_timeout),
            ("resources.data-xfer-timeout", resources.data_xfer_timeout),
            ("resources.data-done-timeout", resources.data_done_timeout),
            ("resources.quit-timeout", resources.quit_timeout),
            ("resources.rset-timeout", resources.rset_timeout),
            ("resources.connection-reuse-time-limit", resources.connection_reuse_time_limit),
            ("resources.connection-cache-time-limit", resources.connection_cache_time_limit),
        ] {
            if value < Span::seconds(1) || value > LONGEST {
                self.error(key, format!("{value} is no time limit; write `1s` to `{LONGEST}`"));
            }
        }
    }

    fn sasl(&mut self, section: &Delivery) {
        let sasl = &section.sasl;
        if sasl.sasl_auth_enable && sasl.sasl_password_maps.is_empty() {
            let message = "there are no passwords; write `sasl-password-maps`, for example \
                [\"texthash:/etc/gateway/passwords\"]";
            self.error("sasl.sasl-auth-enable", message);
        }
        if !sasl.sasl_auth_enable && !sasl.sasl_password_maps.is_empty() {
            self.warn("sasl.sasl-password-maps", "has no use without `sasl-auth-enable: true`");
        }
    }

    fn tls(&mut self, starttls: &Starttls) {
        for (key, words, level) in [
            ("starttls.tls-mandatory-protocols", &starttls.tls_mandatory_protocols, TlsLevel::Encrypt),
            ("starttls.tls-protocols", &starttls.tls_protocols, TlsLevel::May),
        ] {
            match Versions::parse(&words.join(" "), level) {
                Ok(versions) if versions.substituted => {
                    let message = "leaves neither TLS 1.2 nor 1.3, and the TLS library has no others: both are \
                        used nevertheless, because the other way were clear text";
                    self.warn(key, message);
                }
                Ok(_) => {}
                Err(TlsError::NoVersion) => {
                    let message = "leaves neither TLS 1.2 nor 1.3, and the TLS library has no others; write for \
                        example [\">=TLSv1.2\"]";
                    self.error(key, message);
                }
                Err(error) => self.error(key, error.to_string()),
            }
        }
        self.ciphers(starttls);
        self.certificates(starttls);
        if !starttls.tls_per_site.is_empty() && !starttls.tls_policy_maps.is_empty() {
            self.warn("starttls.tls-per-site", "never counts: `tls-policy-maps` is set, too");
        }
        let trusts = starttls.tls_cafile.is_some() || starttls.tls_capath.is_some();
        if matches!(starttls.tls_security_level, SecurityLevel::Verify | SecurityLevel::Secure) && !trusts {
            let message = "no authority is trusted, so that no mail goes out; write `tls-cafile`, for example \
                /etc/ssl/certs/ca-certificates.crt";
            self.warn("starttls.tls-security-level", message);
        }
        if starttls.tls_loglevel > MOST_DETAIL {
            let message = format!("{} is no level; write 0 to {MOST_DETAIL}", starttls.tls_loglevel);
            self.error("starttls.tls-loglevel", message);
        }
    }

    fn ciphers(&mut self, starttls: &Starttls) {
        let all = starttls.tls_exclude_ciphers.join(" ");
        let mandatory = starttls.tls_mandatory_exclude_ciphers.join(" ");
        for (key, excluded, both) in [
            ("starttls.tls-exclude-ciphers", &all, all.clone()),
            ("starttls.tls-mandatory-exclude-ciphers", &mandatory, format!("{all} {mandatory}")),
        ] {
            match Ciphers::ALL.without([both.as_str()]) {
                Ok(_) => {}
                Err(TlsError::NoCipher) => {
                    let left: Vec<_> = Ciphers::ALL.names().collect();
                    return self
                        .error(key, format!("no cipher suite is left; there are {}", left.join(", ")));
                }
                Err(error) => return self.error(key, error.to_string()),
            }
            let strange =
                Ciphers::ALL.without([excluded.as_str()]).map(|(_, strange)| strange).unwrap_or_default();
            if !strange.is_empty() {
                self.warn(key, format!("`{}` means no cipher that is known", strange.join("`, `")));
            }
        }
    }

    fn certificates(&mut self, starttls: &Starttls) {
        let digest = starttls.tls_fingerprint_digest;
        for text in &starttls.tls_fingerprint_cert_match {
            if let Err(error) = Fingerprint::parse(text, digest) {
                self.error("starttls.tls-fingerprint-cert-match", error.to_string());
                break;
            }
        }
        let lists = !starttls.tls_fingerprint_cert_match.is_empty();
        let level = starttls.tls_security_level;
        if level == SecurityLevel::Fingerprint && !lists && starttls.tls_policy_maps.is_empty() {
            let message =
                "no certificate is listed, so that no mail goes out; write `tls-fingerprint-cert-match`";
            self.error("starttls.tls-security-level", message);
        }
        if matches!(digest, FingerprintDigest::Md5 | FingerprintDigest::Sha1) {
            let message =
                format!("certificates can be made that have the same {}; write sha256", digest.name());
            self.warn("starttls.tls-fingerprint-digest", message);
        }
        for (key, names) in [
            ("starttls.tls-verify-cert-match", &starttls.tls_verify_cert_match),
            ("starttls.tls-secure-cert-match", &starttls.tls_secure_cert_match),
        ] {
            if names.is_empty() {
                self.error(key, "no name would match; write for example [hostname]");
            }
        }
        for (key, certificate, of) in [
            ("starttls.tls-key-file", &starttls.tls_cert_file, &starttls.tls_key_file),
            ("starttls.tls-eckey-file", &starttls.tls_eccert_file, &starttls.tls_eckey_file),
        ] {
            if certificate.is_none() && of.is_some() {
                self.error(key, "the certificate of this key is missing; write it, too");
            }
        }
        for (key, path) in [
            ("starttls.tls-cafile", &starttls.tls_cafile),
            ("starttls.tls-capath", &starttls.tls_capath),
            ("starttls.tls-cert-file", &starttls.tls_cert_file),
            ("starttls.tls-key-file", &starttls.tls_key_file),
            ("starttls.tls-eccert-file", &starttls.tls_eccert_file),
            ("starttls.tls-eckey-file", &starttls.tls_eckey_file),
        ] {
            if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
                self.error(key, format!("`{}` does not begin with `/`; write a whole path", path.display()));
            }
        }
    }

    fn others(&mut self, section: &Delivery) {
        let other = &section.miscellaneous;
        if other.delay_logging_resolution_limit > MOST_DIGITS {
            let message =
                format!("{} are too many; write 0 to {MOST_DIGITS}", other.delay_logging_resolution_limit);
            self.error("miscellaneous.delay-logging-resolution-limit", message);
        }
        if other.inet_protocols.is_empty() {
            self.error("miscellaneous.inet-protocols", "no server can be reached; write [ipv4, ipv6]");
        } else if other.inet_protocols.len() > 1 && other.inet_protocols.contains(&InetProtocol::All) {
            self.warn("miscellaneous.inet-protocols", "`all` includes the others");
        }
        if other.host_lookup.is_empty() {
            self.error("miscellaneous.host-lookup", "no host can be found; write [dns] or [dns, native]");
        }
        if other.tcp_port == Some(0) {
            self.error("miscellaneous.tcp-port", "port 0 does not exist; SMTP has 25");
        }
        if let Some(name) = &other.helo_name
            && !is_hello(name)
        {
            let message = format!(
                "`{name}` is no name for EHLO; write a host name such as `mx.example.net`, or [192.0.2.1]"
            );
            self.error("miscellaneous.helo-name", message);
        }
    }
}

/// A host name or an address in brackets, as far as its letters go (RFC 5321 section 4.1.1.1).
pub(super) fn is_hello(name: &str) -> bool {
    let letters = |octet: u8| octet.is_ascii_alphanumeric() || b"-._[]:".contains(&octet);
    !name.is_empty() && name.len() <= 255 && name.bytes().all(letters)
}

fn schedule(section: &Delivery, findings: &mut Findings<'_>) {
    let Delivery { schedule, mime, .. } = section;
    for (key, value, least) in [
        ("minimal-backoff-time", schedule.minimal_backoff_time, Span::seconds(1)),
        ("maximal-backoff-time", schedule.maximal_backoff_time, Span::seconds(1)),
        ("maximal-queue-lifetime", schedule.maximal_queue_lifetime, Span::seconds(0)),
        ("bounce-queue-lifetime", schedule.bounce_queue_lifetime, Span::seconds(0)),
        ("delay-warning-time", schedule.delay_warning_time, Span::seconds(0)),
    ] {
        if value < least || value > LONGEST {
            findings.error(
                &[&format!("delivery.schedule.{key}")],
                format!("{value} is no such time; write `{least}` to `{LONGEST}`"),
            );
        }
    }
    if schedule.minimal_backoff_time > schedule.maximal_backoff_time {
        findings.error(
            &["delivery.schedule.maximal-backoff-time", "delivery.schedule.minimal-backoff-time"],
            format!("is shorter than `minimal-backoff-time`, which is {}", schedule.minimal_backoff_time),
        );
    }
    if schedule.bounce_queue_lifetime > schedule.maximal_queue_lifetime {
        let message =
            format!("is cut to `maximal-queue-lifetime`, which is {}", schedule.maximal_queue_lifetime);
        findings.warn(
            &["delivery.schedule.bounce-queue-lifetime", "delivery.schedule.maximal-queue-lifetime"],
            message,
        );
    }
    if schedule.initial_destination_concurrency == 0 {
        let message = "nothing would be delivered; write 1 or more";
        findings.error(&["delivery.schedule.initial-destination-concurrency"], message);
    }
    for (key, value) in [
        ("mime-boundary-length-limit", mime.mime_boundary_length_limit),
        ("mime-nesting-limit", mime.mime_nesting_limit),
    ] {
        if value == 0 {
            findings.error(&[&format!("delivery.mime.{key}")], "0 is no such limit; write 1 or more");
        }
    }
}
