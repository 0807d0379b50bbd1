//! From options to keys.

use std::collections::BTreeMap;

use super::option::{Here, OPTIONS, Opt};
use super::read::{self, Given, Value};
use crate::config::file::Text;
use crate::config::pattern::Pattern;
use crate::config::{Place, Problems};
use crate::import::yaml::{self, Document};

const HEAD: &str =
    "Made by `gateway import smtp-gated`. Behind each key stands the option it was. Keys that are
left out have the gateway's defaults: see REFERENCE.md.";

/// Makes the document; what has no meaning here, or another one, is told in `problems`.
pub(super) fn convert(given: &BTreeMap<&'static str, Given>, text: &str, problems: &mut Problems) -> String {
    let mut conversion = Conversion { given, text, problems, document: Document::new(HEAD) };
    conversion.tell();
    conversion.main();
    conversion.mode();
    conversion.limits();
    conversion.timeouts();
    conversion.spool();
    conversion.scan();
    conversion.filters();
    conversion.block_lists();
    conversion.spf();
    conversion.nat_header();
    conversion.messages();
    conversion.log();
    conversion.process();
    conversion.document.finish()
}

struct Conversion<'c> {
    given: &'c BTreeMap<&'static str, Given>,
    text: &'c str,
    problems: &'c mut Problems,
    document: Document,
}

fn option(name: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| option.name == name)
}

impl Conversion<'_> {
    /// Tells of every option of the file that is nothing here, or not yet.
    fn tell(&mut self) {
        for (name, given) in self.given {
            let why = match option(name).map(|option| option.here) {
                Some(Here::Nothing(why)) => format!("`{}` is left out: {why}", given.name),
                Some(Here::Later) => {
                    format!("`{}` is left out: this release has nothing like it", given.name)
                }
                Some(Here::Keys(_) | Here::Alias(_)) | None => continue,
            };
            self.problems.warning(self.text, given.place, &why);
        }
    }

    fn warn(&mut self, name: &str, message: &str) {
        let place = self.given.get(name).map_or(Place::NOWHERE, |given| given.place);
        self.problems.warning(self.text, place, message);
    }

    fn value(&self, name: &str) -> Option<Value> {
        match self.given.get(name) {
            Some(given) => Some(given.value.clone()),
            None => option(name).and_then(read::default),
        }
    }

    fn number(&self, name: &str) -> i64 {
        if let Some(Value::Number(number)) = self.value(name) { number } else { 0 }
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Flag(true)))
    }

    /// A text or an address; empty where there is none.
    fn text(&self, name: &str) -> String {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            Some(Value::Address(address)) => address.to_string(),
            _ => String::new(),
        }
    }

    fn words(&self, name: &str) -> Vec<&'static str> {
        if let Some(Value::Words(words)) = self.value(name) { words } else { Vec::new() }
    }

    fn set(&mut self, key: &str, value: &str, was: &str) {
        self.document.set(key, value, was);
    }

    /// A number with a fraction, as it is written.
    fn decimal(&self, name: &str) -> String {
        if let Some(Value::Fraction(number)) = self.value(name) { number.to_string() } else { "0".to_owned() }
    }

    /// Carries a number of octets over.
    fn size(&mut self, name: &str, key: &str) {
        let octets = self.number(name);
        self.set(key, &if octets <= 0 { "0".to_owned() } else { format!("{octets}B") }, name);
    }

    fn main(&mut self) {
        let name = self.text("proxy_name");
        if name != "*" {
            self.set("name", &yaml::string(&name), "proxy_name");
        }
        let outgoing = self.text("outgoing_addr");
        if outgoing != "0.0.0.0" {
            self.set("gateway-addresses.ipv4", &outgoing, "outgoing_addr");
        }
        let user = self.text("set_user");
        if !user.is_empty() {
            self.set("user", &yaml::string(&user), "set_user");
        }
    }

    fn mode(&mut self) {
        let words = self.words("mode");
        let mode = words.first().copied().unwrap_or_default();
        let port = self.number("port");
        let address = self.text("bind_address");
        let (origin, source) = match mode {
            "fixed" => ("fixed", "auto"),
            "netfilter" => ("netfilter", "gateway"),
            "getsockname" => ("assign", "gateway"),
            "tproxy" => ("assign", "preserve"),
            "tproxy,netfilter" => ("assign", "auto"),
            "" => {
                let message = "there is no `mode`: the gateway intercepts by its eBPF program";
                self.problems.warning(self.text, Place::NOWHERE, message);
                ("assign", "auto")
            }
            "ipfw" | "ipfilter" | "pf" => {
                self.warn("mode", "packet filters of BSD are not on Linux: the eBPF program does their work");
                ("assign", "gateway")
            }
            _ => {
                let place = self.given.get("mode").map_or(Place::NOWHERE, |given| given.place);
                self.problems.error(
                    self.text,
                    place,
                    &format!("this release has nothing like `mode {mode}`"),
                );
                return;
            }
        };
        self.set("origin", origin, "mode");
        self.set("source-address", source, "mode");
        if origin == "assign" {
            self.set("listen", &format!("[\"127.0.0.1:{port}\"]"), "port; IPv6: add \"[::1]:10025\"");
            self.set("intercept.interfaces", "[\"*\"]", "name those of your clients");
            self.warn("mode", "iptables and ip rules for smtp-gated are needed no more; remove them");
        } else {
            self.set("listen", &format!("[\"{address}:{port}\"]"), "bind_address, port");
        }
        if origin == "fixed" {
            let server = self.text("fixed_server");
            if server.is_empty() {
                let place = self.given.get("mode").map_or(Place::NOWHERE, |given| given.place);
                self.problems.error(self.text, place, "`mode fixed` needs `fixed_server`");
            } else {
                let value = format!("\"{server}:{}\"", self.number("fixed_server_port"));
                self.set("fixed-server", &value, "fixed_server, fixed_server_port");
            }
        }
    }

    fn limits(&mut self) {
        let sessions = self.number("max_connections").max(1);
        self.set("limits.sessions", &sessions.to_string(), "max_connections");
        let per_client = self.number("max_per_host").min(sessions);
        self.set("limits.sessions-per-client", &per_client.to_string(), "max_per_host");
        let per_identity = self.number("max_per_ident").min(sessions);
        self.set("limits.sessions-per-identity", &per_identity.to_string(), "max_per_ident");
        self.set("limits.backlog", &self.number("connect_queue").max(1).to_string(), "connect_queue");
        self.size("size_limit", "limits.message-size");
        let commands = self.number("on_takeover_cmds");
        self.set("limits.takeover-commands", &commands.to_string(), "on_takeover_cmds");
        let starttls = if self.flag("forbid_starttls") { "forbid" } else { "splice" };
        self.set("inspect.starttls", starttls, "forbid_starttls");
        let early = if self.flag("earlytalker") { "refuse" } else { "hold" };
        self.set("inspect.early-talk", early, "earlytalker");
    }

    /// Deadlines below what RFC 5321 section 4.5.3.2 asks for are smtp-gated's, and stay.
    fn timeouts(&mut self) {
        for (name, key) in [
            ("timeout_connect", "timeouts.connect"),
            ("timeout_idle", "timeouts.command"),
            ("timeout_idle", "timeouts.reply"),
            ("timeout_direct", "timeouts.idle"),
            ("timeout_session", "timeouts.takeover"),
        ] {
            let value = format!("{}s", self.number(name).max(1));
            self.set(key, &value, name);
        }
        let scan = self.number("timeout_scanner").max(self.number("timeout_spam")).max(1);
        self.set("timeouts.scan", &format!("{scan}s"), "timeout_scanner, timeout_spam");
    }

    fn spool(&mut self) {
        let folder = self.text("spool_path");
        self.set("spool.directory", &yaml::string(&folder), "spool_path");
        let wanted = self.words("spool_leave_on");
        let never = wanted.contains(&"never");
        let kept =
            ["virus", "spam", "error", "always"].into_iter().filter(|word| !never && wanted.contains(word));
        let kept = yaml::list(kept);
        self.set("spool.leave-on", &kept, "spool_leave_on");
        let header = self.text("spool_header");
        self.set("spool.header", &yaml::string(&header), "spool_header");
    }

    fn scan(&mut self) {
        match self.words("antivirus_type").as_slice() {
            ["clamd"] => self.scanner("clamd", "antivirus_path", "scan_max_size", "timeout_scanner"),
            ["mksd"] => {
                let place = self.given.get("antivirus_type").map_or(Place::NOWHERE, |given| given.place);
                let message = "there is no mksd any more; write `antivirus_type clamd` and run clamd";
                self.problems.error(self.text, place, message);
            }
            _ => {}
        }
        if self.words("antispam_type") != ["spamassassin"] || self.number("spam_max_size") <= 0 {
            return;
        }
        self.set("scan.max-load", &self.decimal("spam_max_load"), "spam_max_load");
        self.scanner("spamd", "antispam_path", "spam_max_size", "timeout_spam");
        self.set("scan.spamd.threshold", &self.decimal("spam_threshold"), "spam_threshold");
        // Only a lock made smtp-gated refuse spam.
        let locks = self.given.contains_key("lock_on").then(|| self.words("lock_on"));
        let refuses = locks.is_none_or(|locks| locks.contains(&"spam"));
        self.set("scan.spamd.on-spam", if refuses { "reject" } else { "pass" }, "lock_on");
    }

    /// What both scanners have.
    fn scanner(&mut self, name: &str, path: &str, size: &str, timeout: &str) {
        let key = |key: &str| format!("scan.{name}.{key}");
        let address = self.text(path);
        let kind = if address.starts_with('/') { "unix" } else { "tcp" };
        self.set(&key("address"), &yaml::string(&format!("{kind}:{address}")), path);
        self.size(size, &key("max-size"));
        self.set(&key("on-too-large"), "pass", "as smtp-gated: larger messages are not scanned");
        let on_failure = if self.flag("ignore_errors") { "pass" } else { "tempfail" };
        self.set(&key("on-failure"), on_failure, "ignore_errors");
        self.set(&key("deadline"), &format!("{}s", self.number(timeout).max(1)), timeout);
    }

    /// Who is asked for a password, and what may be said.
    fn filters(&mut self) {
        let require = match self.words("auth_require").first().copied() {
            Some("ifsupported") => "if-supported",
            Some("mandatory") => "mandatory",
            _ => "no",
        };
        self.set("auth.require", &yaml::string(require), "auth_require");
        let skipped = self.words("auth_skip");
        let skipped = skipped.into_iter().filter(|word| *word != "none");
        let skipped = skipped.map(|word| if word == "antivir" { "antivirus" } else { word });
        self.set("auth.skip", &yaml::list(skipped), "auth_skip");
        for (name, key) in [
            ("regex_enforce_helo", "filters.helo.enforce"),
            ("regex_reject_helo", "filters.helo.reject"),
            ("regex_enforce_mail_from", "filters.mail.enforce"),
            ("regex_reject_mail_from", "filters.mail.reject"),
            ("regex_enforce_rcpt_to", "filters.rcpt.enforce"),
            ("regex_reject_rcpt_to", "filters.rcpt.reject"),
        ] {
            let pattern = self.text(name);
            if pattern.is_empty() {
                continue;
            }
            // PCRE has what an engine with a bound on its time cannot have.
            if let Err(error) = Pattern::try_from(pattern.clone()) {
                let place = self.given.get(name).map_or(Place::NOWHERE, |given| given.place);
                self.problems.error(self.text, place, error.as_str());
            }
            self.set(key, &yaml::list([pattern.as_str()]), name);
        }
    }

    fn block_lists(&mut self) {
        let zones = self.text("dnsbl");
        let zones: Vec<_> = zones.split(',').map(str::trim).filter(|zone| !zone.is_empty()).collect();
        if !zones.is_empty() {
            let zones: Vec<_> =
                zones.into_iter().map(|zone| format!("{{zone: {}}}", yaml::string(zone))).collect();
            self.set("dnsbl.zones", &format!("[{}]", zones.join(", ")), "dnsbl");
        }
    }

    /// smtp-gated knows no exempt clients: what it checked is checked.
    fn spf(&mut self) {
        let check = self.words("spf").first().copied().unwrap_or("none");
        if check == "none" {
            return;
        }
        let address = self.text("spf_fixed_ip");
        self.set("spf.check", check, "spf");
        self.set("spf.log-only", &self.flag("spf_log_only").to_string(), "spf_log_only");
        self.set("spf.exempt", "[]", "");
        if check != "fixed" {
            return;
        }
        if address.is_empty() {
            let place = self.given.get("spf").map_or(Place::NOWHERE, |given| given.place);
            self.problems.error(self.text, place, "`spf fixed` needs `spf_fixed_ip`");
        } else {
            self.set("spf.fixed-address", &address, "spf_fixed_ip");
        }
    }

    fn nat_header(&mut self) {
        let kind = match self.words("nat_header_type").first().copied() {
            Some("none") => "none",
            Some("ip-only") => "ip-only",
            _ => "generic",
        };
        self.set("nat-header.type", kind, "nat_header_type");
        self.set("nat-header.name", &yaml::string(&self.text("nat_header")), "nat_header");
        self.set("nat-header.abuse", &yaml::string(&self.text("abuse")), "abuse");
    }

    /// Only what the file words itself: the gateway's own texts say what the gateway does.
    fn messages(&mut self) {
        for option in OPTIONS {
            let (Here::Keys([key]), Some(given)) = (option.here, self.given.get(option.name)) else {
                continue;
            };
            let Value::Text(text) = &given.value else { continue };
            if !key.starts_with("messages.") {
                continue;
            }
            match Text::try_from(text.clone()) {
                Ok(_) => self.document.set(key, &yaml::string(text), option.name),
                Err(error) => {
                    let message = format!("`{}` is left out: {}", option.name, error.as_str());
                    self.problems.warning(self.text, given.place, &message);
                }
            }
        }
    }

    fn log(&mut self) {
        let level = match self.words("log_level").first().copied() {
            Some("info" | "notice") => "info",
            Some("warning") => "warn",
            Some("err" | "crit" | "alert" | "emerg") => "error",
            _ => "debug",
        };
        self.set("log.target", "syslog", "as smtp-gated");
        self.set("log.level", level, "log_level");
        let logged = ["log_mail_from", "log_rcpt_to"]
            .map(|name| self.words(name))
            .concat()
            .into_iter()
            .any(|word| !matches!(word, "off" | "no" | "none"));
        self.set("log.addresses", if logged { "full" } else { "off" }, "log_mail_from, log_rcpt_to");
    }

    fn process(&mut self) {
        let group = self.text("set_group");
        if !group.is_empty() {
            self.set("process.group", &yaml::string(&group), "set_group");
        }
        for (name, key) in [("limit_core_size", "process.core-size"), ("limit_fsize", "process.file-size")] {
            // The defaults are those of a process for each session.
            if self.given.contains_key(name) {
                self.size(name, key);
            }
        }
        if self.number("priority") != 0 {
            self.set("process.priority", &self.number("priority").to_string(), "priority");
        }
        let pid_file = self.text("pidfile");
        self.set("process.pid-file", &yaml::string(&pid_file), "pidfile");
    }
}
