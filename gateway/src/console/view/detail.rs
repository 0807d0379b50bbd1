//! One session in front of the list.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::draw_rows;
use crate::console::list::sessions::lane;
use crate::console::model::Model;
use crate::console::text::{number, safe, size, span};
use crate::console::theme::Theme;
use crate::intercept::flow::{FlowFacts, SessionId};
use crate::session::table::SessionView;
use crate::telemetry::redact::mac;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, id: SessionId, theme: Theme) {
    let rows = match model.sessions.find(&id) {
        Some(session) => rows(session),
        None => vec![("", "it has ended".to_owned())],
    };
    draw_rows(frame, area, format!("session {id}"), rows, theme);
}

fn rows(session: &SessionView) -> Vec<(&'static str, String)> {
    let octets = |octets: u64| format!("{} ({} octets)", size(octets), number(octets));
    let mut rows = vec![
        ("client", safe(&session.client)),
        ("destination", safe(&session.destination)),
        ("lane, stage", format!("{}, {}", lane(session.stage), session.stage.name())),
        ("age", span(session.age)),
        ("HELO", safe(&session.helo)),
        ("messages", number(u64::from(session.messages))),
        ("sent", octets(session.from_client)),
        ("received", octets(session.from_server)),
    ];
    match &session.facts {
        Some(facts) => rows.extend(kernel(facts)),
        None => rows.push(("kernel", "nothing noted of the first packet".to_owned())),
    }
    if let Some(tls) = &session.tls {
        rows.push((
            "TLS",
            format!("{} for {}", safe(&tls.version), safe(tls.server_name.as_deref().unwrap_or("no name"))),
        ));
        rows.push(("JA4", safe(&tls.ja4)));
    }
    rows
}

fn kernel(facts: &FlowFacts) -> [(&'static str, String); 6] {
    let [outer, inner] = facts.vlan;
    let vlan = match (outer, inner) {
        (0, _) => "none".to_owned(),
        (outer, 0) => outer.to_string(),
        (outer, inner) => format!("{outer} outer, {inner} inner"),
    };
    let offered = [("SACK", facts.sack), ("timestamps", facts.timestamps)];
    let mut options: Vec<_> =
        offered.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()).collect();
    if facts.mss != 0 {
        options.insert(0, format!("MSS {}", facts.mss));
    }
    options.extend(facts.window_scale.map(|scale| format!("window scale {scale}")));
    [
        ("interface", safe(&facts.interface)),
        ("MAC", facts.mac.map_or_else(|| "none".to_owned(), mac)),
        ("VLAN", vlan),
        ("TTL", facts.ttl.to_string()),
        ("SYN window", facts.window.to_string()),
        ("SYN options", if options.is_empty() { "none".to_owned() } else { options.join(", ") }),
    ]
}
