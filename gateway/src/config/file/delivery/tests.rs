use serde_yaml::Value;

use super::*;
use crate::import::main_cf;

/// Parameters and their keys, from the importer's own list.
fn keys() -> Vec<(String, String)> {
    let quoted = |cell: &str| cell.split('`').nth(1).map(str::to_owned);
    let table = main_cf::table();
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `"));
    let cells = rows.filter_map(|row| Some((row.split_once("` | ")?.0, row.rsplit_once(" | ")?.1)));
    cells
        .filter(|(_, here)| here.starts_with("`delivery."))
        .filter_map(|(name, here)| Some((name.to_owned(), quoted(here)?)))
        .collect()
}

fn follow<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    key.split('.').skip(1).try_fold(value, |value, key| value.get(key))
}

// Issue 5: every row of the list of parameters has a key.
#[test]
fn every_key_of_the_importer_is_a_key_of_the_section() {
    let section = serde_yaml::to_value(Delivery::default()).unwrap();
    let found = keys();
    assert!(found.len() > 95, "{}", found.len());
    for (name, key) in found {
        let common = key.replacen("delivery.lmtp.", "delivery.", 1);
        assert!(follow(&section, &key).or_else(|| follow(&section, &common)).is_some(), "{name}: {key}");
    }
}

#[test]
fn what_the_importer_writes_is_read() {
    let values = [
        "no",
        "yes",
        "0.5",
        "30s",
        "30",
        "3",
        "hash:/etc/postfix/x",
        "encrypt",
        "high",
        "sha512",
        "/etc/x",
        "ipv4",
        "native",
        "starttls",
        "noactive",
        "bounce",
        "delay_dotcrlf",
        "192.0.2.1",
        "2001:db8::1",
        "[h.test]:26",
        "x",
        "smtp:[h.test]",
    ];
    for (name, _) in keys() {
        let mirror = name.strip_prefix("smtp_").map(|rest| format!("lmtp_{rest}"));
        for name in [Some(name.clone()), mirror].into_iter().flatten() {
            let taken = values.iter().filter_map(|value| {
                let imported = main_cf::import(&[main_cf::Source {
                    name: "main.cf",
                    text: &format!("{name} = {value}\n"),
                }])
                .ok()?;
                let file: Value = serde_yaml::from_str(&imported.yaml).unwrap();
                // Not all of these are values of it.
                let section = file.get("delivery")?;
                let section = serde_yaml::from_value::<Delivery>(section.clone());
                Some(section.unwrap_or_else(|error| panic!("{name}: {error}\n{}", imported.yaml)))
            });
            let changes = taken.filter(|section| *section != Delivery::default()).count();
            assert!(changes > 0, "{name}");
        }
    }
}
