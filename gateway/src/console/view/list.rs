//! A list on the screen: its title, its columns, the rows around the selected one.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Row, Table, TableState};

use super::boxed;
use crate::console::list::{Column, List, Listed};
use crate::console::text::{number, safe};
use crate::console::theme::Theme;

/// A column on the screen.
pub(super) struct Shown<T: Listed> {
    /// What it can be sorted by, or its head.
    head: Result<T::Column, &'static str>,
    /// Its cells; none for those that are left.
    width: Option<u16>,
    /// The text of a row, in so many cells.
    cell: fn(&T, usize) -> String,
}

impl<T: Listed> Shown<T> {
    /// A column that can be sorted by.
    pub(super) const fn sorted(column: T::Column, width: u16, cell: fn(&T, usize) -> String) -> Self {
        Self { head: Ok(column), width: Some(width), cell }
    }

    /// Another column; without a width it has what is left.
    pub(super) const fn other(head: &'static str, width: Option<u16>, cell: fn(&T, usize) -> String) -> Self {
        Self { head: Err(head), width, cell }
    }

    fn is_amount(&self) -> bool {
        self.head.is_ok_and(Column::is_amount)
    }

    fn line(&self, text: String) -> Line<'static> {
        let line = Line::from(Span::raw(text));
        if self.is_amount() { line.alignment(Alignment::Right) } else { line }
    }

    fn head(&self, list: &List<T>) -> Line<'static> {
        let (head, sorted) = match self.head {
            Ok(column) => (column.head(), list.sort == column),
            Err(head) => (head, false),
        };
        let mark = match (sorted, list.descends()) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        self.line(format!("{head}{mark}"))
    }

    fn cell(&self, row: &T) -> Line<'static> {
        self.line((self.cell)(row, self.width.map_or(usize::MAX, usize::from)))
    }
}

/// Draws the list with these columns; `note` ends its title.
pub(super) fn draw<T: Listed>(
    frame: &mut Frame<'_>,
    area: Rect,
    list: &List<T>,
    columns: &[Shown<T>],
    note: &str,
    theme: Theme,
) {
    let block = boxed(title(list, note), theme);
    if list.shown().is_empty() {
        let text = match (list.known, list.filter.is_empty()) {
            (false, _) => " waiting for the list".to_owned(),
            (true, true) => format!(" no {} is {}", T::ONE, T::ALL_ARE),
            (true, false) => format!(" no {} passes the filter", T::ONE),
        };
        frame.render_widget(Paragraph::new(Line::styled(text, theme.faint())).block(block), area);
        return;
    }
    let height = usize::from(block.inner(area).height.saturating_sub(1)).max(1);
    let top = list.row().saturating_sub(height.saturating_sub(1).min(height / 2));
    let top = top.min(list.shown().len().saturating_sub(height));
    let rows = list.shown().iter().skip(top).take(height).map(|listed| {
        let row = Row::new(columns.iter().map(|column| Text::from(column.cell(listed))));
        if listed.is_marked() { row.style(theme.warning()) } else { row }
    });
    let widths = columns.iter().map(|column| column.width.map_or(Constraint::Fill(1), Constraint::Length));
    let heads = Row::new(columns.iter().map(|column| Text::from(column.head(list))));
    let drawn = Table::new(rows, widths)
        .header(heads.style(theme.title()))
        .row_highlight_style(theme.selected())
        .column_spacing(1)
        .block(block);
    let mut state = TableState::new().with_selected(list.row().saturating_sub(top));
    frame.render_stateful_widget(drawn, area, &mut state);
}

fn title<T: Listed>(list: &List<T>, note: &str) -> String {
    if !list.known {
        return format!("{}s", T::ONE);
    }
    let count = |count: usize| number(u64::try_from(count).unwrap_or(u64::MAX));
    let mut title = format!("{}s: {} {}", T::ONE, count(list.count), T::ALL_ARE);
    if !list.filter.is_empty() || list.shown().len() < list.count {
        title.push_str(&format!(", {} shown", count(list.shown().len())));
    }
    if !list.filter.is_empty() {
        title.push_str(&format!(", /{}", safe(&list.filter)));
    }
    title.push_str(note);
    title
}
