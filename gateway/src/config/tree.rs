//! The file as a tree whose nodes know where they stand.
//!
//! Owns what YAML may be used for here: one document of sections, lists and values. Anchors,
//! aliases, tags and deep nesting are refused while reading, so that a hostile or broken file
//! costs neither time nor memory. The typing is left to `typed`.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::problem::{Place, Problems};
use super::syntax;

/// Deepest nesting; the deepest key of the configuration is at five.
const DEEPEST: usize = 16;

/// Most values in a file, so that memory stays within bounds.
const MOST_VALUES: usize = 100_000;

/// One value of the file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) state: State,
}

/// What a value is made of.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Value {
        text: String,
        /// Without quotes, so that it may be a number.
        plain: bool,
    },
    /// Those that are dropped come last.
    List(Vec<Node>),
    Section(Vec<Entry>),
}

/// One `key: value` of a section.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

/// What the typing makes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// What it looks like.
    Kept,
    /// Text, though it looks like a number.
    AsText,
    /// Nothing: a problem was told of it.
    Dropped,
}

/// One step from a node towards a value below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    /// Counts from 0, without the elements that are dropped.
    Index(usize),
}

impl Node {
    pub(super) const fn empty() -> Self {
        Self { place: Place::START, kind: Kind::Section(Vec::new()), state: State::Kept }
    }

    fn new(place: Place, kind: Kind) -> Self {
        Self { place, kind, state: State::Kept }
    }

    /// Whether nothing is written, so that the default holds.
    pub(super) fn is_blank(&self) -> bool {
        matches!(&self.kind, Kind::Value { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// Where to point: at the value, or at its `key` when it stands on other lines or is empty.
    pub(super) fn shown_at(&self, key: Option<Place>) -> Place {
        match (key, &self.kind) {
            (Some(key), Kind::List(_) | Kind::Section(_)) if self.place.line != key.line => key,
            (Some(key), Kind::Value { text, .. }) if text.is_empty() => key,
            (_, _) => self.place,
        }
    }

    /// The entry of `key`, dropped or not.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Section(entries) => entries.iter().find(|entry| entry.key == key),
            Kind::Value { .. } | Kind::List(_) => None,
        }
    }

    /// Follows `steps` as far as they exist: the node, the key it stands under, and how many
    /// steps were gone.
    pub(super) fn follow(&self, steps: &[Step]) -> (&Self, Option<&Entry>, usize) {
        let (mut node, mut under) = (self, None);
        for (gone, step) in steps.iter().enumerate() {
            let next = match (step, &node.kind) {
                (Step::Key(key), Kind::Section(_)) => {
                    node.entry(key).map(|entry| (&entry.value, Some(entry)))
                }
                (Step::Index(index), Kind::List(items)) => {
                    items.get(*index).filter(|item| item.state != State::Dropped).map(|item| (item, None))
                }
                (Step::Key(_) | Step::Index(_), _) => None,
            };
            let Some((found, entry)) = next else { return (node, under, gone) };
            (node, under) = (found, entry);
        }
        (node, under, steps.len())
    }

    /// As [`Self::follow`], to change the node at the end of `steps`.
    pub(super) fn follow_mut(&mut self, steps: &[Step]) -> Option<&mut Self> {
        steps.iter().try_fold(self, |node, step| match (step, &mut node.kind) {
            (Step::Key(key), Kind::Section(entries)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.value)
            }
            (Step::Index(index), Kind::List(items)) => {
                items.get_mut(*index).filter(|item| item.state != State::Dropped)
            }
            (Step::Key(_) | Step::Index(_), _) => None,
        })
    }

    /// Drops the node at the end of `steps`; false when there is none.
    pub(super) fn drop_at(&mut self, steps: &[Step]) -> bool {
        let Some((last, before)) = steps.split_last() else {
            self.state = State::Dropped;
            return true;
        };
        let Some(around) = self.follow_mut(before) else { return false };
        let Some(node) = around.follow_mut(std::slice::from_ref(last)) else { return false };
        node.state = State::Dropped;
        if let Kind::List(items) = &mut around.kind {
            dropped_last(items);
        }
        true
    }
}

/// Puts elements that were dropped behind the others, so that a place in a list of thousands is found at once.
fn dropped_last(items: &mut [Node]) {
    items.sort_by_key(|item| item.state == State::Dropped);
}

/// Reads `text`; problems go into `problems`. `None` when it is no YAML that could be typed.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut reader = Reader { text, problems, open: Vec::new(), root: None, values: 0 };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => reader.take(event, span).ok()?,
            Err(error) => {
                reader.give_up_on(&error);
                return None;
            }
        }
    }
    let root = reader.root.filter(|root| !root.is_blank()).unwrap_or_else(Node::empty);
    if matches!(root.kind, Kind::Section(_)) {
        return Some(root);
    }
    problems.error(
        text,
        root.place,
        "a configuration is a list of keys; write for example `name: gw.example.net`",
    );
    None
}

/// The file is not read any further; why is among the problems.
struct GivenUp;

/// A list or section whose end was not seen yet.
enum Open {
    List { place: Place, items: Vec<Node> },
    Section { place: Place, entries: Vec<Entry>, key: Option<(String, Place)>, lines: HashMap<String, usize> },
}

struct Reader<'t> {
    text: &'t str,
    problems: &'t mut Problems,
    open: Vec<Open>,
    root: Option<Node>,
    values: usize,
}

impl Reader<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), GivenUp> {
        let place = place_of(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) if self.root.is_none() => {}
            Event::DocumentStart(_) => {
                return self.give_up(
                    place,
                    "a second document begins here; write everything into one, without `---`",
                );
            }
            Event::Alias(_) => {
                return self.give_up(place, "`*` refers to another value; write the value itself");
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(place, anchor)?;
                let plain = style == ScalarStyle::Plain;
                let mut node = Node::new(place, Kind::Value { text: text.into_owned(), plain });
                if tag.is_some() {
                    self.refuse_tag(&mut node);
                }
                self.close(node)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(place, anchor, tag.is_some(), Open::List { place, items: Vec::new() })?;
            }
            Event::MappingStart(anchor, tag) => {
                let section = Open::Section { place, entries: Vec::new(), key: None, lines: HashMap::new() };
                self.begin(place, anchor, tag.is_some(), section)?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { place: start, mut items }) => {
                    dropped_last(&mut items);
                    self.close(Node::new(up_to(start, place), Kind::List(items)))?;
                }
                Some(Open::Section { place: start, entries, .. }) => {
                    self.close(Node::new(up_to(start, place), Kind::Section(entries)))?;
                }
                None => {}
            },
        }
        Ok(())
    }

    fn begin(&mut self, place: Place, anchor: usize, tagged: bool, open: Open) -> Result<(), GivenUp> {
        self.count(place, anchor)?;
        if tagged {
            self.problems.error(self.text, place, TAG);
        }
        if self.open.len() >= DEEPEST {
            return self.give_up(place, syntax::NESTED_TOO_DEEPLY);
        }
        self.open.push(open);
        Ok(())
    }

    fn count(&mut self, place: Place, anchor: usize) -> Result<(), GivenUp> {
        self.values += 1;
        if anchor != 0 {
            return self.give_up(
                place,
                "`&` names a value for use elsewhere; remove the name and write each value out",
            );
        }
        if self.values > MOST_VALUES {
            let message =
                format!("more than {MOST_VALUES} values up to here; no configuration is as long as this");
            return self.give_up(place, &message);
        }
        Ok(())
    }

    fn refuse_tag(&mut self, node: &mut Node) {
        self.problems.error(self.text, node.place, TAG);
        node.state = State::Dropped;
    }

    /// Puts a complete value where it belongs.
    fn close(&mut self, mut node: Node) -> Result<(), GivenUp> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Section { entries, key, lines, .. }) => match (key.take(), node.kind) {
                (None, Kind::Value { text, .. }) => *key = Some((text, node.place)),
                (None, Kind::List(_) | Kind::Section(_)) => {
                    return self.give_up(node.place, "a list or section cannot be a key; write `key: value`");
                }
                (Some((key, place)), kind) => {
                    node.kind = kind;
                    if let Some(line) = lines.insert(key.clone(), place.line) {
                        let message =
                            format!("`{key}` is given twice, before in line {line}; remove one of them");
                        self.problems.error(self.text, place, &message);
                        node.state = State::Dropped;
                    }
                    entries.push(Entry { key, place, value: node });
                }
            },
        }
        Ok(())
    }

    fn give_up(&mut self, place: Place, message: &str) -> Result<(), GivenUp> {
        self.problems.error(self.text, place, message);
        Err(GivenUp)
    }

    fn give_up_on(&mut self, error: &ScanError) {
        let mark = error.marker();
        let place = Place { line: mark.line().max(1), column: mark.col() + 1, width: 1 };
        let (place, message) = syntax::explain(self.text, place, error.info());
        self.problems.error(self.text, place, &message);
    }
}

const TAG: &str = "`!` gives a value a type of its own; remove it, the key decides the type";

/// Where `span` begins, and how far it reaches in that line.
fn place_of(span: Span) -> Place {
    let (line, column) = (span.start.line().max(1), span.start.col() + 1);
    let width =
        if span.end.line() == line { (span.end.col() + 1).saturating_sub(column) } else { usize::MAX };
    Place { line, column, width: width.max(1) }
}

/// From the begin of `start` to the end of `end`, or one character where that is another line.
fn up_to(start: Place, end: Place) -> Place {
    let width =
        if start.line == end.line { (end.column + end.width).saturating_sub(start.column) } else { 1 };
    Place { width: width.max(1), ..start }
}
