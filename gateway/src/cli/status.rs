//! `gateway status`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::socket::{SocketArg, block_on, colours, say, say_json};
use crate::clock;
use crate::config::file::StateFormat;
use crate::console::text::{counts, number, plural, safe, size, span};
use crate::control::request::{Circuit, LockSharing, ScannerHealth, ScannerState, Status};
use crate::control::state_file;

/// Arguments of `gateway status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON, as `--format json` does.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Print what the state file would hold: `human` or `flat` in the words of smtp-gated, `slots` with
    /// the open sessions, or `json`.
    #[arg(long, value_name = "FORMAT", value_delimiter = ',')]
    format: Vec<Format>,
    #[command(flatten)]
    socket: SocketArg,
}

/// A form of the status; `slots` goes with another, as in smtp-gated.conf(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Human,
    Flat,
    Slots,
    Json,
}

/// Shows how the gateway is.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = args.socket.client()?;
    let slots = args.format.contains(&Format::Slots);
    let (status, sessions) = block_on(async {
        let sessions = if slots { Some(client.sessions().await?.sessions) } else { None };
        Ok((client.status().await?, sessions))
    })?;
    let format = args.format.iter().find(|format| **format != Format::Slots);
    let state = |format| say(&state_file::text(format, &status, sessions.as_deref(), clock::wall()));
    match format {
        Some(Format::Json) => say_json(&status),
        None if args.json => say_json(&status),
        Some(Format::Flat) => state(StateFormat::Flat),
        Some(Format::Human | Format::Slots) => state(StateFormat::Human),
        None if slots => state(StateFormat::Human),
        None => say(&describe(&status, colours())),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn describe(status: &Status, colours: bool) -> String {
    let telemetry = &status.telemetry;
    let sum = |name: &str| telemetry.sum(name, &[]);
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        // Writing to a `String` cannot fail.
        writeln!(out, "{name:<10} {value}").unwrap_or_default();
    };
    let up = span(Duration::from_secs(telemetry.uptime));
    row(
        "gateway",
        format!("{} {}, process {}, up {up}", status.version.gateway, safe(&status.name), status.pid),
    );
    let stages =
        if status.stages.is_empty() { String::new() } else { format!(" ({})", counts(&status.stages)) };
    let accepted = number(sum("gateway_sessions_accepted_total"));
    row(
        "sessions",
        format!("{} open{stages}, {accepted} accepted", number(status.open.try_into().unwrap_or(u64::MAX))),
    );
    row("messages", or_none(counts(&telemetry.by_label("gateway_messages_total", "action"))));
    row("verdicts", or_none(counts(&telemetry.by_label("gateway_messages_total", "verdict"))));
    let bytes = |from: &str| size(telemetry.sum("gateway_bytes_total", &[("from", from)]));
    row("bytes", format!("{} from clients, {} from servers", bytes("client"), bytes("server")));
    let handoffs = counts(&telemetry.by_label("gateway_handoffs_total", "outcome"));
    if !handoffs.is_empty() {
        row("handoffs", handoffs);
    }
    for (name, family, label) in [
        ("deliveries", "gateway_deliveries_total", "status"),
        ("signatures", "gateway_dkim_signatures_total", "result"),
    ] {
        let counts = counts(&telemetry.by_label(family, label));
        if !counts.is_empty() {
            row(name, counts);
        }
    }
    let limits = counts(&telemetry.by_label("gateway_limits_hit_total", "limit"));
    let scans = counts(&telemetry.by_label("gateway_scans_total", "result"));
    if !scans.is_empty() {
        row("scans", scans);
    }
    if !limits.is_empty() {
        row("limits hit", limits);
    }
    let troubles = counts(&telemetry.by_label("gateway_troubles_total", "kind"));
    if !troubles.is_empty() {
        row("troubles", troubles);
    }
    if status.scanners.is_empty() {
        row("scanner", "none: messages are not scanned".to_owned());
    }
    for scanner in &status.scanners {
        row("scanner", describe_scanner(scanner, colours));
    }
    let state = &status.state;
    let lost = if state.dropped == 0 {
        String::new()
    } else {
        format!("; {} lost", plural(state.dropped, "change"))
    };
    if let Some(reason) = &state.memory_only {
        row("state", format!("in memory only: {}{lost}", safe(reason)));
    }
    match &state.alone {
        Some(reason) => row("redis", format!("lost, this gateway counts alone: {}{lost}", safe(reason))),
        None if state.shared => row("redis", "quotas are counted together".to_owned()),
        None => {}
    }
    if let Some(locks) = &state.locks {
        row("redis", describe_locks(locks));
    }
    let datapath = &status.datapath;
    let restarts = plural(datapath.proxy_restarts, "restart");
    row("datapath", format!("{}, {restarts} of the proxy process", describe_datapath(status)));
    if datapath.draining_processes != 0 {
        let sessions = plural(datapath.draining_sessions, "session");
        let processes = if datapath.draining_processes == 1 { "process" } else { "processes" };
        row("draining", format!("{} {processes}, {sessions}", datapath.draining_processes));
    }
    let packets: Vec<_> = datapath.packets.iter().filter(|(_, count)| *count != 0).cloned().collect();
    if !packets.is_empty() {
        row("packets", counts(&packets));
    }
    out
}

fn describe_locks(locks: &LockSharing) -> String {
    let mut text = match &locks.lost {
        Some(reason) => format!("lost, locks are not shared: {}", safe(reason)),
        None => "locks are shared".to_owned(),
    };
    if locks.odd != 0 {
        text.push_str(&format!("; {} made no sense", plural(locks.odd, "row")));
    }
    if locks.full != 0 {
        text.push_str(&format!("; no room for {}", plural(locks.full, "row")));
    }
    text
}

fn describe_datapath(status: &Status) -> String {
    let datapath = &status.datapath;
    match (datapath.origin.as_str(), datapath.interfaces.as_slice()) {
        ("", _) => "not heard of yet".to_owned(),
        (origin, []) if datapath.attach.is_empty() => safe(origin),
        (origin, []) => format!("{}, {} on no interface", safe(origin), safe(&datapath.attach)),
        (origin, names) => {
            format!("{}, {} on {}", safe(origin), safe(&datapath.attach), safe(&names.join(" ")))
        }
    }
}

fn describe_scanner(scanner: &ScannerHealth, colours: bool) -> String {
    let state = match (colours, scanner.state) {
        (true, ScannerState::Up) => "\x1b[32mup\x1b[0m",
        (true, ScannerState::Down) => "\x1b[31mdown\x1b[0m",
        (_, state) => state.name(),
    };
    let since = span(Duration::from_secs(scanner.since));
    let mut text = format!("{} {state} for {since}, {}", safe(&scanner.name), safe(&scanner.address));
    for more in [&scanner.version, &scanner.last_error].into_iter().filter(|more| !more.is_empty()) {
        text.push_str(", ");
        text.push_str(&safe(more));
    }
    match scanner.circuit {
        Circuit::Closed => {}
        Circuit::Open { seconds_left } => {
            text.push_str(&format!(", left alone for {}", span(Duration::from_secs(seconds_left))));
        }
        Circuit::HalfOpen => text.push_str(", being tried again"),
    }
    if let Some(latency) = scanner.latency_ms {
        text.push_str(&format!(", {latency} ms a scan"));
    }
    if scanner.busy != 0 {
        text.push_str(&format!(", {} busy", scanner.busy));
    }
    text
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none yet".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::request::{StateHealth, Version};
    use crate::ipc::DatapathStatus;
    use crate::telemetry::{Sample, Snapshot};

    fn sample(name: &str, labels: &[(&str, &str)], value: u64) -> Sample {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Sample { name: name.to_owned(), labels, value }
    }

    #[test]
    fn a_status_reads_as_a_table_and_holds_no_raw_bytes() {
        let messages = "gateway_messages_total";
        let status = Status {
            version: Version { gateway: "0.1.0".to_owned(), control: 1 },
            name: "gw.example".to_owned(),
            pid: 4711,
            open: 2,
            most: 40,
            max_rss: 30_000,
            reloaded: None,
            stages: vec![("command".to_owned(), 1), ("splice".to_owned(), 1)],
            telemetry: Snapshot {
                since: 0,
                uptime: 187,
                samples: vec![
                    sample("gateway_sessions_accepted_total", &[], 12_000),
                    sample(messages, &[("action", "passed"), ("verdict", "clean")], 1_180),
                    sample(messages, &[("action", "refused"), ("verdict", "infected")], 3),
                    sample("gateway_bytes_total", &[("from", "client")], 20 << 20),
                    sample("gateway_deliveries_total", &[("status", "sent")], 31),
                    sample("gateway_deliveries_total", &[("status", "deferred")], 2),
                    sample("gateway_dkim_signatures_total", &[("result", "made")], 30),
                    sample("gateway_limits_hit_total", &[("limit", "sessions")], 4),
                ],
                history: vec![],
            },
            datapath: DatapathStatus {
                origin: "assign".to_owned(),
                attach: "tcx".to_owned(),
                interfaces: vec!["eth0".to_owned(), "vnet1".to_owned()],
                packets: vec![("assigned".to_owned(), 17), ("fragment".to_owned(), 0)],
                proxy_restarts: 1,
                draining_processes: 1,
                draining_sessions: 12,
                clients: None,
            },
            scanners: vec![ScannerHealth {
                name: "clamd".to_owned(),
                address: "tcp:127.0.0.1:3310".to_owned(),
                state: ScannerState::Down,
                version: String::new(),
                last_error: "closed\x1b[2J".to_owned(),
                busy: 0,
                since: 61,
                circuit: Circuit::Open { seconds_left: 9 },
                latency_ms: Some(14),
            }],
            state: StateHealth {
                memory_only: Some("disk full\x1b[2J".to_owned()),
                shared: true,
                alone: Some("refused".to_owned()),
                locks: Some(LockSharing { lost: Some("refused\x1b[2J".to_owned()), odd: 3, full: 1 }),
                dropped: 2,
            },
        };
        insta::assert_snapshot!(describe(&status, false), @r"
        gateway    0.1.0 gw.example, process 4711, up 3m07s
        sessions   2 open (1 command, 1 splice), 12 000 accepted
        messages   1 180 passed, 3 refused
        verdicts   1 180 clean, 3 infected
        bytes      20.0M from clients, 0 from servers
        deliveries 31 sent, 2 deferred
        signatures 30 made
        limits hit 4 sessions
        scanner    clamd down for 1m01s, tcp:127.0.0.1:3310, closed\x1b[2J, left alone for 9s, 14 ms a scan
        state      in memory only: disk full\x1b[2J; 2 changes lost
        redis      lost, this gateway counts alone: refused; 2 changes lost
        redis      lost, locks are not shared: refused\x1b[2J; 3 rows made no sense; no room for 1 row
        datapath   assign, tcx on eth0 vnet1, 1 restart of the proxy process
        draining   1 process, 12 sessions
        packets    17 assigned
        ");
        assert!(describe(&status, true).contains("\x1b[31mdown\x1b[0m"));
    }
}
