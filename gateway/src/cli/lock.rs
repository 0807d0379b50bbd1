//! `gateway lock`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::socket::{Ask, block_on};
use super::table::rest;
use crate::config::file::{LockAction, Network};
use crate::config::units::Span;
use crate::console::text::{number, plural, safe, span};
use crate::control::request::{Exemption, LockList, NewLock, OldLock};
use crate::policy::lock::Who;

/// Arguments of `gateway lock`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Hold off the new flows of a network or of an identity.
    Add(Add),
    /// List the locks.
    List,
    /// Remove a lock.
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Remove {
        /// Who is locked, as the list shows it.
        #[arg(value_name = "WHO", group = "which", value_parser = who)]
        who: Option<Who>,
        /// All of them.
        #[arg(long, group = "which")]
        all: bool,
    },
    /// Let no lock touch a network; without one, list all such networks.
    Exempt {
        /// The network. Those of `locks.exempt` in the configuration are exempt beside it.
        #[arg(value_name = "PREFIX", value_parser = network)]
        net: Option<Network>,
        /// Take back that it is exempt.
        #[arg(long, requires = "net")]
        remove: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// The clients: an address, a network, or `ADDRESS-IDENTITY`.
    #[arg(value_name = "WHO", value_parser = who)]
    who: Who,
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

fn who(text: &str) -> Result<Who, String> {
    Who::try_from(text.to_owned())
}

/// Sets, lists or removes locks.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    block_on(async {
        match &args.action {
            Action::Add(add) => {
                let new = NewLock {
                    who: add.who.clone(),
                    action: add.action,
                    seconds: add.span.map(|span| span.duration().as_secs().max(1)),
                    forever: add.forever,
                    cause: add.cause.clone(),
                    cut: add.cut,
                };
                let set = client.lock(&new).await?;
                args.ask.say(&set, |_| format!("{} is locked\n", add.who))?;
            }
            Action::List => {
                let list = client.locks().await?;
                args.ask.say(&list, table)?;
            }
            Action::Remove { who, all: _ } => {
                let removed = client.unlock(&OldLock { who: who.clone() }).await?;
                args.ask.say(&removed, |removed| {
                    let count = u64::try_from(removed.removed).unwrap_or(u64::MAX);
                    format!("{} removed\n", plural(count, "lock"))
                })?;
            }
            Action::Exempt { net, remove } => {
                let list = match net {
                    Some(net) => client.exempt(Exemption { net: *net, exempt: !remove }).await?,
                    None => client.locks().await?,
                };
                args.ask.say(&list.exempt, |nets| nets.iter().map(|net| format!("{net}\n")).collect())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn table(list: &LockList) -> String {
    let left = |left: Option<u64>| {
        left.map_or_else(|| "for ever".to_owned(), |left| span(Duration::from_secs(left)))
    };
    let mut out = format!("{:<24}  {:<6}  {:>9}  {:>9}  CAUSE\n", "WHO", "ACTION", "LEFT", "HITS");
    for lock in &list.locks {
        let (who, action, hits) = (lock.who.to_string(), lock.action.name(), number(lock.hits));
        let (left, cause, detail) = (left(lock.left), lock.cause.name(), safe(&lock.detail));
        // Writing to a `String` cannot fail.
        let line = format!("{who:<24}  {action:<6}  {left:>9}  {hits:>9}  {cause:<10}  {detail}");
        writeln!(out, "{}", line.trim_end()).unwrap_or_default();
    }
    out.push_str(&rest(list.locks.len(), list.held, "lock"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::LockCause;
    use crate::control::request::LockView;

    #[test]
    fn a_list_is_aligned_and_holds_no_raw_bytes() {
        let lock = |text: &str, left, cause, detail: &str| LockView {
            who: who(text).unwrap(),
            action: LockAction::Reset,
            cause,
            detail: detail.to_owned(),
            session: None,
            age: 5,
            left,
            offences: 1,
            hits: 12,
            last: None,
        };
        let locks = vec![
            lock("192.0.2.7", Some(187), LockCause::Virus, "Eicar\x1b[2J"),
            lock("2001:db8::/32", None, LockCause::Operator, ""),
            lock("192.0.2.7-10.0.0.5", Some(3_600), LockCause::EarlyTalk, ""),
        ];
        let list = LockList { held: 4, locks, exempt: Vec::new() };
        insta::assert_snapshot!(table(&list), @r"
        WHO                       ACTION       LEFT       HITS  CAUSE
        192.0.2.7                 reset       3m07s         12  virus       Eicar\x1b[2J
        2001:db8::/32             reset    for ever         12  operator
        192.0.2.7-10.0.0.5        reset       1h00m         12  early-talk
        and 1 lock more
        ");
    }
}
