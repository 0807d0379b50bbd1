//! main.cf of Postfix, converted.

use anyhow::Context as _;
use gateway::import::main_cf::{Source, import as import_all, table};
use gateway::import::{Imported, Told};

use super::parity::{rows, there, with_tests};

/// Parameter, test.
const TESTS: &str = "config/postfix.tsv";

/// Every parameter that the manuals of smtp(8) document.
const PARAMETERS: &str = "\
ignore_mx_lookup_error smtp_always_send_ehlo smtp_never_send_ehlo smtp_defer_if_no_mx_address_found \
smtp_line_length_limit smtp_pix_workaround_delay_time smtp_pix_workaround_threshold_time \
smtp_quote_rfc821_envelope smtp_skip_5xx_greeting smtp_skip_quit_response smtp_skip_4xx_greeting \
smtp_discard_ehlo_keyword_address_maps smtp_discard_ehlo_keywords smtp_generic_maps \
smtp_cname_overrides_servername lmtp_discard_lhlo_keyword_address_maps lmtp_discard_lhlo_keywords \
disable_mime_output_conversion mime_boundary_length_limit mime_nesting_limit smtp_send_xforward_command \
smtp_sasl_auth_enable smtp_sasl_password_maps smtp_sasl_security_options smtp_sasl_mechanism_filter \
smtp_sender_dependent_authentication smtp_sasl_path smtp_sasl_type smtp_tls_security_level \
smtp_sasl_tls_security_options smtp_starttls_timeout smtp_tls_CAfile smtp_tls_CApath smtp_tls_cert_file \
smtp_tls_mandatory_ciphers smtp_tls_exclude_ciphers smtp_tls_mandatory_exclude_ciphers \
smtp_tls_dcert_file smtp_tls_dkey_file smtp_tls_key_file smtp_tls_loglevel smtp_tls_note_starttls_offer \
smtp_tls_policy_maps smtp_tls_mandatory_protocols smtp_tls_scert_verifydepth smtp_tls_secure_cert_match \
smtp_tls_session_cache_database smtp_tls_session_cache_timeout smtp_tls_verify_cert_match \
tls_daemon_random_bytes tls_high_cipherlist tls_medium_cipherlist tls_low_cipherlist \
tls_export_cipherlist tls_null_cipherlist smtp_sasl_tls_verified_security_options smtp_use_tls \
smtp_enforce_tls smtp_tls_enforce_peername smtp_tls_per_site smtp_tls_cipherlist \
smtp_destination_concurrency_limit smtp_destination_recipient_limit smtp_connect_timeout \
smtp_helo_timeout lmtp_lhlo_timeout smtp_xforward_timeout smtp_mail_timeout smtp_rcpt_timeout \
smtp_data_init_timeout smtp_data_xfer_timeout smtp_data_done_timeout smtp_quit_timeout \
smtp_mx_address_limit smtp_mx_session_limit smtp_rset_timeout lmtp_cache_connection \
smtp_connection_cache_destinations smtp_connection_cache_on_demand smtp_connection_reuse_time_limit \
smtp_connection_cache_time_limit connection_cache_protocol_timeout debug_peer_level debug_peer_list \
error_notice_recipient internal_mail_filter_classes notify_classes best_mx_transport config_directory \
daemon_timeout delay_logging_resolution_limit disable_dns_lookups inet_interfaces inet_protocols \
ipc_timeout lmtp_tcp_port max_idle max_use process_id process_name proxy_interfaces smtp_bind_address \
smtp_bind_address6 smtp_helo_name lmtp_lhlo_name smtp_host_lookup smtp_randomize_addresses \
syslog_facility syslog_name fallback_relay smtp_fallback_relay smtp_pix_workarounds \
smtp_pix_workaround_maps send_cyrus_sasl_authzid smtp_header_checks smtp_mime_header_checks \
smtp_nested_header_checks smtp_body_checks smtp_sasl_auth_cache_name smtp_sasl_auth_cache_time \
smtp_sasl_auth_soft_bounce smtp_tls_fingerprint_cert_match smtp_tls_fingerprint_digest tcp_windowsize \
smtp_tls_protocols smtp_tls_ciphers smtp_tls_eccert_file smtp_tls_eckey_file lmtp_assume_final";

/// Parameters that they only mention.
const MENTIONED: &str = "myhostname default_destination_concurrency_limit default_destination_recipient_limit non_smtpd_milters \
header_checks body_checks mime_header_checks nested_header_checks html_directory readme_directory";

fn import(text: &str, name: &str) -> Result<Imported, Told> {
    import_all(&[Source { name, text }])
}

fn good(text: &str) -> anyhow::Result<String> {
    let yaml = import(text, "main.cf")?.yaml;
    // What comes out is a configuration.
    gateway::config::parse(&yaml, "gateway.yaml")?;
    Ok(yaml)
}

/// What `text` is refused with.
fn refused(text: &str) -> String {
    import(text, "main.cf").map_or_else(|problems| problems.to_string(), |imported| imported.yaml)
}

#[test]
fn every_parameter_of_the_manuals_has_a_row() {
    let table = table();
    let names = || PARAMETERS.split_whitespace().chain(MENTIONED.split_whitespace());
    let missing: Vec<_> = names().filter(|name| !table.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(PARAMETERS.split_whitespace().count(), 129);
}

#[test]
fn the_shipped_table_is_the_one_of_the_program_and_its_tests() -> anyhow::Result<()> {
    super::shipped::generated("POSTFIX.md", &with_tests(&table(), &rows(TESTS)?))
}

#[test]
fn every_parameter_has_a_test_that_shows_its_effect() -> anyhow::Result<()> {
    let (table, tests) = (table(), rows::<2>(TESTS)?);
    // Those of the manuals, and those of the program.
    let own = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let all = PARAMETERS.split_whitespace().chain(MENTIONED.split_whitespace()).chain(own);
    let without: Vec<_> = all.filter(|name| !tests.iter().any(|[own, _]| own == name)).collect();
    assert!(without.is_empty(), "parameters without a test: {without:?}");
    for [name, test] in &tests {
        assert!(table.contains(&format!("| `{name}` |")), "there is no parameter {name}");
        let text = there(test).with_context(|| format!("for {name}"))?;
        let is_played = !test.starts_with("tests/it/parameters/") || text.contains(&format!("{name} ="));
        assert!(is_played, "{name} is not in {test}");
    }
    Ok(())
}

/// Each with a value that Postfix takes; those that cannot be kept are refused, and by their names.
#[test]
fn every_parameter_of_the_manuals_is_understood() {
    for name in PARAMETERS.split_whitespace().chain(MENTIONED.split_whitespace()) {
        let values = [
            "yes",
            "30s",
            "30",
            "5",
            "hash:/etc/postfix/x",
            "may",
            "high",
            "2",
            "sha256",
            "/etc/x",
            "ipv4",
            "dns",
            "starttls",
            "192.0.2.1",
            "2001:db8::1",
            "noanonymous",
            "bounce",
            "delay_dotcrlf",
            "cyrus",
            "smtp:[h.test]",
        ];
        let taken = values.iter().any(|value| {
            import(&format!("{name} = {value}\n"), "main.cf").is_ok_and(|imported| {
                !imported.warnings.to_string().contains("not understood")
                    && !imported.yaml.contains("Not about delivery")
            })
        });
        let refusal = refused(&format!("{name} = /etc/x\n"));
        let kept_out = refusal.contains("cannot be kept") || refusal.contains("cannot be set");
        assert!(taken != kept_out, "{name}: {refusal}");
    }
}

#[test]
fn an_empty_file_has_the_defaults_of_the_gateway() -> anyhow::Result<()> {
    assert!(!good("")?.lines().any(|line| !line.is_empty() && !line.starts_with('#')));
    Ok(())
}

#[test]
fn what_counts_for_all_transports_counts_for_those_without_their_own() -> anyhow::Result<()> {
    let all = "default_destination_rate_delay = 3s\n";
    for (own, smtp, lmtp) in [
        ("", 3, 3),
        ("smtp_destination_rate_delay = 1s\n", 1, 3),
        ("lmtp_destination_rate_delay = 2s\n", 3, 2),
        ("smtp_destination_rate_delay = 1s\nlmtp_destination_rate_delay = 2s\n", 1, 2),
    ] {
        let yaml = good(&format!("{all}{own}"))?;
        let delivery = gateway::config::parse(&yaml, "gateway.yaml")?.delivery;
        let delay = |section: &gateway::config::file::delivery::Delivery| {
            section.resources.destination_rate_delay.duration().as_secs()
        };
        assert_eq!((delay(&delivery), delay(&delivery.for_lmtp())), (smtp, lmtp), "{own}");
    }
    Ok(())
}

#[test]
fn a_relay_with_a_password_and_lmtp_of_its_own() -> anyhow::Result<()> {
    let imported = import(
        "# Debian\nmyhostname = mx.example.net\nmyorigin = $mydomain\nsmtpd_banner = $myhostname ESMTP\n\
         default_database_type = lmdb\n\
         smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps =\n  hash:${config_directory}/passwd\n  static:u:p\n\
         smtp_tls_CAfile = /etc/ssl/certs/ca.pem\nsmtp_use_tls = yes\nsmtp_enforce_tls = $smtp_sasl_auth_enable\n\
         smtp_helo_timeout = 2m\nlmtp_helo_timeout = 30\nlmtp_use_tls = no\nlmtp_tls_policy_maps = inline:{a.test=may}\n\
         fallback_relay = [f.example.net]:587\nsmtp_mx_session_limit = 3\nsmtp_mx_session_limit = 4\n\
         smtp_tls_ciphers = export\nsmtp_quit_timout = 3s\nmax_use = 10\n",
        "main.cf",
    )?;
    gateway::config::parse(&imported.yaml, "gateway.yaml")?;
    insta::assert_snapshot!(imported.yaml);
    insta::assert_snapshot!(
        "a_relay_with_a_password_and_lmtp_of_its_own_warnings",
        imported.warnings.to_string()
    );
    Ok(())
}

#[test]
fn all_wrong_lines_are_told_at_once() {
    insta::assert_snapshot!(refused(
        "smtp_line_length_limit = many\nsmtp_always_send_ehlo = 1\nsmtp_mail_timeout = 0\n\
         smtp_tls_security_level = dane\nsmtp_tls_dcert_file = /etc/dsa.pem\nprocess_id = 1\n\
         smtp_generic_maps = ldap:/etc/ldap.cf\nsmtp_fallback_relay = [f.test\nsmtp_helo_name = $nobody\n\
         smtp_tls_mandatory_ciphers = null\nsmtp_use_tls = maybe\nnonsense\n"
    ));
}

/// What an installation has: the result, and what is told.
fn converted(sources: &[(&str, &str)]) -> anyhow::Result<String> {
    let sources: Vec<_> = sources.iter().map(|(name, text)| Source { name, text }).collect();
    let Imported { yaml, warnings } = import_all(&sources)?;
    gateway::config::parse(&yaml, "gateway.yaml")?;
    Ok(format!("{yaml}\n{warnings}"))
}

#[test]
fn a_mail_server_as_debian_sets_it_up() -> anyhow::Result<()> {
    let main = "smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)\nbiff = no\nappend_dot_mydomain = no\n\
        readme_directory = no\ncompatibility_level = 3.6\nsmtpd_tls_cert_file=/etc/ssl/certs/ssl-cert-snakeoil.pem\n\
        smtpd_tls_security_level=may\n\nsmtp_tls_CApath=/etc/ssl/certs\nsmtp_tls_security_level=may\n\
        smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache\n\n\
        smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated\n  defer_unauth_destination\n\
        myhostname = mail.example.net\nalias_maps = hash:/etc/aliases\nmyorigin = /etc/mailname\n\
        mydestination = $myhostname, localhost\nrelayhost = \nmynetworks = 127.0.0.0/8 [::1]/128\n\
        mailbox_size_limit = 0\nrecipient_delimiter = +\ninet_interfaces = all\ninet_protocols = all\n";
    let master = "smtp      inet  n       -       y       -       -       smtpd\n\
        smtp      unix  -       -       y       -       -       smtp\n\
        relay     unix  -       -       y       -       -       smtp\n        -o syslog_name=${multi_instance_name?{$multi_instance_name}:{postfix}}/$service_name\n\
        lmtp      unix  -       -       y       -       -       lmtp\n";
    insta::assert_snapshot!(converted(&[("main.cf", main), ("master.cf", master)])?);
    Ok(())
}

#[test]
fn a_host_that_sends_all_mail_through_a_provider() -> anyhow::Result<()> {
    let main = "myhostname = office.example.net\nrelayhost = [smtp.provider.example]:587\n\
        smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:$config_directory/sasl_passwd\n\
        smtp_sasl_security_options = noanonymous\nsmtp_sasl_tls_security_options = $smtp_sasl_security_options\n\
        smtp_tls_security_level = ${level?{$level}:{encrypt}}\nsmtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt\n\
        smtp_tls_policy_maps = inline:{\n  { [smtp.provider.example]:587 = secure match=.provider.example },\n  { old.example = may } }\n\
        smtp_generic_maps = hash:/etc/postfix/generic\nsmtp_tls_loglevel = 1\n";
    let later = "# for the second office\nsmtp_helo_name = two.example.net\nrelayhost = [backup.provider.example]:587\n";
    let master = "smtp unix - - y - - smtp -o smtp_bind_address=192.0.2.25 -o { smtp_tls_loglevel = 0 }\n\
        slow unix - - y - 1 smtp -o smtp_destination_rate_delay=5s\n";
    insta::assert_snapshot!(converted(&[("main.cf", main), ("two.cf", later), ("master.cf", master)])?);
    Ok(())
}

#[test]
fn mailboxes_behind_dovecot() -> anyhow::Result<()> {
    let main = "myhostname = mx.example.net\nvirtual_mailbox_domains = example.net\n\
        virtual_transport = lmtp:unix:private/dovecot-lmtp\nlmtp_destination_recipient_limit = 1\n\
        lmtp_lhlo_timeout = 30s\nlmtp_tls_security_level = none\nlmtp_assume_final = yes\n\
        maximal_queue_lifetime = 2d\nnotify_classes = bounce, 2bounce\n";
    let master = "lmtp unix - - y - - lmtp -o lmtp_data_done_timeout=1200s -o max_use=10\n";
    insta::assert_snapshot!(converted(&[("main.cf", main), ("master.cf", master)])?);
    Ok(())
}
