//! The screen, drawn from the model.
//!
//! Owns the frame around the pages: head, foot, what stands in front. Never changes the model,
//! and never hands a text from the network to a cell unescaped.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph, Wrap};

use super::model::{Link, Mode, Model, Tab};
use super::text::{safe, span};
use super::theme::Theme;

mod clients;
mod confirm;
mod destinations;
mod detail;
mod help;
mod list;
mod locks;
mod log;
mod overview;
mod queue;
mod sessions;

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, theme: Theme) {
    let warned = warning(model);
    let width = usize::from(frame.area().width.max(1));
    // Words do not fill their lines; one line more than the letters need is enough.
    let lines = warned.as_ref().map_or(0, |text| text.len() / width + 1 + usize::from(text.len() > width));
    let lines = u16::try_from(lines.min(4)).unwrap_or_default();
    let rows = [Constraint::Length(1), Constraint::Length(lines), Constraint::Min(0), Constraint::Length(1)];
    let [head, warn, page, foot] = Layout::vertical(rows).areas(frame.area());
    draw_head(frame, head, model, theme);
    if let Some(text) = warned {
        frame.render_widget(Paragraph::new(text).style(theme.bad()).wrap(Wrap { trim: true }), warn);
    }
    match model.tab {
        Tab::Overview => overview::draw(frame, page, model, theme),
        Tab::Sessions => sessions::draw(frame, page, model, theme),
        Tab::Clients => clients::draw(frame, page, model, theme),
        Tab::Locks => locks::draw(frame, page, model, theme),
        Tab::Queue => queue::draw(frame, page, model, theme),
        Tab::Waiting => destinations::draw(frame, page, model, theme),
        Tab::Log => log::draw(frame, page, model, theme),
    }
    draw_foot(frame, foot, model, theme);
    match &model.mode {
        Mode::Normal | Mode::Filter { .. } => {}
        Mode::Help => help::draw(frame, page, theme),
        Mode::Detail(id) => detail::draw(frame, page, model, *id, theme),
        Mode::Client(whose) => clients::draw_detail(frame, page, model, *whose, theme),
        Mode::Lock(who) => locks::draw_detail(frame, page, model, who, theme),
        Mode::Message(id) => queue::draw_detail(frame, page, model, *id, theme),
        Mode::Destination(whose) => destinations::draw_detail(frame, page, model, whose, theme),
        Mode::Confirm(deed) => confirm::draw(frame, page, model, deed, theme),
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let tabs = |short: bool| {
        let mut tabs = vec![Span::raw(" ")];
        for (number, tab) in (1..).zip(Tab::ALL) {
            let (chosen, title) = (tab == model.tab, tab.title());
            let style = if chosen { theme.selected() } else { theme.label() };
            let text = if short && !chosen { format!(" {number} ") } else { format!(" {number} {title} ") };
            tabs.extend([Span::styled(text, style), Span::raw(" ")]);
        }
        Line::from(tabs)
    };
    let name = match &model.status {
        None => "gateway ".to_owned(),
        Some(status) => {
            let up = span(Duration::from_secs(status.telemetry.uptime));
            format!("{} {} up {up} ", safe(&status.name), safe(&status.version.gateway))
        }
    };
    let tabs =
        Some(tabs(false)).filter(|line| line.width() <= area.width.into()).unwrap_or_else(|| tabs(true));
    let room = usize::from(area.width).saturating_sub(tabs.width());
    frame.render_widget(tabs, area);
    if name.len() <= room {
        frame.render_widget(Line::styled(name, theme.title()).alignment(Alignment::Right), area);
    }
}

fn warning(model: &Model) -> Option<String> {
    let Link::Away { since, why } = &model.link else { return None };
    let time = span(model.now.saturating_duration_since(*since));
    Some(format!("no answer for {time}, trying again: {}", safe(why)))
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    if let Mode::Filter { .. } = model.mode {
        let prompt =
            [Span::styled(" /", theme.key()), Span::raw(model.filter()), Span::styled(" ", theme.selected())];
        frame.render_widget(Line::from_iter(prompt), area);
        return;
    }
    if let Some(notice) = &model.notice {
        let style = if notice.bad { theme.bad() } else { theme.good() };
        frame.render_widget(Line::styled(format!(" {}", safe(&notice.text)), style), area);
        return;
    }
    let keys: &[(&str, &str)] = match model.tab {
        Tab::Overview => &[("1-7 Tab", "page"), ("?", "keys"), ("q", "leave")],
        Tab::Sessions => &[
            ("Enter", "detail"),
            ("K", "end"),
            ("/", "filter"),
            ("< >", "sort"),
            ("r", "reverse"),
            ("?", "keys"),
        ],
        Tab::Clients => {
            &[("Enter", "detail"), ("/", "filter"), ("< >", "sort"), ("r", "reverse"), ("?", "keys")]
        }
        Tab::Locks => &[
            ("Enter", "detail"),
            ("U", "unlock"),
            ("/", "filter"),
            ("< >", "sort"),
            ("r", "reverse"),
            ("?", "keys"),
        ],
        Tab::Queue => &[
            ("Enter", "detail"),
            ("H", "hold"),
            ("U", "release"),
            ("T", "try now"),
            ("D", "delete"),
            ("/", "filter"),
            ("?", "keys"),
        ],
        Tab::Waiting => &[
            ("Enter", "detail"),
            ("T", "try now"),
            ("/", "filter"),
            ("< >", "sort"),
            ("r", "reverse"),
            ("?", "keys"),
        ],
        Tab::Log => {
            &[("f", "follow"), ("/", "filter"), ("g G", "begin, end"), ("< >", "sideways"), ("?", "keys")]
        }
    };
    let mut spans = vec![Span::raw(" ")];
    for (key, what) in keys {
        spans.push(Span::styled(*key, theme.key()));
        spans.push(Span::styled(format!(" {what}   "), theme.label()));
    }
    frame.render_widget(Line::from(spans), area);
}

/// A box with a title.
fn boxed<'t>(title: impl Into<Span<'t>>, theme: Theme) -> Block<'t> {
    let title = title.into();
    Block::bordered().border_type(BorderType::Rounded).border_style(theme.faint()).title(Line::from_iter([
        Span::raw(" "),
        title.style(theme.title()),
        Span::raw(" "),
    ]))
}

/// A cleared box in the middle of `area`, with room for `width` and `height` cells inside.
fn front<'t>(
    frame: &mut Frame<'_>,
    area: Rect,
    (width, height): (u16, u16),
    title: impl Into<Span<'t>>,
    theme: Theme,
) -> Rect {
    let (width, height) =
        (width.saturating_add(4).min(area.width), height.saturating_add(2).min(area.height));
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let area = Rect { x, y, width, height };
    let block = boxed(title, theme).padding(ratatui::widgets::Padding::horizontal(1));
    let inside = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    inside
}

/// Names and what belongs to them, in front of a list.
fn draw_rows(
    frame: &mut Frame<'_>,
    area: Rect,
    title: String,
    rows: Vec<(&'static str, String)>,
    theme: Theme,
) {
    let lines: Vec<_> = rows
        .into_iter()
        .map(|(name, value)| {
            Line::from(vec![Span::styled(format!("{name:<13}"), theme.label()), Span::raw(value)])
        })
        .collect();
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let inside = front(frame, area, (64, height), title, theme);
    frame.render_widget(Paragraph::new(lines), inside);
}

/// `text` in at most `width` cells, with the middle left out where it is longer.
fn shorten(text: &str, width: usize) -> String {
    if text.len() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (left, right) = (kept - kept / 2, kept / 2);
    let head = text.get(..left).unwrap_or_default();
    let tail = text.get(text.len() - right..).unwrap_or_default();
    format!("{head}…{tail}")
}
