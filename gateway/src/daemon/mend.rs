//! Folders whose file system failed: they are let go when it is unmounted to be repaired, and when it is back, the gateway
//! is handed over to a new process, which may use it.
//!
//! This process may not: what Landlock leaves it are the files that were there at its start, and it asks for the way to each
//! file, so that a folder's descriptor from somebody who may use it opens nothing either.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::link::Operator;
use crate::session::Context;

/// How often the folders are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Looks between two attempts to hand over.
const PAUSE: u32 = 12;

/// Looks after the folders until the task is dropped. A process that was `retired` hands over no more.
pub(super) async fn watch(context: Arc<Context>, operator: Operator, retired: watch::Receiver<bool>) {
    let mut due = interval(LOOK);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = 0u32;
    loop {
        due.tick().await;
        pause = pause.saturating_sub(1);
        let looking = Arc::clone(&context);
        let is_back = spawn_blocking(move || look(&looking)).await.unwrap_or(false);
        if is_back && pause == 0 && !*retired.borrow() {
            pause = PAUSE;
            hand_over(&operator).await;
        }
    }
}

/// Lets go of what is lost; says whether all of that is back.
fn look(context: &Context) -> bool {
    let spooler = context.settings.load().spooler.clone();
    if let Some(queue) = &context.queue {
        queue.let_go_if_lost();
    }
    if let Some(spooler) = &spooler {
        spooler.let_go_if_lost();
    }
    let queue = context.queue.as_ref().map(|queue| (queue.is_held(), queue.is_back()));
    let spool = spooler.map(|spooler| (spooler.is_held(), spooler.is_back()));
    let mut lost = queue.into_iter().chain(spool).filter(|(is_held, _)| !is_held).peekable();
    lost.peek().is_some() && lost.all(|(_, is_back)| is_back)
}

async fn hand_over(operator: &Operator) {
    tracing::info!("a file system that failed is back: a new process takes over");
    if let Err(problem) = operator.upgrade(None).await {
        tracing::warn!(
            problem,
            "no process takes over that could use a file system that is back: start the gateway anew"
        );
    }
}
