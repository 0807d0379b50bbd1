//! All that delivers mail, set up by a main.cf, and what servers and log tell of it.

use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use gateway::clock;
use gateway::config::units::ByteCount;
use gateway::delivery::manager;
use gateway::delivery::office::Office;
use gateway::delivery::settings::{Disk, Host};
use gateway::delivery::transport::Setup;
use gateway::dns::Resolver;
use gateway::import::main_cf;
use gateway::queue::{Body, Envelope, Queue, Recipient, Submitter, Target};
use gateway::smtp::envelope::Notify;
use gateway::telemetry::Telemetry;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::names::{Name, Names};
use super::server::{Script, Servers};

/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(60);
/// How long connections may stay behind the last record.
const FAREWELL: Duration = Duration::from_secs(10);

/// Mail, servers, and the lines of main.cf that are there in any case. In all texts `PORT` is the servers' port, and `DIR/` a
/// folder with `files`.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) main: &'static str,
    pub(super) servers: Vec<Script>,
    /// Empty: to the mail exchangers.
    pub(super) relay: &'static str,
    pub(super) sender: &'static str,
    pub(super) recipients: &'static [&'static str],
    pub(super) text: String,
    pub(super) eight_bit: bool,
    pub(super) age: Duration,
    pub(super) asks_for_success: bool,
    pub(super) copies: usize,
    /// Records that are waited for.
    pub(super) records: usize,
    pub(super) names: &'static [Name],
    pub(super) files: Vec<(&'static str, String)>,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            main: "",
            servers: vec![Script::default()],
            relay: "[127.0.0.1]:PORT",
            sender: "s@a.test",
            recipients: &["r@b.test"],
            text: "From: <s@a.test>\nSubject: x\n\ntext\n".to_owned(),
            eight_bit: false,
            age: Duration::ZERO,
            asks_for_success: false,
            copies: 1,
            records: 1,
            names: &[],
            files: Vec::new(),
        }
    }
}

/// A parameter, the scene it acts in, what is told only without it, and what only with it; empty: whatever.
pub(super) type Row = (&'static str, Scene, &'static str, &'static str);

/// Plays each scene without its parameter and with it.
pub(super) fn play(rows: Vec<Row>) -> anyhow::Result<()> {
    all(&rows, played)
}

/// Plays all at once; each tells what is not as it should be.
fn all(rows: &[Row], play: impl Fn(&Row) -> String + Copy + Send) -> anyhow::Result<()> {
    let wrong = thread::scope(|scope| {
        let played: Vec<_> = rows.iter().map(|row| scope.spawn(move || play(row))).collect();
        played
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| "panic\n".to_owned()))
            .collect::<String>()
    });
    anyhow::ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

/// What is not as it should be.
fn played((parameter, scene, without, with): &Row) -> String {
    let mut wrong = String::new();
    for (given, wanted, unwanted) in [(false, without, with), (true, with, without)] {
        // Nothing can be told by it.
        if !given && without.is_empty() && with.is_empty() {
            continue;
        }
        let told = match scene.told(if given { parameter } else { "" }) {
            Ok(told) => told,
            Err(error) => format!("{error:?}"),
        };
        let is_there = |text: &str| told.contains(text);
        if !is_there(wanted) || (!unwanted.is_empty() && is_there(unwanted)) {
            let which = if given { "with" } else { "without" };
            writeln!(wrong, "---- {which} {parameter}: wanted `{wanted}`, not `{unwanted}`\n{told}")
                .unwrap_or_default();
        }
    }
    wrong
}

/// A scene that is only played with its parameter: without it would take minutes.
pub(super) fn limited(rows: Vec<Row>) -> anyhow::Result<()> {
    all(&rows, |(parameter, scene, _, wanted)| match scene.told(parameter) {
        Ok(told) if told.contains(wanted) => String::new(),
        told => format!("---- {parameter}: wanted `{wanted}`\n{told:?}\n"),
    })
}

impl Scene {
    /// What servers and log tell, and the importer.
    pub(super) fn told(&self, parameter: &str) -> anyhow::Result<String> {
        let folder = tempfile::tempdir()?;
        for (name, text) in &self.files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().context("no parent")?)?;
            fs::write(path, text)?;
        }
        let servers = Servers::start(&self.servers)?;
        let names = Names::start(self.names)?;
        let filled = |text: &str| {
            let text = text.replace("PORT", &servers.port().to_string());
            text.replace("DIR/", &format!("{}/", folder.path().display()))
        };
        let main = filled(&format!("{}\n{parameter}\n", self.main));
        let imported = match main_cf::import(&[main_cf::Source { name: "main.cf", text: &main }]) {
            Ok(imported) => imported,
            Err(problems) => return Ok(problems.to_string()),
        };
        let more = format!(
            "\nlog: {{addresses: full}}\ndns: {{servers: ['{}'], attempts: 2, timeout: 5s}}\n",
            names.address()
        );
        let config = match gateway::config::parse(&(imported.yaml + &more), "gateway.yaml") {
            Ok(config) => config,
            Err(problems) => return Ok(problems.to_string()),
        };
        let name = if config.name.is_empty() { "gw.test" } else { &config.name };
        let setup = match Setup::new(&config, Host { name, addresses: &[] }, &Disk) {
            Ok(setup) => setup,
            Err(error) => return Ok(error.to_string()),
        };
        let log = Log::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let queue_folder = folder.path().join("queue");
        tracing::subscriber::with_default(log.clone(), || {
            runtime.block_on(async {
                let queue = Queue::open(&queue_folder, ByteCount::new(0))?;
                let telemetry = Arc::new(Telemetry::new(&config.log, clock::now(), clock::wall()));
                let resolver = Arc::new(Resolver::new(&config.dns)?);
                let (office, asked) = Office::new(queue.clone(), resolver, telemetry, setup);
                for copy in 0..self.copies {
                    let text = self.text.replace("COPY", &copy.to_string()).replace('\n', "\r\n");
                    queue.accept(self.envelope(&filled(self.relay)), vec![text.into()]).await?;
                }
                let (stop, stopped) = watch::channel(false);
                let office = Arc::new(office);
                let manager = tokio::spawn(manager::run(office, asked, stopped, LONGEST));
                let recorded = async {
                    while log.text().matches(" status=").count() < self.records {
                        sleep(Duration::from_millis(5)).await;
                    }
                };
                timeout(LONGEST, recorded)
                    .await
                    .map_err(|_| anyhow::anyhow!("{}{}", servers.notes(), log.text()))?;
                stop.send_replace(true);
                manager.await?;
                let over = async {
                    while servers.open() > 0 {
                        sleep(Duration::from_millis(5)).await;
                    }
                };
                // Who says nothing to QUIT keeps a connection as long as the client waits for it.
                timeout(FAREWELL, over).await.unwrap_or_default();
                anyhow::Ok(())
            })
        })?;
        Ok(format!("{}{}{}", imported.warnings, servers.notes(), log.text()))
    }

    fn envelope(&self, relay: &str) -> Envelope {
        let notify = self.asks_for_success.then_some(Notify { success: true, ..Notify::NEVER });
        let recipient = |address: &&str| Recipient { address: (*address).to_owned(), original: None, notify };
        let age = u64::try_from(self.age.as_millis()).unwrap_or_default();
        Envelope {
            arrived: clock::wall_millis().saturating_sub(age),
            sender: self.sender.to_owned(),
            recipients: self.recipients.iter().map(recipient).collect(),
            target: if relay.is_empty() { Target::Mx } else { Target::Relay(relay.to_owned()) },
            submitter: Some(Submitter {
                address: ([192, 0, 2, 7], 40_000).into(),
                name: Some("client.test".to_owned()),
                helo: "client.test".to_owned(),
                protocol: "ESMTP".to_owned(),
            }),
            body: if self.eight_bit { Body::EightBitMime } else { Body::SevenBit },
            sign: false,
            smtputf8: false,
            ret: None,
            envid: None,
        }
    }
}

/// The log of one scene.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("gateway")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("log:{}\n", line.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap_or_default();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {}={value}", field.name()).unwrap_or_default();
    }
}
