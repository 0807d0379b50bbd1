//! The page of clients: what the kernel counts of each.

use std::time::Duration;

use ipnet::IpNet;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Wrap};

use super::list::{self, Shown};
use super::{boxed, draw_rows, shorten};
use crate::console::list::clients::{Sort, excess};
use crate::console::model::Model;
use crate::console::text::{number, safe, size, span};
use crate::console::theme::Theme;
use crate::ipc::client::{ClientSort, ClientView};

/// Width from which SYNs and the time since the last packet are shown too.
const WIDE: u16 = 100;

/// Width below which only client, sessions and fan-out are shown.
const NARROW: u16 = 62;

/// Cells for a /64 and for an address of IPv4.
const CLIENT: u16 = 18;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    if let Some(why) = &model.uncounted {
        let text = Paragraph::new(Line::styled(format!(" {}", safe(why)), theme.faint()));
        let block = boxed("clients", theme);
        frame.render_widget(text.wrap(Wrap { trim: false }).block(block), area);
        return;
    }
    let note = if model.period == Duration::ZERO {
        String::new()
    } else {
        format!(", in two periods of {}", span(model.period))
    };
    // The border takes two cells.
    let columns = columns(area.width.saturating_sub(2));
    list::draw(frame, area, &model.clients, &columns, &note, theme);
}

/// The columns that there is room for. Each number is the one that the list is sorted by.
fn columns(width: u16) -> Vec<Shown<ClientView>> {
    let client = |width| {
        Shown::sorted(Sort::Client, width, |client: &ClientView, width| shorten(&client.name(), width))
    };
    let sessions = amount(ClientSort::Sessions, 9, |client, _| number(ClientSort::Sessions.of(client)));
    let fan_out = amount(ClientSort::FanOut, 8, |client, _| number(ClientSort::FanOut.of(client)));
    if width < NARROW {
        return vec![client(width.saturating_sub(9 + 8 + 2)), sessions, fan_out];
    }
    let wide = width >= WIDE;
    let mut columns = vec![
        client(if wide { CLIENT.max(width / 4) } else { CLIENT }),
        amount(ClientSort::Open, 5, |client, _| number(ClientSort::Open.of(client))),
        sessions,
        amount(ClientSort::Bytes, 6, |client, _| size(ClientSort::Bytes.of(client))),
        fan_out,
    ];
    if wide {
        columns.push(amount(ClientSort::Syns, 7, |client, _| number(ClientSort::Syns.of(client))));
    }
    columns.push(amount(ClientSort::Failed, 7, |client, _| number(ClientSort::Failed.of(client))));
    if wide {
        columns.push(Shown::sorted(Sort::Idle, 6, |client, _| span(client.idle)));
    }
    columns.push(Shown::other("OVER", None, |client, _| safe(&excess(client).join(" "))));
    columns
}

fn amount(sort: ClientSort, width: u16, cell: fn(&ClientView, usize) -> String) -> Shown<ClientView> {
    Shown::sorted(Sort::By(sort), width, cell)
}

/// One client in front of the list.
pub(super) fn draw_detail(frame: &mut Frame<'_>, area: Rect, model: &Model, whose: IpNet, theme: Theme) {
    let (title, rows) = match model.clients.find(&whose) {
        Some(client) => (client.name(), rows(client)),
        None => (whose.to_string(), vec![("", "nothing is known of it any more".to_owned())]),
    };
    draw_rows(frame, area, format!("client {title}"), rows, theme);
}

/// Both periods, the current one first.
fn rows(client: &ClientView) -> Vec<(&'static str, String)> {
    let (now, before) = (&client.current, &client.previous);
    let both = |now: u32, before: u32| format!("{}, {} before", number(now.into()), number(before.into()));
    let octets = |now: u64, before: u64| format!("{}, {} before", size(now), size(before));
    let over = |names: &[String]| if names.is_empty() { "none".to_owned() } else { safe(&names.join(" ")) };
    vec![
        ("open", number(client.open.into())),
        ("sessions", both(now.sessions, before.sessions)),
        ("destinations", both(now.destinations, before.destinations)),
        ("SYNs", both(now.syns, before.syns)),
        ("failed", both(now.failed, before.failed)),
        ("sent", octets(now.from_client, before.from_client)),
        ("received", octets(now.from_server, before.from_server)),
        ("over", format!("{}; before: {}", over(&now.excess), over(&before.excess))),
        (
            "in all",
            format!(
                "{} SYNs, {} sessions, {}",
                number(client.syns),
                number(client.sessions),
                size(client.octets)
            ),
        ),
        ("last packet", format!("{} ago", span(client.idle))),
    ]
}
