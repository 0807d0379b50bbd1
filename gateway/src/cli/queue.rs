//! `gateway queue`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use super::socket::{Ask, block_on, say, say_json};
use crate::clock;
use crate::console::text::{plural, safe, size, span};
use crate::control::Client;
use crate::control::request::queue::{
    DestinationList, Flush, QueueChanged, QueueEntry, QueueList, QueuedMessage, Requeue, Which,
};
use crate::queue::{Standing, Target};

/// Arguments of `gateway queue`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the messages, the oldest first.
    List,
    /// List the destinations that mail waits for: how much, for how long, and why.
    Destinations,
    /// Show a message's envelope and how it stands.
    Show {
        /// The message.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Print a message's content as it is.
    Cat {
        /// The message.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Try messages now that wait for another attempt.
    Retry(Chosen),
    /// Keep messages from being delivered.
    Hold(Chosen),
    /// Have messages delivered that were held.
    Release(Chosen),
    /// Throw messages away; nobody is told.
    Delete(Chosen),
    /// Put a message into the queue anew, under a new name.
    Requeue {
        /// The message.
        #[arg(value_name = "ID")]
        id: String,
        /// Where it goes from now on, such as `[mail.example.com]:587` or `lmtp:unix:/run/lmtp`.
        #[arg(long, value_name = "DESTINATION", conflicts_with = "mx")]
        relay: Option<String>,
        /// It goes to the mail exchangers of its recipients' domains from now on.
        #[arg(long)]
        mx: bool,
    },
    /// Try all mail for a destination now.
    Flush {
        /// A domain, or a next hop such as `[mail.example.com]:587`.
        #[arg(value_name = "DESTINATION")]
        destination: String,
    },
}

/// Which messages.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true)]
struct Chosen {
    /// The messages.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All of them.
    #[arg(long)]
    all: bool,
}

/// Shows or changes the queue.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = args.ask.client()?;
    block_on(async {
        let changed = match &args.action {
            Action::List => return list(&client, args.ask.json).await,
            Action::Destinations => {
                args.ask.say(&client.destinations().await?, destinations)?;
                return Ok(ExitCode::SUCCESS);
            }
            Action::Show { id } => {
                let message = client.queued(id).await?;
                args.ask.say(&message, |message| described(message, clock::wall()))?;
                return Ok(ExitCode::SUCCESS);
            }
            Action::Cat { id } => {
                let content = client.content(id).await?;
                std::io::stdout().lock().write_all(&content).context("cannot write the message")?;
                return Ok(ExitCode::SUCCESS);
            }
            Action::Retry(chosen) => client.change_queue("retry", &which(chosen)).await?,
            Action::Hold(chosen) => client.change_queue("hold", &which(chosen)).await?,
            Action::Release(chosen) => client.change_queue("release", &which(chosen)).await?,
            Action::Delete(chosen) => client.change_queue("delete", &which(chosen)).await?,
            Action::Requeue { id, relay, mx } => {
                let target = relay.clone().map(Target::Relay).or_else(|| mx.then_some(Target::Mx));
                client.requeue(&Requeue { id: id.clone(), target }).await?
            }
            Action::Flush { destination } => {
                client.flush(&Flush { destination: destination.clone() }).await?
            }
        };
        args.ask.say(&changed, told)?;
        Ok(if changed.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn which(chosen: &Chosen) -> Which {
    Which { ids: chosen.ids.clone(), all: chosen.all }
}

/// Prints the list as it comes, page by page; as JSON in one piece.
async fn list(client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    let mut list = client.queue(None).await?;
    let mut all = QueueList { messages: Vec::new(), ..list.clone() };
    if !json {
        say(&head(&list))?;
    }
    loop {
        let last = list.messages.last().map(|entry| entry.id.clone());
        if json {
            all.messages.append(&mut list.messages);
        } else {
            say(&table(&list.messages, clock::wall()))?;
        }
        match last {
            Some(last) if list.more => list = client.queue(Some(&last)).await?,
            _ => break,
        }
    }
    if json {
        say_json(&QueueList { more: false, ..all })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn head(list: &QueueList) -> String {
    let QueueList { ready, deferred, held, damaged, .. } = list;
    let damaged = if *damaged > 0 { format!(" ({damaged} damaged)") } else { String::new() };
    let columns = format!("{:<13}  {:>8}  {:>9}  {:>10}  STANDING\n", "ID", "AGE", "SIZE", "RECIPIENTS");
    format!("{ready} ready, {deferred} deferred, {held} held{damaged}\n{columns}")
}

fn table(messages: &[QueueEntry], now: SystemTime) -> String {
    let mut out = String::new();
    for entry in messages {
        let age = span(entry.age(now));
        let (size, standing) = (size(entry.size), standing(entry, now));
        // Writing to a `String` cannot fail.
        writeln!(out, "{:<13}  {age:>8}  {size:>9}  {:>10}  {standing}", entry.id, entry.recipients)
            .unwrap_or_default();
    }
    out
}

fn standing(entry: &QueueEntry, now: SystemTime) -> String {
    match entry.standing {
        Standing::Ready => "ready".to_owned(),
        Standing::Held if entry.damaged => "damaged".to_owned(),
        Standing::Held => "held".to_owned(),
        Standing::Deferred(_) => format!("deferred for {}", span(entry.due(now).unwrap_or_default())),
    }
}

fn destinations(list: &DestinationList) -> String {
    let mut out = String::new();
    let mut line = |destination: &str, cells: &[String], reason: &str| {
        write!(out, "{destination:<30}").unwrap_or_default();
        for cell in cells {
            write!(out, " {cell:>6}").unwrap_or_default();
        }
        let gap = if reason.is_empty() { "" } else { "  " };
        writeln!(out, "{gap}{reason}").unwrap_or_default();
    };
    let heads = ["MSGS", "RCPTS", "HELD", "<5m", "<20m", "<1h", "<5h", "<1d", ">1d"].map(str::to_owned);
    line("DESTINATION", &heads, "LAST REASON");
    for row in &list.destinations {
        let counts = [row.messages, row.recipients, row.held].into_iter().chain(row.ages);
        let cells: Vec<_> = counts.map(|count| count.to_string()).collect();
        let name = if row.destination.is_empty() { "(others)" } else { &row.destination };
        let ago = row.since.map(|since| format!("{} ago: ", span(Duration::from_secs(since))));
        let reason = ago.unwrap_or_default() + row.reason.as_deref().unwrap_or_default();
        line(&safe(name), &cells, safe(&reason).trim_end());
    }
    if list.unlooked > 0 {
        writeln!(out, "{} younger messages were not looked at", list.unlooked).unwrap_or_default();
    }
    out
}

fn described(message: &QueuedMessage, now: SystemTime) -> String {
    let QueuedMessage { entry, envelope, settled, warned, reason } = message;
    let target = match &envelope.target {
        Target::Mx => "the mail exchangers of each recipient's domain".to_owned(),
        Target::Relay(relay) => relay.clone(),
        Target::Original(server) => format!("{server}, which the client chose"),
    };
    let mut out = format!(
        "id         {}\nage        {}\nsize       {}\nstanding   {}\nsender     <{}>\ntarget     {target}\n",
        entry.id,
        span(entry.age(now)),
        size(entry.size),
        standing(entry, now),
        safe(&envelope.sender),
    );
    if let Some(submitter) = &envelope.submitter {
        writeln!(out, "client     {} {}", submitter.address, safe(&submitter.helo)).unwrap_or_default();
    }
    if let Some(reason) = reason {
        writeln!(out, "reason     {}", safe(reason)).unwrap_or_default();
    }
    if *warned {
        out.push_str("warned     the sender was told that it takes long\n");
    }
    for (place, recipient) in (0u32..).zip(&envelope.recipients) {
        let done = if settled.contains(&place) { "  done" } else { "" };
        writeln!(out, "recipient  <{}>{done}", safe(&recipient.address)).unwrap_or_default();
    }
    out
}

fn told(changed: &QueueChanged) -> String {
    let count = u64::try_from(changed.changed).unwrap_or(u64::MAX);
    let mut out = plural(count, "message");
    if let Some(id) = &changed.id {
        write!(out, ": {id}").unwrap_or_default();
    }
    out.push('\n');
    for id in &changed.missing {
        writeln!(out, "{}: no such message, or not one to which this applies", safe(id)).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::waiting::Destination;
    use crate::queue::Envelope;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn entry(id: &str, age: u64, standing: Standing) -> QueueEntry {
        let arrived = (NOW.as_secs() - age) * 1_000;
        QueueEntry { id: id.to_owned(), arrived, size: 12_345, recipients: 2, standing, damaged: false }
    }

    #[test]
    fn a_list_says_when_each_message_is_due() {
        let due = (NOW.as_secs() + 300) * 1_000;
        let messages = vec![
            entry("0PHFJ40000001", 90, Standing::Ready),
            entry("0PHFJ40000002", 7_200, Standing::Deferred(due)),
            entry("0PHFJ40000003", 400_000, Standing::Held),
        ];
        let list = QueueList { ready: 1, deferred: 1, held: 1, damaged: 0, messages, more: false };
        let now = SystemTime::UNIX_EPOCH + NOW;
        insta::assert_snapshot!(format!("{}{}", head(&list), table(&list.messages, now)), @r"
        1 ready, 1 deferred, 1 held
        ID                  AGE       SIZE  RECIPIENTS  STANDING
        0PHFJ40000001     1m30s      12.0K           2  ready
        0PHFJ40000002     2h00m      12.0K           2  deferred for 5m00s
        0PHFJ40000003    4d 15h      12.0K           2  held
        ");
    }

    #[test]
    fn destinations_are_listed_with_ages_and_reasons() {
        let row = Destination {
            destination: "b.example".to_owned(),
            messages: 12,
            recipients: 30,
            ages: [1, 2, 3, 0, 5, 1],
            held: 1,
            reason: Some("connect to mx.b.example: \u{1b}[2JConnection refused".to_owned()),
            since: Some(90),
        };
        let others =
            Destination { messages: 1, recipients: 1, ages: [1, 0, 0, 0, 0, 0], ..Destination::default() };
        let list = DestinationList { destinations: vec![row, others], unlooked: 7 };
        insta::assert_snapshot!(destinations(&list), @r"
        DESTINATION                      MSGS  RCPTS   HELD    <5m   <20m    <1h    <5h    <1d    >1d  LAST REASON
        b.example                          12     30      1      1      2      3      0      5      1  1m30s ago: connect to mx.b.example: \x1b[2JConnection refused
        (others)                            1      1      0      1      0      0      0      0      0
        7 younger messages were not looked at
        ");
    }

    #[test]
    fn a_message_is_shown_with_its_envelope_and_nothing_steers_the_terminal() {
        let envelope = Envelope {
            sender: "s\u{1b}[2J@a.example".to_owned(),
            target: Target::Relay("[mail.b.example]:587".to_owned()),
            ..Envelope::to(["r1@b.example", "r2@b.example"])
        };
        let entry = entry("0PHFJ40000001", 90, Standing::Ready);
        let reason = Some("host b.example said: \u{1b}[2J451".to_owned());
        let message = QueuedMessage { entry, envelope, settled: vec![0], warned: true, reason };
        insta::assert_snapshot!(described(&message, SystemTime::UNIX_EPOCH + NOW), @r"
        id         0PHFJ40000001
        age        1m30s
        size       12.0K
        standing   ready
        sender     <s\x1b[2J@a.example>
        target     [mail.b.example]:587
        reason     host b.example said: \x1b[2J451
        warned     the sender was told that it takes long
        recipient  <r1@b.example>  done
        recipient  <r2@b.example>
        ");
    }
}
