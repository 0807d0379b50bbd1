//! The third page: the last lines of the log.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::boxed;
use crate::console::model::{LogPane, Model};
use crate::console::text::{number, safe};
use crate::console::theme::Theme;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let pane = &model.log;
    let block = boxed(title(pane), theme);
    let height = usize::from(block.inner(area).height);
    let matching = pane.matching().count();
    // A pane scrolled up to the first line still fills the screen.
    let behind = pane.behind.min(matching.saturating_sub(height));
    let mut lines: Vec<_> = pane
        .matching()
        .rev()
        .skip(behind)
        .take(height)
        .map(|line| {
            let text = safe_line(&line.text, pane.shift);
            Line::from(vec![
                Span::styled(format!(" {} ", time(line.millis, model.zone())), theme.faint()),
                Span::styled(format!("{:<5} ", safe(&line.level)), theme.level(&line.level)),
                Span::raw(text),
            ])
        })
        .collect();
    lines.reverse();
    if lines.is_empty() {
        let text = if pane.filter.is_empty() { " no line yet" } else { " no line passes the filter" };
        lines.push(Line::styled(text, theme.faint()));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn title(pane: &LogPane) -> String {
    let mut title = match pane.behind {
        0 => "log: following".to_owned(),
        behind => format!("log: {} below", number(u64::try_from(behind).unwrap_or(u64::MAX))),
    };
    if !pane.filter.is_empty() {
        title.push_str(&format!(", /{}", safe(&pane.filter)));
    }
    title
}

/// The gateway sends lines escaped; a line that is not is escaped here, not trusted.
fn safe_line(text: &str, shift: usize) -> String {
    let printable = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    let text = if printable { text.to_owned() } else { safe(text) };
    text.get(shift..).unwrap_or_default().to_owned()
}

fn time(millis: u64, zone: &TimeZone) -> String {
    let time = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    match time {
        Some(time) => time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string(),
        None => "--:--:--".to_owned(),
    }
}
