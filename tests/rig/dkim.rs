//! Keys that sign mail, as `openssl` makes them, and a verifier of others: dkimpy.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use nix::unistd::User;

use crate::process;

/// Longest string of a TXT record (RFC 1035 section 3.3).
const LONGEST_STRING: usize = 255;

/// What kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with 2,048 bits.
    Rsa,
    /// Ed25519.
    Ed25519,
}

/// A key in a file that the proxy's account owns.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its file.
    pub path: PathBuf,
    /// The TXT record of its public half, as a zone file has it.
    pub record: String,
}

impl Key {
    /// Makes one in `directory`.
    ///
    /// # Errors
    ///
    /// When openssl cannot.
    pub fn make(directory: &Path, name: &str, algorithm: Algorithm) -> anyhow::Result<Self> {
        let path = directory.join(format!("{name}.pem"));
        let mut make = Command::new("openssl");
        make.args(["genpkey", "-quiet", "-out"]).arg(&path);
        process::done(match algorithm {
            Algorithm::Rsa => make.args(["-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"]),
            Algorithm::Ed25519 => make.args(["-algorithm", "ed25519"]),
        })?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
        chown(&path, Some(User::from_name("nobody")?.context("no account `nobody`")?.uid.as_raw()), None)?;
        let mut public = Command::new("openssl");
        public.args(["pkey", "-pubout", "-in"]).arg(&path);
        let pem = process::done(&mut public)?;
        let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let value = match algorithm {
            Algorithm::Rsa => format!("v=DKIM1; k=rsa; p={text}"),
            // The key alone: its last 32 octets, without the 12 in front (RFC 8463 section 4), which are 16 letters.
            Algorithm::Ed25519 => {
                format!("v=DKIM1; k=ed25519; p={}", text.get(16..).context("a short key")?)
            }
        };
        let strings = value.as_bytes().chunks(LONGEST_STRING).map(String::from_utf8_lossy);
        let record = strings.map(|string| format!(" \"{string}\"")).collect::<String>();
        Ok(Self { path, record: format!("IN TXT{record}") })
    }
}

/// Debian's own, which has Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

/// What dkimpy prints of each signature.
const VERIFIER: &str = r"
import sys, dkim, dns.resolver
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = [sys.argv[1]], int(sys.argv[2])
def txt(name, timeout=5):
    name = name if isinstance(name, str) else name.decode()
    try:
        return b''.join(resolver.resolve(name, 'TXT', lifetime=30)[0].strings)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
message = sys.stdin.buffer.read()
count = sum(1 for name, _ in dkim.DKIM(message).headers if name.lower() == b'dkim-signature')
for number in range(count):
    verifier = dkim.DKIM(message)
    try:
        good = verifier.verify(idx=number, dnsfunc=txt)
    except dkim.DKIMException as error:
        good = False
    domain, selector = verifier.domain or b'?', verifier.selector or b'?'
    print(selector.decode() + '._domainkey.' + domain.decode(), 'pass' if good else 'fail')
";

/// What a verifier that asks this name server says of a message's signatures, from above: where each key is, and `pass` or
/// `fail`.
///
/// # Errors
///
/// When the verifier fails.
pub fn verify(names: SocketAddr, message: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut python = Command::new(PYTHON);
    python.args(["-c", VERIFIER, &names.ip().to_string(), &names.port().to_string()]);
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no pipe")?.write_all(message)?;
    let done = child.wait_with_output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).lines().map(ToOwned::to_owned).collect())
}
