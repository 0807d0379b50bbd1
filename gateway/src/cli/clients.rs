//! `gateway clients`.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::socket::{Ask, block_on};
use super::table::aligned;
use crate::console::text::{number, size, span};
use crate::ipc::client::{ClientList, ClientSort, ClientView, LISTED};

/// Arguments of `gateway clients`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What counts: the clients with the most of it come first.
    #[arg(long, value_name = "WHAT", value_enum, default_value = "sessions")]
    sort: ClientSort,
    /// How many clients are listed, up to 200.
    #[arg(long, value_name = "NUMBER", default_value_t = LISTED)]
    most: usize,
    #[command(flatten)]
    ask: Ask,
}

/// Lists the clients that the kernel counts.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    block_on(async {
        let list = client.clients(args.sort, args.most).await?;
        args.ask.say(&list, table)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Numbers are those of the current period and, behind a slash, of the one before.
fn table(list: &ClientList) -> String {
    const HEAD: [&str; 9] =
        ["CLIENT", "OPEN", "SESSIONS", "BYTES", "FAN-OUT", "SYNS", "FAILED", "IDLE", "OVER"];
    let mut out = aligned(HEAD, &(1..HEAD.len() - 1), list.clients.iter().map(row));
    let known = u64::try_from(list.known).unwrap_or(u64::MAX);
    let period = span(list.period);
    // Writing to a `String` cannot fail.
    writeln!(out, "{} clients known; current period / the one before, {period} each", number(known))
        .unwrap_or_default();
    out
}

fn row(client: &ClientView) -> [String; 9] {
    let (now, before) = (&client.current, &client.previous);
    let both = |now: u32, before: u32| format!("{}/{}", number(now.into()), number(before.into()));
    [
        client.name(),
        number(client.open.into()),
        both(now.sessions, before.sessions),
        format!("{}/{}", size(now.octets()), size(before.octets())),
        both(now.destinations, before.destinations),
        both(now.syns, before.syns),
        both(now.failed, before.failed),
        span(client.idle),
        now.excess.join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ipc::client::PeriodView;

    #[test]
    fn a_list_has_both_periods_and_the_limits_gone_beyond() {
        let view = |client: &str, excess: &[&str]| ClientView {
            client: client.parse().unwrap(),
            open: 3,
            current: PeriodView {
                syns: 1_200,
                sessions: 40,
                destinations: 38,
                failed: 7,
                from_client: 3 << 20,
                from_server: 1_024,
                excess: excess.iter().map(|name| (*name).to_owned()).collect(),
            },
            previous: PeriodView { sessions: 2, ..PeriodView::default() },
            syns: 0,
            sessions: 0,
            octets: 0,
            idle: Duration::from_secs(3),
        };
        let clients = vec![view("192.0.2.7/32", &["destinations"]), view("2001:db8:1:2::/64", &[])];
        let list = ClientList { known: 5_000, period: Duration::from_secs(600), clients };
        insta::assert_snapshot!(table(&list), @"
        CLIENT             OPEN  SESSIONS   BYTES  FAN-OUT     SYNS  FAILED  IDLE  OVER
        192.0.2.7             3      40/2  3.0M/0     38/0  1 200/0     7/0    3s  destinations
        2001:db8:1:2::/64     3      40/2  3.0M/0     38/0  1 200/0     7/0    3s
        5 000 clients known; current period / the one before, 10m00s each
        ");
    }
}
