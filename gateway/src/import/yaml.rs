//! A `gateway.yaml` in the making: keys in sections, each with what it was called before.

use std::fmt::Write as _;

/// A value under its key, or a section of them.
#[derive(Clone, Debug)]
enum Node {
    Section(Vec<(String, Self)>),
    Value { text: String, comment: String },
}

/// Keys and values in the order in which they were set, sections kept together.
#[derive(Clone, Debug)]
pub(super) struct Document {
    head: String,
    root: Vec<(String, Node)>,
}

impl Document {
    /// A document that begins with this comment.
    pub(super) fn new(head: &str) -> Self {
        Self { head: head.to_owned(), root: Vec::new() }
    }

    /// Sets the key at `path`, sections divided by dots, to a value in YAML's own notation.
    /// A key that is set already gets the new value.
    pub(super) fn set(&mut self, path: &str, value: &str, comment: &str) {
        let mut section = &mut self.root;
        let mut keys = path.split('.').peekable();
        while let Some(key) = keys.next() {
            let at = section.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
                section.push((key.to_owned(), Node::Section(Vec::new())));
                section.len() - 1
            });
            let Some((_, node)) = section.get_mut(at) else { return };
            if keys.peek().is_none() {
                *node = Node::Value { text: value.to_owned(), comment: comment.to_owned() };
                return;
            }
            if let Node::Value { .. } = node {
                *node = Node::Section(Vec::new());
            }
            let Node::Section(inside) = node else { return };
            section = inside;
        }
    }

    /// The text of the file.
    pub(super) fn finish(&self) -> String {
        let mut text = String::new();
        for line in self.head.lines() {
            text.push_str(if line.is_empty() { "#" } else { "# " });
            text.push_str(line);
            text.push('\n');
        }
        for (key, node) in &self.root {
            text.push('\n');
            write(&mut text, 0, key, node);
        }
        text
    }
}

fn write(text: &mut String, depth: usize, key: &str, node: &Node) {
    let indent = "  ".repeat(depth);
    // Writing to a `String` cannot fail.
    match node {
        Node::Value { text: value, comment } => {
            let comment = if comment.is_empty() { String::new() } else { format!("  # {comment}") };
            writeln!(text, "{indent}{key}: {value}{comment}").unwrap_or_default();
        }
        Node::Section(inside) => {
            writeln!(text, "{indent}{key}:").unwrap_or_default();
            for (key, node) in inside {
                write(text, depth + 1, key, node);
            }
        }
    }
}

/// `text` as a scalar that YAML reads as this text and nothing else.
pub(super) fn string(text: &str) -> String {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./-_".contains(&byte))
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    // A JSON string is a double-quoted YAML scalar.
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A list of scalars in one line.
pub(super) fn list<'t>(items: impl IntoIterator<Item = &'t str>) -> String {
    let items: Vec<String> = items.into_iter().map(string).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_stay_together_in_the_order_of_their_first_key() {
        let mut document = Document::new("one\n\ntwo");
        document.set("b.x", "1", "");
        document.set("a", "2", "was c");
        document.set("b.y.z", "3", "");
        document.set("b.x", "4", "");
        assert_eq!(document.finish(), "# one\n#\n# two\n\nb:\n  x: 4\n  y:\n    z: 3\n\na: 2  # was c\n");
    }

    #[test]
    fn scalars_that_yaml_would_take_for_something_else_are_quoted() {
        for plain in ["gw.example.net", "/run/x", "a-b_c"] {
            assert_eq!(string(plain), plain);
        }
        for (odd, quoted) in [
            ("", "\"\""),
            ("no", "\"no\""),
            ("1.5", "\"1.5\""),
            ("a: b", "\"a: b\""),
            ("#x", "\"#x\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
        ] {
            assert_eq!(string(odd), quoted);
        }
        assert_eq!(list(["a", "b c"]), "[a, \"b c\"]");
    }
}
