//! `gateway lock`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::socket::{SocketArg, block_on, say, say_json};
use crate::config::file::{LockAction, Network};
use crate::config::units::Span;
use crate::console::text::{number, plural, safe, span};
use crate::control::request::{LockList, NewLock, OldLock};

/// Arguments of `gateway lock`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Hold off the new flows of a network.
    Add(Add),
    /// List the locks.
    List,
    /// Remove a lock.
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Remove {
        /// The network, as the list shows it.
        #[arg(value_name = "PREFIX", group = "which", value_parser = network)]
        net: Option<Network>,
        /// All of them.
        #[arg(long, group = "which")]
        all: bool,
    },
    /// List the networks that no lock touches: `locks.exempt` in the configuration.
    Exempt,
}

#[derive(Debug, clap::Args)]
struct Add {
    /// The clients: an address or a network.
    #[arg(value_name = "PREFIX", value_parser = network)]
    net: Network,
    /// How long it holds, such as `1h`; else as configured.
    #[arg(long = "for", value_name = "SPAN", conflicts_with = "forever")]
    span: Option<Span>,
    /// It holds until it is removed.
    #[arg(long)]
    forever: bool,
    /// What becomes of new flows; else as configured.
    #[arg(long)]
    action: Option<LockAction>,
    /// Why, for whoever reads the list.
    #[arg(long, value_name = "TEXT", default_value = "")]
    cause: String,
    /// End open flows too, at once.
    #[arg(long)]
    cut: bool,
}

fn network(text: &str) -> Result<Network, String> {
    Network::try_from(text.to_owned())
}

/// Sets, lists or removes locks.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = args.socket.client()?;
    block_on(async {
        match &args.action {
            Action::Add(add) => {
                let new = NewLock {
                    net: add.net,
                    action: add.action,
                    seconds: add.span.map(|span| span.duration().as_secs().max(1)),
                    forever: add.forever,
                    cause: add.cause.clone(),
                    cut: add.cut,
                };
                let set = client.lock(&new).await?;
                if args.json { say_json(&set) } else { say(&format!("{} is locked\n", add.net)) }?;
            }
            Action::List => {
                let list = client.locks().await?;
                if args.json { say_json(&list) } else { say(&table(&list)) }?;
            }
            Action::Remove { net, all: _ } => {
                let removed = client.unlock(OldLock { net: *net }).await?;
                let count = u64::try_from(removed.removed).unwrap_or(u64::MAX);
                let told = format!("{} removed\n", plural(count, "lock"));
                if args.json { say_json(&removed) } else { say(&told) }?;
            }
            Action::Exempt => {
                let list = client.locks().await?;
                let told: String = list.exempt.iter().map(|net| format!("{net}\n")).collect();
                if args.json { say_json(&list.exempt) } else { say(&told) }?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn table(list: &LockList) -> String {
    let left = |left: Option<u64>| {
        left.map_or_else(|| "for ever".to_owned(), |left| span(Duration::from_secs(left)))
    };
    let mut out = format!("{:<24}  {:<6}  {:>9}  {:>9}  CAUSE\n", "NETWORK", "ACTION", "LEFT", "HITS");
    for lock in &list.locks {
        let (net, action, hits) = (lock.net.to_string(), lock.action.name(), number(lock.hits));
        let (left, cause) = (left(lock.left), safe(&lock.cause));
        // Writing to a `String` cannot fail.
        let line = format!("{net:<24}  {action:<6}  {left:>9}  {hits:>9}  {cause}");
        writeln!(out, "{}", line.trim_end()).unwrap_or_default();
    }
    if list.locks.len() < list.held {
        let more = u64::try_from(list.held - list.locks.len()).unwrap_or(u64::MAX);
        writeln!(out, "and {} more", plural(more, "lock")).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::request::LockView;

    #[test]
    fn a_list_is_aligned_and_holds_no_raw_bytes() {
        let lock = |net: &str, left, cause: &str| LockView {
            net: network(net).unwrap(),
            action: LockAction::Reset,
            cause: cause.to_owned(),
            age: 5,
            left,
            hits: 12,
            last: None,
        };
        let locks = vec![lock("192.0.2.7", Some(187), "spam\x1b[2J"), lock("2001:db8::/32", None, "")];
        let list = LockList { held: 3, locks, exempt: Vec::new() };
        insta::assert_snapshot!(table(&list), @r"
        NETWORK                   ACTION       LEFT       HITS  CAUSE
        192.0.2.7                 reset       3m07s         12  spam\x1b[2J
        2001:db8::/32             reset    for ever         12
        and 1 lock more
        ");
    }
}
