//! Configurations of other systems, converted.

use std::time::Duration;

use gateway::config;
use gateway::import::Imported;
use gateway::import::smtp_gated::{import, table};

/// Every option of smtp-gated.conf(1), older names and misprints of its manual included.
const OPTIONS: &str = "\
proxy_name bind_address port outgoing_addr source_addr pidfile chroot_path set_user set_group priority \
connect_queue enfile_sleep on_takeover_cmds buffer_size pipeline_size pid_hash_size host_hash_size \
limit_core_size limit_virt_size limit_data_size limit_fsize mode use_netfilter fixed_server \
fixed_server_port remote_port remote_udp_retries remote_udp_secret statefile statefile_perm statefile_type \
dumpfile dumpfile_perm lock_on lock_duration lock_path lock_perm action_script spool_path spool_perm \
spool_leave_on timeout_direct timeout_lookup timeout_scanner timeout_spam timeout_session timeout_idle \
timeout_connect auth_require auth_skip max_connections max_per_host max_per_ident max_load size_limit \
scan_max_size spam_max_size max_spam_size spam_max_load spam_threshold ignore_errors log_helo log_mail_from \
log_rcpt_to email_length log_level log_facility nat_header nat_header_type spool_header abuse scanner_path \
antivirus_type antivirus_path antispam_type antispam_path dspam_storage dnsbl spf spf_log_only spf_fixed_ip \
regex_enforce_helo regex_reject_helo regex_enforce_mail_from regex_reject_mail_from regex_enforce_rcpt_to \
regex_reject_rcpt_to earlytalker earlytalk ratelimit_path ratelimit_period ratelimit_generation \
ratelimit_connections ratelimit_sessions ratelimit_recipients ratelimit_bytes ratelimit_mailfrom_rejects \
ratelimit_rcptto_rejects ratelimit_auth_rejects forbid_starttls locale msg_virus_found msg_virus_locked \
msg_spam_found msg_unknown_virus msg_spool_problem msg_spool_open_fail msg_pipeline_full msg_scanner_failed \
msg_cannot_connect msg_connect_timeout msg_nomem msg_hello msg_sign_off msg_virus_no_more \
msg_session_timeout msg_proto_error msg_transaction_failed msg_unimpl_command msg_temp_unavail \
msg_max_reached msg_max_per_host msg_max_per_ident msg_system_load msg_malformed_ip msg_lookup_failed \
msg_lookup_timeout msg_lookup_mismatch msg_lookup_nomem";

fn good(text: &str) -> anyhow::Result<Imported> {
    let imported = import(text, "smtp-gated.conf")?;
    config::parse(&imported.yaml, "gateway.yaml")?;
    Ok(imported)
}

/// What `text` is refused with.
fn refused(text: &str) -> String {
    import(text, "smtp-gated.conf").map_or_else(|problems| problems.to_string(), |imported| imported.yaml)
}

#[test]
fn every_option_of_the_manual_has_a_row() {
    let table = table();
    let missing: Vec<_> =
        OPTIONS.split_whitespace().filter(|name| !table.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(OPTIONS.split_whitespace().count(), 129);
}

#[test]
fn an_empty_file_has_the_defaults_of_smtp_gated() -> anyhow::Result<()> {
    let imported = good("")?;
    insta::assert_snapshot!(imported.yaml);
    Ok(())
}

#[test]
fn a_fixed_server_stays_one() -> anyhow::Result<()> {
    let imported = good(
        "mode fixed\nbind_address 192.0.2.1\nport 025\nfixed_server 198.51.100.7\nfixed_server_port 0x19\n",
    )?;
    let config = config::parse(&imported.yaml, "gateway.yaml")?;
    assert_eq!(config.fixed_server, Some("198.51.100.7:25".parse()?));
    assert_eq!(config.listen, ["192.0.2.1:21".parse()?]);
    Ok(())
}

#[test]
fn a_fixed_server_that_is_told_its_clients_stays_one() -> anyhow::Result<()> {
    let imported = good("mode fixed+xclient\nfixed_server 198.51.100.7\n")?;
    let config = config::parse(&imported.yaml, "gateway.yaml")?;
    assert_eq!(config.fixed_server, Some("198.51.100.7:25".parse()?));
    assert_eq!(config.inspect.xclient, config::file::Xclient::Required);
    Ok(())
}

#[test]
fn routers_that_are_asked_stay_so() -> anyhow::Result<()> {
    for (mode, origin) in
        [("remote", config::file::Origin::Remote), ("remote-udp", config::file::Origin::RemoteUdp)]
    {
        let imported = good(&format!(
            "mode {mode}\nremote_port 1140\nremote_udp_retries 2\nremote_udp_secret 0x10\ntimeout_lookup 7\n\
             max_per_ident 3\nmsg_lookup_timeout Nobody knows\n"
        ))?;
        assert!(imported.warnings.to_string().contains("name your routers"), "{}", imported.warnings);
        let config = config::parse(&imported.yaml, "gateway.yaml")?;
        assert_eq!(config.origin, origin);
        assert_eq!((config.lookup.port, config.lookup.deadline.to_string()), (1140, "7s".to_owned()));
        assert_eq!(config.limits.sessions_per_identity, 3);
        assert_eq!(config.messages.lookup_timeout.to_string(), "Nobody knows");
        if mode == "remote-udp" {
            assert_eq!((config.lookup.tries, config.lookup.number()), (2, Some(16)));
        }
    }
    Ok(())
}

#[test]
fn scanners_filters_and_headers_are_carried_over() -> anyhow::Result<()> {
    let imported = good(
        "mode netfilter\nantivirus_type clamd\nantivirus_path 127.0.0.1:3310\nantispam_type spamassassin\n\
         spam_threshold 5.5\nignore_errors 1\nlock_on virus\naction_script /etc/smtp-gated/found\nset_user smtpgw\nauth_require ifsupported\nauth_skip antivir,regex\n\
         regex_reject_helo ^(localhost|\\[.*\\])$\nnat_header_type ip-only\nabuse abuse@example.net\nforbid_starttls 1\n\
         spool_leave_on virus,spam\nmsg_sign_off Bye: see you\ndnsbl bl.example.net,zen.example.org\n\
         spf fixed\nspf_fixed_ip 192.0.2.9\nspf_log_only yes\n",
    )?;
    insta::assert_snapshot!(imported.yaml);
    Ok(())
}

#[test]
fn texts_for_lack_of_something_are_carried_over_and_two_for_one_reply_are_told() -> anyhow::Result<()> {
    let imported =
        good("msg_nomem No memory\nmsg_spool_problem No name\nmsg_system_load Busy\nmax_load -1\n")?;
    let config = config::parse(&imported.yaml, "gateway.yaml")?;
    assert_eq!(config.messages.no_resources.as_str(), "No memory");
    assert_eq!(config.messages.spool_open_fail.as_str(), "No name");
    assert_eq!(config.messages.system_load.as_str(), "Busy");
    assert_eq!(config.limits.max_load.to_string(), "0");
    let imported =
        good("msg_spool_problem No name\nmsg_spool_open_fail No file\nmsg_pipeline_full Slow down\n")?;
    let config = config::parse(&imported.yaml, "gateway.yaml")?;
    assert_eq!(config.messages.spool_open_fail.as_str(), "No file");
    insta::assert_snapshot!(imported.warnings.to_string());
    Ok(())
}

#[test]
fn older_names_count_as_the_newer_ones() -> anyhow::Result<()> {
    let imported = good("source_addr 192.0.2.9\nearlytalk 0\nlog_level err\n")?;
    let config = config::parse(&imported.yaml, "gateway.yaml")?;
    assert_eq!(config.gateway_addresses.ipv4, Some("192.0.2.9".parse()?));
    assert_eq!(config.inspect.early_talk, config::file::EarlyTalk::Hold);
    assert_eq!(config.log.level, config::file::LogLevel::Error);
    Ok(())
}

#[test]
fn clients_are_locked_for_what_they_were_locked_for_and_as_long() -> anyhow::Result<()> {
    use gateway::config::file::{LockAction, LockCause};
    let locks = |text: &str| anyhow::Ok(config::parse(&good(text)?.yaml, "gateway.yaml")?.locks);
    let chosen = locks("lock_on virus,spam,maxhost,earlytalker\nlock_duration 600\n")?;
    assert_eq!(chosen.lock_on, [LockCause::Virus, LockCause::Spam, LockCause::MaxHost, LockCause::EarlyTalk]);
    assert_eq!(chosen.on(LockCause::Virus), (LockAction::Reject, Some(Duration::from_secs(600))));
    let all = locks("lock_duration -1\n")?;
    assert_eq!(all.lock_on.len(), 9, "everything that smtp-gated looks for");
    assert_eq!(all.on(LockCause::Spf).1, None, "for ever");
    assert!(locks("lock_on virus\nlock_duration 0\n")?.lock_on.is_empty());
    assert!(locks("lock_on never\n")?.lock_on.is_empty());
    Ok(())
}

#[test]
fn rate_limits_become_quotas() -> anyhow::Result<()> {
    let imported = good(
        "ratelimit_period 600\nratelimit_generation 20261121093000\nratelimit_connections 50\nratelimit_messages 40\n\
         ratelimit_recipients 100\nratelimit_bytes 1000000\nratelimit_mailfrom_rejects 3\n\
         ratelimit_rcptto_rejects 5\nratelimit_auth_rejects 4\nratelimit_dst_expiration 3600\n",
    )?;
    let quotas = config::parse(&imported.yaml, "gateway.yaml")?.quotas;
    assert_eq!((quotas.period.to_string().as_str(), quotas.generation), ("10m", 20_261_121_093_000));
    let limits = quotas.limits;
    assert_eq!((limits.connections, limits.messages, limits.recipients), (50, 40, 100));
    assert_eq!((limits.bytes.bytes(), limits.destinations), (1_000_000, 64));
    assert_eq!((limits.mail_rejects, limits.rcpt_rejects, limits.auth_rejects), (3, 5, 4));
    assert!(imported.warnings.to_string().contains("counted in the same period"), "{}", imported.warnings);
    Ok(())
}

#[test]
fn rate_limits_without_a_period_limit_nothing_and_servers_alone_refuse_nobody() -> anyhow::Result<()> {
    let imported = good("ratelimit_connections 50\n")?;
    assert!(!config::parse(&imported.yaml, "gateway.yaml")?.quotas.is_on());
    assert!(imported.warnings.to_string().contains("changes nothing"), "{}", imported.warnings);
    let imported = good("ratelimit_dst_expiration 7200\n")?;
    let quotas = config::parse(&imported.yaml, "gateway.yaml")?.quotas;
    assert_eq!((quotas.period.to_string().as_str(), quotas.limits.destinations), ("2h", 64));
    assert_eq!(quotas.limits.connections, 0);
    // What is longer than the gateway's longest period takes its place.
    let imported = good("ratelimit_expiration 99999999\nratelimit_connections 1\n")?;
    assert_eq!(config::parse(&imported.yaml, "gateway.yaml")?.quotas.period.to_string(), "31d");
    Ok(())
}

#[test]
fn what_has_no_meaning_is_told_with_its_reason() -> anyhow::Result<()> {
    let text = "mode pf\npid_hash_size 64\nuse_netfilter 1\nscanner_path /x\nmax_connections 5\nmax_connections 6\nmsg_hello za\u{17c}\u{f3}\u{142}\u{107}\n";
    let imported = good(text)?;
    insta::assert_snapshot!(imported.warnings);
    Ok(())
}

#[test]
fn all_wrong_lines_are_told_at_once() {
    let text = "prot 25\nport 99999\nmode proxy\nspool_perm 660\nignore_errors maybe\nmax_load x\n  antivirus_path clamd\n\
                mode fixed\nantivirus_type mksd\nregex_reject_helo (?=x)\nspf fixed\n\u{1b}[2J x\n";
    insta::assert_snapshot!(refused(text));
}
