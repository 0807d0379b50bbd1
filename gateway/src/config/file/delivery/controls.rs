//! The keys that SMTP and LMTP have in common, group by group.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{
    AddressPreference, CipherGrade, FingerprintDigest, HostLookup, InetProtocol, Interface, NextHop,
    PixWorkaround, SaslOption, SecurityLevel, Transport,
};
use crate::config::units::Span;
use crate::table::TableSpec;

/// A group, and the same group with keys that may be missing.
macro_rules! controls {
    ($(#[doc = $about:literal])+ $name:ident, $own:ident {
        $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $name {
            /// The group with what `own` has instead.
            #[must_use]
            pub fn with(&self, own: &$own) -> Self {
                Self { $($key: own.$key.clone().unwrap_or_else(|| self.$key.clone()),)+ }
            }
        }

        $(#[doc = $about])+
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
        pub struct $own {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "Option::is_none")] pub $key: Option<$type>,)+
        }
    };
}

controls! {
    /// For servers that need something else than others, and what is done to messages.
    Compatibility, OwnCompatibility {
        /// Domains whose MX look-up fails are treated as if they had no MX records.
        ignore_mx_lookup_error: bool = false;
        /// EHLO is sent to servers whose greeting has no word `ESMTP`, too.
        always_send_ehlo: bool = true;
        /// HELO is sent to all servers, and nothing is asked of them that needs EHLO.
        never_send_ehlo: bool = false;
        /// Mail for a domain none of whose mail exchangers has an address is tried again, not returned.
        defer_if_no_mx_address_found: bool = false;
        /// Octets of a line that is sent, CRLF not counted; a longer one is folded. 0: no limit.
        line_length_limit: usize = 998;
        /// How long the dot waits with `delay_dotcrlf`.
        pix_workaround_delay_time: Span = Span::seconds(10);
        /// How old a message must be for `delay_dotcrlf`.
        pix_workaround_threshold_time: Span = Span::seconds(500);
        /// Local parts are quoted in MAIL and RCPT where RFC 5321 asks for it.
        quote_rfc821_envelope: bool = true;
        /// Another server is tried after a 5xx greeting; otherwise the mail is returned.
        skip_5xx_greeting: bool = true;
        /// The reply to QUIT is not waited for.
        skip_quit_response: bool = true;
        /// By address of the server: EHLO keywords that are ignored, instead of those of `discard-ehlo-keywords`.
        discard_ehlo_keyword_address_maps: Vec<TableSpec> = Vec::new();
        /// EHLO keywords that are ignored; `silent-discard` keeps that out of the log.
        discard_ehlo_keywords: Vec<String> = Vec::new();
        /// Addresses of this site and what stands for them in envelopes and headers that leave it.
        generic_maps: Vec<TableSpec> = Vec::new();
        /// What is done for servers whose greeting a PIX firewall has mangled.
        pix_workarounds: Vec<PixWorkaround> = vec![PixWorkaround::DisableEsmtp, PixWorkaround::DelayDotCrlf];
        /// By address of the server: the same, instead of `pix-workarounds`.
        pix_workaround_maps: Vec<TableSpec> = Vec::new();
        /// SASL PLAIN sends the user name as the identity to act as, too.
        send_cyrus_sasl_authzid: bool = false;
        /// What is done with fields of the message.
        header_checks: Vec<TableSpec> = Vec::new();
        /// What is done with fields about parts.
        mime_header_checks: Vec<TableSpec> = Vec::new();
        /// What is done with fields of messages within the message.
        nested_header_checks: Vec<TableSpec> = Vec::new();
        /// What is done with lines of bodies.
        body_checks: Vec<TableSpec> = Vec::new();
        /// Lines of servers' replies and what is read in their place: for servers that cannot be understood otherwise.
        reply_filter: Vec<TableSpec> = Vec::new();
        /// Results as `STATUS TEXT` and what is told in their place. It makes a lasting failure one that may pass, or the other
        /// way round, but no failure of a success and no success of a failure.
        delivery_status_filter: Vec<TableSpec> = Vec::new();
        /// Octets of the sockets' buffers, set before connecting; 0: the system's.
        tcp_windowsize: u16 = 0;
    }
}

controls! {
    /// For content filters that mail is delivered to.
    ContentInspection, OwnContentInspection {
        /// Servers that announce XFORWARD are told whom a message came from.
        send_xforward_command: bool = false;
    }
}

controls! {
    /// Passwords for servers.
    Sasl, OwnSasl {
        /// AUTH is used with servers for which there is a password.
        sasl_auth_enable: bool = false;
        /// By sender (if `sender-dependent-authentication`), server or destination: `USER:PASSWORD`.
        sasl_password_maps: Vec<TableSpec> = Vec::new();
        /// Mechanisms that are not used without TLS.
        sasl_security_options: Vec<SaslOption> = vec![SaslOption::NoPlaintext, SaslOption::NoAnonymous];
        /// Mechanisms that may be used; `!` in front of one excludes it. Empty: all.
        sasl_mechanism_filter: Vec<String> = Vec::new();
        /// Passwords are looked up by sender first.
        sender_dependent_authentication: bool = false;
        /// Passwords that a server has refused with 535 are not tried again with it until they change or time has passed.
        sasl_auth_cache: bool = false;
        /// How long not.
        sasl_auth_cache_time: Span = Span::seconds(90 * 86_400);
        /// Mail is tried again after a refused password, not returned.
        sasl_auth_soft_bounce: bool = true;
    }
}

controls! {
    /// TLS with servers.
    Starttls, OwnStarttls {
        /// How much TLS is wanted.
        tls_security_level: SecurityLevel = SecurityLevel::May;
        /// Mechanisms that are not used within TLS. Default: those of `sasl.sasl-security-options`.
        sasl_tls_security_options: Option<Vec<SaslOption>> = None;
        /// The same where the certificate matched. Default: `sasl-tls-security-options`.
        sasl_tls_verified_security_options: Option<Vec<SaslOption>> = None;
        /// For STARTTLS and the handshake.
        starttls_timeout: Span = Span::seconds(300);
        /// Certificates of authorities that are trusted.
        tls_cafile: Option<PathBuf> = None;
        /// A folder of them, read at start and at each reload.
        tls_capath: Option<PathBuf> = None;
        /// The certificate that is shown to servers that ask for one, and its intermediates.
        tls_cert_file: Option<PathBuf> = None;
        /// Its key. Default: the same file.
        tls_key_file: Option<PathBuf> = None;
        /// The same with an ECDSA key.
        tls_eccert_file: Option<PathBuf> = None;
        /// Its key. Default: the same file.
        tls_eckey_file: Option<PathBuf> = None;
        /// Ciphers where TLS is mandatory. The library has those of grade `high` only: `medium` is the same list.
        tls_mandatory_ciphers: CipherGrade = CipherGrade::Medium;
        /// Ciphers where it is not. The same holds for them.
        tls_ciphers: CipherGrade = CipherGrade::Medium;
        /// Ciphers that are not used.
        tls_exclude_ciphers: Vec<String> = Vec::new();
        /// Further ones where TLS is mandatory.
        tls_mandatory_exclude_ciphers: Vec<String> = Vec::new();
        /// 0: nothing; 1: a line for each handshake; more: more.
        tls_loglevel: u8 = 0;
        /// Servers that offer STARTTLS where it is not used are logged.
        tls_note_starttls_offer: bool = false;
        /// By destination: level and attributes.
        tls_policy_maps: Vec<TableSpec> = Vec::new();
        /// By destination and server: NONE, MAY, MUST or MUST_NOPEERMATCH. Older than `tls-policy-maps`, which counts if both are set.
        tls_per_site: Vec<TableSpec> = Vec::new();
        /// Versions where TLS is mandatory. The library has 1.2 and 1.3.
        tls_mandatory_protocols: Vec<String> = vec![">=TLSv1".to_owned()];
        /// Versions where it is not.
        tls_protocols: Vec<String> = vec![">=TLSv1".to_owned()];
        /// Certificates of authorities in a server's chain.
        tls_scert_verifydepth: u32 = 9;
        /// Names that a certificate must have at level `secure`.
        tls_secure_cert_match: Vec<String> = vec!["nexthop".to_owned(), "dot-nexthop".to_owned()];
        /// Names that a certificate must have at level `verify`.
        tls_verify_cert_match: Vec<String> = vec!["hostname".to_owned()];
        /// Digests of certificates or keys at level `fingerprint`.
        tls_fingerprint_cert_match: Vec<String> = Vec::new();
        /// Which digests these are.
        tls_fingerprint_digest: FingerprintDigest = FingerprintDigest::Sha256;
        /// How long a TLS session can be resumed; 0: never.
        tls_session_cache_timeout: Span = Span::seconds(3_600);
    }
}

controls! {
    /// How much, how many, and how long.
    Resources, OwnResources {
        /// Deliveries at once to one destination; 0: no limit of its own.
        default_destination_concurrency_limit: u32 = 20;
        /// Recipients of one delivery; 0: any number. 1: each recipient is a destination.
        default_destination_recipient_limit: usize = 50;
        /// Default: `default-destination-concurrency-limit`.
        destination_concurrency_limit: Option<u32> = None;
        /// Default: `default-destination-recipient-limit`.
        destination_recipient_limit: Option<usize> = None;
        /// The time between two deliveries to one destination, which then never run at once; 0: none.
        destination_rate_delay: Span = Span::seconds(0);
        /// For a connection; 0: the system's limit.
        connect_timeout: Span = Span::seconds(30);
        /// For the greeting, and for EHLO, HELO or LHLO.
        helo_timeout: Span = Span::seconds(300);
        /// For XFORWARD.
        xforward_timeout: Span = Span::seconds(300);
        /// For MAIL.
        mail_timeout: Span = Span::seconds(300);
        /// For each RCPT.
        rcpt_timeout: Span = Span::seconds(300);
        /// For DATA.
        data_init_timeout: Span = Span::seconds(120);
        /// For the text.
        data_xfer_timeout: Span = Span::seconds(180);
        /// For the dot.
        data_done_timeout: Span = Span::seconds(600);
        /// For QUIT.
        quit_timeout: Span = Span::seconds(300);
        /// For RSET.
        rset_timeout: Span = Span::seconds(20);
        /// Servers of a destination that are tried; 0: all.
        mx_address_limit: usize = 5;
        /// Sessions with them that get past their handshakes; 0: any number.
        mx_session_limit: usize = 2;
        /// Destinations to which connections are always kept for a while.
        connection_cache_destinations: Vec<String> = Vec::new();
        /// Connections are kept for a while where there is more mail.
        connection_cache_on_demand: bool = true;
        /// How old a connection may become.
        connection_reuse_time_limit: Span = Span::seconds(300);
        /// How many deliveries it may serve; 0: any number.
        connection_reuse_count_limit: u32 = 0;
        /// How long it may be idle.
        connection_cache_time_limit: Span = Span::seconds(2);
    }
}

controls! {
    /// Everything else.
    Miscellaneous, OwnMiscellaneous {
        /// Who gets mail of which this host is the best mail exchanger, such as `lmtp:unix:/run/lmtp` or
        /// `smtp:[192.0.2.1]`; otherwise it is returned.
        best_mx_transport: Option<Transport> = None;
        /// Digits behind the point of delays in the log, up to 6.
        delay_logging_resolution_limit: u8 = 2;
        /// Destinations are looked up by the system only, without mail exchangers.
        disable_dns_lookups: bool = false;
        /// Addresses of this host, which it never delivers to: `all`, `loopback-only`, or a list of addresses. When only one
        /// of a family is listed, and it is no loopback address, connections come from there.
        inet_interfaces: Vec<Interface> = vec![Interface::All];
        /// Families of addresses that are used.
        inet_protocols: Vec<InetProtocol> = vec![InetProtocol::All];
        /// Further addresses of this host, behind a translator or a proxy.
        proxy_interfaces: Vec<IpAddr> = Vec::new();
        /// The address that connections come from.
        bind_address: Option<Ipv4Addr> = None;
        /// The same for IPv6.
        bind_address6: Option<Ipv6Addr> = None;
        /// The name in EHLO, HELO and LHLO. Default: `name`.
        helo_name: Option<String> = None;
        /// Where hosts are looked up, the DNS first.
        host_lookup: Vec<HostLookup> = vec![HostLookup::Dns];
        /// Equal servers are tried in random order.
        randomize_addresses: bool = true;
        /// The family of addresses that is tried first among equal servers.
        address_preference: AddressPreference = AddressPreference::Any;
        /// Neither family of addresses fills all places up to `resources.mx-address-limit`.
        balance_inet_protocols: bool = true;
        /// Who is tried when a destination is not found or fails.
        fallback_relay: Vec<NextHop> = Vec::new();
        /// The port that is connected to in place of 25 (LMTP: 24).
        tcp_port: Option<u16> = None;
    }
}
