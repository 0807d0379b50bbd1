//! What operators read and see to: texts, log, state file, processes.

use std::collections::BTreeMap;

use super::super::option::{Here, OPTIONS};
use super::super::read::Value;
use super::Conversion;
use crate::config::file::Text;
use crate::import::yaml;

impl Conversion<'_> {
    /// Only what the file words itself: the gateway's own texts say what the gateway does. Where two
    /// replies are one here, the option that comes first in the list words it.
    pub(super) fn messages(&mut self) {
        let mut worded: BTreeMap<&str, &str> = BTreeMap::new();
        for option in OPTIONS {
            let (Here::Keys([key]), Some(given)) = (option.here, self.given.get(option.name)) else {
                continue;
            };
            let Value::Text(text) = &given.value else { continue };
            if !key.starts_with("messages.") {
                continue;
            }
            if let Some(other) = worded.insert(key, option.name) {
                let message =
                    format!("`{}` is left out: the reply is the one of `{other}` here", option.name);
                self.problems.warning(self.text, given.place, &message);
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

    pub(super) fn log(&mut self) {
        let level = match self.words("log_level").first().copied() {
            Some("info" | "notice") => "info",
            Some("warning") => "warn",
            Some("err" | "crit" | "alert" | "emerg") => "error",
            _ => "debug",
        };
        self.set("log.target", "syslog", "as smtp-gated");
        self.set("log.level", level, "log_level");
        let facility = self.words("log_facility").concat();
        self.set("log.facility", &facility, "log_facility");
        let helo = self.flag("log_helo");
        self.set("log.helo", &helo.to_string(), "log_helo");
        self.set("log.addresses", "full", "as smtp-gated");
        for (name, key) in [("log_mail_from", "log.mail-from"), ("log_rcpt_to", "log.rcpt-to")] {
            let wanted = self.words(name);
            let off = wanted.iter().any(|word| ["off", "no", "none"].contains(word));
            let logged =
                ["accepted", "rejected", "base64"].into_iter().filter(|word| !off && wanted.contains(word));
            let logged = yaml::list(logged.map(|word| if word == "base64" { "hashed" } else { word }));
            self.set(key, &logged, name);
        }
        let length = self.number("email_length");
        self.set("log.address-length", &length.to_string(), "email_length");
    }

    pub(super) fn state_file(&mut self) {
        let path = self.text("statefile");
        self.set("state-file.path", &yaml::string(&path), "statefile");
        let mode = self.number("statefile_perm");
        self.set("state-file.mode", &format!("\"{mode:04o}\""), "statefile_perm");
        let types = self.words("statefile_type");
        let format = if types.contains(&"flat") { "flat" } else { "human" };
        self.set("state-file.format", format, "statefile_type");
        self.set("state-file.sessions", &types.contains(&"slots").to_string(), "statefile_type");
    }

    pub(super) fn process(&mut self) {
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
        // Where it is kept is not for a folder to say.
        if !self.text("chroot_path").is_empty() {
            self.set("process.sandbox", "best-effort", "chroot_path");
        }
        if self.number("priority") != 0 {
            self.set("process.priority", &self.number("priority").to_string(), "priority");
        }
        let pid_file = self.text("pidfile");
        self.set("process.pid-file", &yaml::string(&pid_file), "pidfile");
    }
}
