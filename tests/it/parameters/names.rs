//! A name server that follows a script (RFC 1035).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Name, type and data; `SERVFAIL` as data is that.
pub(super) type Name = (&'static str, &'static str, &'static str);

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// A running server on a port of the loopback.
pub(super) struct Names {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    pub(super) fn start(names: &'static [Name]) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut question = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut question) else { continue };
                if let Some(answer) = answer(&question[..length], names) {
                    // Whoever asked may have left.
                    socket.send_to(&answer, client).ok();
                }
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn answer(message: &[u8], names: &[Name]) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        let label = message.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let kind = match message.get(at..at + 2)? {
        [0, 1] => "A",
        [0, 15] => "MX",
        [0, 28] => "AAAA",
        _ => "",
    };
    let question = message.get(12..at + 4)?;
    let name = labels.join(".");
    let own: Vec<_> = names.iter().filter(|(own, ..)| *own == name).collect();
    let found: Vec<_> = own.iter().filter(|(_, own, _)| *own == kind).map(|(.., data)| *data).collect();
    let code = match () {
        () if found.contains(&"SERVFAIL") => SERVFAIL,
        () if own.is_empty() => NXDOMAIN,
        () => 0,
    };
    let data: Vec<_> = found.iter().filter_map(|data| data_of(kind, data)).collect();
    let mut answer = message.get(..2)?.to_vec();
    // An answer, with recursion; one question, no authority, nothing else.
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(data.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(question);
    for data in data {
        // The name of the question; its type and class; 300 s.
        answer.extend([0xc0, 12]);
        answer.extend(message.get(at..at + 4)?);
        answer.extend([0, 0, 1, 44, 0, u8::try_from(data.len()).ok()?]);
        answer.extend(data);
    }
    Some(answer)
}

fn data_of(kind: &str, data: &str) -> Option<Vec<u8>> {
    match kind {
        "A" => Some(data.parse::<Ipv4Addr>().ok()?.octets().to_vec()),
        "AAAA" => Some(data.parse::<Ipv6Addr>().ok()?.octets().to_vec()),
        "MX" => {
            let (preference, host) = data.split_once(' ')?;
            let mut octets = preference.parse::<u16>().ok()?.to_be_bytes().to_vec();
            for label in host.split('.') {
                octets.push(u8::try_from(label.len()).ok()?);
                octets.extend(label.as_bytes());
            }
            octets.push(0);
            Some(octets)
        }
        _ => None,
    }
}
