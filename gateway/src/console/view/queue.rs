//! The page of the queue: mail that waits.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Wrap};

use super::list::{self, Shown};
use super::{boxed, draw_rows};
use crate::console::list::queue::{Queued, Sort};
use crate::console::model::{Model, QueueStanding};
use crate::console::text::{number, safe, size, span};
use crate::console::theme::Theme;
use crate::control::request::queue::QueuedMessage;
use crate::queue::{QueueId, Target};

/// Width below which only the message, its age and how it stands are shown.
const NARROW: u16 = 56;

/// Cells of a reason that are shown, and of each of its lines.
const LONGEST_REASON: usize = 3 * LINE;
const LINE: usize = 50;

/// Recipients that are named; of more it is said how many.
const NAMED: usize = 6;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    if let Some(why) = &model.queueless {
        let text = Paragraph::new(Line::styled(format!(" {}", safe(why)), theme.faint()));
        frame.render_widget(text.wrap(Wrap { trim: false }).block(boxed("queue", theme)), area);
        return;
    }
    let QueueStanding { ready, deferred, held, damaged, oldest } = model.standing;
    let mut note = format!(": {ready} ready, {deferred} deferred, {held} held");
    if damaged > 0 {
        note.push_str(&format!(" ({damaged} damaged)"));
    }
    if let Some(oldest) = oldest {
        note.push_str(&format!("; oldest {}", span(oldest)));
    }
    // The border takes two cells.
    let columns = columns(area.width.saturating_sub(2));
    list::draw(frame, area, &model.queue, &columns, &note, theme);
}

/// The columns that there is room for.
fn columns(width: u16) -> Vec<Shown<Queued>> {
    let id = Shown::sorted(Sort::Id, 13, |message: &Queued, _| message.id.to_string());
    let age = Shown::sorted(Sort::Age, 7, |message: &Queued, _| span(message.age));
    let standing = Shown::sorted(Sort::Standing, 9, |message: &Queued, _| message.stands().to_owned());
    if width < NARROW {
        return vec![id, age, standing];
    }
    vec![
        id,
        age,
        Shown::sorted(Sort::Size, 6, |message, _| size(message.size)),
        Shown::sorted(Sort::Recipients, 6, |message, _| number(message.recipients.into())),
        standing,
        Shown::sorted(Sort::Due, 7, |message, _| message.due.map(span).unwrap_or_default()),
    ]
}

/// One message in front of the list.
pub(super) fn draw_detail(frame: &mut Frame<'_>, area: Rect, model: &Model, id: QueueId, theme: Theme) {
    let known = model.message.as_ref().filter(|(whose, _)| *whose == id).map(|(_, message)| message);
    let rows = match known {
        None => vec![("", "waiting for its envelope".to_owned())],
        Some(Err(why)) => vec![("", safe(why))],
        Some(Ok(message)) => rows(message, model.queue.find(&id)),
    };
    draw_rows(frame, area, format!("message {id}"), rows, theme);
}

fn rows(message: &QueuedMessage, listed: Option<&Queued>) -> Vec<(&'static str, String)> {
    let QueuedMessage { entry, envelope, settled, warned, reason } = message;
    let target = match &envelope.target {
        Target::Mx => "mail exchangers".to_owned(),
        Target::Relay(relay) => safe(relay),
        Target::Original(server) => format!("{server}, the client's choice"),
    };
    let mut rows = vec![
        ("sender", format!("<{}>", safe(&envelope.sender))),
        ("target", target),
        ("size", format!("{} ({} octets)", size(entry.size), number(entry.size))),
    ];
    match listed {
        Some(listed) => {
            let due = listed.due.map(|due| format!(", due in {}", span(due))).unwrap_or_default();
            rows.push(("age", span(listed.age)));
            rows.push(("standing", format!("{}{due}", listed.stands())));
        }
        None => rows.push(("standing", "it has left the queue".to_owned())),
    }
    if let Some(reason) = reason {
        let reason: Vec<char> = safe(reason).chars().take(LONGEST_REASON).collect();
        for (number, line) in reason.chunks(LINE).enumerate() {
            rows.push((if number == 0 { "reason" } else { "" }, line.iter().collect()));
        }
    }
    if let Some(submitter) = &envelope.submitter {
        rows.push(("client", format!("{} {}", submitter.address, safe(&submitter.helo))));
    }
    if *warned {
        rows.push(("warned", "the sender knows that it takes long".to_owned()));
    }
    for (place, recipient) in (0_u32..).zip(&envelope.recipients).take(NAMED) {
        let done = if settled.contains(&place) { "  done" } else { "" };
        rows.push(("recipient", format!("<{}>{done}", safe(&recipient.address))));
    }
    let more = envelope.recipients.len().saturating_sub(NAMED);
    if more > 0 {
        rows.push(("", format!("and {more} more")));
    }
    rows
}
