//! Requests about mail in the queue. What is in a message is shown to those only who may change things.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_util::stream;

use super::peer::Peer;
use super::request::queue::{
    DestinationList, Flush, LISTED, QueueChanged, QueueEntry, QueueList, QueueQuery, QueuedMessage, Requeue,
    Which,
};
use super::server::{Shared, problem};
use crate::delivery::office::Office;
use crate::delivery::operate::{self, OperateError};
use crate::queue::{QueueId, ReadError, Standing, Summary};

/// What to write into a request.
const HINT: &str =
    "write for example `{\"ids\": [\"0123456789ABC\"]}` or `{\"all\": true}` as application/json";

type Body1<T> = Result<Json<T>, JsonRejection>;

/// The messages.
pub(super) async fn list(
    State(shared): State<Shared>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Response {
    let answer = async {
        let office = office(&shared)?;
        let hint = "write for example `/v1/queue?after=0123456789ABC`";
        let query = query.map_err(|error| problem(StatusCode::BAD_REQUEST, error.to_string(), hint))?;
        let after = query.after.as_deref().map(parse).transpose()?;
        let mut found = office.queue.list(after, LISTED.saturating_add(1));
        let more = found.len() > LISTED;
        found.truncate(LISTED);
        let damaged = office.damaged();
        let entry = |summary: Summary| {
            let is_damaged = damaged.binary_search(&summary.id).is_ok();
            QueueEntry { damaged: is_damaged, ..summary.into() }
        };
        let messages = found.into_iter().map(entry).collect();
        Ok(QueueList::new(office.queue.counts(), damaged.len(), messages, more))
    };
    answer.await.map_or_else(|problem: Response| problem, |list| Json(list).into_response())
}

/// The destinations that mail waits for. A console asks again and again, so this is not noted in the log.
pub(super) async fn destinations(State(shared): State<Shared>, Extension(peer): Extension<Peer>) -> Response {
    if let Some(refused) = shared.turned_away(peer) {
        return refused;
    }
    let answer = async {
        let waiting = office(&shared)?.waiting().await;
        Ok(DestinationList { destinations: waiting.destinations.clone(), unlooked: waiting.unlooked })
    };
    answer.await.map_or_else(|problem: Response| problem, |list| Json(list).into_response())
}

/// One of them, with its envelope.
pub(super) async fn show(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let answer = async {
        let (office, id) = (office(&shared)?, parse(&id)?);
        let summary = office.queue.find(id).ok_or_else(|| unreadable(id, &ReadError::Gone))?;
        let stored = office.queue.read(id).await.map_err(|error| unreadable(id, &error))?;
        let (envelope, settled, warned) = (stored.envelope, stored.settled, stored.warned);
        let entry = QueueEntry { damaged: office.damaged().contains(&id), ..summary.into() };
        let reason = office.why(id).map(|(reason, _)| reason);
        Ok(QueuedMessage { entry, envelope, settled, warned, reason })
    };
    answer.await.map_or_else(|problem: Response| problem, |message| Json(message).into_response())
}

/// Its content, as it is.
pub(super) async fn content(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let answer = async {
        let (office, id) = (office(&shared)?, parse(&id)?);
        let stored = office.queue.read(id).await.map_err(|error| unreadable(id, &error))?;
        // A damaged one breaks off.
        let pieces = stream::try_unfold(stored.content.reader(), |mut reader| async move {
            let piece = reader.next().await?;
            Ok::<_, ReadError>(piece.map(|piece| (piece, reader)))
        });
        Ok(([(header::CONTENT_TYPE, "message/rfc822")], Body::from_stream(pieces)).into_response())
    };
    answer.await.unwrap_or_else(|problem: Response| problem)
}

/// Tries messages now that wait for another attempt.
pub(super) async fn retry(State(shared): State<Shared>, which: Body1<Which>) -> Response {
    let deferred = |summary: &Summary| matches!(summary.standing, Standing::Deferred(_));
    change(&shared, which, deferred, async |office, ids| operate::retry(office, ids).await).await
}

/// Keeps messages from being delivered.
pub(super) async fn hold(State(shared): State<Shared>, which: Body1<Which>) -> Response {
    let not_held = |summary: &Summary| summary.standing != Standing::Held;
    change(&shared, which, not_held, async |office, ids| {
        ids.iter().filter(|id| office.queue.set_standing(**id, Standing::Held)).count()
    })
    .await
}

/// Has messages delivered that were held.
pub(super) async fn release(State(shared): State<Shared>, which: Body1<Which>) -> Response {
    let held = |summary: &Summary| summary.standing == Standing::Held;
    change(&shared, which, held, async |office, ids| {
        ids.iter().filter(|id| office.queue.set_standing(**id, Standing::Ready)).count()
    })
    .await
}

/// Throws messages away; nobody is told.
pub(super) async fn delete(State(shared): State<Shared>, which: Body1<Which>) -> Response {
    change(
        &shared,
        which,
        |_| true,
        async |office, ids| ids.iter().filter(|id| office.queue.remove(**id)).count(),
    )
    .await
}

/// Puts a message into the queue anew.
pub(super) async fn requeue(State(shared): State<Shared>, body: Body1<Requeue>) -> Response {
    let answer = async {
        let office = office(&shared)?;
        let Requeue { id, target } = asked(body)?;
        let id = parse(&id)?;
        match operate::requeue(office, id, target).await {
            Ok(new) => Ok(QueueChanged { changed: 1, missing: Vec::new(), id: Some(new.to_string()) }),
            Err(error) => Err(refused(&error)),
        }
    };
    answer.await.map_or_else(|problem: Response| problem, |changed| Json(changed).into_response())
}

/// Tries all mail for a destination now.
pub(super) async fn flush(State(shared): State<Shared>, body: Body1<Flush>) -> Response {
    let answer = async {
        let office = office(&shared)?;
        let Flush { destination } = asked(body)?;
        let changed = operate::flush(office, &destination).await.map_err(|error| refused(&error))?;
        Ok(QueueChanged { changed, ..QueueChanged::default() })
    };
    answer.await.map_or_else(|problem: Response| problem, |changed| Json(changed).into_response())
}

/// Does something with those messages to which it applies.
async fn change(
    shared: &Shared,
    which: Body1<Which>,
    applies: impl Fn(&Summary) -> bool,
    act: impl AsyncFnOnce(&Office, &[QueueId]) -> usize,
) -> Response {
    let office = match office(shared) {
        Ok(office) => office,
        Err(problem) => return problem,
    };
    let Which { ids, all } = match asked(which) {
        Ok(which) => which,
        Err(problem) => return problem,
    };
    if all != ids.is_empty() {
        let error = "neither messages nor all, or both".to_owned();
        return problem(StatusCode::BAD_REQUEST, error, HINT);
    }
    let (mut chosen, mut missing) = (Vec::new(), Vec::new());
    if all {
        let messages = office.queue.list(None, usize::MAX).into_iter();
        chosen.extend(messages.filter(|summary| applies(summary)).map(|summary| summary.id));
    }
    for text in ids {
        match text.parse().ok().and_then(|id| office.queue.find(id)).filter(|found| applies(found)) {
            Some(found) => chosen.push(found.id),
            None => missing.push(text),
        }
    }
    let changed = act(office, &chosen).await;
    // Whoever asked may believe it when he reads the answer.
    office.queue.settled().await;
    Json(QueueChanged { changed, missing, id: None }).into_response()
}

#[expect(clippy::result_large_err, reason = "the error is the answer")]
fn office(shared: &Shared) -> Result<&Arc<Office>, Response> {
    shared.control.deliveries.as_ref().ok_or_else(|| {
        let error = "this gateway has no queue".to_owned();
        problem(StatusCode::NOT_FOUND, error, "`queue.directory` in the configuration names a folder for it")
    })
}

#[expect(clippy::result_large_err, reason = "the error is the answer")]
fn asked<T>(body: Body1<T>) -> Result<T, Response> {
    body.map(|Json(body)| body).map_err(|error| problem(StatusCode::BAD_REQUEST, error.body_text(), HINT))
}

#[expect(clippy::result_large_err, reason = "the error is the answer")]
fn parse(id: &str) -> Result<QueueId, Response> {
    let hint = "`gateway queue list` shows the names";
    id.parse().map_err(|error| problem(StatusCode::BAD_REQUEST, format!("`{id}` is {error}"), hint))
}

fn unreadable(id: QueueId, error: &ReadError) -> Response {
    let status = match error {
        ReadError::Gone => StatusCode::NOT_FOUND,
        ReadError::Damaged | ReadError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let hint = "it may have been delivered already; `gateway queue list` shows what is there";
    problem(status, format!("message {id}: {error}"), hint)
}

fn refused(error: &OperateError) -> Response {
    let (status, hint) = match error {
        OperateError::Read(_) => (StatusCode::NOT_FOUND, "`gateway queue list` shows what is there"),
        OperateError::UnderWay => {
            (StatusCode::CONFLICT, "try again when its delivery has ended, or hold it first")
        }
        OperateError::Destination(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "write for example `example.com` or `[mail.example.com]:587`")
        }
        OperateError::Write(_) => (StatusCode::SERVICE_UNAVAILABLE, "the message is as it was; try again"),
    };
    problem(status, error.to_string(), hint)
}
