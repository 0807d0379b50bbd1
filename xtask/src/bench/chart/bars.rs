//! A bar for each row: as long as its ratio to the yardstick, with the spread of the rounds as a line.

use super::canvas::{Canvas, FAINT, Failed, GRID, INK, OTHER, OWN, Side, WIDTH};
use super::{called, is_own};
use crate::bench::report::{Report, Row, spread};

/// Pixels of a row, and of the heading of a group.
const ROW: i32 = 26;
const GROUP: i32 = 30;
/// Where the first group begins, and what is below the last.
const HEAD: i32 = 62;
const FOOT: i32 = 66;
/// Where bars begin, and what is kept free beside the longest for its numbers.
const LEFT: i32 = 240;
const NUMBERS: i32 = 200;

/// Rows of one family.
pub(super) struct Bars {
    pub(super) family: &'static str,
    pub(super) yardstick: &'static str,
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: &'static str,
    /// Groups of rows, in the order from above, and what they are called.
    pub(super) groups: &'static [(&'static str, &'static str)],
}

impl Bars {
    /// `None` where the family was not measured, or a group of it was not.
    pub(super) fn draw(&self, reports: &[Report], about: &str) -> Result<Option<String>, Failed> {
        let is_meant = |report: &&Report| report.family == self.family && report.yardstick == self.yardstick;
        let Some(report) = reports.iter().find(is_meant) else { return Ok(None) };
        let groups: Vec<(&str, Vec<&Row>)> = self
            .groups
            .iter()
            .map(|(group, called)| (*called, report.rows.iter().filter(|row| row.group == *group).collect()))
            .collect();
        if groups.iter().any(|(_, rows)| rows.is_empty()) {
            return Ok(None);
        }
        let rows: i32 = groups.iter().map(|(_, rows)| GROUP + ROW * pixels(rows.len())).sum();
        let height = HEAD + rows + FOOT;
        let picture =
            Canvas::picture(self.title, height, |canvas| self.draw_on(canvas, report, &groups, about));
        picture.map(Some)
    }

    fn draw_on(
        &self,
        canvas: &Canvas<'_>,
        report: &Report,
        groups: &[(&str, Vec<&Row>)],
        about: &str,
    ) -> Result<(), Failed> {
        let all = groups.iter().flat_map(|(_, rows)| rows);
        let most = all.map(|row| spread(&report.ratios(row)).1).fold(1.0, f64::max);
        let scale = Scale { most };
        canvas.heading(self.title, (20, 24))?;
        let yardstick = called(self.yardstick);
        let sub = format!("Bars: how many times the {} of {yardstick}. {}.", self.unit, self.better);
        canvas.text(&sub, (20, 46), Side::Right, 15, FAINT)?;
        let rounds = groups.first().and_then(|(_, rows)| rows.first()).map_or(0, |row| row.values.len());
        let mut top = HEAD;
        for (heading, rows) in groups {
            canvas.text(heading, (20, top + GROUP / 2 + 2), Side::Right, 16, INK)?;
            top += GROUP;
            let bottom = top + ROW * pixels(rows.len());
            canvas.line(&[(scale.at(1.0), top), (scale.at(1.0), bottom)], GRID, 1)?;
            for row in rows {
                draw_row(canvas, report, row, &scale, top, self.unit)?;
                top += ROW;
            }
        }
        let means =
            format!("Medians of {rounds} rounds; thin lines: the least and the most ratio of a round.");
        canvas.text(&means, (20, top + 26), Side::Right, 14, FAINT)?;
        canvas.text(about, (20, top + 46), Side::Right, 14, FAINT)
    }
}

fn draw_row(
    canvas: &Canvas<'_>,
    report: &Report,
    row: &Row,
    scale: &Scale,
    top: i32,
    unit: &str,
) -> Result<(), Failed> {
    let middle = top + ROW / 2;
    canvas.text(called(&row.name), (LEFT - 10, middle), Side::Left, 15, INK)?;
    let color = if is_own(&row.name) { OWN } else { OTHER };
    let ratio = report.ratio(row);
    canvas.bar((LEFT, top + 4), (scale.at(ratio), top + ROW - 4), color)?;
    let (low, high) = spread(&report.ratios(row));
    canvas.line(&[(scale.at(low), middle), (scale.at(high), middle)], INK, 1)?;
    for end in [low, high] {
        canvas.line(&[(scale.at(end), middle - 4), (scale.at(end), middle + 4)], INK, 1)?;
    }
    let numbers = format!("{} {unit}, {ratio:.2}", shown(row.median()));
    canvas.text(&numbers, (scale.at(high.max(ratio)) + 8, middle), Side::Right, 15, INK)
}

/// From ratios to pixels.
struct Scale {
    most: f64,
}

impl Scale {
    fn at(&self, ratio: f64) -> i32 {
        let room = f64::from(WIDTH - LEFT - NUMBERS);
        LEFT + whole(ratio.clamp(0.0, self.most) / self.most * room)
    }
}

/// As many digits as the spread of a measurement bears.
fn shown(value: f64) -> String {
    match value {
        value if value >= 1_000.0 => super::curves::grouped((value / 10.0).round() * 10.0),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        value => format!("{value:.2}"),
    }
}

fn pixels(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX / 1_000)
}

#[expect(clippy::cast_possible_truncation, reason = "a place in a picture is small")]
pub(super) fn whole(pixels: f64) -> i32 {
    pixels.round() as i32
}
