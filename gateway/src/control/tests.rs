//! The control socket over a real UNIX socket, with the real table and telemetry behind it.

use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::client::{Client, Error};
use super::request::{Circuit, ScannerHealth, ScannerState, VERSION};
use super::server::serve;
use super::shown::Control;
use crate::clock;
use crate::config::file::Log;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::intercept::flow::{Flow, SessionId};
use crate::ipc::client::ClientTotals;
use crate::ipc::{DatapathStatus, Upgraded};
use crate::session::table::{Ceilings, OpenSession, SessionTable, Stage};
use crate::telemetry::{Counter, Telemetry};
use crate::under_way::places;

/// A served control socket and what is behind it.
pub(crate) struct Served {
    /// Removed with the socket when dropped.
    _folder: TempDir,
    pub(crate) table: Arc<SessionTable>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) client: Client,
    path: PathBuf,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Served {
    /// Serves a fresh table; the reload hook refuses what `reload` refuses.
    pub(crate) fn start(reload: Result<(), String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let table = Arc::new(SessionTable::default());
        let telemetry = Arc::new(Telemetry::new(&Log::default(), clock::now(), clock::wall()));
        let (_, datapath) = watch::channel(DatapathStatus {
            origin: "assign".to_owned(),
            attach: "tcx".to_owned(),
            interfaces: vec!["eth0".to_owned()],
            packets: vec![
                ("assigned".to_owned(), 17),
                ("locked".to_owned(), 4),
                ("lock_reset".to_owned(), 1),
            ],
            proxy_restarts: 2,
            draining_processes: 1,
            draining_sessions: 12,
            clients: Some(ClientTotals {
                known: Some(3),
                over_limit: vec![("bytes".to_owned(), "reset".to_owned(), 2)],
            }),
        });
        let scanner = ScannerHealth {
            name: "clamd".to_owned(),
            address: "unix:/run/clamav/clamd.ctl".to_owned(),
            state: ScannerState::Up,
            version: "ClamAV 1.4.6".to_owned(),
            last_error: String::new(),
            busy: 1,
            since: 60,
            circuit: Circuit::HalfOpen,
            latency_ms: None,
        };
        let (store, mut contents, _) = crate::store::Store::open(&folder.path().join("state"));
        let quotas = serde_json::from_str(r#"{"limits":{"messages":5,"bytes":"1MiB"}}"#).unwrap();
        let (requests, _) = tokio::sync::mpsc::channel(16);
        let control = Control {
            locks: Arc::new(crate::locks::Locks::new(
                crate::config::file::Locks::default(),
                store.clone(),
                &mut contents,
                requests,
            )),
            quotas: Arc::new(crate::quota::Quotas::new(quotas, store.clone(), None, &mut contents)),
            store,
            shared: None,
            deliveries: None,
            lock_defaults: Box::new(crate::config::file::Locks::default),
            name: Box::new(|| "gw.example".to_owned()),
            sessions: Arc::clone(&table),
            telemetry: Arc::clone(&telemetry),
            datapath,
            scanners: Box::new(move || vec![scanner.clone()]),
            stop: Box::new(|_| {}),
            clients: crate::intercept::facts::Facts::default(),
            reload: Box::new(move || {
                let answer = reload.clone();
                Box::pin(async move { answer })
            }),
            upgrade: Box::new(|binary| {
                Box::pin(async move {
                    let pid = 4711;
                    let release = binary.ok_or("the file is gone")?.display().to_string();
                    Ok(Upgraded { pid, release })
                })
            }),
        };
        let (place, _, _) = places();
        let listener = StdListener::bind(&path).unwrap();
        let server = tokio::spawn(serve(listener, Arc::new(control), place));
        Self { client: Client::new(path.clone()), _folder: folder, table, telemetry, path, server }
    }

    /// Opens a session from `client`.
    pub(crate) fn open(&self, client: &str) -> OpenSession {
        let flow = Flow::new(
            SessionId::next(clock::wall()),
            ClientAddr::new(client.parse().unwrap()),
            OriginalDst::new("198.51.100.1:25".parse().unwrap()),
        );
        self.table.open(flow, clock::now(), Ceilings::default()).unwrap()
    }

    /// Writes bytes as they are and reads the answer to its end.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        // The server may close before it has read all of a request that is too long.
        stream.write_all(request).await.unwrap_or_default();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        String::from_utf8(answer).unwrap()
    }
}

#[tokio::test]
async fn the_status_shows_what_runs() {
    let served = Served::start(Ok(()));
    let session = served.open("192.0.2.1:1025");
    session.set_stage(Stage::Data);
    served.telemetry.count(Counter::SessionAccepted);
    served.telemetry.tick(clock::now(), 1);
    let status = served.client.status().await.unwrap();
    assert_eq!(status.version.control, VERSION);
    assert_eq!(status.name, "gw.example");
    assert_eq!((status.open, status.stages), (1, vec![("data".to_owned(), 1)]));
    assert_eq!(status.datapath.proxy_restarts, 2);
    assert_eq!(status.scanners[0].state, ScannerState::Up);
    assert_eq!(status.telemetry.sum("gateway_sessions_accepted_total", &[]), 1);
    assert_eq!(status.telemetry.history.last().map(|point| (point.sessions, point.open)), Some((1, 1)));
    let sessions = served.client.sessions().await.unwrap();
    assert_eq!(sessions.sessions[0].client, "192.0.2.1:1025");
}

#[tokio::test]
async fn a_killed_session_hears_it_and_one_that_is_not_open_is_named() {
    let served = Served::start(Ok(()));
    let session = served.open("192.0.2.1:1025");
    let id = session.flow().id;
    let ended = tokio::spawn(async move { session.ended_by_operator().await });
    assert_eq!(served.client.kill(id).await.unwrap().killed, id.to_string());
    ended.await.unwrap();
    let error = served.client.kill(id).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("no session {id} is open; it may have ended already; `gateway sessions` lists the open ones")
    );
}

#[tokio::test]
async fn a_refused_reload_says_why_and_that_the_old_configuration_stays() {
    let served = Served::start(Err("gateway.yaml:2:1: unknown key `lane`".to_owned()));
    let error = served.client.reload().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "gateway.yaml:2:1: unknown key `lane`; the configuration in force is kept; correct the file and try again"
    );
    assert!(Served::start(Ok(())).client.reload().await.unwrap().reloaded);
}

#[tokio::test]
async fn the_log_is_read_on_from_a_number() {
    let served = Served::start(Ok(()));
    for line in 1..=3 {
        served.telemetry.recent().push(0, "info", &format!("line {line}"));
    }
    let lines = served.client.log(1).await.unwrap().lines;
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["line 2", "line 3"]);
    let answer = served.raw(b"GET /v1/log?since=x HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_scrape_has_counters_and_gauges() {
    let served = Served::start(Ok(()));
    let _session = served.open("192.0.2.1:1025");
    let answer = served.raw(b"GET /metrics HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for line in [
        "gateway_sessions_open 1",
        "gateway_scanner_up{scanner=\"clamd\"} 1",
        "gateway_datapath_packets_total{reason=\"assigned\"} 17",
        "gateway_clients 3",
        "gateway_clients_over_limit_total{limit=\"bytes\",action=\"reset\"} 2",
        "gateway_client_syns_total{outcome=\"locked\"} 5",
        "gateway_proxy_restarts_total 2",
        "gateway_sessions_total{lane=\"inspect\",end=\"quit\"} 0",
    ] {
        assert!(answer.contains(&format!("\n{line}\n")), "{line} is not in {answer}");
    }
}

/// Case 156 of the attack cases.
#[tokio::test]
async fn hostile_requests_get_an_error_and_reach_nothing() {
    let served = Served::start(Ok(()));
    let session = served.open("192.0.2.1:1025");
    let long = [b"GET /".as_slice(), &vec![b'a'; 1 << 20]].concat();
    for (request, status) in [
        (b"POST /v1/sessions/..%2F..%2Fetc%2Fpasswd/kill HTTP/1.1\r\nhost: g\r\n\r\n".as_slice(), "400"),
        (b"POST /v1/sessions/../../etc/passwd/kill HTTP/1.1\r\nhost: g\r\n\r\n", "404"),
        (b"POST /v1/sessions/1;rm/kill HTTP/1.1\r\nhost: g\r\n\r\n", "400"),
        (b"POST /v1/sessions/%00/kill HTTP/1.1\r\nhost: g\r\n\r\n", "400"),
        (b"POST /v1/sessions/%ff%fe/kill HTTP/1.1\r\nhost: g\r\n\r\n", "400"),
        (b"GET /v1/reload HTTP/1.1\r\nhost: g\r\n\r\n", "405"),
        (b"show ../../etc/passwd\r\n\r\n", "400"),
        (b"drop 1;rm\r\n\r\n", "400"),
        (b"\0\0\0\0\r\n\r\n", "400"),
        (&long, "4"),
    ] {
        let answer = served.raw(request).await;
        let head = format!("HTTP/1.1 {status}");
        let request = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        // A reset may overtake the answer to a request that is far too long.
        assert!(answer.starts_with(&head) || answer.is_empty() && status == "4", "{request}: {answer}");
    }
    assert_eq!(served.table.len(), 1);
    let killed = tokio::time::timeout(Duration::from_millis(50), session.ended_by_operator()).await;
    assert!(killed.is_err(), "no hostile request ended the session");
}

#[tokio::test]
async fn a_client_of_another_version_is_told_so() {
    let served = Served::start(Ok(()));
    let answer = served.raw(b"GET /v2/status HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("the client asks in version 2, gateway"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn half_a_request_is_not_waited_for() {
    let served = Served::start(Ok(()));
    let start = tokio::time::Instant::now();
    let answer = served.raw(b"GET /v1/status HTTP/1.1\r\nhost:").await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn connections_have_a_ceiling_and_come_back() {
    let served = Served::start(Ok(()));
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(UnixStream::connect(&served.path).await.unwrap());
    }
    let answer = served.raw(b"GET /v1/version HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("too many clients"), "{answer}");
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(served.client.version().await.is_ok());
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let client = Client::new(path.clone());
    let error = client.status().await.unwrap_err();
    assert!(error.is_absence() && matches!(error, Error::NoSocket(_)), "{error}");
    drop(StdListener::bind(&path).unwrap());
    let error = client.status().await.unwrap_err();
    assert!(error.is_absence() && matches!(error, Error::NotRunning(_)), "{error}");
}
