//! Requests about locks.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::request::{Exemption, LockList, LockView, NewLock, OldLock, Unlocked};
use super::server::{Shared, problem};
use crate::clock;
use crate::config::file::Network;
use crate::ipc::lock::Hits;
use crate::policy::lock::{Cause, DETAIL_LENGTH, Lock};

/// Locks that one answer lists at most.
const LISTED: usize = 10_000;

/// All locks.
pub(super) async fn list(State(shared): State<Shared>) -> Json<LockList> {
    let (locks, held) = shared.control.locks.list(LISTED).await;
    let now = now();
    let locks = locks.iter().map(|(lock, hits)| view(lock, *hits, now)).collect();
    Json(LockList { held, locks, exempt: exempted(&shared) })
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
    if new.cause.len() > DETAIL_LENGTH {
        let error = format!("a cause has at most {DETAIL_LENGTH} octets");
        return problem(StatusCode::UNPROCESSABLE_ENTITY, error, "write a shorter one");
    }
    let (action, span) = (shared.control.lock_defaults)().on(Cause::Operator);
    let span = if new.forever { None } else { new.seconds.map(Duration::from_secs).or(span) };
    let action = new.action.unwrap_or(action);
    match shared.control.locks.add(new.who, action, span, new.cause, new.cut).await {
        Ok(lock) => {
            if new.cut {
                shared.control.sessions.end_clients(&lock.who);
            }
            shared.control.locks.settled().await;
            let locks = vec![view(&lock, Hits::default(), now())];
            Json(LockList { held: 1, locks, exempt: exempted(&shared) }).into_response()
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
        Ok(Json(OldLock { who: None })) => locks.clear().await,
        Ok(Json(OldLock { who: Some(who) })) => {
            if !locks.remove(&who).await {
                let hint = "`gateway lock list` shows who is locked, as it is to be written here";
                return problem(StatusCode::NOT_FOUND, format!("{who} is not locked"), hint);
            }
            1
        }
        Err(error) => return unreadable(&error),
    };
    locks.settled().await;
    Json(Unlocked { removed }).into_response()
}

/// Exempts a network, or takes that back.
pub(super) async fn exempt(
    State(shared): State<Shared>,
    body: Result<Json<Exemption>, JsonRejection>,
) -> Response {
    let Exemption { net, exempt } = match body {
        Ok(Json(exemption)) => exemption,
        Err(error) => return unreadable(&error),
    };
    match shared.control.locks.set_exempt(net.0, exempt).await {
        Ok(false) if !exempt => {
            let hint = "`gateway lock exempt` lists what is; `locks.exempt` of the configuration stays";
            problem(StatusCode::NOT_FOUND, format!("no operator has exempted {net}"), hint)
        }
        Ok(_) => {
            shared.control.locks.settled().await;
            let held = shared.control.locks.len();
            Json(LockList { held, locks: Vec::new(), exempt: exempted(&shared) }).into_response()
        }
        Err(refused) => {
            let hint = "`gateway lock exempt --remove PREFIX` takes one back";
            problem(StatusCode::UNPROCESSABLE_ENTITY, refused.to_string(), hint)
        }
    }
}

fn unreadable(error: &JsonRejection) -> Response {
    let hint = "write for example `{\"who\": \"192.0.2.0/24\"}` as application/json";
    problem(StatusCode::BAD_REQUEST, error.body_text(), hint)
}

fn exempted(shared: &Shared) -> Vec<Network> {
    shared.control.locks.exempt().into_iter().map(Network).collect()
}

fn now() -> u64 {
    clock::wall().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn view(lock: &Lock, hits: Hits, now: u64) -> LockView {
    LockView {
        who: lock.who.clone(),
        action: lock.action,
        cause: lock.cause,
        detail: lock.detail.clone(),
        session: lock.session,
        age: now.saturating_sub(lock.since),
        left: lock.until.map(|until| until.saturating_sub(now)),
        offences: lock.offences,
        // What the kernel counts and hands on, the proxy counts once more.
        hits: hits.count.max(lock.refused),
        last: hits.ago.map(|ago| ago.as_secs()),
    }
}
