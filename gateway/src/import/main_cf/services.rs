//! master.cf: what its services `smtp` and `lmtp` have instead of main.cf (`-o name=value`).

use super::read::{Definition, Line, Spot, is_name, lines, pair};
use crate::config::{Place, Problems};

/// Fields of a service before its command.
const FIELDS: usize = 7;

/// What the two services set; transports of other names are told in `problems`, as is what is wrong.
pub(super) fn read(text: &str, file: usize, problems: &mut Problems) -> Vec<Definition> {
    let mut definitions = Vec::new();
    for Line { text: line, place } in lines(text, problems) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (Some(name), Some(command)) = (fields.first(), fields.get(FIELDS)) else {
            problems.error(text, place, "this is no service: it has fewer than eight fields");
            continue;
        };
        let protocol = command.rsplit('/').next().unwrap_or(command);
        if !matches!(protocol, "smtp" | "lmtp") {
            continue;
        }
        let arguments = fields.get(FIELDS.saturating_add(1)..).unwrap_or_default().join(" ");
        let given = options(&arguments);
        if *name != protocol {
            if !given.is_empty() {
                let message = format!("`{name}` is left out: `smtp` and `lmtp` are the transports here");
                problems.warning(text, place, &message);
            }
            continue;
        }
        for option in given {
            let place = Place { width: name.chars().count(), ..place };
            match pair(&option).filter(|(name, _)| is_name(name)) {
                // There is one set of these here, and SMTP's counts.
                Some((name, _)) if protocol == "lmtp" && !name.starts_with("lmtp_") => {
                    let message =
                        format!("`{name}` of the service `lmtp` is left out: it would hold for SMTP, too");
                    problems.warning(text, place, &message);
                }
                Some((name, value)) => definitions.push(Definition {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    spot: Spot { file, place },
                }),
                None => problems.error(text, place, &format!("`{option}` is no `name=value`")),
            }
        }
    }
    definitions
}

/// What stands behind each `-o`: up to the next blank, or in braces.
fn options(arguments: &str) -> Vec<String> {
    let mut options = Vec::new();
    let mut rest = arguments;
    while let Some((_, after)) = flag(rest) {
        let after = after.trim_start();
        let (option, behind) = match after.strip_prefix('{').and_then(closed) {
            Some((inside, behind)) => (inside.trim(), behind),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        options.push(option.to_owned());
        rest = behind;
    }
    options
}

/// What stands before and behind the first `-o`.
fn flag(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix("-o") {
        Some(behind) => Some(("", behind)),
        None => text.split_once(" -o"),
    }
}

/// What stands before the brace that closes one, and behind it.
fn closed(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth = depth.saturating_add(1),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some((text.get(..at)?, text.get(at.saturating_add(1)..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    // master(5).
    #[test]
    fn services_set_what_stands_behind_their_options() {
        let text = "smtp      inet  n       -       y       -       -       smtpd\n  -o smtp_x=1\n\
                    smtp unix - - y - - smtp\n  -o smtp_helo_timeout=5\n  -o { smtp_tls_policy_maps = inline:{a = b} }\n  -v\n\
                    relay unix - - y - - smtp -o smtp_bind_address=192.0.2.1\n\
                    lmtp unix - - y - - /usr/lib/postfix/sbin/lmtp -o lmtp_x_timeout=1 -o max_use=1\n\
                    scan unix - - n - 10 smtp\nshort unix -\n";
        let mut problems = Problems::new("master.cf");
        let found = read(text, 0, &mut problems);
        let found: Vec<_> = found.iter().map(|one| format!("{}={}", one.name, one.value)).collect();
        assert_eq!(found, ["smtp_helo_timeout=5", "smtp_tls_policy_maps=inline:{a = b}", "lmtp_x_timeout=1"]);
        let lines: Vec<_> = problems.list.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [7, 8, 10]);
    }
}
