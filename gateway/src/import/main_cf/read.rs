//! The file as Postfix reads it: `name = value`, which goes on in lines that begin with a blank.

use crate::config::{Place, Problems};

/// A definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) name: String,
    /// As it is written.
    pub(super) value: String,
    pub(super) place: Place,
}

/// Reads all lines; what is wrong with them is told in `problems`.
pub(super) fn read(text: &str, problems: &mut Problems) -> Vec<Definition> {
    let mut definitions: Vec<Definition> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        let place = |word: &str| Place {
            line: number.saturating_add(1),
            column: indent.saturating_add(1),
            width: word.chars().count().max(1),
        };
        if line.starts_with([' ', '\t']) {
            match definitions.last_mut().filter(|_| inside) {
                Some(definition) => {
                    definition.value.push(' ');
                    definition.value.push_str(content);
                }
                // Its line was told already.
                None if number > 0 && inside_wrong(text, number) => {}
                None => {
                    problems.error(text, place(content), "this line goes on with none; remove the blanks")
                }
            }
            continue;
        }
        let named = content.split_once('=').map(|(name, value)| (name.trim_end(), value.trim_start()));
        inside = false;
        match named {
            Some((name, value)) if is_name(name) => {
                inside = true;
                let (name, value) = (name.to_owned(), value.to_owned());
                let place = place(&name);
                definitions.push(Definition { name, value, place });
            }
            Some((name, _)) => {
                problems.error(text, place(name), &format!("`{name}` is no name of a parameter"));
            }
            None => problems.error(text, place(content), "this is no `name = value`"),
        }
    }
    definitions
}

/// Whether there is a line of content before this one.
fn inside_wrong(text: &str, number: usize) -> bool {
    text.lines().take(number).any(|line| !line.trim().is_empty() && !line.trim().starts_with('#'))
}

/// Whether it can be the name of a parameter.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_on_behind_comments() {
        let text = "# c\na = 1,\n\n# c\n   2\n\t3\nb=\nc = = x\n";
        let mut problems = Problems::new("main.cf");
        let found = read(text, &mut problems);
        let found: Vec<_> =
            found.iter().map(|one| (one.name.as_str(), one.value.as_str(), one.place.line)).collect();
        assert_eq!(found, [("a", "1, 2 3", 2), ("b", "", 7), ("c", "= x", 8)]);
        assert!(problems.is_empty());
    }

    #[test]
    fn wrong_lines_are_told() {
        let mut problems = Problems::new("main.cf");
        assert_eq!(read("  x = 1\nsmtp unix\n  more\na-b = 1\n  more\n", &mut problems), []);
        let lines: Vec<_> = problems.list.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 2, 4]);
    }
}
