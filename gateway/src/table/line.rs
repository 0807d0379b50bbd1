//! Logical lines of a table: one that begins with a blank goes on with the line before it.

/// A logical line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins, from 1.
    pub(super) number: usize,
    /// Its text without blanks at its ends.
    pub(super) text: String,
}

/// The logical lines of a text. Empty lines and those that begin with `#` are left out, even
/// between a line and what it goes on with.
pub(super) fn logical(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (number, physical) in text.lines().enumerate() {
        let trimmed = physical.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some(line) if physical.starts_with([' ', '\t']) => {
                line.text.push(' ');
                line.text.push_str(trimmed);
            }
            _ => lines.push(Line { number: number.saturating_add(1), text: trimmed.to_owned() }),
        }
    }
    lines
}

/// The members of a list in braces, each of which may be in braces itself: `{ {a b}, c }`.
pub(super) fn inline(text: &str) -> Option<Vec<String>> {
    let inside = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut members = Vec::new();
    let (mut depth, mut start) = (0usize, 0usize);
    for (at, character) in inside.char_indices() {
        match character {
            '{' => depth = depth.saturating_add(1),
            '}' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                members.push(inside.get(start..at)?);
                start = at.saturating_add(1);
            }
            _ => {}
        }
    }
    members.push(inside.get(start..)?);
    let bare = |member: &str| {
        let member = member.trim();
        let inner = member.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
        inner.unwrap_or(member).trim().to_owned()
    };
    let members = members.into_iter().map(bare).filter(|member| !member.is_empty());
    (depth == 0).then(|| members.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_on_behind_comments() {
        let lines = logical("# one\na 1\n\n  # two\n  2\n\tb\nc\n");
        let line = |number, text: &str| Line { number, text: text.to_owned() };
        assert_eq!(lines, [line(2, "a 1 2 b"), line(7, "c")]);
        assert_eq!(logical("  a\nb"), [line(1, "a"), line(2, "b")]);
    }

    #[test]
    fn lists_in_braces() {
        let members = |text| inline(text).map(|members| members.join("|"));
        assert_eq!(members("{a=1, b = 2 ,}").as_deref(), Some("a=1|b = 2"));
        assert_eq!(members("{ {/^a{2},/ x}, {b, c} }").as_deref(), Some("/^a{2},/ x|b, c"));
        assert_eq!(members("{}").as_deref(), Some(""));
        assert_eq!((members("{a"), members("{a}}"), members("a")), (None, None, None));
    }
}
