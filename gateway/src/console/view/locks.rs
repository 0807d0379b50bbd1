//! The page of locks, and of networks that none touches.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::widgets::{Paragraph, Wrap};

use super::list::{self, Shown};
use super::{boxed, draw_rows, shorten};
use crate::console::list::locks::Sort;
use crate::console::model::Model;
use crate::console::text::{number, plural, safe, span};
use crate::console::theme::Theme;
use crate::control::request::LockView;
use crate::policy::lock::Who;

/// Width from which the action is shown too.
const WIDE: u16 = 100;

/// Width below which only who, cause and what is left are shown.
const NARROW: u16 = 62;

/// Cells for a /64 and for an address of IPv4.
const WHO: u16 = 22;

/// Rows from which exempted networks have some of their own.
const TALL: u16 = 10;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    // The border takes two cells.
    let width = area.width.saturating_sub(2);
    let exempt = exempt(model);
    let letters = u16::try_from(exempt.len()).unwrap_or(u16::MAX);
    let lines = letters.checked_div(width).unwrap_or(0).saturating_add(1).min(3);
    let rows = if exempt.is_empty() || area.height < TALL { 0 } else { lines.saturating_add(2) };
    let [locks, nets] = Layout::vertical([Constraint::Min(0), Constraint::Length(rows)]).areas(area);
    list::draw(frame, locks, &model.locks, &columns(width), "", theme);
    if rows > 0 {
        let count = u64::try_from(model.exempt.len()).unwrap_or(u64::MAX);
        let block = boxed(format!("{} exempt from locks", plural(count, "network")), theme);
        frame.render_widget(Paragraph::new(exempt).wrap(Wrap { trim: true }).block(block), nets);
    }
}

fn exempt(model: &Model) -> String {
    let nets: Vec<_> = model.exempt.iter().map(ToString::to_string).collect();
    nets.join(", ")
}

/// The columns that there is room for.
fn columns(width: u16) -> Vec<Shown<LockView>> {
    let who = |width| {
        Shown::sorted(Sort::Who, width, |lock: &LockView, width| shorten(&safe(&lock.who.to_string()), width))
    };
    let cause = Shown::sorted(Sort::Cause, 10, |lock: &LockView, _| lock.cause.name().to_owned());
    let left = Shown::sorted(Sort::Left, 8, |lock: &LockView, _| left(lock));
    if width < NARROW {
        return vec![who(width.saturating_sub(10 + 8 + 2)), cause, left];
    }
    let wide = width >= WIDE;
    let mut columns = vec![who(if wide { WHO.max(width / 4) } else { WHO }), cause];
    if wide {
        columns.push(Shown::sorted(Sort::Action, 7, |lock, _| lock.action.name().to_owned()));
    }
    columns.push(Shown::sorted(Sort::Since, 7, |lock, _| span(Duration::from_secs(lock.age))));
    columns.push(left);
    columns.push(Shown::sorted(Sort::Hits, 9, |lock, _| number(lock.hits)));
    columns.push(Shown::other("DETAIL", None, |lock, _| safe(&lock.detail)));
    columns
}

fn left(lock: &LockView) -> String {
    lock.left.map_or_else(|| "for ever".to_owned(), |left| span(Duration::from_secs(left)))
}

/// One lock in front of the list.
pub(super) fn draw_detail(frame: &mut Frame<'_>, area: Rect, model: &Model, who: &Who, theme: Theme) {
    let rows = match model.locks.find(who) {
        Some(lock) => rows(lock),
        None => vec![("", "it is over".to_owned())],
    };
    draw_rows(frame, area, format!("lock of {}", safe(&who.to_string())), rows, theme);
}

fn rows(lock: &LockView) -> Vec<(&'static str, String)> {
    let ago = |seconds| format!("{} ago", span(Duration::from_secs(seconds)));
    vec![
        ("cause", lock.cause.name().to_owned()),
        ("detail", if lock.detail.is_empty() { "none".to_owned() } else { safe(&lock.detail) }),
        ("action", lock.action.name().to_owned()),
        ("set", ago(lock.age)),
        ("left", left(lock)),
        ("session", lock.session.map_or_else(|| "none: an operator's".to_owned(), |id| id.to_string())),
        ("offences", number(lock.offences)),
        ("hits", number(lock.hits)),
        ("last hit", lock.last.map_or_else(|| "none yet".to_owned(), ago)),
    ]
}
