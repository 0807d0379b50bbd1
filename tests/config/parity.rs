//! What became of the options of smtp-gated, and which tests show it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use gateway::config;
use gateway::import::smtp_gated::table;

/// Option, key, test.
const OPTIONS: &str = "config/smtp-gated.tsv";

#[test]
fn every_option_with_a_key_has_a_test_that_shows_its_effect() -> anyhow::Result<()> {
    let listed = rows::<3>(OPTIONS)?;
    let mut without = Vec::new();
    for (option, keys) in options() {
        let mut own = listed.iter().filter(|[name, ..]| *name == option).peekable();
        if keys.is_empty() {
            assert!(own.peek().is_none(), "{option} has no key, but a test");
            continue;
        }
        let belongs = |[_, key, _]: &[String; 3]| {
            keys.iter().any(|known| key.starts_with(known.as_str()) || known.starts_with(key.as_str()))
        };
        if !own.any(belongs) {
            without.push(option);
        }
    }
    assert!(without.is_empty(), "options without a test: {without:?}");
    Ok(())
}

#[test]
fn every_option_of_the_list_is_known_and_its_key_and_test_are_there() -> anyhow::Result<()> {
    let (known, reference) = (options(), config::reference());
    for [option, key, test] in rows(OPTIONS)? {
        let alias = table().contains(&format!("| `{option}` | older name"));
        assert!(alias || known.contains_key(&option), "smtp-gated has no option {option}");
        assert!(reference.contains(&format!("### `{key}`")), "no key {key}, for {option}");
        there(&test).with_context(|| format!("for {option}"))?;
    }
    Ok(())
}

#[test]
fn the_shipped_table_is_the_one_of_the_program_and_its_tests() -> anyhow::Result<()> {
    super::shipped::generated("SMTP-GATED.md", &document()?)
}

/// The options of smtp-gated, without older names, and their keys here.
fn options() -> BTreeMap<String, Vec<String>> {
    let table = table();
    let options = table.lines().filter_map(|line| {
        let (name, here) = line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | ")?;
        let keys = here.split(", ").filter_map(|key| key.strip_prefix('`')?.strip_suffix('`'));
        (!here.starts_with("older name")).then(|| (name.to_owned(), keys.map(str::to_owned).collect()))
    });
    options.collect()
}

/// The rows of a list beside this file, without its first line.
pub(crate) fn rows<const COLUMNS: usize>(list: &str) -> anyhow::Result<Vec<[String; COLUMNS]>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(list))?;
    let row = |line: &str| {
        let columns: Vec<_> = line.split('\t').map(str::to_owned).collect();
        columns.try_into().map_err(|_| anyhow::anyhow!("{list}: not {COLUMNS} columns: {line}"))
    };
    text.lines().skip(1).map(row).collect()
}

/// The file of a test, which is a dialogue, a file of tests, or `file::name`.
///
/// # Errors
///
/// There is no such file, or nothing of that name in it that is run as a test.
pub(crate) fn there(test: &str) -> anyhow::Result<String> {
    let (file, name) = test.split_once("::").map_or((test, None), |(file, name)| (file, Some(name)));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("no file {file}"))?;
    let is_test = |name: &str| {
        let (before, _) = text.split_once(&format!("fn {name}()"))?;
        // Its attributes are between it and what ends before it.
        let attributes = before.rsplit_once("\n\n").map_or(before, |(_, attributes)| attributes);
        Some(attributes.contains("#[test]") || attributes.contains("#[tokio::test"))
    };
    anyhow::ensure!(name.is_none_or(|name| is_test(name) == Some(true)), "no test {test}");
    Ok(text)
}

/// What is shipped: the program's table with the tests.
fn document() -> anyhow::Result<String> {
    let tests = rows(OPTIONS)?.into_iter().map(|[option, _, test]| [option, test]).collect::<Vec<_>>();
    Ok(with_tests(&table(), &tests))
}

/// A table of the program with a further column: the tests of what the first one names.
pub(crate) fn with_tests(table: &str, tests: &[[String; 2]]) -> String {
    let mut text = String::new();
    for line in table.lines() {
        let more = match line.split('`').nth(1).filter(|_| line.starts_with("| `")) {
            Some(named) => {
                let own = tests.iter().filter(|[name, _]| name == named);
                let own: Vec<_> = own.map(|[_, test]| format!("`{test}`")).collect();
                format!(" {} |", own.join(", "))
            }
            None if line.starts_with("| ---") => " --- |".to_owned(),
            None if line.starts_with('|') => " shown by |".to_owned(),
            None => String::new(),
        };
        writeln!(text, "{line}{more}").unwrap_or_default();
    }
    text
}
