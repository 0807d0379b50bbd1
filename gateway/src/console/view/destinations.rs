//! The page of destinations: for whom mail waits, for how long, and why.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Wrap};

use super::list::{self, Shown};
use super::{boxed, draw_rows, shorten};
use crate::console::list::destinations::Sort;
use crate::console::model::Model;
use crate::console::text::{number, safe, span};
use crate::console::theme::Theme;
use crate::delivery::waiting::Destination;

/// Width below which ages are left out, and that below which the reason is, too.
const NARROW: u16 = 100;
const NARROWEST: u16 = 56;

/// Cells of a line of the details.
const LINE: usize = 50;

/// The ages of [`crate::delivery::waiting::AGES`] as heads of columns; by those that are older can be sorted.
const YOUNG: [&str; 5] = ["  <5m", " <20m", "  <1h", "  <5h", "  <1d"];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    if let Some(why) = &model.unshaped {
        let text = Paragraph::new(Line::styled(format!(" {}", safe(why)), theme.faint()));
        frame.render_widget(text.wrap(Wrap { trim: false }).block(boxed("destinations", theme)), area);
        return;
    }
    let note = match model.unlooked {
        0 => String::new(),
        more => format!("; {} younger messages are not counted", number(more)),
    };
    // The border takes two cells.
    let columns = columns(area.width.saturating_sub(2));
    list::draw(frame, area, &model.destinations, &columns, &note, theme);
}

/// The columns that there is room for.
fn columns(width: u16) -> Vec<Shown<Destination>> {
    let destination = Shown::sorted(Sort::Destination, 28, |row: &Destination, cells| name(row, cells));
    let messages = Shown::sorted(Sort::Messages, 6, |row: &Destination, _| number(row.messages));
    if width < NARROWEST {
        return vec![destination, messages];
    }
    let reason = Shown::other("LAST REASON", None, |row: &Destination, _| {
        row.reason.as_deref().map(safe).unwrap_or_default()
    });
    if width < NARROW {
        return vec![destination, messages, reason];
    }
    let young: [fn(&Destination, usize) -> String; YOUNG.len()] = [
        |row, cells| aged(row, 0, cells),
        |row, cells| aged(row, 1, cells),
        |row, cells| aged(row, 2, cells),
        |row, cells| aged(row, 3, cells),
        |row, cells| aged(row, 4, cells),
    ];
    let mut columns = vec![
        destination,
        messages,
        Shown::sorted(Sort::Recipients, 6, |row, _| number(row.recipients)),
        Shown::sorted(Sort::Held, 5, |row, _| number(row.held)),
    ];
    columns.extend(YOUNG.into_iter().zip(young).map(|(head, cell)| Shown::other(head, Some(5), cell)));
    columns.extend([
        Shown::sorted(Sort::Old, 5, |row: &Destination, cells| aged(row, YOUNG.len(), cells)),
        reason,
    ]);
    columns
}

/// The messages of one age, at the right of the cells; nothing where there are none.
fn aged(row: &Destination, column: usize, cells: usize) -> String {
    let messages = row.ages.get(column).filter(|messages| **messages > 0);
    let messages = messages.map(|messages| number(*messages)).unwrap_or_default();
    format!("{messages:>cells$}")
}

fn name(row: &Destination, cells: usize) -> String {
    if row.destination.is_empty() { "(others)".to_owned() } else { shorten(&safe(&row.destination), cells) }
}

/// One destination in front of the list.
pub(super) fn draw_detail(frame: &mut Frame<'_>, area: Rect, model: &Model, whose: &str, theme: Theme) {
    let key = whose.to_owned();
    let rows = match model.destinations.find(&key) {
        None => vec![("", "no mail waits for it any more".to_owned())],
        Some(row) => rows(row),
    };
    let title = if whose.is_empty() { "others".to_owned() } else { shorten(&safe(whose), LINE) };
    draw_rows(frame, area, title, rows, theme);
}

fn rows(row: &Destination) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("messages", number(row.messages)),
        ("recipients", number(row.recipients)),
        ("held", number(row.held)),
    ];
    let heads = YOUNG.into_iter().chain([">1d"]);
    rows.extend(heads.zip(row.ages).map(|(head, messages)| (head.trim_start(), number(messages))));
    match (&row.reason, row.since) {
        (Some(reason), Some(since)) => {
            rows.push(("last failure", format!("{} ago", span(Duration::from_secs(since)))));
            let reason: Vec<char> = safe(reason).chars().collect();
            rows.extend(reason.chunks(LINE).map(|line| ("", line.iter().collect())));
        }
        _ => rows.push(("last failure", "none since the gateway was started".to_owned())),
    }
    rows
}
