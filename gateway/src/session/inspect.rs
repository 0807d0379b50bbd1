//! The inspect lane: carries out what the exchange asks for.

use std::io;
use std::time::Instant;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::carry::{self, Past};
use super::checks::{Found, Ruled, Subject};
use super::copy::{Judged, MessageCopy};
use super::table::OpenSession;
use super::wait::{Alarm, Begun, Told, judged, opt};
use super::{Context, Ending, Settings, linger, offence, record, upstream};
use crate::clock;
use crate::config::file::StartTls;
use crate::outcome::{MessageRecord, SessionEnd, Spf, Verdict};
use crate::policy::introduction::introduction;
use crate::policy::nat_header::nat_header;
use crate::policy::quota::Quota;
use crate::smtp::exchange::{Action, Decision, Exchange, Terms, Unread};
use crate::smtp::question::{Question, Step};
use crate::smtp::refusal::Refusal;
use crate::smtp::report::{MessageDone, Note};
use crate::spool;
use crate::telemetry::Trouble;

mod sockets;
mod told;

use sockets::{READ, READ_TEXT, receive, writable};

/// Runs one session of the inspect lane, and its splice lane if it gets there.
pub(super) async fn run(
    client: TcpStream,
    live: &OpenSession,
    starttls: Option<StartTls>,
    settings: &Settings,
    context: &Context,
) -> Ending {
    let flow = live.flow();
    let terms = Terms {
        starttls: starttls.unwrap_or(settings.rules.inspect.starttls),
        header: nat_header(&settings.config, flow, &settings.rules.voice.name),
        introduction: introduction(&settings.config, flow),
    };
    let mut driver = Driver {
        exchange: Exchange::on_terms(settings.rules.clone(), terms, clock::now()),
        client,
        server: None,
        connecting: Some(Box::pin(upstream::connect(live, settings, &context.direct))),
        ruling: None,
        spf: None,
        message: None,
        splice: None,
        taken_over: false,
        text_room: READ_TEXT,
        live,
        settings,
        context,
    };
    let end = driver.drive().await;
    let lane = if driver.taken_over { "takeover" } else { "inspect" };
    let conduct = driver.exchange.conduct();
    let Driver { client, server, splice, .. } = driver;
    match (end, server) {
        (None, Some(server)) => {
            let past = Past::inspected(conduct);
            match splice {
                Some(Unread::Authenticated) => {
                    Box::pin(carry::carry(client, server, live, past, settings, context)).await
                }
                _ => Box::pin(carry::after_starttls(client, server, live, past, settings, context)).await,
            }
        }
        (end, server) => {
            drop(server);
            if end == Some(SessionEnd::Quit) {
                linger::close_after_quit(client).await;
            } else {
                Box::pin(linger::close(client)).await;
            }
            Ending { conduct, ..Ending::of(lane, end.unwrap_or(SessionEnd::Error)) }
        }
    }
}

struct Driver<'a> {
    exchange: Exchange,
    client: TcpStream,
    server: Option<TcpStream>,
    connecting: Option<Begun<'a, io::Result<TcpStream>>>,
    ruling: Option<Begun<'a, Ruled>>,
    /// What was found of the message that begins, or has begun.
    spf: Option<Spf>,
    message: Option<MessageCopy>,
    /// The exchange is over and the octets go on.
    splice: Option<Unread>,
    taken_over: bool,
    /// Octets of a message read at once.
    text_room: usize,
    live: &'a OpenSession,
    settings: &'a Settings,
    context: &'a Context,
}

/// What the session waited for.
enum Event {
    Client(io::Result<usize>),
    Server(io::Result<usize>),
    /// What can be written is written by `settle`.
    Writable,
    Connected(io::Result<TcpStream>),
    Judged(Judged),
    Ruled(Ruled),
    Deadline,
    /// By an operator, or because the gateway stops.
    Told(SessionEnd),
}

impl Driver<'_> {
    /// Runs until the session has ended, or `None` when it goes on in the splice lane.
    async fn drive(&mut self) -> Option<SessionEnd> {
        let mut told = Told::to_end(self.live, self.context);
        let mut alarm = Alarm::default();
        let mut now = clock::now();
        loop {
            now = self.settle(now).await;
            let written = self.exchange.to_client().is_empty() && self.exchange.to_server().is_empty();
            if self.splice.is_some() && written {
                return None;
            }
            if let Some(end) = self.exchange.finished(now) {
                return Some(end);
            }
            self.live.set_stage(self.exchange.stage());
            self.live.set_conduct(self.exchange.conduct());
            let patience = self.settings.config.timeouts.scan.duration();
            let deadline = self.exchange.deadline();
            let wanted = (self.exchange.wants_client(), self.exchange.wants_server());
            let waiting = (!self.exchange.to_client().is_empty(), !self.exchange.to_server().is_empty());
            let room = self.room();
            let may_connect = self.exchange.wants_server_connection();
            let connecting = self.connecting.as_mut().filter(|_| may_connect);
            let (from_client, to_client) = self.client.split();
            let (from_server, to_server) = self.server.as_mut().map(TcpStream::split).unzip();
            let (client_in, server_in) = self.exchange.buffers();
            let event = tokio::select! {
                read = receive(Some(from_client), client_in, room, wanted.0) => Event::Client(read),
                read = receive(from_server, server_in, READ, wanted.1) => Event::Server(read),
                _ = writable(Some(to_client), waiting.0) => Event::Writable,
                _ = writable(to_server, waiting.1) => Event::Writable,
                connected = opt(connecting) => Event::Connected(connected),
                ruling = opt(self.ruling.as_mut()) => Event::Ruled(ruling),
                judged = judged(self.message.as_mut(), patience) => Event::Judged(judged),
                () = alarm.at(deadline) => Event::Deadline,
                end = told.end() => Event::Told(end),
            };
            now = clock::now();
            self.take(event, now);
        }
    }

    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Client(read) => self.client_read(read, now),
            Event::Server(read) => self.server_read(read, now),
            Event::Writable => {}
            Event::Connected(connected) => self.connected(connected, now),
            Event::Judged(judged) => self.judged(&judged, now),
            Event::Ruled(Ruled { ruling, found }) => {
                self.ruling = None;
                for found in found {
                    match found {
                        Found::Spf(spf) => self.spf = Some(spf),
                        Found::Listed(lists) => self.live.set_listed(lists),
                    }
                }
                if let Some(refusal) = ruling.refusal() {
                    offence::refused(self.context, self.live.flow(), refusal, || self.scene());
                }
                self.exchange.answered(ruling, now);
            }
            Event::Deadline => self.exchange.timeout(now),
            Event::Told(end) => self.exchange.end(end, now),
        }
    }

    fn connected(&mut self, connected: io::Result<TcpStream>, now: Instant) {
        self.connecting = None;
        match connected {
            Ok(server) => {
                self.server = Some(server);
                self.exchange.connected(now);
            }
            Err(error) => {
                let refusal = upstream::failed(&error, self.live.flow(), self.context);
                self.exchange.connect_failed(&refusal, now);
            }
        }
    }

    /// Carries out everything that can be done at once: actions, copies, writes. Returns the time, which
    /// goes on while a copy is waited for.
    async fn settle(&mut self, mut now: Instant) -> Instant {
        loop {
            let mut again = false;
            while let Some(action) = self.exchange.poll_action(now) {
                again = true;
                self.carry_out(action, now).await;
                now = clock::now();
            }
            again |= self.write_server(now);
            again |= self.write_client(now);
            if !again {
                record::tally(&self.context.telemetry, &self.exchange.take_tally());
                if let Some(hello) = self.exchange.take_hello() {
                    self.live.set_helo(hello);
                }
                return now;
            }
        }
    }

    async fn copy(&mut self, octets: &Bytes) {
        let copied = match &mut self.message {
            Some(message) => message.append(octets).await,
            // A message without a copy is never passed: see `EndMessage`.
            None => Ok(()),
        };
        if let Err(error) = copied {
            self.spool_failed(&error);
        }
    }

    async fn carry_out(&mut self, action: Action, now: Instant) {
        match action {
            Action::Ask(question) => self.ask(question),
            Action::BeginMessage => {
                let number = self.live.add_message();
                match MessageCopy::begin(
                    number,
                    self.live.flow(),
                    self.exempt(),
                    self.settings.inspecting_spooler(),
                    self.settings,
                ) {
                    Ok(message) => self.message = Some(message),
                    Err(error) => self.spool_failed(&error),
                }
            }
            Action::Content(octets) => self.copy(&octets).await,
            Action::EndMessage => self.end_message(now).await,
            Action::AbortMessage => {
                if let Some(message) = &mut self.message {
                    message.abort();
                }
            }
            Action::MessageDone(done) => self.message_done(done, now).await,
            Action::EnvelopeRefused(refused) => {
                let record = record::envelope(self.live.flow(), self.exchange.hello(), refused);
                self.context.telemetry.envelope(&record);
            }
            Action::DropServer => self.server = None,
            Action::Splice(why) => self.splice = Some(why),
            Action::Note(note) => {
                self.taken_over |= note == Note::Takeover;
                if let Note::Rejected(rejected) = note {
                    self.context.quotas.spend(self.live.flow(), Quota::of(rejected), 1);
                }
                offence::noted(self.context, self.live.flow(), note, || self.scene());
                record::note(&self.context.telemetry, self.live.flow(), note);
            }
        }
    }

    async fn end_message(&mut self, now: Instant) {
        let Some(mut message) = self.message.take() else {
            return self.spool_failed(&spool::Error::Closed);
        };
        if !message.is_copied() {
            // Nobody looks at it: its end goes to the server in one segment with its text.
            message.end(now);
            self.message = Some(message);
            return self.judged(&Judged::Done, now);
        }
        let ended = message.finish(self.envelope(), now).await;
        self.message = Some(message);
        if let Err(error) = ended {
            self.spool_failed(&error);
        }
    }

    fn ask(&mut self, question: Question) {
        if question.step() == Step::Mail {
            self.spf = None;
        }
        let upstream = self.server.as_ref().and_then(|server| server.local_addr().ok());
        let subject = Subject {
            flow: self.live.flow().clone(),
            helo: self.exchange.hello().to_owned(),
            authenticated: self.exchange.conduct().authenticated,
            upstream: upstream.map(|local| local.ip().to_canonical()),
        };
        self.ruling = Some(Box::pin(self.settings.checks.rule(question, subject)));
    }

    fn judged(&mut self, judged: &Judged, now: Instant) {
        record::judged(&self.context.telemetry, judged);
        let Some(message) = &mut self.message else { return };
        let Some(decision) = message.decide(judged, self.settings, now) else { return };
        let flow = self.live.flow();
        let decision = match decision {
            // The client may have been locked since, for what it did in another session.
            Decision::Pass => self.context.locks.find(flow).map_or(Decision::Pass, |lock| {
                Decision::Refuse(Refusal::Locked { for_ever: lock.until.is_none() })
            }),
            Decision::Refuse(refusal) => {
                offence::refused(self.context, flow, &refusal, || self.scene());
                Decision::Refuse(refusal)
            }
        };
        self.exchange.decided(decision, now);
    }

    async fn message_done(&mut self, done: MessageDone, now: Instant) {
        let flow = self.live.flow();
        self.context.quotas.spend(flow, Quota::Bytes, done.size);
        let (number, (verdict, scan_time)) = match &self.message {
            Some(message) => (message.number, message.outcome()),
            None => (self.live.messages(), (Verdict::default(), std::time::Duration::ZERO)),
        };
        let helo = self.exchange.hello();
        let record = MessageRecord {
            spf: self.spf.take(),
            ..record::message(flow, helo, number, done, verdict, scan_time, now)
        };
        self.context.telemetry.message(&record);
        if let Some(message) = self.message.take()
            && let Err(error) = message.keep_or_drop(flow).await
        {
            self.context.telemetry.trouble(Trouble::Spool, || format!("cannot keep a message: {error}"));
        }
    }

    fn spool_failed(&mut self, error: &spool::Error) {
        self.message = None;
        let refusal = record::spool_failed(&self.context.telemetry, error);
        self.exchange.decided(Decision::Refuse(refusal), clock::now());
    }
}
