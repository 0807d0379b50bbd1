//! What the README shows of the families, as pictures that are read by day and by night.
//!
//! Bars and lines are as long and as high as ratios to the yardstick of the same round: that is what holds on another
//! machine. What was measured here stands beside them, and where "here" is stands below.

mod bars;
mod canvas;
mod curves;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::report::Report;
use bars::Bars;
use curves::Curves;

/// A picture, and what is drawn in it.
enum Picture {
    Bars(Bars),
    Curves(Curves),
}

/// Each is a file of the name that stands before it, with `.svg`.
const PICTURES: &[(&str, Picture)] = &[
    (
        "splice",
        Picture::Bars(Bars {
            family: "splice",
            yardstick: "forwarding",
            title: "Octets that pass unread after STARTTLS",
            unit: "Gbit/s",
            better: "Longer is better",
            groups: &[("", "one session")],
        }),
    ),
    (
        "inspect",
        Picture::Bars(Bars {
            family: "inspect",
            yardstick: "haproxy",
            title: "Messages of 4 KiB through the inspect lane, no scanner",
            unit: "messages/s",
            better: "Longer is better",
            groups: &[
                ("new-64", "a session for each message, 64 at once"),
                ("kept-64", "64 sessions, message after message"),
            ],
        }),
    ),
    (
        "delivery",
        Picture::Bars(Bars {
            family: "delivery",
            yardstick: "postfix",
            title: "Mail that is taken, queued on stable storage and delivered",
            unit: "messages/s",
            better: "Longer is better",
            groups: &[
                ("new-64", "4 KiB, a session for each message, 64 at once"),
                ("kept-64", "4 KiB, 64 sessions, message after message"),
                ("new-8-1mb", "1 MiB, a session for each message, 8 at once"),
            ],
        }),
    ),
    (
        "growth",
        Picture::Curves(Curves {
            title: "Processor time of a message in a session of its own, as something else grows",
            axis: "lane rules, locked clients, messages in the queue",
            families: &[
                ("growth-rules", "lane rules"),
                ("growth-locks", "locked clients"),
                ("growth-queue", "messages that wait in the queue"),
            ],
        }),
    ),
];

/// Draws those pictures into the folder for which `reports` have what is needed; `about` says where it was measured.
pub(super) fn write(reports: &[Report], about: &str, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, picture) in PICTURES {
        let drawn = match picture {
            Picture::Bars(bars) => bars.draw(reports, about),
            Picture::Curves(curves) => curves.draw(reports, about),
        };
        if let Some(svg) = drawn.map_err(|error| anyhow!("{name}: {error}"))? {
            let path = folder.join(format!("{name}.svg"));
            fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// What readers call a row.
fn called(name: &str) -> &str {
    match name {
        "forwarding" => "plain forwarding, no gateway",
        "gateway" => "gateway",
        "handoff" => "gateway, handoff to the kernel",
        "splice" => "gateway, splice(2)",
        "copy" => "gateway, copy",
        "haproxy" => "HAProxy, TCP mode",
        "haproxy-copy" => "HAProxy without splice(2)",
        "nginx" => "nginx, stream proxy",
        "postfix" => "Postfix",
        "postfix-filter" => "Postfix and ProxSMTP",
        "proxsmtp" => "ProxSMTP",
        other => other,
    }
}

/// Whether a row is one of the gateway's own ways.
fn is_own(name: &str) -> bool {
    matches!(name, "gateway" | "handoff" | "splice" | "copy")
}

#[cfg(test)]
mod tests {
    use super::super::report::Row;
    use super::*;

    fn report(family: &'static str, yardstick: &'static str, rows: &[(&str, &str, [f64; 3])]) -> Report {
        let row = |(group, name, values): &(&str, &str, [f64; 3])| Row {
            values: values.to_vec(),
            ..Row::within(*group, *name)
        };
        Report { family, unit: "x", yardstick, rows: rows.iter().map(row).collect() }
    }

    #[test]
    fn a_picture_is_drawn_of_what_is_there_and_says_what_it_shows() {
        let folder = tempfile::tempdir().unwrap();
        let reports = [
            report(
                "splice",
                "forwarding",
                &[("", "forwarding", [50.0, 60.0, 55.0]), ("", "copy", [25.0, 30.0, 11.0])],
            ),
            report(
                "growth-rules",
                "10",
                &[("", "10", [90.0, 90.0, 90.0]), ("", "10000", [99.0, 108.0, 90.0])],
            ),
        ];
        write(&reports, "a <machine> & a day", folder.path()).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["growth.svg", "splice.svg"]);
        let splice = fs::read_to_string(folder.path().join("splice.svg")).unwrap();
        for text in [
            "gateway, copy",
            "25 Gbit/s",
            "0.50",
            "a &lt;machine&gt; &amp; a day",
            "prefers-color-scheme: dark",
            "<title>",
        ] {
            assert!(splice.contains(text), "{text}: {splice}");
        }
        let growth = fs::read_to_string(folder.path().join("growth.svg")).unwrap();
        assert!(growth.contains("lane rules") && growth.contains("10,000"), "{growth}");
        assert!(!growth.contains("locked clients:"), "it was not measured: {growth}");
    }
}
