//! The proxy process: wires all of it together.
//!
//! Owns the order of start and stop, and nothing else: every decision is made where it belongs.
//! Started by the datapath process with privileges given up already; leaves when that process
//! does.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::warn;

use crate::clock;
use crate::config::Config;
use crate::control;
use crate::delivery::office::Office;
use crate::handoff::kernel::Kernel;
use crate::hooks::{self, Hooks};
use crate::ipc::Channel;
use crate::locks::Locks;
use crate::privilege;
use crate::privilege::sandbox;
use crate::quota::Quotas;
use crate::session::{self, Context, direct::Direct, table::SessionTable};
use crate::store::News;
use crate::telemetry::{self, Counter, Telemetry, Trouble, log::Logging};
use crate::under_way::places;

mod accept;
mod deliveries;
mod inheritance;
mod link;
mod mend;
mod reach;
mod remembered;
mod settings;
mod threads;
mod view;
mod walls;

use deliveries::Deliveries;
use inheritance::Inheritance;
use link::{FlowNews, KernelRequests, Parted};
use remembered::Remembered;
use threads::{Places, Pulse, Threads};
use walls::Walls;

/// Questions to the datapath process that may wait.
const QUESTIONS: usize = 1024;
/// How long open sessions may go on after the gateway was told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long deliveries under way may take then; those that are cut off are made again.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);
/// How long sessions may take to say good-bye after that.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long what is written of sessions may take after that.
const LAST_RECORDS: Duration = Duration::from_millis(500);
/// How long requests of operators that are under way may hold up a successor.
const ANSWERS: Duration = Duration::from_secs(1);
/// How often notes about sessions that the kernel carries are looked through.
const TIDY: Duration = Duration::from_secs(60);

/// Runs the proxy until the datapath process lets it go; `channel` leads there.
///
/// # Errors
///
/// When the start fails; the datapath process logs it and tries again.
pub fn run(channel: OwnedFd) -> anyhow::Result<()> {
    let (channel, inheritance) = inheritance::first_message(channel)?;
    let process = &inheritance.config.process;
    privilege::resources::limit(process)?;
    // In files that the sandbox keeps from it stands how many processors there are for it.
    let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let scheduled = privilege::resources::batch();
    let reach = reach::of(&inheritance.config);
    let enforced = sandbox::enter(&reach, process.sandbox)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.get())
        .enable_all()
        .thread_name("proxy")
        .build()?;
    let threads = Threads::start(processors)?;
    runtime.block_on(proxy(channel, inheritance, Walls { reach, enforced }, scheduled, threads.places()))
}

async fn proxy(
    channel: OwnedFd,
    inheritance: Inheritance,
    walls: Walls,
    scheduled: Result<(), privilege::Error>,
    threads: Places,
) -> anyhow::Result<()> {
    let Inheritance { config_path, config, listeners, control, heir } = inheritance;
    let channel = Channel::new(channel)?;
    let telemetry = Arc::new(Telemetry::new(&config.log, clock::now(), clock::wall()));
    let logging = telemetry::log::start(&config.log, Some(Arc::clone(&telemetry)))?;
    walls.tell();
    if let Err(error) = scheduled {
        warn!(%error, "sessions interrupt each other, which costs time under load");
    }
    let (stop, stopped) = watch::channel(false);
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let (sessions, handed_off) = mpsc::channel(QUESTIONS);
    let (ends, ending) = mpsc::channel(QUESTIONS);
    let shared = settings::shared(&config).await?;
    let (redis, shared_learnt) = shared.unzip();
    let (locking, locked) = mpsc::channel(QUESTIONS);
    let kept = remembered::read(&config, heir, redis.clone(), locking, &channel);
    let Remembered { store, learnt, quotas, locks } = kept.await?;
    let queue = settings::queue(&config).await?;
    let deliveries = Deliveries::start(&config, queue.as_ref(), &telemetry)?;
    let (telling, offenders) = mpsc::channel(QUESTIONS);
    let (hooks, waiting) = Hooks::new(telling, Arc::clone(&telemetry));
    hooks.set_server(hooks::Server::of(&config.on_lock)?);
    let hooks = Arc::new(hooks);
    let counted = Arc::clone(&telemetry);
    let kernel = Kernel::new(sessions, Arc::new(move |why| counted.count(Counter::HandoffRefused(why))));
    let journal = settings::journal(&config);
    let context = Arc::new(Context {
        table: Arc::new(SessionTable::default()),
        telemetry: Arc::clone(&telemetry),
        facts: settings::facts(&config, questions),
        handoff: settings::handoff(&config, kernel),
        settings: ArcSwap::from_pointee(settings::make(config, &telemetry, &quotas)?),
        direct: Direct::new(ends, journal),
        locks: Arc::clone(&locks),
        hooks: Arc::clone(&hooks),
        quotas: Arc::clone(&quotas),
        queue,
        office: deliveries.office(),
        stop: stopped,
        arriving: Semaphore::new(session::ARRIVING),
        turned_away: Semaphore::new(session::TURNED_AWAY),
    });

    let mut accepting = JoinSet::new();
    let (place, under_way, mut sessions_over) = places();
    for (listener, thread) in listeners.into_iter().zip(threads.in_turn()) {
        let address = listener.local_addr()?;
        let listener = accept::listener(listener, thread)?;
        let run = accept::run(listener, address, Arc::clone(&context), threads.clone(), place.clone());
        accepting.spawn_on(run, thread);
    }
    drop(place);
    let kernel = KernelRequests {
        sessions: handed_off,
        ends: ending,
        locks: locked,
        held: Arc::clone(&locks),
        offenders,
        hooks,
    };
    let direct = Arc::clone(&context);
    let news = Box::new(move |news| match news {
        FlowNews::Carried(flows) => direct.direct.carried(&flows, &direct.table, &direct.telemetry),
        FlowNews::Ended(reports) => direct.direct.ended(reports, &direct.table, &direct.telemetry),
        FlowNews::FannedOut { client, destination, servers } => {
            session::fanned_out(&direct, client, destination, servers);
        }
    });
    let (retire, mut retired) = watch::channel(false);
    let until = retired.clone();
    let counted = Arc::clone(&context.table);
    let (link, datapath, operator) = link::make(channel, asked, kernel, news, counted, retire, under_way);
    let mut helpers = JoinSet::new();
    helpers.spawn(Arc::clone(&context.hooks).run(waiting));
    let mut keeping = JoinSet::new();
    keeping.spawn(async move { locks.run().await });
    if let Some(learnt) = shared_learnt {
        helpers.spawn(learn(learnt, Arc::clone(&quotas), None));
    }
    helpers.spawn(learn(learnt, quotas, Some(Arc::clone(&context.locks))));
    helpers.spawn(mend::watch(Arc::clone(&context), operator.clone(), until));
    let table = Arc::clone(&context.table);
    helpers.spawn(telemetry::run(Arc::clone(&telemetry), move || table.len()));
    keeping.spawn(tidy(Arc::clone(&context)));
    let mut answering = JoinSet::new();
    let (place, _, mut answers_over) = places();
    let view =
        Arc::new(view::of(&context, (store.clone(), redis.clone()), deliveries.office(), datapath, operator));
    let shown = Arc::clone(&view);
    let served = Arc::clone(&context);
    let state = move || shown.state_text(&served.settings.load().config.state_file);
    if let Some(listener) = control {
        let telemetry = Arc::clone(&telemetry);
        answering.spawn(async move {
            if let Err(error) = control::serve(listener, view, place).await {
                telemetry.trouble(Trouble::Internal, || format!("control socket: {error}"));
            }
        });
    }

    let office = deliveries.office();
    let reload = |config: Result<Config, String>| {
        let result = config.and_then(|config| reload(config, &context, office.as_deref(), &logging, &walls));
        match &result {
            Ok(()) => telemetry.note_reload(clock::wall()),
            Err(_) => telemetry.count(Counter::ReloadRefused),
        }
        result
    };
    let bequeathed = Arc::clone(&context.locks);
    let retirement = async {
        // An error is the end of the link, of which it tells itself.
        if retired.wait_for(|retired| *retired).await.is_err() {
            std::future::pending::<()>().await;
        }
        // Whoever comes from here on finds the successor at the same sockets.
        accepting.shutdown().await;
        answering.shutdown().await;
        // The table of locks is the successor's, and so are the notes.
        keeping.shutdown().await;
        // What is answered here has happened before what is answered there.
        let mut answered = std::pin::pin!(answers_over.wait());
        let in_time = timeout(ANSWERS, answered.as_mut()).await.is_ok();
        bequeathed.bequeath().await;
        sessions_over.wait().await;
        if !in_time {
            answered.await;
        }
        // Nothing that was changed meanwhile is still on its way.
        bequeathed.settled().await;
    };
    let parted = tokio::select! {
        parted = link.serve(&config_path, reload, state, Pulse::of(&threads)) => Some(parted),
        () = retirement => None,
    };
    if let Some(parted) = parted {
        // No more flows; those under way may end in good order.
        accepting.shutdown().await;
        context.direct.leave_all();
        deliveries.stop();
        drain(&context, stop, parted == Parted::Lost).await;
        // What is written of a session is written after it.
        timeout(LAST_RECORDS, sessions_over.wait()).await.ok();
        keeping.shutdown().await;
    }
    // Those of a predecessor go on until its last session is over: nobody else has its mail before.
    deliveries.over().await;
    // Also what a process has counted that drains beside its successor. The store has locks, too.
    context.quotas.flush().await;
    context.locks.told_others().await;
    answering.shutdown().await;
    helpers.shutdown().await;
    Ok(())
}

/// Keeps notes about sessions that the kernel carries short, until the task is dropped.
async fn tidy(context: Arc<Context>) {
    let mut due = interval(TIDY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is due at once, and there is nothing to do yet.
    due.tick().await;
    loop {
        due.tick().await;
        let context = Arc::clone(&context);
        if let Err(error) = tokio::task::spawn_blocking(move || context.direct.tidy()).await {
            tracing::debug!(%error, "notes about sessions that the kernel carries");
        }
    }
}

/// Puts a changed configuration in force for sessions to come.
fn reload(
    config: Config,
    context: &Context,
    office: Option<&Office>,
    logging: &Logging,
    walls: &Walls,
) -> Result<(), String> {
    walls.hold(&config)?;
    let deliveries = office.map(|office| deliveries::changed(office, &config)).transpose();
    let deliveries = deliveries.map_err(|error| format!("{error:#}"))?;
    let log = config.log.clone();
    let quotas = config.quotas.clone();
    let settings =
        settings::make(config, &context.telemetry, &context.quotas).map_err(|error| error.to_string())?;
    let server = hooks::Server::of(&settings.config.on_lock).map_err(|error| error.to_string())?;
    logging.reload(&log).map_err(|error| error.to_string())?;
    // From here on nothing fails: all of it is put in force, or nothing.
    context.hooks.set_server(server);
    if let Some(put_in_force) = deliveries {
        put_in_force();
    }
    context.locks.set_rules(settings.config.locks.clone());
    context.quotas.set_rules(quotas);
    context.settings.store(Arc::new(settings));
    context.telemetry.set_log(&log);
    Ok(())
}

/// Hands on what the store tells, until the task is dropped.
async fn learn(mut news: mpsc::UnboundedReceiver<News>, quotas: Arc<Quotas>, locks: Option<Arc<Locks>>) {
    while let Some(mut news) = news.recv().await {
        quotas.learn(&mut news);
        if let Some(locks) = &locks {
            locks.learn(&mut news);
        }
    }
}

/// Waits until the open sessions have ended, then ends them.
async fn drain(context: &Context, stop: watch::Sender<bool>, hurry: bool) {
    let empty = async {
        while !context.table.is_empty() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    if !hurry && timeout(DRAIN, empty).await.is_ok() {
        return;
    }
    stop.send_replace(true);
    let empty = async {
        while !context.table.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(FAREWELL, empty).await.is_err() {
        warn!(sessions = context.table.len(), "sessions were cut off");
    }
}
