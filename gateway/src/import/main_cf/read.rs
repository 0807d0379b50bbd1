//! Files as Postfix reads them: lines that go on where they begin with a blank; in main.cf each is `name = value`.

use crate::config::{Place, Problems};

/// A place in one of several files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Its place among the files.
    pub(super) file: usize,
    pub(super) place: Place,
}

/// A definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) name: String,
    /// As it is written.
    pub(super) value: String,
    pub(super) spot: Spot,
}

/// A line with those that it goes on in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    /// Where it begins.
    pub(super) place: Place,
}

/// Lines of content; blanks at the beginning of the first are told in `problems`.
pub(super) fn lines(text: &str, problems: &mut Problems) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let width = content.chars().count();
        let column = line.chars().take_while(|c| c.is_whitespace()).count().saturating_add(1);
        let place = Place { line: number.saturating_add(1), column, width };
        if !line.starts_with([' ', '\t']) {
            lines.push(Line { text: content.to_owned(), place });
        } else if let Some(line) = lines.last_mut() {
            line.text.push(' ');
            line.text.push_str(content);
        } else {
            problems.error(text, place, "this line goes on with none; remove the blanks");
        }
    }
    lines
}

/// Reads a main.cf, the `file`th of several; what is wrong with it is told in `problems`.
pub(super) fn read(text: &str, file: usize, problems: &mut Problems) -> Vec<Definition> {
    let mut definitions = Vec::new();
    for Line { text: line, place } in lines(text, problems) {
        match pair(&line) {
            Some((name, value)) if is_name(name) => {
                let place = Place { width: name.chars().count(), ..place };
                let (name, value) = (name.to_owned(), value.to_owned());
                definitions.push(Definition { name, value, spot: Spot { file, place } });
            }
            Some((name, _)) => {
                let place = Place { width: name.chars().count().max(1), ..place };
                problems.error(text, place, &format!("`{name}` is no name of a parameter"));
            }
            None => problems.error(text, place, "this is no `name = value`"),
        }
    }
    definitions
}

/// The two sides of `name = value`.
pub(super) fn pair(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').map(|(name, value)| (name.trim(), value.trim()))
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
        let found = read(text, 0, &mut problems);
        let found: Vec<_> =
            found.iter().map(|one| (one.name.as_str(), one.value.as_str(), one.spot.place.line)).collect();
        assert_eq!(found, [("a", "1, 2 3", 2), ("b", "", 7), ("c", "= x", 8)]);
        assert!(problems.is_empty());
    }

    #[test]
    fn wrong_lines_are_told() {
        let mut problems = Problems::new("main.cf");
        assert_eq!(read("  x = 1\nsmtp unix\n  more\na-b = 1\n  more\n", 0, &mut problems), []);
        let lines: Vec<_> = problems.list.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 2, 4]);
    }
}
