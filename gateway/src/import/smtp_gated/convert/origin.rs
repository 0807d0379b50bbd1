//! Where connections come from and go to: `mode`.

use super::Conversion;
use crate::config::Place;
use crate::import::yaml;

impl Conversion<'_> {
    pub(super) fn mode(&mut self) {
        let words = self.words("mode");
        let mode = words.first().copied().unwrap_or_default();
        let port = self.number("port");
        let address = self.text("bind_address");
        let (origin, source) = match mode {
            "fixed" | "fixed+xclient" => ("fixed", "gateway"),
            "netfilter" => ("netfilter", "gateway"),
            "remote" | "remote-udp" => (mode, "gateway"),
            "getsockname" => ("assign", "gateway"),
            "tproxy" => ("assign", "preserve"),
            "tproxy,netfilter" => ("assign", "auto"),
            "ipfw" | "ipfilter" | "pf" => {
                self.warn("mode", "packet filters of BSD are not on Linux: the eBPF program does their work");
                ("assign", "gateway")
            }
            _ => {
                let message = "there is no `mode`: the gateway intercepts by its eBPF program";
                self.problems.warning(self.text, Place::NOWHERE, message);
                ("assign", "auto")
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
        if matches!(mode, "remote" | "remote-udp") {
            self.lookup(mode);
        }
        if origin == "fixed" {
            let server = self.text("fixed_server");
            if server.is_empty() {
                self.refuse("mode", &format!("`mode {mode}` needs `fixed_server`"));
            } else {
                let value = format!("\"{server}:{}\"", self.number("fixed_server_port"));
                self.set("fixed-server", &value, "fixed_server, fixed_server_port");
            }
            if mode == "fixed+xclient" {
                self.set("inspect.xclient", "required", "mode");
            }
        }
    }

    /// Whoever opened a flow was asked, and believed.
    fn lookup(&mut self, mode: &str) {
        self.set("lookup.port", &self.number("remote_port").to_string(), "remote_port");
        self.set(
            "lookup.deadline",
            &format!("{}s", self.number("timeout_lookup").clamp(1, 60)),
            "timeout_lookup",
        );
        self.set("lookup.routers", "[\"0.0.0.0/0\"]", "name your routers");
        self.warn(
            "mode",
            "any client may be asked, and can name any server; name your routers in `lookup.routers`",
        );
        if mode == "remote-udp" {
            self.set("lookup.format", "smtp-gated", "with `gateway helper` on the router, sealed is better");
            let tries = self.number("remote_udp_retries").clamp(1, 10);
            self.set("lookup.tries", &tries.to_string(), "remote_udp_retries");
            let secret = self.number("remote_udp_secret");
            self.set("lookup.secret", &yaml::string(&secret.to_string()), "remote_udp_secret");
        }
    }
}
