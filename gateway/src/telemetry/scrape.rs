//! What a Prometheus server reads: text format 0.0.4.
//!
//! Owns the writing only; the numbers are the metrics' and the caller's.

use std::fmt::Write as _;

use super::metrics::Metrics;
use super::scans::Histogram;

/// A value that goes up and down, or a counter that somebody else keeps.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// The metric's name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// Each value with its labels.
    pub values: Vec<(Vec<(&'static str, String)>, u64)>,
}

/// The text format 0.0.4 of Prometheus.
pub(super) fn prometheus(metrics: &Metrics, gauges: &[Gauge]) -> String {
    let mut out = String::with_capacity(16 * 1024);
    metrics.each(|family| {
        push(
            &mut out,
            format_args!("# HELP {} {}\n# TYPE {} counter\n", family.name, family.help, family.name),
        );
        for sample in &family.samples {
            let labels = sample.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            push_sample(&mut out, family.name, labels, sample.value);
        }
    });
    push_scan_times(&mut out, metrics);
    for gauge in gauges {
        push(
            &mut out,
            format_args!("# HELP {} {}\n# TYPE {} {}\n", gauge.name, gauge.help, gauge.name, gauge.kind),
        );
        for (labels, value) in &gauge.values {
            push_sample(
                &mut out,
                gauge.name,
                labels.iter().map(|(key, value)| (*key, value.as_str())),
                *value,
            );
        }
    }
    out
}

fn push_sample<'a>(
    out: &mut String,
    name: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    value: u64,
) {
    out.push_str(name);
    let mut open = '{';
    for (key, value) in labels {
        out.push(open);
        push(out, format_args!("{key}=\""));
        for letter in value.chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
        open = ',';
    }
    if open == ',' {
        out.push('}');
    }
    push(out, format_args!(" {value}\n"));
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    out.write_fmt(text).unwrap_or_default();
}

fn push_scan_times(out: &mut String, metrics: &Metrics) {
    let name = "gateway_scan_seconds";
    push_head(out, name, "From the end of a message to its verdict.");
    push_histogram(out, name, "", metrics.scan_times());
    let name = "gateway_scanner_seconds";
    push_head(out, name, "From the end of a message to a scanner's answer.");
    for (scanner, times) in metrics.scans().times() {
        push_histogram(out, name, &format!("scanner=\"{}\",", scanner.name()), times);
    }
}

fn push_head(out: &mut String, name: &str, help: &str) {
    push(out, format_args!("# HELP {name} {help}\n# TYPE {name} histogram\n"));
}

/// Writes one series; `label` is empty or ends with a comma.
fn push_histogram(out: &mut String, name: &str, label: &str, times: &Histogram) {
    let (buckets, count, millis) = times.read();
    let mut sum = 0u64;
    for (bound, scans) in buckets {
        sum = sum.saturating_add(scans);
        push(out, format_args!("{name}_bucket{{{label}le=\"{}\"}} {sum}\n", Seconds(bound)));
    }
    let count = count.max(sum);
    push(out, format_args!("{name}_bucket{{{label}le=\"+Inf\"}} {count}\n"));
    let labels = label.strip_suffix(',').map_or_else(String::new, |label| format!("{{{label}}}"));
    push(out, format_args!("{name}_sum{labels} {}\n{name}_count{labels} {count}\n", Seconds(millis)));
}

/// Milliseconds that print as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}
