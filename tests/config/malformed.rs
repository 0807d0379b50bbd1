//! Every file in `invalid/` is refused or warned of with exactly the text in the snapshot beside it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use gateway::config;

#[test]
fn every_malformed_file_is_told_of_in_the_words_of_its_snapshot() -> anyhow::Result<()> {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let files = with_extension("yaml")?;
    assert!(files.len() >= 25, "only {} files in {}", files.len(), folder().display());
    for stem in files {
        let bytes = fs::read(folder().join(&stem).with_extension("yaml"))?;
        let told = match config::examine(&bytes, &format!("{stem}.yaml")) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        };
        assert!(!told.is_empty(), "{stem}.yaml is not malformed");
        settings.bind(|| insta::assert_snapshot!(stem.as_str(), told));
    }
    Ok(())
}

#[test]
fn every_snapshot_has_its_file() -> anyhow::Result<()> {
    let lone: Vec<_> = with_extension("snap")?.difference(&with_extension("yaml")?).cloned().collect();
    assert!(lone.is_empty(), "snapshots without a file: {lone:?}");
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/invalid")
}

/// Names, without it, of the files in [`folder`] that have this extension.
fn with_extension(extension: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(extension)) {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}
