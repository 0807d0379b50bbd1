//! The rules of the structure that a compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::{say, step};

/// A text that may stand only in some files.
struct Rule {
    /// What it is about.
    what: &'static str,
    /// The texts.
    texts: &'static [&'static str],
    /// Where it applies: beginnings of paths.
    within: &'static [&'static str],
    /// Where it may stand: beginnings of paths.
    allowed: &'static [&'static str],
    /// Whether it holds for tests and comments as well.
    everywhere: bool,
}

const RULES: &[Rule] = &[
    Rule {
        what: "only `datapath` names aya",
        texts: &["aya::", "use aya", "aya_log::"],
        within: &["gateway/src/"],
        allowed: &["gateway/src/datapath"],
        everywhere: false,
    },
    Rule {
        what: "only `console` names ratatui",
        texts: &["ratatui"],
        within: &["gateway/src/"],
        allowed: &["gateway/src/console"],
        everywhere: false,
    },
    Rule {
        what: "only `config` names serde_yaml",
        texts: &["serde_yaml::", "use serde_yaml"],
        within: &["gateway/src/"],
        allowed: &["gateway/src/config"],
        everywhere: false,
    },
    Rule {
        what: "`smtp` and `policy` know no runtime, socket, file or clock",
        texts: &[
            "tokio",
            "std::net::Tcp",
            "std::fs",
            "std::io::",
            "crate::clock",
            "Instant::now",
            "SystemTime::now",
        ],
        within: &["gateway/src/smtp", "gateway/src/policy"],
        allowed: &[],
        everywhere: false,
    },
    Rule {
        what: "`unsafe` has few homes",
        texts: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe_code"],
        within: &["gateway/", "gateway-common/", "gateway-ebpf/", "tests/", "xtask/src/"],
        allowed: &[
            "gateway-common/src/user.rs",
            "gateway-ebpf/src/account.rs",
            "gateway-ebpf/src/account/open.rs",
            "gateway-ebpf/src/entry.rs",
            "gateway-ebpf/src/map.rs",
            "gateway-ebpf/src/packet.rs",
            "gateway-ebpf/src/read.rs",
            "gateway-ebpf/src/remembered.rs",
            "gateway-ebpf/src/rewrite.rs",
            "gateway-ebpf/src/socket.rs",
            "gateway-ebpf/src/way.rs",
            "tests/rig/tun.rs",
            "xtask/src/tidy.rs",
        ],
        everywhere: false,
    },
    Rule {
        what: "nothing is left to do",
        texts: &["TODO", "FIXME", "XXX:"],
        within: &["gateway/", "gateway-common/", "gateway-ebpf/", "tests/", "xtask/", "config/"],
        allowed: &["xtask/src/tidy.rs"],
        everywhere: true,
    },
];

/// Folders at the top, hidden ones and cargo's own aside.
const FOLDERS: [&str; 6] = ["config", "gateway", "gateway-common", "gateway-ebpf", "tests", "xtask"];

/// Longer files hold more than one concern.
const LINES: usize = 800;

/// Names every place where a rule is broken.
pub(crate) fn run() -> anyhow::Result<()> {
    say::doing("structure");
    let root = step::workspace();
    let mut problems = top_level(&root)?;
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files)?;
    }
    for file in &files {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
        problems.extend(broken(&name, &text));
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("the structure is broken:\n  {}", problems.join("\n  "))
}

fn top_level(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = name.starts_with('.') || name == "target" || FOLDERS.contains(&name.as_str());
        if entry.file_type()?.is_dir() && !known {
            problems.push(format!("{name}/: no further folder at the top"));
        }
    }
    Ok(problems)
}

/// The rules a file breaks, each with its line.
fn broken(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let is_under = |folders: &[&str]| folders.iter().any(|folder| name.starts_with(folder));
    for rule in RULES.iter().filter(|rule| is_under(rule.within) && !is_under(rule.allowed)) {
        if !rule.everywhere && name.ends_with("/tests.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if !rule.everywhere && line.starts_with("#[cfg(test)]") {
                break;
            }
            let code = if rule.everywhere { line } else { line.split("//").next().unwrap_or_default() };
            if rule.texts.iter().any(|text| code.contains(text)) {
                problems.push(format!("{name}:{}: {}", number + 1, rule.what));
            }
        }
    }
    if name.ends_with("/mod.rs") {
        problems.push(format!("{name}: a module is `name.rs` beside `name/`"));
    }
    let lines = text.lines().count();
    if name.ends_with(".rs") && lines > LINES {
        problems.push(format!("{name}: {lines} lines hold more than one concern; {LINES} are the limit"));
    }
    problems
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_holds_outside_its_home_and_a_comment_does_not_break_it() {
        assert_eq!(broken("gateway/src/policy/lane.rs", "use tokio::time;").len(), 1);
        assert_eq!(broken("gateway/src/policy/lane.rs", "// no tokio here").len(), 0);
        assert_eq!(broken("gateway/src/policy/lane.rs", "#[cfg(test)]\nuse crate::clock;").len(), 0);
        assert_eq!(broken("gateway/src/session.rs", "use tokio::time;").len(), 0);
        assert_eq!(broken("gateway/src/scan.rs", "use aya::Ebpf;").len(), 1);
        assert_eq!(broken("gateway/src/datapath/maps.rs", "use aya::Ebpf;").len(), 0);
    }
}
