//! More networks than the kernel's maps have room for are refused by the check, in words that say what to do.

use gateway::config::{self, Config, Problems};

/// Room in each of the maps (`gateway_common`).
const ROOM: usize = 65_536;

fn examine(sections: &str) -> Result<(Config, Problems), Problems> {
    config::examine(format!("intercept: {{interfaces: [lo]}}\n{sections}").as_bytes(), "many.yaml")
}

/// So many networks of which none lies in another, a thousand on a line.
fn networks(count: usize) -> String {
    let all: Vec<_> =
        (0..count).map(|n| format!("{}.{}.{}.0/24", 1 + (n >> 16), n >> 8 & 255, n & 255)).collect();
    let lines: Vec<_> = all.chunks(1_000).map(|line| line.join(",")).collect();
    format!("[{}]", lines.join(",\n     "))
}

#[test]
fn as_many_networks_as_there_is_room_for_are_good_and_one_more_is_told_of_at_its_list() {
    let sections: [(&str, &str, usize); 4] = [
        ("lanes:\n  - {lane: bypass, client: ", "client networks of rules without further conditions", 3),
        ("lanes:\n  - {lane: block, server: ", "server networks of rules without further conditions", 3),
        ("clients: {networks: [{client: ", "networks of clients", 2),
        ("locks: {exempt: ", "exempt networks", 2),
    ];
    for (begin, what, line) in sections {
        let closing: String = begin
            .chars()
            .rev()
            .filter_map(|c| {
                Some(match c {
                    '{' => '}',
                    '[' => ']',
                    _ => return None,
                })
            })
            .collect();
        let with = |count| examine(&format!("{begin}{}{closing}\n", networks(count)));
        assert!(with(ROOM).is_ok(), "{what}: {}", with(ROOM).unwrap_err());
        let problems = with(ROOM + 1).unwrap_err();
        assert_eq!(problems.list.len(), 1, "{problems}");
        let expected = format!(
            "65537 {what} are more than the 65536 that the kernel has room for; write neighbouring networks as one \
             larger one, and leave out what lies in another"
        );
        assert_eq!((problems.list[0].message.as_str(), problems.list[0].line), (expected.as_str(), line));
    }
}

#[test]
fn networks_that_take_no_room_do_not_count() {
    let too_many = networks(ROOM + 1);
    for rule in [
        // The kernel is told of the larger network only.
        format!("{{lane: bypass, client: [0.0.0.0/4]}}\n  - {{lane: block, client: {too_many}}}"),
        // Such a rule stays with the proxy.
        format!("{{lane: block, port: [25], client: {too_many}}}"),
    ] {
        let examined = examine(&format!("lanes:\n  - {rule}\n"));
        assert!(examined.is_ok(), "{}", examined.unwrap_err());
    }
    let elsewhere = format!(
        "origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\nlanes:\n  - {{lane: block, client: {too_many}}}\n"
    );
    let examined = config::examine(elsewhere.as_bytes(), "many.yaml");
    assert!(examined.is_ok(), "without the kernel program there are no maps: {}", examined.unwrap_err());
}

#[test]
fn rules_are_too_many_together_and_told_of_where_they_become_so() {
    let half = |first: u8| {
        let all: Vec<_> = (0..33_000).map(|n| format!("{first}.{}.{}.0/24", n >> 8, n & 255)).collect();
        let lines: Vec<_> = all.chunks(1_000).map(|line| line.join(",")).collect();
        format!("  - {{lane: bypass, client: [{}]}}\n", lines.join(",\n     "))
    };
    let problems = examine(&format!("lanes:\n{}{}", half(10), half(11))).unwrap_err();
    assert!(problems.list[0].message.starts_with("66000 client networks"), "{problems}");
    assert_eq!(problems.list[0].line, 36, "the second rule: {problems}");
}

#[test]
fn more_entries_with_limits_than_there_is_room_for_are_refused() {
    let entries = |count: usize| {
        let all: String =
            (0..count).map(|n| format!("    - {{client: [10.{}.{}.0/24]}}\n", n >> 8, n & 255)).collect();
        examine(&format!("clients:\n  networks:\n{all}"))
    };
    assert!(entries(1_023).is_ok());
    let problems = entries(1_024).unwrap_err();
    assert_eq!(
        problems.list[0].message,
        "1024 entries are more than the 1023 there is room for; write networks with the same limits into one"
    );
}
