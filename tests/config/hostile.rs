//! Files that nobody wrote to configure anything: they are refused soon, with a line, and nothing
//! panics.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gateway::config::{self, Problems};
use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;
use proptest::sample::Index;

/// Pieces that mean something to YAML, to insert at random.
const PIECES: &[&str] = &[
    "\n",
    "\n\n",
    " ",
    "  ",
    "\t",
    "\r\n",
    "\r",
    ":",
    ": ",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\"",
    "'",
    "#",
    " #",
    "&a ",
    "*a",
    "!!int ",
    "!x",
    "| \n",
    "> \n",
    "%YAML 1.2\n",
    "---\n",
    "...\n",
    "~",
    "null",
    "\\",
    "\u{0}",
    "\u{1b}[31m",
    "\u{85}",
    "\u{feff}",
    "\u{202e}",
    "é",
    "𝄞",
    "0x",
    "-1",
    "1e999",
    "99999999999999999999",
    "<<: ",
    "limits:",
    "lanes:\n",
];

#[derive(Clone, Debug)]
enum Edit {
    Insert(Index, usize),
    Remove(Index, usize),
    Repeat(Index, usize),
    Byte(Index, u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (any::<Index>(), 0..PIECES.len()).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        2 => (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        1 => (any::<Index>(), 1..200_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
    ]
}

fn apply(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let (Edit::Insert(at, _) | Edit::Remove(at, _) | Edit::Repeat(at, _) | Edit::Byte(at, _)) = edit;
        let start = at.index(bytes.len() + 1);
        let end = |length: &usize| (start + length).min(bytes.len());
        match edit {
            Edit::Insert(_, piece) => drop(bytes.splice(start..start, PIECES[*piece].bytes())),
            Edit::Remove(_, length) => drop(bytes.drain(start..end(length))),
            Edit::Repeat(_, length) => {
                let piece = bytes[start..end(length)].to_vec();
                drop(bytes.splice(start..start, piece));
            }
            Edit::Byte(_, byte) => bytes.insert(start, *byte),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        told_well(&bytes);
    }

    #[test]
    fn random_pieces_of_yaml_are_read_or_refused(pieces in proptest::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        told_well(text.as_bytes());
    }

    #[test]
    fn shipped_files_with_random_edits_are_read_or_refused(
        file in 0..2_usize,
        edits in proptest::collection::vec(edit(), 1..8),
    ) {
        let original: &[u8] = [
            include_bytes!("../../config/gateway.yaml").as_slice(),
            include_bytes!("../../config/examples/router.yaml"),
        ][file];
        told_well(&apply(original.to_vec(), &edits));
    }
}

/// Whatever `bytes` are, what is told of them can be printed and is about them.
fn told_well(bytes: &[u8]) {
    match config::examine(bytes, "random.yaml") {
        Ok((config, warnings)) => {
            assert!(!warnings.has_errors());
            printable(&warnings, bytes);
            let shown = config::to_yaml(&config);
            // What is written in short in the largest file is too long when it is shown, and secrets
            // are not shown at all.
            if shown.len() <= 1 << 20 && !shown.contains("********") {
                assert_eq!(config::parse(&shown, "shown.yaml"), Ok(config));
            }
        }
        Err(problems) => {
            assert!(problems.has_errors());
            printable(&problems, bytes);
        }
    }
}

fn printable(problems: &Problems, bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    for problem in &problems.list {
        assert!((1..=lines).contains(&problem.line), "{problem:?} of {lines} lines");
        assert!(problem.column >= 1 && !problem.message.is_empty(), "{problem:?}");
        assert!(problem.message.chars().count() < 1_000, "{problem:?}");
    }
    let text = problems.to_string();
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}

/// Files as large as are read at all, each of a shape that could cost more than its size.
fn floods() -> Vec<(&'static str, String)> {
    let mib = |piece: &str| piece.repeat((1 << 20) / piece.len());
    let numbered = |line: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        for index in 0.. {
            let line = line(index);
            if text.len() + line.len() > 1 << 20 {
                break;
            }
            text += &line;
        }
        text
    };
    vec![
        ("elements", mib("- a\n")),
        ("empty elements", mib("-\n")),
        ("blank lines", mib("\n")),
        ("spaces", mib(" ")),
        ("comments", mib("#\n")),
        ("one comment", format!("#{}", mib("x")).split_off(16)),
        ("one word", mib("a")),
        ("one line of words", mib("a ")),
        ("lines of words", mib("a\n")),
        ("lists in a list", format!("lanes: [{}", &mib("[],")[16..])),
        ("open lists", mib("[")),
        ("open sections", mib("{a: ")),
        ("closed lists", mib("]")),
        ("keys of keys", mib("? ")),
        ("colons", mib(":")),
        ("quotes", mib("\"")),
        ("escapes", format!("\"{}", &mib("\\x41")[16..])),
        ("one quoted line", format!("name: \"{}\"", &mib("a")[16..])),
        ("quoted lines", format!("name: \"{}\"", &mib("a\n\n ")[16..])),
        ("literal lines", format!("name: |\n{}", &mib("  a\n")[16..])),
        ("anchors", mib("- &a a\n")),
        ("tags", mib("- !a a\n")),
        ("documents", mib("---\n")),
        ("directives", mib("%TAG ! tag:x,2000:\n")),
        ("lines of commas", format!("[{}", &mib(",\n")[16..])),
        ("lines of open lists", format!("lanes: {}", &mib("[\n ")[16..])),
        ("long lines of commas", mib(&format!("x: [{}]\n", ",".repeat((64 << 10) - 10)))),
        ("long lines of words", mib(&format!("- {}\n", "a ".repeat((32 << 10) - 10)))),
        ("commas", format!("[{}", &mib(",")[16..])),
        ("staircase", numbered(&|index| format!("{}a:\n", " ".repeat(index)))),
        ("unknown keys", numbered(&|index| format!("k{index}: 1\n"))),
        ("one key again", mib("name: a\n")),
        ("wrong networks", format!("lanes:\n- client:\n{}  lane: block\n", &mib("  - a\n")[32..])),
        ("networks in two rules", {
            let networks = numbered(&|index| format!("  - 10.{}.{}.1\n", index / 256, index % 256));
            let rule = format!(
                "- client:\n{}  lane: block\n",
                &networks[..networks.len() / 2 - 64].rsplit_once('\n').map_or("", |(lines, _)| lines)
            );
            format!("lanes:\n{}", rule.replace("  lane", "\n  lane").repeat(2))
        }),
        ("rules", format!("lanes:\n{}", &mib("- {port: [25], lane: block}\n")[28..])),
        ("numbers as keywords", format!("inspect:\n  ehlo-keywords:\n{}", &mib("  - 1\n")[48..])),
    ]
}

/// The bound of the attack list is a second; this allows for an unoptimised build, in processor time, and
/// still fails where time grows with the square of the size.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn the_largest_files_are_read_or_refused_soon() {
    for (name, text) in floods() {
        assert!(text.len() <= 1 << 20, "{name}: {}", text.len());
        let begin = processor_time();
        told_well(text.as_bytes());
        let took = processor_time() - begin;
        assert!(took < SOON, "{name} took {took:?}");
    }
}

/// What this thread has used, however busy the machine is with others.
fn processor_time() -> Duration {
    let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    used.map(Duration::from).expect("every Linux has this clock")
}

#[test]
fn a_file_of_ten_megabytes_is_refused_at_the_line_where_it_grows_too_long() {
    let problems = config::examine("name: a\n".repeat(1_310_720).as_bytes(), "long.yaml").unwrap_err();
    assert_eq!(problems.list.len(), 1);
    assert_eq!(problems.list[0].line, (1 << 20) / 8 + 1, "{problems}");
}

/// Runs the built program, where there is one, with no more memory than the attack list allows. Its
/// own code is not counted: of an unoptimised build that alone is half of it.
#[test]
fn the_program_refuses_hostile_files_within_its_memory() -> anyhow::Result<()> {
    let Some(program) = program() else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mut files = floods();
    files.push(("ten megabytes", "name: a\n".repeat(1_310_720)));
    for (name, text) in files {
        let path = folder.path().join("hostile.yaml");
        fs::write(&path, text)?;
        let ran =
            Command::new("prlimit").arg("--data=104857600").arg(&program).arg("check").arg(&path).output()?;
        let told = String::from_utf8(ran.stdout)?;
        assert!(
            ran.status.code().is_some_and(|code| code < 2),
            "{name}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        assert!(told.starts_with(&path.display().to_string()), "{name}: {told}");
    }
    Ok(())
}

#[test]
fn the_program_tells_what_the_library_tells() -> anyhow::Result<()> {
    let Some(program) = program() else { return Ok(()) };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/invalid/size-without-unit.yaml");
    let ran = Command::new(program).arg("check").arg("-c").arg(&file).output()?;
    let name = file.display().to_string();
    let problems = config::examine(&fs::read(&file)?, &name).unwrap_err();
    assert_eq!(String::from_utf8(ran.stdout)?, format!("{problems}\n{name}: refused\n"));
    assert_eq!(ran.status.code(), Some(1));
    Ok(())
}

/// The program beside this test's own folder in `target`, if it was built.
fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let program = test.parent()?.parent()?.join("gateway");
    program.is_file().then_some(program)
}
