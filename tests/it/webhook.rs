//! The operator's HTTP server, which is told of locks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::log_daemons::LogDaemons;
use gateway_tests::process::{Daemon, done};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::wait;
use serde_json::Value;

use crate::on_lock::{filtering, filters, offend};
use crate::quarantine::lock;

const LONG: Duration = Duration::from_secs(60);

/// A server of Python's library. `/flaky` fails the first time, `/gone` always, `/slow` never answers. Each
/// request is a line of a file.
const SERVER: &str = r#"
import http.server, json, ssl, sys, threading, time
folder, port, certificate = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
lock, count = threading.Lock(), 0
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        global count
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with lock:
            count += 1
            first = count == 1
            with open(folder + "/requests", "a") as file:
                print(json.dumps({"path": self.path, "headers": dict(self.headers), "body": body}), file=file, flush=True)
        if self.path == "/slow":
            time.sleep(600)
        self.send_response(503 if first and self.path == "/flaky" else 410 if self.path == "/gone" else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()
server = http.server.ThreadingHTTPServer(("198.51.100.2", port), Handler)
server.daemon_threads = True
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("serving", flush=True)
server.serve_forever()
"#;

struct HttpServer {
    _daemon: Daemon,
    folder: PathBuf,
}

impl HttpServer {
    fn start(lab: &Lab, certificate: &[&Path]) -> anyhow::Result<Self> {
        let folder = lab.directory().join("http");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("requests"), "")?;
        fs::write(folder.join("server.py"), SERVER)?;
        let mut command = lab.server().host_command("/usr/bin/python3");
        command.arg(folder.join("server.py")).arg(&folder).arg("8080").args(certificate);
        let mut daemon = Daemon::start("http", lab.directory(), &mut command)?;
        daemon.wait_until(LONG, |daemon| daemon.log().contains("serving"))?;
        Ok(Self { _daemon: daemon, folder })
    }

    /// The requests so far, once there are that many.
    fn wait_for(&self, count: usize) -> anyhow::Result<Vec<Value>> {
        wait::until(LONG, "requests", || {
            let text = fs::read_to_string(self.folder.join("requests"))?;
            let requests: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            Ok((requests.len() >= count).then_some(requests))
        })
    }
}

fn section(url: &str, more: &str) -> String {
    format!("on-lock:\n  webhook: {{url: '{url}'{more}}}\n")
}

#[test]
fn a_server_is_told_once_for_each_lock_and_again_where_that_helps() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let http = HttpServer::start(&lab, &[])?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let keys = ", authorization: Bearer token, secret: key, timeout: 30s";
    let gateway = filtering(&lab, &section("http://198.51.100.2:8080/flaky", keys))?;
    offend(&lab)?;
    gateway.wait_for_log("hook=webhook outcome=done")?;
    let requests = http.wait_for(2)?;
    ensure!(requests.len() == 2 && requests[0] == requests[1], "{requests:?}");

    let request = &requests[1];
    let headers = &request["headers"];
    assert_eq!(request["path"], "/flaky");
    assert_eq!(headers["authorization"], "Bearer token");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["host"], "198.51.100.2:8080");
    let body = request["body"].as_str().context("no body")?;
    let file = lab.directory().join("body");
    fs::write(&file, body)?;
    let signed = done(Command::new("openssl").args(["dgst", "-sha256", "-hmac", "key"]).arg(&file))?;
    let signed = signed.trim().rsplit(' ').next().context("no digest")?;
    assert_eq!(headers["x-gateway-signature"], format!("sha256={signed}"));

    let told: Value = serde_json::from_str(body)?;
    for (key, value) in [
        ("gateway", Value::from("gateway.example")),
        ("found", "REGEX_MAIL_FROM".into()),
        ("lock", "192.0.2.2".into()),
        ("seconds", 3_600.into()),
        ("sender", "spammer@client.example".into()),
        ("helo", "client.example".into()),
        ("transaction", 1.into()),
        ("recipients", 0.into()),
        ("identity", Value::Null),
    ] {
        assert_eq!(told[key], value, "{key}: {body}");
    }
    assert_eq!(told["client"]["address"], "192.0.2.2");
    assert_eq!((&told["server"]["address"], &told["server"]["port"]), (&"198.51.100.2".into(), &25.into()));
    assert!(told["began"].as_u64().is_some_and(|began| began > 1_700_000_000), "{body}");

    // What cannot help is not tried again.
    let gone = section("http://198.51.100.2:8080/gone", "");
    gateway.write_settings(&Settings { more: filters(&gone), ..Settings::default() })?;
    let (reloaded, said) = gateway.control_command("reload")?;
    ensure!(reloaded, "{said}");
    lock(&gateway, &["remove", "192.0.2.2"])?;
    offend(&lab)?;
    gateway.wait_for_log("hook=webhook outcome=failed")?;
    let requests = http.wait_for(3)?;
    assert_eq!(requests.len(), 3);
    // The reload has taken both header fields away.
    let headers = requests[2]["headers"].as_object().context("no header fields")?;
    ensure!(
        !headers.contains_key("authorization") && !headers.contains_key("x-gateway-signature"),
        "{headers:?}"
    );
    let line = gateway.wait_for_log("kind=hook")?;
    ensure!(line.contains("HTTP 410"), "{line}");
    Ok(())
}

#[test]
fn a_reload_that_fails_changes_nothing_of_it() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let http = HttpServer::start(&lab, &[])?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let daemons = LogDaemons::start(lab.directory())?;
    let url = |target: &str| filters(&section(&format!("http://198.51.100.2:8080/{target}"), ""));
    let settings = Settings { more: url("before"), ..Settings::default() };
    let gateway = Gateway::start_binary(daemons.program(), &lab, &settings, &[])?;
    // Another server, but a log that cannot be opened.
    fs::remove_file(lab.directory().join("journal"))?;
    let log = vec![("target", "journald")];
    gateway.write_settings(&Settings { more: url("behind"), log, ..Settings::default() })?;
    let (reloaded, said) = gateway.control_command("reload")?;
    ensure!(!reloaded && said.contains("journal"), "{said}");
    offend(&lab)?;
    gateway.wait_for_log("hook=webhook outcome=done")?;
    let requests = http.wait_for(1)?;
    ensure!(requests.len() == 1 && requests[0]["path"] == "/before", "{requests:?}");
    Ok(())
}

/// A certificate for the server's address and its key.
fn certificate(lab: &Lab) -> anyhow::Result<(PathBuf, PathBuf)> {
    let folder = lab.directory();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let settings = "[req]\ndistinguished_name=name\nx509_extensions=more\nprompt=no\n[name]\nCN=hooks.example\n\
                    [more]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=IP:198.51.100.2\n";
    fs::write(folder.join("openssl.conf"), settings)?;
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-nodes",
        "-days",
        "2",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]);
    command
        .arg("-config")
        .arg(folder.join("openssl.conf"))
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    done(&mut command)?;
    Ok((certificate, key))
}

#[test]
fn a_server_behind_tls_must_be_who_it_says_and_one_that_hangs_holds_nobody_up() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (certificate, key) = certificate(&lab)?;
    let http = HttpServer::start(&lab, &[&certificate, &key])?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let url = |target: &str, more: &str| section(&format!("https://198.51.100.2:8080/{target}"), more);
    let trusted = format!(", ca-file: {}", certificate.display());
    let gateway = filtering(&lab, &url("locks", &trusted))?;
    offend(&lab)?;
    gateway.wait_for_log("hook=webhook outcome=done")?;
    assert_eq!(http.wait_for(1)?.len(), 1);

    let reload = |section: &str| {
        gateway.write_settings(&Settings { more: filters(section), ..Settings::default() })?;
        gateway.control_command("reload")
    };
    // A file without certificates is refused, and the server before stays.
    let (reloaded, said) = reload(&url("locks", &format!(", ca-file: {}", key.display())))?;
    ensure!(!reloaded && said.contains("on-lock.webhook.ca-file"), "{said}");
    let (reloaded, said) = reload(&url("slow", &format!("{trusted}, timeout: 1s")))?;
    ensure!(reloaded, "{said}");
    for _ in 0..3 {
        lock(&gateway, &["remove", "192.0.2.2"])?;
        offend(&lab)?;
    }
    gateway.wait_for_log("hook=webhook outcome=overdue")?;
    http.wait_for(1 + 3)?;

    // Anybody else's certificate ends it before a word is said.
    let said_before = http.wait_for(1)?.len();
    let (other, _) = self::certificate(&lab)?;
    let (reloaded, said) = reload(&url("locks", &format!(", ca-file: {}", other.display())))?;
    ensure!(reloaded, "{said}");
    lock(&gateway, &["remove", "192.0.2.2"])?;
    offend(&lab)?;
    gateway.wait_for_log("hook=webhook outcome=failed")?;
    let paths = http.wait_for(said_before)?;
    assert_eq!(paths.iter().filter(|request| request["path"] == "/locks").count(), 1);
    Ok(())
}
