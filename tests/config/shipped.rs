//! What the project ships in `config/` is right, and says what the program does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use gateway::config::{self, Config};
use serde_json::Value;

#[test]
fn the_shipped_configuration_equals_the_defaults() -> anyhow::Result<()> {
    let text = fs::read_to_string(shipped("gateway.yaml"))?;
    let (config, warnings) = config::examine(text.as_bytes(), "gateway.yaml")?;
    assert_eq!(config, Config::default());
    let told: Vec<_> = warnings.list.iter().map(|warning| warning.message.as_str()).collect();
    assert!(
        matches!(told.as_slice(), [only] if only.starts_with("no interface")),
        "the defaults intercept nothing, and that is all there is to say of them: {told:?}"
    );
    Ok(())
}

#[test]
fn an_empty_file_is_the_default_configuration() -> anyhow::Result<()> {
    for text in ["", "\n", "# nothing\n", "---\n", "\u{feff}", "~\n", "limits:\nscan:\n  clamd:\n"] {
        assert_eq!(config::parse(text, "empty.yaml")?, Config::default(), "{text:?}");
    }
    Ok(())
}

#[test]
fn the_shipped_configuration_names_every_key() -> anyhow::Result<()> {
    let text = fs::read_to_string(shipped("gateway.yaml"))?;
    let written: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', ' ', '-']).split_once(':'))
        .map(|(key, _)| key)
        .collect();
    let missing: Vec<_> = keys(&serde_json::from_str(&config::schema())?).into_iter().collect();
    let missing: Vec<_> = missing.iter().filter(|key| !written.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "keys without a line: {missing:?}");
    Ok(())
}

#[test]
fn every_example_is_good_and_gives_no_warning() -> anyhow::Result<()> {
    let mut seen = 0;
    for entry in fs::read_dir(shipped("examples"))? {
        let path = entry?.path();
        let (_, warnings) = config::examine(&fs::read(&path)?, &path.display().to_string())?;
        assert!(warnings.is_empty(), "{warnings}");
        seen += 1;
    }
    assert!(seen >= 3);
    Ok(())
}

#[test]
fn the_shipped_schema_is_the_one_of_the_program() -> anyhow::Result<()> {
    generated("gateway.schema.json", &config::schema())
}

#[test]
fn the_shipped_reference_is_the_one_of_the_program() -> anyhow::Result<()> {
    generated("REFERENCE.md", &config::reference())
}

#[test]
fn what_is_shown_is_read_back_unchanged() -> anyhow::Result<()> {
    let router = fs::read_to_string(shipped("examples/router.yaml"))?;
    for config in [Config::default(), config::parse(&router, "router.yaml")?] {
        assert_eq!(config::parse(&config::to_yaml(&config), "shown.yaml")?, config);
    }
    Ok(())
}

#[test]
fn secrets_are_not_shown_and_what_stands_for_them_is_refused() -> anyhow::Result<()> {
    let text = "lookup: { secret: open sesame of the lookup }\nlog: { hash-key: open sesame of the log }\n\
                redis: { password: open sesame of redis }\n\
                scan: { rspamd: { address: 'tcp:127.0.0.1:11333', password: open sesame of rspamd } }\n";
    let shown = config::to_yaml(&config::parse(text, "secret.yaml")?);
    assert!(!shown.contains("sesame"), "{shown}");
    for key in ["secret", "hash-key", "password"] {
        assert!(shown.contains(&format!("{key}: '********'\n")), "{shown}");
    }
    let refused =
        config::parse(&shown, "shown.yaml").map_or_else(|problems| problems.to_string(), |_| String::new());
    assert!(refused.contains("write the secret itself"), "{refused}");
    Ok(())
}

#[test]
fn every_section_of_the_schema_refuses_unknown_keys() -> anyhow::Result<()> {
    let schema: Value = serde_json::from_str(&config::schema())?;
    let sections = objects(&schema);
    assert!(sections.len() > 10);
    for section in sections {
        assert_eq!(section.get("additionalProperties"), Some(&Value::Bool(false)), "{section}");
    }
    Ok(())
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name)
}

/// Compares a shipped file with what the program makes; with `UPDATE_SHIPPED` set, writes it.
pub(crate) fn generated(name: &str, made: &str) -> anyhow::Result<()> {
    if std::env::var_os("UPDATE_SHIPPED").is_some() {
        fs::write(shipped(name), made)?;
    }
    let found = fs::read_to_string(shipped(name))?;
    assert!(found == made, "config/{name} is out of date; run this test with UPDATE_SHIPPED=1");
    Ok(())
}

/// Names of all keys in `schema`, at any depth.
fn keys(schema: &Value) -> BTreeSet<String> {
    let sections = objects(schema);
    sections
        .into_iter()
        .filter_map(|section| section["properties"].as_object())
        .flat_map(|keys| keys.keys().cloned())
        .collect()
}

/// All parts of `schema` that have keys.
fn objects(schema: &Value) -> Vec<&Value> {
    let definitions = schema["$defs"].as_object();
    std::iter::once(schema)
        .chain(definitions.into_iter().flat_map(|definitions| definitions.values()))
        .filter(|part| part.get("properties").is_some())
        .collect()
}
