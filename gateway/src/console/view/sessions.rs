//! The page of open sessions.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::list::{self, Shown};
use super::shorten;
use crate::console::list::sessions::Sort;
use crate::console::model::Model;
use crate::console::text::{number, safe, size, span};
use crate::console::theme::Theme;
use crate::session::table::SessionView;

/// Width from which the session's name and its HELO are shown too.
const WIDE: u16 = 110;

/// Width below which only client, stage and age are shown.
const NARROW: u16 = 62;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    // The border takes two cells.
    let columns = columns(area.width.saturating_sub(2));
    list::draw(frame, area, &model.sessions, &columns, "", theme);
}

/// The columns that there is room for. Addresses share what the others leave, less a third for
/// HELO.
fn columns(width: u16) -> Vec<Shown<SessionView>> {
    let address = match width {
        WIDE.. => width.saturating_sub(11 + 6 + 5 + 5 + 5 + 13 + 8) / 3,
        NARROW.. => width.saturating_sub(11 + 6 + 5 + 5 + 5 + 6) / 2,
        ..NARROW => width.saturating_sub(11 + 6 + 2),
    };
    let client = Shown::sorted(Sort::Client, address, |session: &SessionView, width| {
        shorten(&safe(&session.client), width)
    });
    let stage = Shown::sorted(Sort::Stage, 11, |session: &SessionView, _| session.stage.name().to_owned());
    let age = Shown::sorted(Sort::Age, 6, |session: &SessionView, _| span(session.age));
    if width < NARROW {
        return vec![client, stage, age];
    }
    let mut columns = vec![
        client,
        Shown::sorted(Sort::Destination, address, |session, width| {
            shorten(&safe(&session.destination), width)
        }),
        stage,
        age,
        Shown::sorted(Sort::Messages, 5, |session, _| number(u64::from(session.messages))),
        Shown::sorted(Sort::FromClient, 5, |session, _| size(session.from_client)),
        Shown::sorted(Sort::FromServer, 5, |session, _| size(session.from_server)),
    ];
    if width >= WIDE {
        columns.push(Shown::other("ID", Some(13), |session, _| session.id.to_string()));
        columns.push(Shown::other("HELO", None, |session, _| safe(&session.helo)));
    }
    columns
}
