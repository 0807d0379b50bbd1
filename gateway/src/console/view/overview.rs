//! The first page: rates, verdicts, lanes, scanners, the kernel side.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, RenderDirection, Sparkline};

use super::{boxed, shorten};
use crate::console::model::Model;
use crate::console::text::{number, plural, safe, size, span};
use crate::console::theme::Theme;
use crate::control::{Circuit, ScannerHealth, Status};
use crate::telemetry::{Rates, Snapshot};

/// The least a page with boxes needs.
const BOXED: (u16, u16) = (64, 20);

/// The least width with room for the causes that sessions ended of.
const ENDS: u16 = 54;

/// Seconds over which a rate is averaged.
const AVERAGED: usize = 10;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let Some(status) = &model.status else {
        let text = Line::styled(" waiting for the gateway's first answer", theme.faint());
        frame.render_widget(text, area);
        return;
    };
    if area.width < BOXED.0 || area.height < BOXED.1 {
        frame.render_widget(Paragraph::new(in_lines(status, theme)), area);
        return;
    }
    let scanners = u16::try_from(status.scanners.len().clamp(1, 3)).unwrap_or(1) * 2;
    let rows = Layout::vertical([
        Constraint::Fill(2),
        Constraint::Length(7),
        Constraint::Length(scanners + 2),
        Constraint::Min(5),
    ]);
    let [curves, counts, health, kernel] = rows.areas(area);
    draw_curves(frame, curves, status, theme);
    let [messages, sessions] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(counts);
    draw_messages(frame, messages, &status.telemetry, theme);
    draw_sessions(frame, sessions, status, theme);
    let [scanners, troubles] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(health);
    draw_scanners(frame, scanners, &status.scanners, theme);
    draw_troubles(frame, troubles, &status.telemetry, theme);
    draw_kernel(frame, kernel, status, theme);
}

fn draw_curves(frame: &mut Frame<'_>, area: Rect, status: &Status, theme: Theme) {
    let telemetry = &status.telemetry;
    let history = &telemetry.history;
    let [sessions, messages, bytes] = Layout::horizontal([Constraint::Fill(1); 3]).areas(area);
    let open = number(status.open.try_into().unwrap_or(u64::MAX));
    let rate = per_second(history, |point| point.sessions);
    let text = facts(theme, &[(open.as_str(), "open"), (&rate, "new/s")]);
    draw_curve(frame, sessions, "sessions", text, curve(history, |point| point.open), theme.curve(), theme);
    let total = number(telemetry.sum("gateway_messages_total", &[]));
    let rate = per_second(history, |point| point.messages);
    let text = facts(theme, &[(total.as_str(), "in all"), (&rate, "/s")]);
    draw_curve(
        frame,
        messages,
        "messages",
        text,
        curve(history, |point| point.messages),
        theme.curve(),
        theme,
    );
    let sent = size(average(history, |point| point.from_client));
    let received = size(average(history, |point| point.from_server));
    let text = facts(theme, &[(sent.as_str(), "sent"), (&received, "received")]);
    let both = curve(history, |point| point.from_client.saturating_add(point.from_server));
    draw_curve(frame, bytes, "bytes a second", text, both, theme.other_curve(), theme);
}

fn draw_curve(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &'static str,
    text: Line<'_>,
    points: Vec<u64>,
    style: Style,
    theme: Theme,
) {
    let block = boxed(title, theme);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(inside);
    frame.render_widget(text, head);
    let curve = Sparkline::default().data(points).direction(RenderDirection::RightToLeft).style(style);
    frame.render_widget(curve, body);
}

/// The newest point first, as the curve is drawn from the right.
fn curve(history: &[Rates], value: impl Fn(&Rates) -> u64) -> Vec<u64> {
    history.iter().rev().map(value).collect()
}

fn average(history: &[Rates], value: impl Fn(&Rates) -> u64) -> u64 {
    let last = history.iter().rev().take(AVERAGED);
    let points = u64::try_from(last.len().max(1)).unwrap_or(1);
    last.map(value).sum::<u64>() / points
}

/// A rate with one decimal.
fn per_second(history: &[Rates], value: impl Fn(&Rates) -> u64) -> String {
    let tenths = average(history, |point| value(point).saturating_mul(10));
    if tenths >= 1_000 { number(tenths / 10) } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

fn facts<'t>(theme: Theme, facts: &[(&str, &'t str)]) -> Line<'t> {
    let mut spans = Vec::new();
    for (value, name) in facts {
        let between = if name.starts_with('/') { "" } else { " " };
        spans.push(Span::styled(format!(" {value}"), theme.value()));
        spans.push(Span::styled(format!("{between}{name} "), theme.label()));
    }
    Line::from(spans)
}

fn draw_messages(frame: &mut Frame<'_>, area: Rect, telemetry: &Snapshot, theme: Theme) {
    let block = boxed("messages: action, verdict", theme);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [actions, verdicts] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(inside);
    draw_counts(frame, actions, &telemetry.by_label("gateway_messages_total", "action"), theme);
    draw_counts(frame, verdicts, &telemetry.by_label("gateway_messages_total", "verdict"), theme);
}

fn draw_sessions(frame: &mut Frame<'_>, area: Rect, status: &Status, theme: Theme) {
    let lanes = status.telemetry.by_label("gateway_sessions_total", "lane");
    let ends = status.telemetry.by_label("gateway_sessions_total", "end");
    let (title, columns): (_, &[&[(String, u64)]]) = if area.width < ENDS {
        ("sessions: ended, open", &[&lanes, &status.stages])
    } else {
        ("sessions: ended by lane, by cause, open", &[&lanes, &ends, &status.stages])
    };
    let block = boxed(title, theme);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let areas = Layout::horizontal(columns.iter().map(|_| Constraint::Fill(1))).split(inside);
    for (area, counts) in areas.iter().zip(columns) {
        draw_counts(frame, *area, counts, theme);
    }
}

/// Names on the left, numbers on the right, one in a row.
fn draw_counts(frame: &mut Frame<'_>, area: Rect, counts: &[(String, u64)], theme: Theme) {
    let width = usize::from(area.width).saturating_sub(2);
    let lines = counts.iter().map(|(name, count)| {
        let count = number(*count);
        let shown = shorten(&safe(name), width.saturating_sub(count.len() + 1));
        let gap = width.saturating_sub(Span::raw(&shown).width());
        Line::from(vec![
            Span::raw(" "),
            Span::styled(shown, theme.outcome(name)),
            Span::styled(format!("{count:>gap$}"), theme.value()),
        ])
    });
    let mut lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        lines.push(Line::styled(" none yet", theme.faint()));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_scanners(frame: &mut Frame<'_>, area: Rect, scanners: &[ScannerHealth], theme: Theme) {
    let mut lines = Vec::new();
    for scanner in scanners {
        lines.extend(scanner_lines(scanner, theme));
    }
    if scanners.is_empty() {
        lines.push(Line::styled(" none: messages are not scanned", theme.warning()));
    }
    frame.render_widget(Paragraph::new(lines).block(boxed("scanners", theme)), area);
}

fn scanner_lines(scanner: &ScannerHealth, theme: Theme) -> [Line<'static>; 2] {
    let since = span(Duration::from_secs(scanner.since));
    let first = Line::from(vec![
        Span::styled(format!(" {} ", safe(&scanner.name)), theme.value()),
        Span::styled(scanner.state.name(), theme.scanner(scanner.state)),
        Span::raw(format!(" {since}, {} busy{}", scanner.busy, latency(scanner))),
        Span::styled(circuit(scanner.circuit), theme.bad()),
        Span::styled(format!("  {}", safe(&scanner.address)), theme.label()),
    ]);
    let second = if scanner.last_error.is_empty() {
        Line::styled(format!(" {}", safe(&scanner.version)), theme.faint())
    } else {
        Line::styled(format!(" {}", safe(&scanner.last_error)), theme.bad())
    };
    [first, second]
}

fn latency(scanner: &ScannerHealth) -> String {
    scanner.latency_ms.map_or_else(String::new, |latency| format!(", {latency} ms a scan"))
}

/// What the circuit breaker does, if anything.
fn circuit(circuit: Circuit) -> String {
    match circuit {
        Circuit::Closed => String::new(),
        Circuit::Open { seconds_left } => {
            format!(", left alone for {}", span(Duration::from_secs(seconds_left)))
        }
        Circuit::HalfOpen => ", being tried again".to_owned(),
    }
}

fn draw_troubles(frame: &mut Frame<'_>, area: Rect, telemetry: &Snapshot, theme: Theme) {
    let mut lines: Vec<_> = troubles(telemetry)
        .into_iter()
        .map(|(name, count)| Line::styled(format!(" {} {name}", number(count)), theme.warning()))
        .collect();
    if lines.is_empty() {
        lines.push(Line::styled(" none", theme.good()));
    }
    frame.render_widget(Paragraph::new(lines).block(boxed("limits hit, troubles", theme)), area);
}

fn troubles(telemetry: &Snapshot) -> Vec<(String, u64)> {
    let mut troubles = telemetry.by_label("gateway_limits_hit_total", "limit");
    troubles.extend(telemetry.by_label("gateway_troubles_total", "kind"));
    troubles.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    troubles.into_iter().map(|(name, count)| (safe(&name), count)).collect()
}

fn draw_kernel(frame: &mut Frame<'_>, area: Rect, status: &Status, theme: Theme) {
    let block = boxed("datapath", theme);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(inside);
    frame.render_widget(kernel_line(status, theme), head);
    let packets: Vec<_> = status.datapath.packets.iter().filter(|(_, count)| *count != 0).collect();
    let columns = usize::from(body.width / 26).max(1);
    let lines: Vec<_> = packets
        .chunks(columns)
        .map(|row| {
            let cells = row.iter().flat_map(|(reason, count)| {
                let reason = safe(reason);
                let gap = 24usize.saturating_sub(reason.len());
                [
                    Span::styled(format!(" {reason}"), theme.label()),
                    Span::styled(format!("{:>gap$} ", number(*count)), theme.value()),
                ]
            });
            Line::from_iter(cells)
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), body);
}

fn kernel_line(status: &Status, theme: Theme) -> Line<'static> {
    let datapath = &status.datapath;
    if datapath.origin.is_empty() {
        return Line::styled(" not heard of yet", theme.warning());
    }
    let mut spans = vec![Span::styled(format!(" {}", safe(&datapath.origin)), theme.value())];
    if !datapath.attach.is_empty() {
        spans.push(Span::raw(format!(", {} on ", safe(&datapath.attach))));
        spans.push(match datapath.interfaces.as_slice() {
            [] => Span::styled("no interface", theme.bad()),
            names => Span::styled(safe(&names.join(" ")), theme.good()),
        });
    }
    let restarts = datapath.proxy_restarts;
    let style = if restarts == 0 { theme.label() } else { theme.warning() };
    spans.push(Span::styled(format!(", {} of the proxy", plural(restarts, "restart")), style));
    Line::from(spans)
}

/// The page without boxes, for small terminals.
fn in_lines(status: &Status, theme: Theme) -> Vec<Line<'static>> {
    let telemetry = &status.telemetry;
    let history = &telemetry.history;
    let line = |name: &'static str, text: String| {
        Line::from(vec![Span::styled(format!(" {name:<9}"), theme.title()), Span::raw(text)])
    };
    let short = |name: &str, key: &str| {
        let counts = telemetry.by_label(name, key);
        if counts.is_empty() { "none yet".to_owned() } else { crate::console::text::counts(&counts) }
    };
    let open = number(status.open.try_into().unwrap_or(u64::MAX));
    let mut lines = vec![
        line("sessions", format!("{open} open, {} new/s", per_second(history, |point| point.sessions))),
        line("messages", short("gateway_messages_total", "action")),
        line("verdicts", short("gateway_messages_total", "verdict")),
        line("lanes", short("gateway_sessions_total", "lane")),
    ];
    for scanner in &status.scanners {
        let state = Span::styled(scanner.state.name(), theme.scanner(scanner.state));
        let name = Span::styled(format!(" {:<9}", safe(&scanner.name)), theme.title());
        let circuit = Span::styled(circuit(scanner.circuit), theme.bad());
        let error = Span::raw(format!(" {}", safe(&scanner.last_error)));
        lines.push(Line::from(vec![name, state, circuit, error]));
    }
    let mut kernel = kernel_line(status, theme);
    kernel.spans.insert(0, Span::styled(" datapath", theme.title()));
    lines.push(kernel);
    let packets: Vec<_> = status.datapath.packets.iter().filter(|(_, count)| *count != 0).cloned().collect();
    lines.push(line("packets", crate::console::text::counts(&packets)));
    lines
}
