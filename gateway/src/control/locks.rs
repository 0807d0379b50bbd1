//! Requests about locks.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::request::{LockList, LockView, NewLock, OldLock, Unlocked};
use super::server::{Shared, problem};
use crate::clock;
use crate::config::file::Network;
use crate::ipc::lock::Hits;
use crate::policy::lock::{CAUSE_LENGTH, Lock};

/// Locks that one answer lists at most.
const LISTED: usize = 10_000;

/// All locks.
pub(super) async fn list(State(shared): State<Shared>) -> Json<LockList> {
    let (locks, held) = shared.control.locks.list(LISTED).await;
    let now = now();
    let locks = locks.iter().map(|(lock, hits)| view(lock, *hits, now)).collect();
    Json(LockList { held, locks, exempt: exempt(&shared) })
}

/// Sets one.
pub(super) async fn add(
    State(shared): State<Shared>,
    body: Result<Json<NewLock>, JsonRejection>,
) -> Response {
    let new = match body {
        Ok(Json(new)) => new,
        Err(error) => return unreadable(&error),
    };
    if new.cause.len() > CAUSE_LENGTH {
        let error = format!("a cause has at most {CAUSE_LENGTH} octets");
        return problem(StatusCode::UNPROCESSABLE_ENTITY, error, "write a shorter one");
    }
    let defaults = (shared.control.lock_defaults)();
    let span = new.seconds.map_or_else(|| defaults.duration.duration(), Duration::from_secs);
    let span = if new.forever || (new.seconds.is_none() && span.is_zero()) { None } else { Some(span) };
    let action = new.action.unwrap_or(defaults.action);
    match shared.control.locks.add(new.net.0, action, span, new.cause, new.cut).await {
        Ok(lock) => {
            if new.cut {
                shared.control.sessions.end_clients(lock.net);
            }
            shared.control.locks.settled().await;
            let locks = vec![view(&lock, Hits::default(), now())];
            Json(LockList { held: 1, locks, exempt: exempt(&shared) }).into_response()
        }
        Err(refused) => {
            let hint = "`gateway lock list` shows what is locked, `gateway lock exempt` what is exempt";
            problem(StatusCode::UNPROCESSABLE_ENTITY, refused.to_string(), hint)
        }
    }
}

/// Removes one, or all.
pub(super) async fn remove(
    State(shared): State<Shared>,
    body: Result<Json<OldLock>, JsonRejection>,
) -> Response {
    let locks = &shared.control.locks;
    let removed = match body {
        Ok(Json(OldLock { net: None })) => locks.clear().await,
        Ok(Json(OldLock { net: Some(net) })) => {
            if !locks.remove(net.0).await {
                let hint = "`gateway lock list` shows the networks as they were locked";
                return problem(StatusCode::NOT_FOUND, format!("{net} is not locked"), hint);
            }
            1
        }
        Err(error) => return unreadable(&error),
    };
    locks.settled().await;
    Json(Unlocked { removed }).into_response()
}

fn unreadable(error: &JsonRejection) -> Response {
    let hint = "write for example `{\"net\": \"192.0.2.0/24\"}` as application/json";
    problem(StatusCode::BAD_REQUEST, error.body_text(), hint)
}

fn exempt(shared: &Shared) -> Vec<Network> {
    shared.control.locks.exempt().into_iter().map(Network).collect()
}

fn now() -> u64 {
    clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn view(lock: &Lock, hits: Hits, now: u64) -> LockView {
    LockView {
        net: Network(lock.net),
        action: lock.action,
        cause: lock.cause.clone(),
        age: now.saturating_sub(lock.since),
        left: lock.until.map(|until| until.saturating_sub(now)),
        hits: hits.count,
        last: hits.ago.map(|ago| ago.as_secs()),
    }
}
