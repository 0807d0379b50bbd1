//! Where connections come from and go to: `mode`.

use super::Conversion;
use crate::config::Place;

impl Conversion<'_> {
    pub(super) fn mode(&mut self) {
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
                return self.refuse("mode", &format!("this release has nothing like `mode {mode}`"));
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
                self.refuse("mode", "`mode fixed` needs `fixed_server`");
            } else {
                let value = format!("\"{server}:{}\"", self.number("fixed_server_port"));
                self.set("fixed-server", &value, "fixed_server, fixed_server_port");
            }
        }
    }
}
