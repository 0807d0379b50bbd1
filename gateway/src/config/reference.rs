//! The reference of all keys, as Markdown, from the JSON Schema.

use std::fmt::Write as _;

use serde_json::Value;

use super::file::Config;

const HEAD: &str = "\
# Reference of `gateway.yaml`

Made by `gateway config reference`; `gateway check` says what is wrong with a file, and
`gateway config show` what is in force. Every key may be left out, unless it says that it is
required; a key without a value has its default too. Sizes are written with `B`, `KiB`, `MiB` or
`GiB` (or `kB`, `MB`, `GB` for powers of ten), lengths of time with `ms`, `s`, `m`, `h` or `d`.
An IPv6 address with a port needs quotes: `\"[::1]:10025\"`.
";

/// The reference of all keys of `gateway.yaml`, as Markdown.
#[must_use]
pub fn reference() -> String {
    let schema = schemars::schema_for!(Config).to_value();
    let mut page = Page { schema: &schema, text: HEAD.to_owned() };
    page.section("", &schema);
    page.text
}

struct Page<'s> {
    schema: &'s Value,
    text: String,
}

impl<'s> Page<'s> {
    /// Writes the keys of the object `schema`, whose own path is `above`: first its values, then
    /// its sections and lists of sections, each under a heading of its own.
    fn section(&mut self, above: &str, schema: &'s Value) {
        let Some(keys) = schema.get("properties").and_then(Value::as_object) else { return };
        let path = |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
        for (name, key) in keys {
            if self.inside(key).is_none() {
                self.line(format_args!("\n### `{}`", path(name)));
                self.value(key, is_required(schema, name));
            }
        }
        for (name, key) in keys {
            if let Some(inside) = self.inside(key) {
                self.line(format_args!("\n## `{}`", path(name)));
                if self.resolve(key).get("items").is_some() {
                    self.value(key, is_required(schema, name));
                } else {
                    self.line(format_args!("\n{}", described(key).unwrap_or_default()));
                }
                self.section(&path(name), inside);
            }
        }
    }

    /// The section that `key` is, or is a list of.
    fn inside(&self, key: &'s Value) -> Option<&'s Value> {
        let target = self.resolve(key);
        let inside = target.get("items").map_or(target, |items| self.resolve(items));
        inside.get("properties").is_some().then_some(inside)
    }

    /// Writes what `key` means and takes.
    fn value(&mut self, key: &'s Value, required: bool) {
        let target = self.resolve(key);
        self.line(format_args!("\n{}", described(key).or_else(|| described(target)).unwrap_or_default()));
        self.choices(target.get("items").map_or(target, |items| self.resolve(items)));
        self.line(format_args!("\n{}; {}.", self.kind(target), default(key, required)));
    }

    /// What `schema` refers to, through `$ref` and the choice between it and nothing.
    fn resolve(&self, schema: &'s Value) -> &'s Value {
        let real = |choice: &&Value| choice.get("type") != Some(&Value::from("null"));
        let schema = schema
            .get("anyOf")
            .and_then(Value::as_array)
            .and_then(|any| any.iter().find(real))
            .unwrap_or(schema);
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
        name.and_then(|name| self.schema.pointer(name)).unwrap_or(schema)
    }

    /// The values of a choice, one a line.
    fn choices(&mut self, schema: &Value) {
        let choices = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        for (index, choice) in choices.enumerate() {
            let value = choice.get("const").and_then(Value::as_str).unwrap_or_default();
            let gap = if index == 0 { "\n" } else { "" };
            self.line(format_args!("{gap}* `{value}`: {}", described(choice).unwrap_or_default()));
        }
    }

    /// What kind of value `schema` takes, as the begin of a sentence.
    fn kind(&self, schema: &'s Value) -> String {
        if let Some(items) = schema.get("items") {
            let items = self.resolve(items);
            let of =
                if items.get("properties").is_some() { "a section".to_owned() } else { self.kind(items) };
            return format!("A list, each element {}", lower_first(&of));
        }
        let text = |name: &str| schema.get(name).and_then(Value::as_str);
        if schema.get("oneOf").is_some() {
            return "One of these words".to_owned();
        }
        match (text("format"), described(schema).filter(|_| schema.get("pattern").is_some())) {
            (_, Some(description)) => description.trim_end_matches('.').to_owned(),
            (Some("uint16"), _) => "A whole number up to 65535".to_owned(),
            (Some(format), _) if format.starts_with("uint") => "A whole number".to_owned(),
            (Some("ipv4"), _) => "An IPv4 address".to_owned(),
            (Some("ipv6"), _) => "An IPv6 address".to_owned(),
            (Some(_) | None, None) => "A text".to_owned(),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        writeln!(self.text, "{line}").unwrap_or_default();
    }
}

fn is_required(schema: &Value, name: &str) -> bool {
    let names = schema.get("required").and_then(Value::as_array);
    names.is_some_and(|names| names.iter().any(|required| required == name))
}

fn described(schema: &Value) -> Option<&str> {
    schema.get("description").and_then(Value::as_str)
}

/// The default of `key`, as the end of a sentence.
fn default(key: &Value, required: bool) -> String {
    match key.get("default") {
        _ if required => "required".to_owned(),
        None | Some(Value::Null) => "no default".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "empty by default".to_owned(),
        Some(Value::String(text)) => format!("default `{text}`"),
        Some(Value::Array(items)) if items.is_empty() => "empty by default".to_owned(),
        Some(Value::Array(items)) => {
            let plain =
                |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric()).then(|| text.to_owned());
            let items =
                items.iter().map(|item| item.as_str().and_then(plain).unwrap_or_else(|| item.to_string()));
            format!("default `[{}]`", items.collect::<Vec<_>>().join(", "))
        }
        Some(Value::Number(number)) if key.get("x-hexadecimal").is_some() => {
            format!("default `{:#x}`", number.as_u64().unwrap_or_default())
        }
        Some(other) => format!("default `{other}`"),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
