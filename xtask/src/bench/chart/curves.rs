//! A line for each family: what it costs at each size, beside what it costs at the smallest.

use super::bars::whole;
use super::canvas::{Canvas, FAINT, Failed, GRID, INK, LINES, Side, WIDTH};
use crate::bench::report::{Report, spread};

const HEIGHT: i32 = 420;
/// The field of the lines.
const LEFT: i32 = 64;
const RIGHT: i32 = WIDTH - 50;
const TOP: i32 = 100;
const BOTTOM: i32 = HEIGHT - 100;
/// The highest ratio that is shown at least.
const HIGHEST: f64 = 2.0;

/// Families whose rows are sizes.
pub(super) struct Curves {
    pub(super) title: &'static str,
    pub(super) axis: &'static str,
    /// What they are called.
    pub(super) families: &'static [(&'static str, &'static str)],
}

/// A size, its ratio to the smallest, and the least and the most of a round.
type Point = (f64, f64, (f64, f64));

impl Curves {
    /// `None` where none of the families was measured.
    pub(super) fn draw(&self, reports: &[Report], about: &str) -> Result<Option<String>, Failed> {
        let found = self.families.iter().filter_map(|(family, called)| {
            let report = reports.iter().find(|report| report.family == *family)?;
            let points: Vec<Point> = report
                .rows
                .iter()
                .filter_map(|row| {
                    Some((row.name.parse().ok()?, report.ratio(row), spread(&report.ratios(row))))
                })
                .collect();
            Some((*called, points))
        });
        let curves: Vec<_> = found.collect();
        if curves.is_empty() {
            return Ok(None);
        }
        let rounds = reports
            .iter()
            .find(|report| self.families.iter().any(|(family, _)| report.family == *family))
            .and_then(|report| report.rows.first())
            .map_or(0, |row| row.values.len());
        Canvas::picture(self.title, HEIGHT, |canvas| self.draw_on(canvas, &curves, rounds, about)).map(Some)
    }

    fn draw_on(
        &self,
        canvas: &Canvas<'_>,
        curves: &[(&str, Vec<Point>)],
        rounds: usize,
        about: &str,
    ) -> Result<(), Failed> {
        let points = || curves.iter().flat_map(|(_, points)| points);
        let most = points().map(|(.., (_, high))| high.ceil()).fold(HIGHEST, f64::max);
        let sizes = |pick: fn(f64, f64) -> f64, first| points().map(|(size, ..)| *size).fold(first, pick);
        let field = Field { least: sizes(f64::min, f64::MAX), largest: sizes(f64::max, 1.0), most };
        canvas.heading(self.title, (20, 24))?;
        let sub = "How many times what it takes at the smallest size. Flat is best; the dashed line is what a search \
                   through all of them would do.";
        canvas.text(sub, (20, 46), Side::Right, 15, FAINT)?;
        field.draw(canvas)?;
        // Linear growth leaves the picture soon.
        let linear: Vec<f64> = (0..=20).map(|step| 1.0 + (most - 1.0) * f64::from(step) / 20.0).collect();
        for pair in linear.chunks(2) {
            if let [from, to] = pair {
                let at = |ratio: f64| field.at(field.least * ratio, ratio);
                canvas.line(&[at(*from), at(*to)], FAINT, 1)?;
            }
        }
        for (place, ((called, points), color)) in (0..).zip(curves.iter().zip(LINES.iter().cycle())) {
            let line: Vec<_> = points.iter().map(|(size, ratio, _)| field.at(*size, *ratio)).collect();
            canvas.line(&line, *color, 3)?;
            for (size, ratio, (low, high)) in points {
                let (x, y) = field.at(*size, *ratio);
                canvas.bar((x - 4, y - 4), (x + 4, y + 4), *color)?;
                canvas.line(&[field.at(*size, *low), field.at(*size, *high)], *color, 1)?;
            }
            let x = 20 + 240 * place;
            canvas.bar((x, 68), (x + 14, 82), *color)?;
            let last = points.last().map_or(f64::NAN, |(_, ratio, _)| *ratio);
            canvas.text(&format!("{called}: {last:.2} times"), (x + 20, 75), Side::Right, 14, INK)?;
        }
        canvas.text(self.axis, (WIDTH / 2, BOTTOM + 38), Side::Middle, 14, INK)?;
        let means =
            format!("Medians of {rounds} rounds; thin lines: the least and the most ratio of a round.");
        canvas.text(&means, (20, BOTTOM + 62), Side::Right, 14, FAINT)?;
        canvas.text(about, (20, BOTTOM + 82), Side::Right, 14, FAINT)
    }
}

/// From sizes and ratios to pixels; sizes by their logarithm.
struct Field {
    least: f64,
    largest: f64,
    most: f64,
}

impl Field {
    fn at(&self, size: f64, ratio: f64) -> (i32, i32) {
        let decades = (self.largest / self.least).log10().max(1.0);
        let along = (size / self.least).log10() / decades;
        let up = ratio.clamp(0.0, self.most) / self.most;
        let (wide, high) = (f64::from(RIGHT - LEFT), f64::from(BOTTOM - TOP));
        (LEFT + whole(along * wide), BOTTOM - whole(up * high))
    }

    fn draw(&self, canvas: &Canvas<'_>) -> Result<(), Failed> {
        let mut ratio = 0.0;
        while ratio <= self.most {
            let (left, y) = self.at(self.least, ratio);
            let (right, _) = self.at(self.largest, ratio);
            canvas.line(&[(left, y), (right, y)], GRID, 1)?;
            canvas.text(&format!("{ratio:.1}"), (left - 8, y), Side::Left, 14, INK)?;
            ratio += if self.most > 4.0 { 1.0 } else { 0.5 };
        }
        let mut size = self.least;
        while size <= self.largest {
            let (x, y) = self.at(size, 0.0);
            canvas.text(&grouped(size), (x, y + 16), Side::Middle, 14, INK)?;
            size *= 10.0;
        }
        Ok(())
    }
}

/// A whole number with commas.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
