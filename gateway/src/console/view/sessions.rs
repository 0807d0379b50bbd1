//! The second page: the open sessions.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Row, Table, TableState};

use super::{boxed, shorten};
use crate::console::model::Model;
use crate::console::table::{SessionTable, Sort};
use crate::console::text::{number, safe, size, span};
use crate::console::theme::Theme;
use crate::session::table::SessionView;

/// Width from which the session's name and its HELO are shown too.
const WIDE: u16 = 110;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let table = &model.sessions;
    let block = boxed(title(table), theme);
    if table.shown().is_empty() {
        let text =
            if table.filter.is_empty() { " no session is open" } else { " no session passes the filter" };
        frame.render_widget(Paragraph::new(Line::styled(text, theme.faint())).block(block), area);
        return;
    }
    let inside = block.inner(area);
    let wide = inside.width >= WIDE;
    let fixed: u16 = if wide { 11 + 6 + 6 + 5 + 5 + 13 + 8 } else { 11 + 6 + 5 + 5 + 5 + 6 };
    // Addresses share what the numbers leave; a wide screen leaves a third for HELO.
    let share = inside.width.saturating_sub(fixed) / if wide { 3 } else { 2 };
    let mut widths = vec![share, share, 11, 6, 5, 5, 5];
    let mut heads: Vec<_> = Sort::ALL.iter().map(|sort| head(table, *sort)).collect();
    if wide {
        widths.extend([13, inside.width]);
        heads.extend([Line::from("ID"), Line::from("HELO")]);
    }
    let height = usize::from(inside.height.saturating_sub(1)).max(1);
    let top = table.row().saturating_sub(height.saturating_sub(1).min(height / 2));
    let top = top.min(table.shown().len().saturating_sub(height));
    let rows = table.shown().iter().skip(top).take(height);
    let rows = rows.map(|session| row(session, usize::from(share), wide));
    let drawn = Table::new(rows, widths.into_iter().map(Constraint::Length))
        .header(Row::new(heads.into_iter().map(Text::from)).style(theme.title()))
        .row_highlight_style(theme.selected())
        .column_spacing(1)
        .block(block);
    let mut state = TableState::new().with_selected(table.row().saturating_sub(top));
    frame.render_stateful_widget(drawn, area, &mut state);
}

fn title(table: &SessionTable) -> String {
    let open = u64::try_from(table.open).unwrap_or(u64::MAX);
    let mut title = format!("sessions: {} open", number(open));
    if !table.filter.is_empty() || table.shown().len() < table.open {
        let shown = u64::try_from(table.shown().len()).unwrap_or(u64::MAX);
        title.push_str(&format!(", {} shown", number(shown)));
    }
    if !table.filter.is_empty() {
        title.push_str(&format!(", /{}", safe(&table.filter)));
    }
    title
}

fn head(table: &SessionTable, sort: Sort) -> Line<'static> {
    let mark = match (table.sort == sort, table.descends()) {
        (false, _) => "",
        (true, true) => "▼",
        (true, false) => "▲",
    };
    let line = Line::from(Span::raw(format!("{}{mark}", sort.head())));
    if is_number(sort) { line.alignment(Alignment::Right) } else { line }
}

const fn is_number(sort: Sort) -> bool {
    matches!(sort, Sort::Age | Sort::Messages | Sort::FromClient | Sort::FromServer)
}

fn row(session: &SessionView, share: usize, wide: bool) -> Row<'static> {
    let left = |text: String| Line::from(text);
    let right = |text: String| Line::from(text).alignment(Alignment::Right);
    let mut cells = vec![
        left(shorten(&safe(&session.client), share)),
        left(shorten(&safe(&session.destination), share)),
        left(session.stage.name().to_owned()),
        right(span(session.age)),
        right(number(u64::from(session.messages))),
        right(size(session.from_client)),
        right(size(session.from_server)),
    ];
    if wide {
        cells.extend([left(session.id.to_string()), left(safe(&session.helo))]);
    }
    Row::new(cells.into_iter().map(Text::from))
}
