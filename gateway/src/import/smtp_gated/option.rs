//! Every option of smtp-gated.conf(1): its type, its default, and what it is here.
//!
//! Defaults are those of the program, 1.4.21, where its manual says something else.

/// The type of a value (smtp-gated.conf(1), EXPLANATION).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text to the end of the line.
    Text,
    /// A path that begins with a slash.
    Path,
    /// A UNIX socket's path, or `ip:port`.
    Socket,
    /// An IPv4 address.
    Address,
    /// A TCP or UDP port.
    Port,
    /// An integer in decimal, octal or hexadecimal notation, of at least this value.
    Number(i64),
    /// The same, octal, for the mode of a file.
    Mode,
    /// A number with a fraction.
    Fraction,
    /// `0` or `1`.
    Flag,
    /// One of these words.
    One(&'static [&'static str]),
    /// Some of these words, divided by commas.
    Some(&'static [&'static str]),
    /// A regular expression of PCRE.
    Pattern,
}

/// What an option is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Here {
    /// These keys, of which the first carries the value.
    Keys(&'static [&'static str]),
    /// An older name of another option.
    Alias(&'static str),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opt {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The value of a file that does not name it; empty: none.
    pub(super) default: &'static str,
    pub(super) here: Here,
}

const fn option(name: &'static str, kind: Kind, default: &'static str, here: Here) -> Opt {
    Opt { name, kind, default, here }
}

use Here::{Alias, Keys, Nothing};
use Kind::{Address, Flag, Fraction, Mode, Number, One, Path, Pattern, Port, Socket, Some, Text};

const TABLES: &str = "sessions are no processes here, and their tables grow by themselves";
const FILES: &str = "these are no files here: the gateway keeps them in tables of its own";
const ONE_PROCESS: &str =
    "it was for the process of one session; see MemoryMax= in systemd.resource-control(5)";
const NEVER_FULL: &str =
    "nobody is refused for it: the gateway reads no further command until replies have come";
const UNUSED: &str = "smtp-gated does not use it either";

const MODES: &[&str] = &[
    "fixed",
    "fixed+xclient",
    "remote",
    "remote-udp",
    "getsockname",
    "netfilter",
    "tproxy",
    "tproxy,netfilter",
    "ipfw",
    "ipfilter",
    "pf",
];
const CAUSES: &[&str] = &[
    "virus",
    "spam",
    "maxhost",
    "maxident",
    "dnsbl",
    "regex",
    "spf",
    "earlytalk",
    "earlytalker",
    "ratelimit",
    "never",
];
const LEAVE_ON: &[&str] = &["error", "spam", "virus", "never", "always"];
const SKIPPED: &[&str] = &["none", "direct", "antivir", "antispam", "dnsbl", "regex"];
const LOGGED: &[&str] = &["accepted", "rejected", "base64", "off", "no", "none"];
const LEVELS: &[&str] = &["debug", "info", "notice", "warning", "err", "alert", "emerg", "crit"];
const FACILITIES: &[&str] = &[
    "user", "mail", "daemon", "auth", "news", "authpriv", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// All options, in the order of the manual, with older and undocumented names.
pub(super) const OPTIONS: &[Opt] = &[
    option("proxy_name", Text, "*", Keys(&["name"])),
    option("bind_address", Address, "0.0.0.0", Keys(&["listen"])),
    option("port", Port, "9199", Keys(&["listen"])),
    option("outgoing_addr", Address, "0.0.0.0", Keys(&["gateway-addresses.ipv4"])),
    option("source_addr", Address, "", Alias("outgoing_addr")),
    option("pidfile", Path, "/var/run/smtp-gated/smtp-gated.pid", Keys(&["process.pid-file"])),
    option("chroot_path", Path, "", Keys(&["process.sandbox"])),
    option("set_user", Text, "", Keys(&["user"])),
    option("set_group", Text, "", Keys(&["process.group"])),
    option("priority", Number(-20), "0", Keys(&["process.priority"])),
    option("connect_queue", Number(0), "16", Keys(&["limits.backlog"])),
    option(
        "enfile_sleep",
        Number(0),
        "5",
        Nothing("without a free descriptor the gateway waits until there is one"),
    ),
    option("on_takeover_cmds", Number(0), "10", Keys(&["limits.takeover-commands"])),
    option(
        "buffer_size",
        Number(0),
        "1516",
        Nothing("every line is parsed whatever its length, and buffers grow as they need"),
    ),
    option(
        "pipeline_size",
        Number(0),
        "128",
        Nothing("the gateway reads no further command while many wait for their replies"),
    ),
    option("pid_hash_size", Number(0), "4096", Nothing(TABLES)),
    option("host_hash_size", Number(0), "4096", Nothing(TABLES)),
    option("limit_core_size", Number(-1), "67108864", Keys(&["process.core-size"])),
    option("limit_virt_size", Number(-1), "67108864", Nothing(ONE_PROCESS)),
    option("limit_data_size", Number(-1), "67108864", Nothing(ONE_PROCESS)),
    option("limit_fsize", Number(-1), "104857600", Keys(&["process.file-size"])),
    option("mode", One(MODES), "", Keys(&["origin", "source-address", "inspect.xclient"])),
    option("use_netfilter", Flag, "", Nothing("write `mode netfilter`")),
    option("fixed_server", Address, "", Keys(&["fixed-server"])),
    option("fixed_server_port", Port, "25", Keys(&["fixed-server"])),
    option("remote_port", Port, "114", Keys(&["lookup.port"])),
    option("remote_udp_retries", Number(0), "3", Keys(&["lookup.tries"])),
    option("remote_udp_secret", Number(0), "0", Keys(&["lookup.secret"])),
    option("statefile", Path, "/var/run/smtp-gated/state", Keys(&["state-file.path"])),
    option("statefile_perm", Mode, "0660", Keys(&["state-file.mode"])),
    option("statefile_type", Some(&["human", "flat", "slots"]), "human,slots", Keys(&["state-file.format"])),
    option("dumpfile", Path, "", Alias("statefile")),
    option("dumpfile_perm", Mode, "", Alias("statefile_perm")),
    option("lock_on", Some(CAUSES), "", Keys(&["locks.lock-on"])),
    option("lock_duration", Number(-1), "3600", Keys(&["locks.for"])),
    option("lock_path", Path, "/var/spool/smtp-gated/lock", Nothing(FILES)),
    option("lock_perm", Mode, "0660", Nothing(FILES)),
    option("action_script", Path, "", Keys(&["on-lock.script", "on-lock.user"])),
    option("spool_path", Path, "/var/spool/smtp-gated/msg", Keys(&["spool.directory"])),
    option("spool_perm", Mode, "0660", Nothing("scanners are sent the copy and need not read the file")),
    option("spool_leave_on", Some(LEAVE_ON), "error", Keys(&["spool.leave-on"])),
    option("timeout_direct", Number(0), "300", Keys(&["timeouts.idle"])),
    option("timeout_lookup", Number(0), "10", Keys(&["lookup.deadline"])),
    option("timeout_scanner", Number(0), "30", Keys(&["scan.clamd.deadline"])),
    option("timeout_spam", Number(0), "30", Keys(&["scan.spamd.deadline"])),
    option("timeout_session", Number(0), "20", Keys(&["timeouts.takeover"])),
    option("timeout_idle", Number(0), "300", Keys(&["timeouts.command", "timeouts.reply"])),
    option("timeout_connect", Number(0), "30", Keys(&["timeouts.connect"])),
    option("auth_require", One(&["no", "ifsupported", "mandatory"]), "no", Keys(&["auth.require"])),
    option("auth_skip", Some(SKIPPED), "none", Keys(&["auth.skip"])),
    option("max_connections", Number(0), "64", Keys(&["limits.sessions"])),
    option("max_per_host", Number(0), "8", Keys(&["limits.sessions-per-client"])),
    option("max_per_ident", Number(0), "4", Keys(&["limits.sessions-per-identity"])),
    option("max_load", Fraction, "2", Keys(&["limits.max-load"])),
    option("size_limit", Number(0), "0", Keys(&["limits.message-size"])),
    option("scan_max_size", Number(0), "10000000", Keys(&["scan.clamd.max-size"])),
    option("spam_max_size", Number(-1), "500000", Keys(&["scan.spamd.max-size"])),
    option("max_spam_size", Number(-1), "", Alias("spam_max_size")),
    option("spam_max_load", Fraction, "1", Keys(&["scan.max-load"])),
    option("spam_threshold", Fraction, "7", Keys(&["scan.spamd.threshold"])),
    option("ignore_errors", Flag, "0", Keys(&["scan.clamd.on-failure", "scan.spamd.on-failure"])),
    option("log_helo", Flag, "0", Keys(&["log.helo"])),
    option("log_mail_from", Some(LOGGED), "off", Keys(&["log.mail-from"])),
    option("log_rcpt_to", Some(LOGGED), "off", Keys(&["log.rcpt-to"])),
    option("email_length", Number(0), "64", Keys(&["log.address-length"])),
    option("log_level", One(LEVELS), "debug", Keys(&["log.level"])),
    option("log_facility", One(FACILITIES), "daemon", Keys(&["log.facility"])),
    option("nat_header", Text, "X-Nat-Received", Keys(&["nat-header.name"])),
    option(
        "nat_header_type",
        One(&["none", "simple", "generic", "ip-only"]),
        "generic",
        Keys(&["nat-header.type"]),
    ),
    option("spool_header", Text, "X-Proxy-Spool-Info", Keys(&["spool.header"])),
    option("abuse", Text, "", Keys(&["nat-header.abuse"])),
    option("scanner_path", Path, "", Nothing(UNUSED)),
    option("antivirus_type", One(&["off", "clamd", "mksd"]), "off", Keys(&["scan.clamd"])),
    option("antivirus_path", Socket, "/var/run/clamav/clamd.ctl", Keys(&["scan.clamd.address"])),
    option("antispam_type", One(&["off", "spamassassin"]), "off", Keys(&["scan.spamd"])),
    option("antispam_path", Socket, "/var/run/spamd/spamd_socket", Keys(&["scan.spamd.address"])),
    option("dspam_storage", Path, "/var/spool/smtp-gated/dspam", Nothing(UNUSED)),
    option("dnsbl", Text, "", Keys(&["dnsbl.zones"])),
    option("spf", One(&["none", "incoming", "outgoing", "fixed"]), "none", Keys(&["spf.check"])),
    option("spf_log_only", Flag, "0", Keys(&["spf.log-only"])),
    option("spf_fixed_ip", Address, "", Keys(&["spf.fixed-address"])),
    option("regex_enforce_helo", Pattern, "", Keys(&["filters.helo.enforce"])),
    option("regex_enforce_mail_from", Pattern, "", Keys(&["filters.mail.enforce"])),
    option("regex_enforce_rcpt_to", Pattern, "", Keys(&["filters.rcpt.enforce"])),
    option("regex_reject_helo", Pattern, "", Keys(&["filters.helo.reject"])),
    option("regex_reject_mail_from", Pattern, "", Keys(&["filters.mail.reject"])),
    option("regex_reject_rcpt_to", Pattern, "", Keys(&["filters.rcpt.reject"])),
    option("earlytalker", Flag, "1", Keys(&["inspect.early-talk"])),
    option("earlytalk", Flag, "", Alias("earlytalker")),
    option("ratelimit_path", Path, "/var/spool/smtp-gated/ratelimit", Nothing(FILES)),
    option("ratelimit_period", Number(0), "0", Keys(&["quotas.period"])),
    option("ratelimit_expiration", Number(0), "", Alias("ratelimit_period")),
    option("ratelimit_generation", Number(0), "0", Keys(&["quotas.generation"])),
    option("ratelimit_connections", Number(0), "0", Keys(&["quotas.limits.connections"])),
    option("ratelimit_sessions", Number(0), "0", Keys(&["quotas.limits.messages"])),
    option("ratelimit_recipients", Number(0), "0", Keys(&["quotas.limits.recipients"])),
    option("ratelimit_bytes", Number(0), "0", Keys(&["quotas.limits.bytes"])),
    option("ratelimit_mailfrom_rejects", Number(0), "0", Keys(&["quotas.limits.mail-rejects"])),
    option("ratelimit_rcptto_rejects", Number(0), "0", Keys(&["quotas.limits.rcpt-rejects"])),
    option("ratelimit_auth_rejects", Number(0), "0", Keys(&["quotas.limits.auth-rejects"])),
    option("ratelimit_dst_expiration", Number(0), "0", Keys(&["quotas.limits.destinations"])),
    option("ratelimit_messages", Number(0), "", Alias("ratelimit_sessions")),
    option("forbid_starttls", Flag, "0", Keys(&["inspect.starttls"])),
    option(
        "locale",
        Text,
        "",
        Nothing("the gateway's own texts are what `messages` says, and errors of the system are in English"),
    ),
    option("msg_virus_found", Text, "", Keys(&["messages.virus-found"])),
    option("msg_virus_locked", Text, "", Keys(&["messages.virus-locked"])),
    option("msg_spam_found", Text, "", Keys(&["messages.spam-found"])),
    option("msg_unknown_virus", Text, "", Keys(&["messages.unknown-virus"])),
    option("msg_spool_open_fail", Text, "", Keys(&["messages.spool-open-fail"])),
    option("msg_spool_problem", Text, "", Keys(&["messages.spool-open-fail"])),
    option("msg_pipeline_full", Text, "", Nothing(NEVER_FULL)),
    option("msg_scanner_failed", Text, "", Keys(&["messages.scanner-failed"])),
    option("msg_cannot_connect", Text, "", Keys(&["messages.cannot-connect"])),
    option("msg_connect_timeout", Text, "", Keys(&["messages.connect-timeout"])),
    option("msg_nomem", Text, "", Keys(&["messages.no-resources"])),
    option("msg_hello", Text, "", Keys(&["messages.hello"])),
    option("msg_sign_off", Text, "", Keys(&["messages.sign-off"])),
    option("msg_virus_no_more", Text, "", Keys(&["messages.virus-no-more"])),
    option("msg_session_timeout", Text, "", Keys(&["messages.session-timeout"])),
    option("msg_proto_error", Text, "", Keys(&["messages.proto-error"])),
    option("msg_transaction_failed", Text, "", Keys(&["messages.transaction-failed"])),
    option("msg_unimpl_command", Text, "", Keys(&["messages.unimpl-command"])),
    option("msg_temp_unavail", Text, "", Keys(&["messages.temp-unavail"])),
    option("msg_max_reached", Text, "", Keys(&["messages.max-reached"])),
    option("msg_max_per_host", Text, "", Keys(&["messages.max-per-host"])),
    option("msg_max_per_ident", Text, "", Keys(&["messages.max-per-ident"])),
    option("msg_system_load", Text, "", Keys(&["messages.system-load"])),
    option("msg_malformed_ip", Text, "", Keys(&["messages.malformed-ip"])),
    option("msg_lookup_failed", Text, "", Keys(&["messages.lookup-failed"])),
    option("msg_lookup_timeout", Text, "", Keys(&["messages.lookup-timeout"])),
    option("msg_lookup_mismatch", Text, "", Keys(&["messages.lookup-mismatch"])),
    option("msg_lookup_nomem", Text, "", Keys(&["messages.no-resources"])),
];
