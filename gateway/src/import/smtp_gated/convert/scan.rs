//! Who is asked about clients and messages: spool, scanners, block lists, SPF.

use super::Conversion;
use crate::import::yaml;

impl Conversion<'_> {
    pub(super) fn spool(&mut self) {
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

    pub(super) fn scan(&mut self) {
        match self.words("antivirus_type").as_slice() {
            ["clamd"] => self.scanner("clamd", "antivirus_path", "scan_max_size", "timeout_scanner"),
            ["mksd"] => {
                let message = "there is no mksd any more; write `antivirus_type clamd` and run clamd";
                self.refuse("antivirus_type", message);
            }
            _ => {}
        }
        if self.words("antispam_type") != ["spamassassin"] || self.number("spam_max_size") <= 0 {
            return;
        }
        self.set("scan.max-load", &self.load("spam_max_load"), "spam_max_load");
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

    pub(super) fn block_lists(&mut self) {
        let zones = self.text("dnsbl");
        let zones: Vec<_> = zones.split(',').map(str::trim).filter(|zone| !zone.is_empty()).collect();
        if !zones.is_empty() {
            let zones: Vec<_> =
                zones.into_iter().map(|zone| format!("{{zone: {}}}", yaml::string(zone))).collect();
            self.set("dnsbl.zones", &format!("[{}]", zones.join(", ")), "dnsbl");
        }
    }

    /// smtp-gated knows no exempt clients: what it checked is checked.
    pub(super) fn spf(&mut self) {
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
            self.refuse("spf", "`spf fixed` needs `spf_fixed_ip`");
        } else {
            self.set("spf.fixed-address", &address, "spf_fixed_ip");
        }
    }
}
