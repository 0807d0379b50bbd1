//! Whether the values of a well-formed configuration make sense together.
//!
//! Owns the line between an error, which keeps the gateway from starting, and a warning, which
//! does not. Pure: whether files, interfaces and accounts exist is asked elsewhere.

mod clients;
mod delivery;
mod dialogue;
mod dkim;
mod dns;
mod lanes;
mod limits;
mod locks;
mod network;
mod on_lock;
mod origin;
mod process;
mod quotas;
mod relay;
mod room;
mod scan;
mod sources;

use super::file::Config;
use super::problem::{Place, Problems, Severity};
use super::tree::{Kind, Node, State, Step};

/// Adds what is wrong with `config`, which was read from `root`, to `problems`.
pub(super) fn check(config: &Config, root: &Node, text: &str, problems: &mut Problems) {
    let mut findings = Findings { root, list: Vec::new() };
    network::check(config, &mut findings);
    origin::check(config, &mut findings);
    lanes::check(config, &mut findings);
    room::check(config, &mut findings);
    relay::check(config, &mut findings);
    dialogue::check(config, &mut findings);
    dns::check(config, &mut findings);
    limits::check(config, &mut findings);
    clients::check(config, &mut findings);
    locks::check(config, &mut findings);
    on_lock::check(config, &mut findings);
    scan::check(config, &mut findings);
    delivery::check(config, &mut findings);
    dkim::check(config, &mut findings);
    sources::check(config, &mut findings);
    process::check(config, &mut findings);
    quotas::check(config, &mut findings);
    for finding in findings.list {
        problems.add(finding.severity, text, finding.place, &finding.message);
    }
}

/// Adds what is wrong with files that keys name.
pub(super) fn blame(root: &Node, text: &str, faults: &[(String, String)], problems: &mut Problems) {
    let mut findings = Findings { root, list: Vec::new() };
    for (key, message) in faults {
        findings.error(&[key], message);
    }
    for finding in findings.list {
        problems.add(finding.severity, text, finding.place, &finding.message);
    }
}

/// What was found, each with its place in the file.
struct Findings<'r> {
    root: &'r Node,
    list: Vec<Finding>,
}

struct Finding {
    severity: Severity,
    place: Place,
    message: String,
}

impl Findings<'_> {
    /// Something is wrong with the first of `keys` that is written. Keys are paths such as
    /// `lanes.3.port`; when one of them was dropped for a problem of its own, nothing is said.
    fn error(&mut self, keys: &[&str], message: impl Into<String>) {
        self.add(Severity::Error, keys, message.into());
    }

    /// As [`Self::error`], for what an operator should look at.
    fn warn(&mut self, keys: &[&str], message: impl Into<String>) {
        self.add(Severity::Warning, keys, message.into());
    }

    fn add(&mut self, severity: Severity, keys: &[&str], message: String) {
        if keys.iter().any(|key| self.was_dropped(key)) {
            return;
        }
        let place = keys.iter().find_map(|key| self.place(key)).unwrap_or(Place::NOWHERE);
        self.list.push(Finding { severity, place, message });
    }

    /// How many errors were found so far.
    fn errors(&self) -> usize {
        self.list.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    /// Whether the file itself gives `key` a value.
    fn is_written(&self, key: &str) -> bool {
        self.place(key).is_some()
    }

    /// Line of `key`, when it is written.
    fn line(&self, key: &str) -> Option<usize> {
        self.place(key).map(|place| place.line)
    }

    fn place(&self, key: &str) -> Option<Place> {
        let steps = steps(key);
        let (node, under, gone) = self.root.follow(&steps);
        (gone == steps.len() && !node.is_blank()).then(|| node.shown_at(under.map(|entry| entry.place)))
    }

    /// Whether `key`, a section around it or an element of its list had a problem of its own.
    fn was_dropped(&self, key: &str) -> bool {
        let steps = steps(key);
        let (node, _, gone) = self.root.follow(&steps);
        if let (Kind::List(items), true) = (&node.kind, gone == steps.len())
            && items.iter().any(|item| item.state == State::Dropped)
        {
            return true;
        }
        (1..=steps.len()).any(|length| {
            let (node, _, gone) = self.root.follow(steps.get(..length).unwrap_or_default());
            gone == length && node.state == State::Dropped
        })
    }
}

/// The steps of a path such as `lanes.3.port`; no key is a number.
fn steps(path: &str) -> Vec<Step> {
    path.split('.')
        .map(|step| step.parse().map_or_else(|_| Step::Key(step.to_owned()), Step::Index))
        .collect()
}
