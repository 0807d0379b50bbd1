//! The keys, in front of whatever is on the screen.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::front;
use crate::console::input::KEYS;
use crate::console::theme::Theme;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let mut lines = Vec::new();
    for (place, keys) in KEYS {
        lines.push(Line::styled(*place, theme.title()));
        for (key, what) in *keys {
            lines.push(Line::from(vec![Span::styled(format!("  {key:<16}"), theme.key()), Span::raw(*what)]));
        }
    }
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let inside = front(frame, area, (50, height), "keys", theme);
    frame.render_widget(Paragraph::new(lines), inside);
}
