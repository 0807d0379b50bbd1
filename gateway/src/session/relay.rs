//! The relay lane: carries out what the server asks for.

use std::future::poll_fn;
use std::io;
use std::time::Instant;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::checks::{Found, Ruled, Subject};
use super::copy::{Judged, MessageCopy};
use super::table::OpenSession;
use super::wait::{Alarm, Begun, Told, judged, opt};
use super::{Context, Ending, Settings, linger, offence, record};
use crate::clock;
use crate::config::file::RelayTarget;
use crate::intercept::address::ClientAddr;
use crate::intercept::flow::Flow;
use crate::outcome::{MessageAction, MessageRecord, SessionEnd, Spf, Verdict};
use crate::policy::lane::Choice;
use crate::policy::quota::Quota;
use crate::queue::{Queue, QueueId, Target, WriteError};
use crate::scan::Exempt;
use crate::smtp::exchange::Decision;
use crate::smtp::question::{Question, Ruling, Step};
use crate::smtp::refusal::Refusal;
use crate::smtp::report::{MessageDone, Note};
use crate::smtp::server::{Action, Rules, Server, Terms, TlsSession};
use crate::spool;
use crate::telemetry::{Counter, Trouble};

mod store;
pub mod tls;
mod told;
mod wire;

use store::{Entry, Way};
use wire::{Moved, Wire};

/// What sessions of this lane work with.
#[derive(Debug)]
pub struct Relaying {
    /// The server's part of the configuration.
    pub rules: std::sync::Arc<Rules>,
    /// The certificates; none: STARTTLS is not offered.
    pub acceptor: Option<tls::Acceptor>,
}

/// Runs one session of the relay lane.
pub(super) async fn run(
    client: TcpStream,
    live: &OpenSession,
    choice: Choice,
    settings: &Settings,
    context: &Context,
) -> Ending {
    let (Some(relaying), Some(queue)) = (&settings.relaying, &context.queue) else {
        // A configuration with such a lane and without a queue is not put in force.
        Box::pin(linger::say_and_close(client, &Refusal::SpoolFailed.reply(&settings.rules.voice))).await;
        return Ending::of("relay", SessionEnd::Error);
    };
    let flow = live.flow().clone();
    let address = flow.client.ip();
    let terms = Terms {
        starttls: relaying.acceptor.is_some(),
        trusted: relaying.rules.relay.trusted.iter().any(|network| network.0.contains(&address)),
        routes: choice.target == RelayTarget::Mx,
    };
    let mut driver = Driver {
        server: Server::new(relaying.rules.clone(), terms, clock::now()),
        wire: Some(Wire::plain(client)),
        flow,
        handshake: None,
        ruling: None,
        storing: None,
        spf: None,
        message: None,
        choice,
        relaying,
        queue,
        live,
        settings,
        context,
    };
    let end = driver.drive().await;
    let conduct = driver.server.conduct();
    let fault = driver.server.take_fault();
    if let Some(wire) = driver.wire.take() {
        Box::pin(wire.close()).await;
    }
    if let (Some(fault), Some(office)) = (fault, &context.office) {
        Box::pin(driver.tell_postmaster(office, fault)).await;
    }
    Ending { conduct, ..Ending::of("relay", end) }
}

struct Driver<'a> {
    server: Server,
    /// None while TLS is being agreed on.
    wire: Option<Wire>,
    /// Who is taken to be the client: whom the connection came from, or whom XCLIENT names.
    flow: Flow,
    handshake: Option<Begun<'a, io::Result<(Wire, TlsSession)>>>,
    ruling: Option<Begun<'a, Ruled>>,
    storing: Option<Begun<'a, Result<QueueId, store::Error>>>,
    /// What was found of the message that begins, or has begun.
    spf: Option<Spf>,
    message: Option<MessageCopy>,
    /// What the lane rule says.
    choice: Choice,
    relaying: &'a Relaying,
    queue: &'a Queue,
    live: &'a OpenSession,
    settings: &'a Settings,
    context: &'a Context,
}

/// What the session waited for.
enum Event {
    Moved(Moved),
    Secured(io::Result<(Wire, TlsSession)>),
    Judged(Judged),
    Stored(Result<QueueId, store::Error>),
    Ruled(Ruled),
    Deadline,
    /// By an operator, or because the gateway stops.
    Told(SessionEnd),
}

impl Driver<'_> {
    /// Runs until the session has ended.
    async fn drive(&mut self) -> SessionEnd {
        let mut told = Told::to_end(self.live, self.context);
        let mut alarm = Alarm::default();
        loop {
            self.settle().await;
            let now = clock::now();
            if let Some(end) = self.server.finished(now) {
                return end;
            }
            self.begin_handshake();
            self.live.set_stage(self.server.stage());
            let patience = self.settings.config.timeouts.scan.duration();
            let deadline = self.server.deadline();
            let wants = self.server.wants_client();
            let (output, input) = self.server.buffers();
            let moved = async {
                let Some(wire) = &mut self.wire else { return std::future::pending().await };
                poll_fn(|context| wire.poll_move(output, wants.then_some(&mut *input), context)).await
            };
            let event = tokio::select! {
                moved = moved => Event::Moved(moved),
                secured = opt(self.handshake.as_mut()) => Event::Secured(secured),
                ruling = opt(self.ruling.as_mut()) => Event::Ruled(ruling),
                judged = judged(self.message.as_mut(), patience) => Event::Judged(judged),
                stored = opt(self.storing.as_mut()) => Event::Stored(stored),
                () = alarm.at(deadline) => Event::Deadline,
                end = told.end() => Event::Told(end),
            };
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Moved(moved) => self.moved(&moved, now),
            Event::Secured(secured) => self.secured(secured, now),
            Event::Judged(judged) => self.judged(&judged, now),
            Event::Stored(stored) => self.stored(stored, now),
            Event::Ruled(Ruled { ruling, found }) => {
                self.ruling = None;
                for found in found {
                    match found {
                        Found::Spf(spf) => self.spf = Some(spf),
                        Found::Listed(lists) => self.live.set_listed(lists),
                    }
                }
                if let Some(refusal) = ruling.refusal() {
                    offence::refused(self.context, &self.flow, refusal, || self.scene());
                }
                self.server.answered(ruling, now);
            }
            Event::Deadline => self.server.timeout(now),
            Event::Told(end) => self.server.end(end, now),
        }
    }

    fn moved(&mut self, moved: &Moved, now: Instant) {
        match moved {
            Moved::Out(octets) => self.server.client_sent(*octets, now),
            Moved::In(octets) => {
                let octets = u64::try_from(*octets).unwrap_or(u64::MAX);
                self.live.add_from_client(octets);
                self.context.telemetry.add(Counter::ClientOctets, octets);
                self.server.client_received(now);
            }
            Moved::Ended => self.server.client_ended(now),
            Moved::Lost => {
                // Nothing more can be waited for there.
                self.wire = None;
                self.server.client_lost(now);
            }
        }
    }

    /// Takes the connection for TLS, once the go-ahead is written.
    fn begin_handshake(&mut self) {
        if !self.server.is_in_handshake() || self.handshake.is_some() || !self.server.to_client().is_empty() {
            return;
        }
        let stream = self.wire.take().and_then(Wire::into_plain);
        let (Some(stream), Some(tls::Acceptor(acceptor))) = (stream, &self.relaying.acceptor) else {
            return self.server.handshake_failed(clock::now());
        };
        self.handshake = Some(Box::pin(Wire::secured(acceptor.clone(), stream)));
    }

    fn secured(&mut self, secured: io::Result<(Wire, TlsSession)>, now: Instant) {
        self.handshake = None;
        match secured {
            Ok((wire, session)) => {
                tracing::debug!(session = %self.flow.id, version = session.version, suite = session.suite, "TLS");
                self.wire = Some(wire);
                self.server.secured(session, now);
            }
            Err(error) => {
                tracing::debug!(session = %self.flow.id, %error, "TLS handshake");
                self.server.handshake_failed(now);
            }
        }
    }

    /// Carries out everything that can be done at once.
    async fn settle(&mut self) {
        while let Some(action) = self.server.poll_action(clock::now()) {
            self.carry_out(action).await;
        }
        record::tally(&self.context.telemetry, &self.server.take_tally());
        self.live.set_helo(self.server.hello());
        self.live.set_conduct(self.server.conduct());
    }

    async fn carry_out(&mut self, action: Action) {
        let now = clock::now();
        match action {
            Action::Ask(question) => self.ask(question, now),
            Action::BeginMessage => {
                let number = self.live.add_message();
                let spooler = self.settings.spooler.as_ref();
                match MessageCopy::begin(number, &self.flow, Exempt::default(), spooler, self.settings) {
                    Ok(message) => self.message = Some(message),
                    Err(error) => self.spool_failed(&error),
                }
            }
            Action::Content(octets) => self.copy(&octets).await,
            Action::EndMessage => {
                let envelope = self.envelope();
                let ended = match &mut self.message {
                    Some(message) => message.finish(envelope, now).await,
                    None => Err(spool::Error::Closed),
                };
                if let Err(error) = ended {
                    self.spool_failed(&error);
                }
            }
            Action::AbortMessage => {
                if let Some(message) = &mut self.message {
                    message.abort();
                }
            }
            Action::MessageDone(done) => self.message_done(done, now).await,
            Action::EnvelopeRefused(refused) => {
                let record = record::envelope(&self.flow, self.server.hello(), refused);
                self.context.telemetry.envelope(&record);
            }
            // See `begin_handshake`.
            Action::StartTls => {}
            Action::Introduced => {
                if let Some(client) = self.server.told().client().socket() {
                    self.flow.client = ClientAddr::new(client);
                }
            }
            Action::Note(note) => {
                offence::noted(self.context, &self.flow, note, || self.scene());
                if note != Note::Takeover {
                    record::note(&self.context.telemetry, &self.flow, note);
                }
            }
        }
    }

    async fn copy(&mut self, octets: &Bytes) {
        let copied = match &mut self.message {
            Some(message) => message.append(octets).await,
            // A message without a copy is never taken: see `EndMessage`.
            None => Ok(()),
        };
        if let Err(error) = copied {
            self.spool_failed(&error);
        }
    }

    fn ask(&mut self, question: Question, now: Instant) {
        if question.step() == Step::Mail {
            self.spf = None;
        }
        if let Question::Mail { size, .. } = &question
            && !self.queue.has_room(size.unwrap_or(1))
        {
            self.full();
            return self.server.answered(Ruling::Refuse(Refusal::NoSpace), now);
        }
        let subject = Subject {
            flow: self.flow.clone(),
            helo: self.server.hello().to_owned(),
            authenticated: false,
            upstream: None,
        };
        self.ruling = Some(Box::pin(self.settings.checks.rule(question, subject)));
    }

    fn judged(&mut self, judged: &Judged, now: Instant) {
        record::judged(&self.context.telemetry, judged);
        let Some(message) = &mut self.message else { return };
        let Some(decision) = message.decide(judged, self.settings, now) else { return };
        match decision {
            // The client may have been locked since, for what it did in another session.
            Decision::Pass => match self.context.locks.find(&self.flow) {
                Some(lock) => {
                    let refusal = Refusal::Locked { for_ever: lock.until.is_none() };
                    self.server.decided(Some(refusal), now);
                }
                None => self.store(now),
            },
            Decision::Refuse(refusal) => {
                offence::refused(self.context, &self.flow, &refusal, || self.scene());
                self.server.decided(Some(refusal), now);
            }
        }
    }

    /// Puts the message that has passed on stable storage.
    fn store(&mut self, now: Instant) {
        let target = self.target();
        let copy = self.message.as_ref().and_then(|message| Some((message.reader()?, message.verdict())));
        let way = Way { target, sign: self.choice.sign };
        let entry = copy.and_then(|(copy, verdict)| {
            let entry = Entry::new(&self.server, &self.name(), &self.flow, way, verdict, self.settings)?;
            Some((entry, copy))
        });
        match entry {
            Some((entry, copy)) => {
                self.server.decided(None, now);
                self.storing = Some(Box::pin(entry.store(self.queue.clone(), copy)));
            }
            None => self.server.decided(Some(Refusal::SpoolFailed), now),
        }
    }

    /// Where the mail of this session goes.
    fn target(&self) -> Target {
        match self.choice.target {
            RelayTarget::Original => Target::Original(self.flow.destination.socket()),
            RelayTarget::RelayHost => Target::Relay(self.relaying.rules.relay.relay_host.clone()),
            RelayTarget::Mx => Target::Mx,
        }
    }

    fn stored(&mut self, stored: Result<QueueId, store::Error>, now: Instant) {
        self.storing = None;
        let stored = stored.map_err(|error| match error {
            store::Error::Queue(WriteError::NoSpace) => {
                self.full();
                Refusal::NoSpace
            }
            store::Error::Queue(WriteError::Closed) => Refusal::SpoolFailed,
            store::Error::Queue(WriteError::Io(_)) | store::Error::Spool(_) => {
                self.context.telemetry.trouble(Trouble::Spool, || error.to_string());
                Refusal::SpoolFailed
            }
        });
        self.server.stored(stored, now);
    }

    /// Counts that the queue takes no more.
    fn full(&self) {
        self.context.telemetry.count(Counter::Limit(crate::telemetry::Limit::QueueSpace));
        self.context.telemetry.trouble(Trouble::Full, || WriteError::NoSpace.to_string());
    }

    async fn message_done(&mut self, done: MessageDone, now: Instant) {
        if done.action != MessageAction::Queued {
            // A message that is being stored is of no use to a client that was told otherwise.
            self.storing = None;
        }
        self.context.quotas.spend(&self.flow, Quota::Bytes, done.size);
        let (number, (verdict, scan_time)) = match &self.message {
            Some(message) => (message.number, message.outcome()),
            None => (self.live.messages(), (Verdict::default(), std::time::Duration::ZERO)),
        };
        let helo = self.server.hello();
        let record = MessageRecord {
            spf: self.spf.take(),
            ..record::message(&self.flow, helo, number, done, verdict, scan_time, now)
        };
        self.context.telemetry.message(&record);
        if let Some(message) = self.message.take()
            && let Err(error) = message.keep_or_drop(&self.flow).await
        {
            self.context.telemetry.trouble(Trouble::Spool, || format!("cannot keep a message: {error}"));
        }
    }

    fn spool_failed(&mut self, error: &spool::Error) {
        self.message = None;
        let refusal = record::spool_failed(&self.context.telemetry, error);
        self.server.decided(Some(refusal), clock::now());
    }
}
