//! `gateway quota`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use super::socket::{Ask, block_on};
use super::table::rest;
use crate::config::units::ByteCount;
use crate::console::text::{number, plural, size};
use crate::control::request::{OwnQuotas, QuotaList, QuotaQuery, QuotaView, ResetQuotas};
use crate::policy::quota::{Counter, Quota};

/// Arguments of `gateway quota`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show what one client, or those seen last, have used in the period that ends now.
    Show {
        /// An address of the client.
        #[arg(value_name = "ADDRESS")]
        client: Option<IpAddr>,
        /// The identity behind the address.
        #[arg(long, value_name = "NAME", requires = "client")]
        identity: Option<String>,
    },
    /// Give a client limits of its own, until `quotas.generation` is raised.
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Set {
        /// An address of the client.
        #[arg(value_name = "ADDRESS")]
        client: IpAddr,
        /// The identity behind the address.
        #[arg(long, value_name = "NAME")]
        identity: Option<String>,
        /// Limits such as `messages=500` or `bytes=1GiB`; 0: none.
        #[arg(value_name = "QUOTA=LIMIT", value_parser = limit, group = "what")]
        limits: Vec<(Quota, u64)>,
        /// Those of the configuration again.
        #[arg(long, group = "what")]
        configured: bool,
    },
    /// Forget what a client has used.
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Reset {
        /// An address of the client.
        #[arg(value_name = "ADDRESS", group = "which")]
        client: Option<IpAddr>,
        /// The identity behind the address.
        #[arg(long, value_name = "NAME", requires = "client")]
        identity: Option<String>,
        /// All clients.
        #[arg(long, group = "which")]
        all: bool,
    },
}

/// Reads `messages=500`.
fn limit(text: &str) -> Result<(Quota, u64), String> {
    let (name, limit) = text.split_once('=').ok_or("write for example `messages=500`")?;
    let Ok(Counter::Quota(quota)) = name.parse() else {
        let names = Quota::ALL.map(Quota::name).join(", ");
        return Err(format!("`{name}` is no quota; there are {names}"));
    };
    let limit = if quota == Quota::Bytes {
        limit.parse::<ByteCount>().map_err(|error| error.to_string())?.bytes()
    } else {
        limit.parse().map_err(|_| format!("`{limit}` is not a number; write for example `500`"))?
    };
    Ok((quota, limit))
}

/// Shows or changes quotas.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    block_on(async {
        match &args.action {
            Action::Show { client: of, identity } => {
                let query = QuotaQuery { client: *of, identity: identity.clone() };
                let list = client.quotas(&query).await?;
                args.ask.say(&list, |list| table(list, of.is_some()))?;
            }
            Action::Set { client: of, identity, limits, configured } => {
                let limits = (!configured).then(|| limits.iter().copied().collect());
                let own = OwnQuotas { client: *of, identity: identity.clone(), limits };
                let list = client.set_quotas(&own).await?;
                args.ask.say(&list, |list| table(list, true))?;
            }
            Action::Reset { client: of, identity, all: _ } => {
                let reset =
                    client.reset_quotas(&ResetQuotas { client: *of, identity: identity.clone() }).await?;
                args.ask.say(&reset, |reset| {
                    let count = u64::try_from(reset.reset).unwrap_or(u64::MAX);
                    format!("{} begin anew\n", plural(count, "client"))
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The clients as a table; only what is used or limited, unless `all` of a client is to be seen.
fn table(list: &QuotaList, all: bool) -> String {
    let mut out = format!("{:<24}  {:<13}  {:>10}  {:>10}\n", "CLIENT", "QUOTA", "USED", "LIMIT");
    for client in &list.clients {
        describe(client, all, &mut out);
    }
    if !all {
        out.push_str(&rest(list.clients.len(), list.held, "client"));
    }
    out
}

fn describe(client: &QuotaView, all: bool, out: &mut String) {
    let mut name = client.client.to_string();
    for used in client.quotas.iter().filter(|used| all || used.used != 0) {
        let amount = |amount| if used.quota == Quota::Bytes { size(amount) } else { number(amount) };
        let limit = if used.limit == 0 { "none".to_owned() } else { amount(used.limit) };
        let (quota, used) = (used.quota.name(), amount(used.used));
        // Writing to a `String` cannot fail.
        writeln!(out, "{name:<24}  {quota:<13}  {used:>10}  {limit:>10}").unwrap_or_default();
        name.clear();
    }
    let mut more = |text: String| writeln!(out, "{:<24}  {text}", "").unwrap_or_default();
    if client.own {
        more("has limits of its own".to_owned());
    }
    if client.refused != 0 {
        more(format!("refused {}", plural(client.refused, "time")));
    }
    if !client.destinations.is_empty() {
        let servers: Vec<_> = client.destinations.iter().map(ToString::to_string).collect();
        more(format!("servers {}", servers.join(" ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::request::UsedQuota;

    fn client(name: &str, used: &[(Quota, u64, u64)]) -> QuotaView {
        let quotas =
            used.iter().map(|(quota, used, limit)| UsedQuota { quota: *quota, used: *used, limit: *limit });
        QuotaView {
            client: name.to_owned().try_into().unwrap(),
            quotas: quotas.collect(),
            destinations: vec!["198.51.100.7".parse().unwrap()],
            refused: 3,
            own: true,
        }
    }

    #[test]
    fn a_list_is_aligned_and_leaves_out_what_was_not_used() {
        let clients = vec![
            client("192.0.2.7", &[(Quota::Messages, 12, 0), (Quota::Bytes, 2 << 20, 10 << 20)]),
            QuotaView {
                destinations: Vec::new(),
                refused: 0,
                own: false,
                ..client("2001:db8::/64 fd00::5", &[(Quota::Connections, 1, 5), (Quota::Messages, 0, 5)])
            },
        ];
        insta::assert_snapshot!(table(&QuotaList { held: 3, clients }, false), @r"
        CLIENT                    QUOTA                USED       LIMIT
        192.0.2.7                 messages               12        none
                                  bytes                2.0M       10.0M
                                  has limits of its own
                                  refused 3 times
                                  servers 198.51.100.7
        2001:db8::/64 fd00::5     connections             1           5
        and 1 client more
        ");
    }

    #[test]
    fn limits_are_read_with_their_units() {
        assert_eq!(limit("messages=500"), Ok((Quota::Messages, 500)));
        assert_eq!(limit("bytes=2MiB"), Ok((Quota::Bytes, 2 << 20)));
        assert_eq!(limit("bytes=0"), Ok((Quota::Bytes, 0)));
        for wrong in
            ["messages", "messages=", "messages=-1", "bytes=500", "mail=5", "destination/192.0.2.1=5"]
        {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
