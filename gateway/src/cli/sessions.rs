//! `gateway sessions`.

use std::process::ExitCode;

use super::socket::{Ask, block_on};
use super::table::{aligned, rest};
use crate::console::text::{number, safe, size, span};
use crate::control::client::Error;
use crate::control::request::Sessions;
use crate::intercept::flow::SessionId;

/// Arguments of `gateway sessions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    ask: Ask,
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
    let client = args.ask.client()?;
    block_on(async {
        match &args.action {
            Some(Action::Kill { ids }) => {
                let mut refused: Vec<String> = Vec::new();
                for id in ids {
                    match client.kill(*id).await {
                        Ok(answer) => args.ask.say(&answer, |_| format!("session {id} is told to end\n"))?,
                        // One that has ended by itself keeps no other from being ended.
                        Err(Error::Refused(problem)) => refused.push(problem.to_string()),
                        Err(error) => return Err(error.into()),
                    }
                }
                // Whoever may not is told once.
                refused.dedup();
                anyhow::ensure!(refused.is_empty(), refused.join("\n"));
            }
            None => {
                let sessions = client.sessions().await?;
                args.ask.say(&sessions, table)?;
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
    let rows = sessions.sessions.iter().map(|session| {
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
    });
    aligned(HEAD, &NUMBERS, rows) + &rest(sessions.sessions.len(), sessions.open, "session")
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
