//! The console, `gateway top`: what a running gateway does, on a terminal.
//!
//! Owns the screen and the keys. An ordinary client of the control socket; the only module that
//! names `ratatui`. Never writes a byte from the network to the terminal as it came.

use std::io;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::control::Client;
use crate::control::client::Error;
use crate::control::request::queue::QueueList;
use crate::ipc::client::{ClientSort, LISTED};
use crate::queue::QueueId;
use deed::Deed;
use list::queue::Queued;
use model::{Model, QueueStanding, Tab};
use terminal::{Keys, Screen};
use theme::Theme;
use update::{Answer, Effect, Event, Page, update};

mod deed;
mod input;
mod list;
mod model;
mod terminal;
#[cfg(test)]
mod tests;
pub mod text;
mod theme;
mod update;
mod view;

/// How often the gateway is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// Shows the gateway behind `client` until the operator leaves. A gateway that goes away is
/// waited for.
///
/// # Errors
///
/// When the terminal cannot be used.
pub async fn run(client: Client, colours: bool) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut screen = Screen::take()?;
    let mut keys = Keys::read()?;
    let theme = Theme::new(colours);
    let height = screen.terminal().size()?.height;
    let mut model = Model::new(clock::now(), height, TimeZone::system());
    let mut asker = Asker::new(client);
    let mut second = tokio::time::interval(PERIOD);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.terminal().draw(|frame| view::draw(frame, &model, theme))?;
        let event = tokio::select! {
            key = keys.next() => match key {
                Some(event) => event,
                None => return Ok(()),
            },
            event = asker.next() => event,
            _ = second.tick() => {
                if !asker.under_way {
                    asker.ask(&model);
                }
                Event::Tick(clock::now())
            }
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        };
        match update(&mut model, event) {
            Some(Effect::Quit) => return Ok(()),
            Some(Effect::Do(deed)) => asker.carry_out(deed),
            Some(Effect::Read(id)) => asker.read(id),
            Some(Effect::Ask) => asker.ask(&model),
            None if asker.again && !asker.under_way => asker.ask(&model),
            None => {}
        }
    }
}

/// Asks the gateway beside the keys, so that a slow answer holds nothing up.
#[derive(Debug)]
struct Asker {
    client: Client,
    sender: mpsc::Sender<Event>,
    answers: mpsc::Receiver<Event>,
    under_way: bool,
    /// Something was wanted while an answer was under way.
    again: bool,
}

impl Asker {
    fn new(client: Client) -> Self {
        let (sender, answers) = mpsc::channel(16);
        Self { client, sender, answers, under_way: false, again: false }
    }

    /// Asks for what the page on the screen needs, once the answer under way is there.
    fn ask(&mut self, model: &Model) {
        self.again = std::mem::replace(&mut self.under_way, true);
        if self.again {
            return;
        }
        let (client, sender) = (self.client.clone(), self.sender.clone());
        let (since, tab, sort) = (model.log.last(), model.tab, model.clients.sort.asked());
        tokio::spawn(async move {
            let event = match question(&client, since, tab, sort).await {
                Ok(answer) => Event::Answer(Box::new(answer)),
                Err(error) => Event::Away(error.to_string()),
            };
            // A console that is gone needs no answer.
            sender.send(event).await.unwrap_or_default();
        });
    }

    fn carry_out(&self, deed: Deed) {
        let (client, sender) = (self.client.clone(), self.sender.clone());
        tokio::spawn(async move {
            let done = deed.carry_out(&client).await.map(|()| deed);
            sender.send(Event::Done(done)).await.unwrap_or_default();
        });
    }

    fn read(&self, id: QueueId) {
        let (client, sender) = (self.client.clone(), self.sender.clone());
        tokio::spawn(async move {
            let message = client.queued(&id.to_string()).await;
            let message = message.map(Box::new).map_err(|error| error.to_string());
            sender.send(Event::Message(id, message)).await.unwrap_or_default();
        });
    }

    async fn next(&mut self) -> Event {
        match self.answers.recv().await {
            Some(event) => {
                if matches!(event, Event::Answer(_) | Event::Away(_)) {
                    self.under_way = false;
                }
                event
            }
            // Not reached: this holds a sender itself.
            None => std::future::pending().await,
        }
    }
}

/// Asks for what every page shows, and for the list on the page.
async fn question(client: &Client, since: u64, tab: Tab, sort: ClientSort) -> Result<Answer, Error> {
    let status = client.status().await?;
    let page = match tab {
        Tab::Overview | Tab::Log => Page::None,
        Tab::Sessions => Page::Sessions(client.sessions().await?),
        Tab::Clients => Page::Clients(or_why(client.clients(sort, LISTED).await)?),
        Tab::Locks => Page::Locks(client.locks().await?),
        Tab::Waiting => Page::Waiting(or_why(client.destinations().await)?),
        Tab::Queue => Page::Queue(or_why(client.queue(None).await.map(listed))?),
    };
    let log = client.log(since).await?;
    Ok(Answer { status, page, log })
}

/// What was answered, or why there is nothing to be listed.
fn or_why<T>(answer: Result<T, Error>) -> Result<Result<T, String>, Error> {
    match answer {
        Ok(list) => Ok(Ok(list)),
        Err(Error::Refused(problem)) => Ok(Err(problem.to_string())),
        Err(error) => Err(error),
    }
}

/// The queue as of now: the oldest messages come first.
fn listed(list: QueueList) -> (QueueStanding, Vec<Queued>) {
    let now = clock::wall();
    let QueueList { ready, deferred, held, damaged, messages, more: _ } = list;
    let messages: Vec<_> = messages.iter().filter_map(|entry| Queued::new(entry, now)).collect();
    let oldest = messages.first().map(|message| message.age);
    (QueueStanding { ready, deferred, held, damaged, oldest }, messages)
}
