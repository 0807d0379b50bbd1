//! The gateway's end of the control socket.
//!
//! Owns the routes and the ceilings: connections, octets of a request, time of a request. One
//! connection carries one request, so that nobody holds a place for longer than an answer takes.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::Uid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info};

use super::peer::Peer;
use super::request::{
    AskedUpgrade, ClientsQuery, Killed, Log, LogQuery, Problem, Reloaded, SESSIONS_LISTED, Sessions, Status,
    Stopping, VERSION, Version,
};
use super::shown::Control;
use super::{locks, queue, quotas};
use crate::clock;
use crate::intercept::flow::SessionId;
use crate::telemetry::Trouble;
use crate::under_way::Place;

/// Connections at the same time, and how many of them are kept for those who may change things.
const CONNECTIONS: usize = 16;
const RESERVED: usize = 4;

/// Octets of a request's head; the least that hyper takes.
const REQUEST_LENGTH: usize = 8 * 1024;

/// How long a request may take to arrive.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How long a connection may take in all, its answer included: an upgrade takes longest.
const CONNECTION_TIME: Duration = Duration::from_secs(90);

/// Pause after the kernel could not accept, which is for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Lines of the log in one answer at most.
const LOG_LINES: usize = 1_000;

/// Serves the control socket until the task is dropped; requests under way go on, each with a
/// `place` of its own.
///
/// # Errors
///
/// When the listener cannot be used; a single connection's trouble does not end it.
pub async fn serve(listener: StdListener, control: Arc<Control>, place: Place) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let own = Uid::effective().as_raw();
    let telemetry = Arc::clone(&control.telemetry);
    let router = router(control, own);
    let all = Arc::new(Semaphore::new(CONNECTIONS));
    let readers = Arc::new(Semaphore::new(CONNECTIONS - RESERVED));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                telemetry.trouble(Trouble::Internal, || format!("control socket: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(peer) = Peer::of(&stream) else { continue };
        let Some(places) = take_place(peer.may_change(own), &all, &readers) else {
            turn_away(&stream);
            continue;
        };
        let router = router.clone().layer(Extension(peer));
        let place = place.clone();
        tokio::spawn(async move {
            answer(stream, router).await;
            drop((places, place));
        });
    }
}

type Places = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

fn take_place(may_change: bool, all: &Arc<Semaphore>, readers: &Arc<Semaphore>) -> Option<Places> {
    let reader = if may_change { None } else { Some(Arc::clone(readers).try_acquire_owned().ok()?) };
    Some((Arc::clone(all).try_acquire_owned().ok()?, reader))
}

fn turn_away(stream: &UnixStream) {
    let problem =
        r#"{"error":"too many clients of the control socket","hint":"close one of them, or try again"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{problem}",
        problem.len()
    );
    // The answer fits into any socket's buffer; a client that is gone needs none.
    stream.try_write(answer.as_bytes()).unwrap_or_default();
}

async fn answer(stream: UnixStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(REQUEST_LENGTH)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "control connection"),
        Err(_) => debug!("control connection took too long"),
    }
}

#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) control: Arc<Control>,
    own: u32,
}

impl Shared {
    /// The answer to somebody who may only look, where more is asked.
    pub(super) fn turned_away(&self, peer: Peer) -> Option<Response> {
        let error = || format!("user {} may look but not change things", peer.uid());
        let refused = || problem(StatusCode::FORBIDDEN, error(), "run it as root, for example with `sudo`");
        (!peer.may_change(self.own)).then(refused)
    }
}

fn router(control: Arc<Control>, own: u32) -> Router {
    let shared = Shared { control, own };
    let changes = Router::new()
        .route("/v1/sessions/{id}/kill", post(kill))
        .route("/v1/reload", post(reload))
        .route("/v1/locks", post(locks::add))
        .route("/v1/locks/remove", post(locks::remove))
        .route("/v1/locks/exempt", post(locks::exempt))
        .route("/v1/quotas/set", post(quotas::set))
        .route("/v1/quotas/reset", post(quotas::reset))
        .route("/v1/queue/{id}", get(queue::show))
        .route("/v1/queue/{id}/content", get(queue::content))
        .route("/v1/queue/retry", post(queue::retry))
        .route("/v1/queue/hold", post(queue::hold))
        .route("/v1/queue/release", post(queue::release))
        .route("/v1/queue/delete", post(queue::delete))
        .route("/v1/queue/requeue", post(queue::requeue))
        .route("/v1/queue/flush", post(queue::flush))
        .route("/v1/upgrade", post(upgrade))
        .route("/v1/stop/keep-flows", post(stop_and_keep))
        .route("/v1/stop/drop-flows", post(stop_and_drop))
        .route_layer(middleware::from_fn_with_state(shared.clone(), only_changers));
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/status", get(status))
        .route("/v1/sessions", get(sessions))
        .route("/v1/clients", get(clients))
        .route("/v1/log", get(log))
        .route("/v1/locks", get(locks::list))
        .route("/v1/quotas", get(quotas::list))
        .route("/v1/queue", get(queue::list))
        .route("/v1/queue/destinations", get(queue::destinations))
        .route("/metrics", get(metrics))
        .merge(changes)
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared)
}

async fn only_changers(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(refused) = shared.turned_away(peer) {
        info!(uid = peer.uid(), path = request.uri().path(), "operator's request refused");
        return refused;
    }
    info!(uid = peer.uid(), path = request.uri().path(), "operator's request");
    next.run(request).await
}

async fn version() -> Json<Version> {
    Json(Version::own())
}

async fn status(State(shared): State<Shared>) -> Json<Status> {
    Json(shared.control.status())
}

async fn sessions(State(shared): State<Shared>) -> Json<Sessions> {
    let mut sessions = shared.control.sessions.list(clock::now());
    let open = sessions.len();
    sessions.truncate(SESSIONS_LISTED);
    Json(Sessions { open, sessions })
}

async fn clients(
    State(shared): State<Shared>,
    query: Result<Query<ClientsQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => {
            let hint = "write for example `/v1/clients?sort=sessions`";
            return problem(StatusCode::BAD_REQUEST, error.to_string(), hint);
        }
    };
    match shared.control.clients.clients(query.sort, query.most).await {
        Some(list) => Json(list).into_response(),
        None => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing is counted of clients, or the datapath process is too busy to say it".to_owned(),
            "clients are counted with `origin: assign`; the log may say more",
        ),
    }
}

async fn kill(State(shared): State<Shared>, id: Result<Path<String>, PathRejection>) -> Response {
    let id = id.map_err(|error| error.to_string());
    let id = match id.and_then(|Path(id)| id.parse::<SessionId>().map_err(|error| error.to_string())) {
        Ok(id) => id,
        Err(error) => return problem(StatusCode::BAD_REQUEST, error, "`gateway sessions` lists the names"),
    };
    if shared.control.sessions.end(id) {
        Json(Killed { killed: id.to_string() }).into_response()
    } else {
        let error = format!("no session {id} is open");
        problem(
            StatusCode::NOT_FOUND,
            error,
            "it may have ended already; `gateway sessions` lists the open ones",
        )
    }
}

async fn log(State(shared): State<Shared>, query: Result<Query<LogQuery>, QueryRejection>) -> Response {
    match query {
        Ok(Query(query)) => {
            let lines = shared.control.telemetry.recent().since(query.since, LOG_LINES);
            Json(Log { lines }).into_response()
        }
        Err(error) => {
            problem(StatusCode::BAD_REQUEST, error.to_string(), "write for example `/v1/log?since=0`")
        }
    }
}

async fn reload(State(shared): State<Shared>) -> Response {
    match (shared.control.reload)().await {
        Ok(()) => Json(Reloaded { reloaded: true }).into_response(),
        Err(problems) => {
            let hint = "the configuration in force is kept; correct the file and try again";
            problem(StatusCode::UNPROCESSABLE_ENTITY, problems, hint)
        }
    }
}

async fn upgrade(State(shared): State<Shared>, asked: Result<Json<AskedUpgrade>, JsonRejection>) -> Response {
    let binary = match asked {
        Ok(Json(AskedUpgrade { binary })) => binary,
        Err(error) => {
            let hint = "send for example `{}`, or `{\"binary\": \"/usr/bin/gateway\"}`";
            return problem(StatusCode::BAD_REQUEST, error.body_text(), hint);
        }
    };
    match (shared.control.upgrade)(binary).await {
        Ok(upgraded) => Json(upgraded).into_response(),
        Err(why) => {
            let hint = "the gateway that runs goes on, and no session was touched";
            problem(StatusCode::UNPROCESSABLE_ENTITY, why, hint)
        }
    }
}

async fn stop_and_keep(State(shared): State<Shared>) -> Json<Stopping> {
    (shared.control.stop)(false);
    Json(Stopping { stopping: true })
}

async fn stop_and_drop(State(shared): State<Shared>) -> Json<Stopping> {
    (shared.control.stop)(true);
    Json(Stopping { stopping: true })
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let control = &shared.control;
    let scrape = control.telemetry.prometheus(&control.gauges());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], scrape).into_response()
}

async fn unknown(uri: Uri) -> Response {
    let asked = uri.path().strip_prefix("/v").and_then(|rest| rest.split('/').next());
    match asked.and_then(|number| number.parse::<u32>().ok()) {
        Some(other) if other != VERSION => problem(
            StatusCode::NOT_FOUND,
            format!(
                "the client asks in version {other}, gateway {} answers in version {VERSION}",
                env!("CARGO_PKG_VERSION")
            ),
            "use the client of the release that runs, or restart the gateway after an upgrade",
        ),
        Some(_) | None => {
            let hint = "requests are /v1/version, /v1/status, /v1/sessions, /v1/clients, /v1/locks, /v1/quotas, /v1/queue, /v1/log, /metrics";
            problem(StatusCode::NOT_FOUND, "no such request".to_owned(), hint)
        }
    }
}

async fn wrong_method(method: Method) -> Response {
    let error = format!("{method} is not for this request");
    problem(StatusCode::METHOD_NOT_ALLOWED, error, "GET looks, POST changes")
}

pub(super) fn problem(status: StatusCode, error: String, hint: &str) -> Response {
    (status, Json(Problem { error, hint: hint.to_owned() })).into_response()
}
