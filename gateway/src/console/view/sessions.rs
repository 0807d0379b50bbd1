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

/// Width below which only client, stage and age are shown.
const NARROW: u16 = 62;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let table = &model.sessions;
    let block = boxed(title(table), theme);
    if table.shown().is_empty() {
        let text = match (table.known, table.filter.is_empty()) {
            (false, _) => " waiting for the list",
            (true, true) => " no session is open",
            (true, false) => " no session passes the filter",
        };
        frame.render_widget(Paragraph::new(Line::styled(text, theme.faint())).block(block), area);
        return;
    }
    let inside = block.inner(area);
    let columns = Columns::of(inside.width);
    let share = columns.share(inside.width);
    let height = usize::from(inside.height.saturating_sub(1)).max(1);
    let top = table.row().saturating_sub(height.saturating_sub(1).min(height / 2));
    let top = top.min(table.shown().len().saturating_sub(height));
    let rows = table.shown().iter().skip(top).take(height);
    let rows = rows.map(|session| row(session, usize::from(share), columns));
    let drawn = Table::new(rows, columns.widths(share))
        .header(columns.heads(table).style(theme.title()))
        .row_highlight_style(theme.selected())
        .column_spacing(1)
        .block(block);
    let mut state = TableState::new().with_selected(table.row().saturating_sub(top));
    frame.render_stateful_widget(drawn, area, &mut state);
}

fn title(table: &SessionTable) -> String {
    let open = u64::try_from(table.open).unwrap_or(u64::MAX);
    if !table.known {
        return "sessions".to_owned();
    }
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

fn row(session: &SessionView, share: usize, columns: Columns) -> Row<'static> {
    let left = |text: String| Line::from(text);
    let right = |text: String| Line::from(text).alignment(Alignment::Right);
    let client = left(shorten(&safe(&session.client), share));
    let stage = left(session.stage.name().to_owned());
    let age = right(span(session.age));
    if columns == Columns::Few {
        return Row::new([client, stage, age].map(Text::from));
    }
    let mut cells = vec![
        client,
        left(shorten(&safe(&session.destination), share)),
        stage,
        age,
        right(number(u64::from(session.messages))),
        right(size(session.from_client)),
        right(size(session.from_server)),
    ];
    if columns == Columns::All {
        cells.extend([left(session.id.to_string()), left(safe(&session.helo))]);
    }
    Row::new(cells.into_iter().map(Text::from))
}

/// Which columns there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Columns {
    /// Client, stage, age.
    Few,
    /// Those that can be sorted by.
    Sorted,
    /// The session's name and its HELO too.
    All,
}

impl Columns {
    const fn of(width: u16) -> Self {
        if width >= WIDE {
            Self::All
        } else if width >= NARROW {
            Self::Sorted
        } else {
            Self::Few
        }
    }

    /// Cells for each address: what the other columns leave, less a third for HELO.
    const fn share(self, width: u16) -> u16 {
        match self {
            Self::Few => width.saturating_sub(11 + 6 + 2),
            Self::Sorted => width.saturating_sub(11 + 6 + 5 + 5 + 5 + 6) / 2,
            Self::All => width.saturating_sub(11 + 6 + 5 + 5 + 5 + 13 + 8) / 3,
        }
    }

    fn widths(self, share: u16) -> Vec<Constraint> {
        let fixed: &[u16] = match self {
            Self::Few => &[share, 11, 6],
            Self::Sorted => &[share, share, 11, 6, 5, 5, 5],
            Self::All => &[share, share, 11, 6, 5, 5, 5, 13],
        };
        let mut widths: Vec<_> = fixed.iter().copied().map(Constraint::Length).collect();
        if self == Self::All {
            widths.push(Constraint::Fill(1));
        }
        widths
    }

    fn heads(self, table: &SessionTable) -> Row<'static> {
        let sorted: &[Sort] = match self {
            Self::Few => &[Sort::Client, Sort::Stage, Sort::Age],
            Self::Sorted | Self::All => &Sort::ALL,
        };
        let mut heads: Vec<_> = sorted.iter().map(|sort| head(table, *sort)).collect();
        if self == Self::All {
            heads.extend([Line::from("ID"), Line::from("HELO")]);
        }
        Row::new(heads.into_iter().map(Text::from))
    }
}
