//! The kernel program by the packet, measured by `tests/bench/packet.rs`.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::report::{Report, Row};
use crate::{say, step};

/// What the verifier takes at most (`BPF_COMPLEXITY_LIMIT_INSNS`).
const LIMIT: f64 = 1_000_000.0;

/// Measures; one report for packets, one for the verifier, one for entries of idle sessions.
pub(crate) fn run(quick: bool) -> anyhow::Result<Vec<Report>> {
    say::doing("packets through the kernel program");
    let rounds = if quick { "3" } else { "9" };
    let mut bench = step::cargo(&["bench", "--quiet", "--package", "gateway-tests", "--bench", "packet"]);
    bench.args(["--", rounds]).env("GATEWAY_EBPF_OBJECT", step::target().join("release/gateway-ebpf.o"));
    let output = bench.stderr(Stdio::inherit()).output().context("cannot run cargo bench")?;
    ensure!(output.status.success(), "the bench of packets failed");
    let found: Value = serde_json::from_slice(&output.stdout).context("the bench of packets")?;
    Ok(vec![packets(&found)?, verifier(&found)?, entries(&found)?])
}

fn packets(found: &Value) -> anyhow::Result<Report> {
    let order = found["order"].as_array().context("no order")?;
    let rows = order.iter().map(|name| {
        let name = name.as_str().context("a row without a name")?;
        let values = found["packet"][name].as_array().context("a row without values")?;
        Ok(Row { values: values.iter().filter_map(Value::as_f64).collect(), ..Row::new(name) })
    });
    let rows = rows.collect::<anyhow::Result<_>>()?;
    Ok(Report { family: "packet", unit: "nanoseconds a packet", yardstick: "unrelated_v4", rows })
}

fn verifier(found: &Value) -> anyhow::Result<Report> {
    let mut rows = vec![Row { values: vec![LIMIT], ..Row::new("limit") }];
    for (key, what) in [("verified", ""), ("recorded", " recorded")] {
        for pair in found[key].as_array().context("no instructions")? {
            let name = pair[0].as_str().context("a program without a name")?;
            // Absent where the kernel does not say.
            let values = pair[1].as_f64().into_iter().collect();
            rows.push(Row { values, ..Row::new(format!("{}{what}", name.trim_start_matches("gateway_"))) });
        }
    }
    Ok(Report { family: "verifier", unit: "instructions followed", yardstick: "limit", rows })
}

fn entries(found: &Value) -> anyhow::Result<Report> {
    let idle = &found["idle"];
    let row = |name: &str, key: &str| {
        let value = idle[key].as_f64().with_context(|| format!("no {key}"))?;
        anyhow::Ok(Row { values: vec![value], ..Row::new(name) })
    };
    let rows = vec![
        // What one part of a session may take.
        Row { values: vec![160.0], ..Row::new("goal") },
        row("map", "map_bytes_per_direction")?,
        row("user", "user_bytes_per_session")?,
    ];
    let sessions = idle["sessions"].as_u64().context("no sessions")?;
    say::line(&format!(
        "{sessions} idle sessions as entries; a sweep of them takes {} s",
        idle["sweep_seconds"]
    ));
    Ok(Report {
        family: "entries",
        unit: "octets, map: a direction of an idle session, user: a session",
        yardstick: "goal",
        rows,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_bench_prints_becomes_rows_in_its_order() {
        let found = json!({
            "order": ["unrelated_v4", "handed_off_v4"],
            "packet": { "handed_off_v4": [759.5, 774.6], "unrelated_v4": [175.9, 176.1] },
            "verified": [["gateway_ingress", 37_240], ["gateway_egress", null]],
            "recorded": [["gateway_ingress", 37_240], ["gateway_egress", 4_405]],
            "idle": { "sessions": 200_000, "user_bytes_per_session": 0.0, "map_bytes_per_direction": 168.0,
                      "sweep_seconds": 4.9 },
        });
        let packets = packets(&found).unwrap();
        assert_eq!(packets.rows[0].name, "unrelated_v4");
        assert_eq!(packets.rows[1].values, [759.5, 774.6]);
        let verifier = verifier(&found).unwrap();
        assert_eq!(verifier.rows[1].values, [37_240.0]);
        assert!(verifier.rows[2].values.is_empty());
        assert_eq!(entries(&found).unwrap().rows.len(), 3);
        assert!(super::packets(&json!({})).is_err());
    }
}
