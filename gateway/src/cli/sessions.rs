//! `gateway sessions`.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::socket::{SocketArg, block_on, say, say_json};
use crate::console::text::{number, plural, safe, size, span};
use crate::control::request::Sessions;
use crate::intercept::flow::SessionId;

/// Arguments of `gateway sessions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// End sessions.
    Kill {
        /// Names of sessions, as the list shows them.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<SessionId>,
    },
}

/// Lists the open sessions, or ends some.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = args.socket.client()?;
    block_on(async {
        match &args.action {
            Some(Action::Kill { ids }) => {
                for id in ids {
                    let answer = client.kill(*id).await?;
                    if args.json {
                        say_json(&answer)
                    } else {
                        say(&format!("session {id} is told to end\n"))
                    }?;
                }
            }
            None => {
                let sessions = client.sessions().await?;
                if args.json { say_json(&sessions) } else { say(&table(&sessions)) }?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn table(sessions: &Sessions) -> String {
    const HEAD: [&str; 9] =
        ["ID", "CLIENT", "DESTINATION", "STAGE", "AGE", "MESSAGES", "FROM CLIENT", "FROM SERVER", "HELO"];
    /// The first column whose values are numbers, and the first behind them.
    const NUMBERS: std::ops::Range<usize> = 4..8;
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(sessions.sessions.iter().map(|session| {
        [
            session.id.to_string(),
            safe(&session.client),
            safe(&session.destination),
            session.stage.name().to_owned(),
            span(session.age),
            number(u64::from(session.messages)),
            size(session.from_client),
            size(session.from_server),
            safe(&session.helo),
        ]
    }));
    let mut widths = [0; HEAD.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Writing to a `String` cannot fail.
            if NUMBERS.contains(&column) {
                write!(line, "{cell:>width$}  ").unwrap_or_default();
            } else {
                write!(line, "{cell:<width$}  ").unwrap_or_default();
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let listed = sessions.sessions.len();
    if listed < sessions.open {
        let left = u64::try_from(sessions.open - listed).unwrap_or(u64::MAX);
        writeln!(out, "and {} more", plural(left, "session")).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::table::{AuthState, SessionView, Stage};

    #[test]
    fn a_list_is_aligned_and_holds_no_raw_bytes() {
        let view = |client: &str, stage, helo: &str| SessionView {
            id: "0000000000001".parse().unwrap(),
            client: client.to_owned(),
            destination: "198.51.100.1:25".to_owned(),
            stage,
            helo: helo.to_owned(),
            from_client: 1_536,
            from_server: 20 << 20,
            messages: 12,
            age: Duration::from_secs(187),
            facts: None,
            tls: None,
            identity: None,
            auth: AuthState::default(),
        };
        let sessions = Sessions {
            open: 3,
            sessions: vec![
                view("192.0.2.1:1025", Stage::Data, "x\x1b[2J\x1b]0;own\x07"),
                view("[2001:db8::1]:1025", Stage::Splice, "mail"),
            ],
        };
        insta::assert_snapshot!(table(&sessions), @r"
        ID             CLIENT              DESTINATION      STAGE     AGE  MESSAGES  FROM CLIENT  FROM SERVER  HELO
        0000000000001  192.0.2.1:1025      198.51.100.1:25  data    3m07s        12         1.5K        20.0M  x\x1b[2J\x1b]0;own\x07
        0000000000001  [2001:db8::1]:1025  198.51.100.1:25  splice  3m07s        12         1.5K        20.0M  mail
        and 1 session more
        ");
    }
}
