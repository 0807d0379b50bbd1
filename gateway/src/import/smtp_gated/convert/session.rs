//! What is asked of a session: limits, deadlines, passwords, patterns, a header field.

use super::Conversion;
use crate::config::pattern::Pattern;
use crate::import::yaml;

impl Conversion<'_> {
    pub(super) fn limits(&mut self) {
        let sessions = self.number("max_connections").max(1);
        self.set("limits.sessions", &sessions.to_string(), "max_connections");
        let per_client = self.number("max_per_host").min(sessions);
        self.set("limits.sessions-per-client", &per_client.to_string(), "max_per_host");
        let per_identity = self.number("max_per_ident").min(sessions);
        self.set("limits.sessions-per-identity", &per_identity.to_string(), "max_per_ident");
        self.set("limits.max-load", &self.load("max_load"), "max_load");
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
    pub(super) fn timeouts(&mut self) {
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

    /// Who is asked for a password, and what may be said.
    pub(super) fn filters(&mut self) {
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
                self.refuse(name, error.as_str());
            }
            self.set(key, &yaml::list([pattern.as_str()]), name);
        }
    }

    /// Without `lock_on`, smtp-gated locks for everything that it finds.
    pub(super) fn locks(&mut self) {
        let given = self.given.contains_key("lock_on").then(|| self.words("lock_on"));
        let duration = self.number("lock_duration");
        let wants = |names: &[&str]| {
            duration != 0
                && given.as_ref().is_none_or(|given| {
                    !given.contains(&"never") && names.iter().any(|name| given.contains(name))
                })
        };
        let causes = [
            ("virus", &["virus"][..]),
            ("spam", &["spam"]),
            ("max-host", &["maxhost"]),
            ("max-ident", &["maxident"]),
            ("dnsbl", &["dnsbl"]),
            ("regex", &["regex"]),
            ("spf", &["spf"]),
            ("early-talk", &["earlytalk", "earlytalker"]),
            ("rate-limit", &["ratelimit"]),
        ];
        let causes: Vec<_> =
            causes.into_iter().filter(|(_, names)| wants(names)).map(|(cause, _)| cause).collect();
        self.set("locks.lock-on", &yaml::list(causes), "lock_on");
        self.set("locks.action", "reject", "as smtp-gated; `reset` has the kernel answer");
        let span = if duration < 0 { "forever".to_owned() } else { format!("{}s", duration.max(1)) };
        self.set("locks.for", &span, "lock_duration");
        let script = self.text("action_script");
        if !script.is_empty() {
            self.set("on-lock.script", &yaml::string(&script), "action_script");
            let user = self.text("set_user");
            if !user.is_empty() {
                self.set("on-lock.user", &yaml::string(&user), "set_user; an account of its own is safer");
            }
        }
    }

    pub(super) fn nat_header(&mut self) {
        let kind = match self.words("nat_header_type").first().copied() {
            Some("none") => "none",
            Some("ip-only") => "ip-only",
            _ => "generic",
        };
        self.set("nat-header.type", kind, "nat_header_type");
        self.set("nat-header.name", &yaml::string(&self.text("nat_header")), "nat_header");
        self.set("nat-header.abuse", &yaml::string(&self.text("abuse")), "abuse");
    }
}
