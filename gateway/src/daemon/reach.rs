//! The files that a configuration makes the proxy process need, for its sandbox.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::settings;
use crate::config::Config;
use crate::config::file::{Control, Delivery, OnLock, Origin, Process, Queue, Spool, StateFile};
use crate::folder::Folder;
use crate::privilege::sandbox::Reach;

/// The system's resolvers.
const RESOLVERS: &str = "/etc/resolv.conf";
/// What any configuration may make it read: resolvers, hosts that the system knows (`getaddrinfo(3)`), the time
/// zone of lane rules, and what SQLite takes random numbers from.
const ALWAYS: [&str; 8] = [
    RESOLVERS,
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/dev/urandom",
];
/// What is read to deliver mail: the certificates that the system trusts.
const DELIVERY: [&str; 5] = [
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];

/// What a process that starts with `config` may need, also after reloads. Folders that can be made are
/// there afterwards: a rule can be made for no other.
pub(super) fn of(config: &Config) -> Reach {
    let folders = folders(config);
    let makeshift = if make(folders.spool) { None } else { settings::makeshift(config) };
    let own = [Some(folders.spool), Some(folders.state), folders.queue, makeshift.as_deref()];
    let mut reach = wanted(config);
    for folder in own.into_iter().flatten() {
        make(folder);
        reach.makes_files_in(folder);
    }
    ALWAYS.iter().for_each(|path| reach.reads(Path::new(path)));
    // The files of resolvers that are managed are exchanged for new ones of the same name.
    let managed = fs::canonicalize(RESOLVERS).ok();
    let managed = managed.as_deref().and_then(Path::parent).filter(|folder| folder.starts_with("/run"));
    managed.into_iter().for_each(|folder| reach.reads(folder));
    let delivers = folders.queue.is_some();
    if delivers {
        DELIVERY.iter().for_each(|path| reach.reads(Path::new(path)));
    }
    // Who is told destinations by others has to know its own addresses, and so has who looks hosts up.
    let told = matches!(config.origin, Origin::Proxy | Origin::RemoteUdp | Origin::Remote);
    reach.interfaces = told || delivers;
    reach
}

/// What `config` needs to be put in force in a process that runs: nothing that takes effect at start.
pub(super) fn wanted(config: &Config) -> Reach {
    let mut reach = Reach::default();
    if settings::spools(config) {
        reach.makes_files_in(folders(config).spool);
    }
    let looks_up = settings::looks_up(config) || config.queue.directory.is_some();
    if looks_up && config.dns.servers.is_empty() {
        reach.reads(Path::new(RESOLVERS));
    }
    if config.queue.directory.is_some() {
        read_for(&config.delivery).iter().for_each(|folder| reach.reads(folder));
    }
    // Also where nothing is relayed yet: a rule may come with a reload.
    for certificate in &config.relay.tls.certificates {
        let files = [&certificate.chain, &certificate.key];
        files.into_iter().flat_map(|file| folders_of(file)).for_each(|folder| reach.reads(&folder));
    }
    if let Some(webhook) = config.on_lock.webhook.as_ref().filter(|webhook| webhook.url.secure) {
        folders_of(&webhook.ca_file).for_each(|folder| reach.reads(&folder));
    }
    reach
}

/// Makes a folder that is not there. Says whether it can be used; who opens it next tells why not.
fn make(folder: &Path) -> bool {
    Folder::open(folder).is_ok()
}

/// Where a file is, and where what it links to is. Folders, since who edits a file often exchanges it for a
/// new one of the same name.
fn folders_of(file: &Path) -> impl Iterator<Item = PathBuf> {
    let meant = fs::canonicalize(file).ok();
    let files = [Some(file.to_owned()), meant].into_iter().flatten();
    files.filter_map(|file| file.parent().map(Path::to_owned))
}

/// Where the files are that the section names: paths, and tables, whose paths stand behind their type.
fn read_for(delivery: &Delivery) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    // Whatever it holds, it came from such a text.
    let mut left = vec![serde_json::to_value(delivery).unwrap_or_default()];
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => {
                let path = text.split_once(":/").map_or(text.as_str(), |(kind, _)| &text[kind.len() + 1..]);
                let path = Path::new(path);
                if path.is_absolute() {
                    folders.extend(folders_of(path));
                }
            }
            Value::Array(values) => left.extend(values),
            Value::Object(section) => left.extend(section.into_iter().map(|(_, value)| value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    folders
}

/// The folders in which the proxy makes files.
struct Folders<'c> {
    spool: &'c Path,
    state: &'c Path,
    queue: Option<&'c Path>,
}

/// Without `..`: who adds a key says here, or in [`of`] and [`wanted`], what files it needs, since in the
/// sandbox no others can be opened.
fn folders(config: &Config) -> Folders<'_> {
    let Config {
        state_directory,
        spool: Spool { directory: spool, memory: _, header: _, leave_on: _, min_free: _ },
        queue: Queue { directory: queue, min_free: _ },
        delivery: _,
        relay: _,
        // Socket, pid file and state file are made by the datapath process, scripts run by another one.
        control: Control { socket: _, group: _ },
        process:
            Process {
                pid_file: _,
                sandbox: _,
                group: _,
                priority: _,
                core_size: _,
                file_size: _,
                address_space: _,
            },
        on_lock: OnLock { script: _, user: _, time_limit: _, at_once: _, webhook: _ },
        state_file: StateFile { path: _, mode: _, format: _, sessions: _ },
        // Sockets with a name need no rule: those of the log, of scanners, of Redis.
        log: _,
        scan: _,
        redis: _,
        name: _,
        origin: _,
        listen: _,
        fixed_server: _,
        proxy_protocol: _,
        lookup: _,
        helper: _,
        intercept: _,
        source_address: _,
        gateway_addresses: _,
        lanes: _,
        inspect: _,
        filters: _,
        auth: _,
        dns: _,
        dnsbl: _,
        spf: _,
        nat_header: _,
        locks: _,
        messages: _,
        splice: _,
        limits: _,
        clients: _,
        quotas: _,
        timeouts: _,
        state: _,
        user: _,
    } = config;
    Folders { spool, state: state_directory, queue: queue.as_deref() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_folders_of_tables_and_certificates_of_delivery_are_read() {
        let text = "delivery:\n  compatibility: { generic-maps: ['texthash:/etc/gateway/generic', 'inline:{a=/b}'] }\n  \
                    starttls: { tls-cafile: /etc/tls/ca.pem }\n  lmtp: { sasl: { sasl-password-maps: ['texthash:/srv/secret/passwords'] } }\n";
        let config = config::parse(text, "test").unwrap();
        let folders = read_for(&config.delivery);
        for folder in ["/etc/gateway", "/etc/tls", "/srv/secret"] {
            assert!(folders.contains(Path::new(folder)), "{folders:?}");
        }
        assert_eq!(folders.len(), 3, "{folders:?}");
    }
}
