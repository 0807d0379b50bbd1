//! Dialogues as text: files, line ends, escapes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Plays every dialogue in a folder, as written and octet by octet. `play` returns the file as it should read.
pub(crate) fn play_all(folder: &str, play: fn(&str, bool) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "smtp"))
        .collect();
    files.sort();
    assert!(files.len() > 20, "the dialogues are gone");
    let mut wrong = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let played = play(&text, false);
        if played != text {
            if std::env::var_os("DIALOGUE_UPDATE").is_some() {
                std::fs::write(&file, &played).unwrap();
            } else {
                write!(wrong, "\n--- {name}\n{}", difference(&text, &played)).unwrap();
            }
        }
        if !text.contains("\n! whole\n") {
            let split = play(&text, true);
            if split != played {
                write!(wrong, "\n--- {name}, octet by octet\n{}", difference(&played, &split)).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn difference(expected: &str, played: &str) -> String {
    let (expected, played): (Vec<_>, Vec<_>) = (expected.lines().collect(), played.lines().collect());
    let same = expected.iter().zip(&played).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    for line in &expected[same.saturating_sub(3)..same] {
        writeln!(text, "   {line}").unwrap();
    }
    for line in expected.iter().skip(same).take(6) {
        writeln!(text, " - {line}").unwrap();
    }
    for line in played.iter().skip(same).take(6) {
        writeln!(text, " + {line}").unwrap();
    }
    text
}

/// Appends what `who` reads: lines, and what is left as octets.
pub(crate) fn lines(out: &mut String, who: char, octets: &[u8]) {
    let mut rest = octets;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        writeln!(out, "{who}: {}", escaped(&rest[..end])).unwrap();
        rest = &rest[end + 2..];
    }
    if !rest.is_empty() {
        writeln!(out, "{who}> {}", escaped(rest)).unwrap();
    }
}

/// Octets as printable ASCII.
pub(crate) fn escaped(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in octets {
        match octet {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*octet)),
            other => write!(text, "\\x{other:02x}").unwrap(),
        }
    }
    text
}

/// Reads the escapes that [`escaped`] writes, and `\0` and `\t`; `\{N}x` repeats `x` N times.
pub(crate) fn unescaped(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        match rest.next().unwrap() {
            b'r' => octets.push(b'\r'),
            b'n' => octets.push(b'\n'),
            b't' => octets.push(b'\t'),
            b'0' => octets.push(0),
            b'\\' => octets.push(b'\\'),
            b'x' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                octets.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            b'{' => {
                let count: String =
                    rest.by_ref().take_while(|octet| *octet != b'}').map(char::from).collect();
                let repeated = rest.next().unwrap();
                octets.extend(std::iter::repeat_n(repeated, count.parse().unwrap()));
            }
            other => panic!("unknown escape \\{}", char::from(other)),
        }
    }
    octets
}
