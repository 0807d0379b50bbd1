//! The question whether something is to be done.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::front;
use crate::console::deed::Deed;
use crate::console::model::Model;
use crate::console::text::{plural, safe, size, span};
use crate::console::theme::Theme;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, deed: &Deed, theme: Theme) {
    let [yes, no] = deed.answers();
    let lines = vec![
        Line::from(whose(model, deed)),
        Line::default(),
        Line::from(vec![
            Span::styled("y", theme.key()),
            Span::raw(format!(" {yes}   ")),
            Span::styled("n", theme.key()),
            Span::raw(format!(" {no}")),
        ]),
    ];
    let inside = front(frame, area, (54, 3), deed.question(), theme);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), inside);
}

/// What it is about, as far as that is known still.
fn whose(model: &Model, deed: &Deed) -> String {
    match deed {
        Deed::End(id) => model.sessions.find(id).map_or_else(
            || "a session that has ended".to_owned(),
            |session| format!("{} to {}", safe(&session.client), safe(&session.destination)),
        ),
        Deed::Unlock(who) => model.locks.find(who).map_or_else(
            || "a lock that is over".to_owned(),
            |lock| format!("locked for {}: {}", lock.cause.name(), safe(&lock.detail)),
        ),
        Deed::Message(_, id) => model.queue.find(id).map_or_else(
            || "a message that has left the queue".to_owned(),
            |message| {
                let recipients = plural(message.recipients.into(), "recipient");
                let (stands, size, age) = (message.stands(), size(message.size), span(message.age));
                format!("{stands}, {size} for {recipients}, {age} old")
            },
        ),
        Deed::Flush(destination) => model.destinations.find(destination).map_or_else(
            || "no mail waits for it any more".to_owned(),
            |row| format!("{} wait for it", plural(row.messages, "message")),
        ),
    }
}
