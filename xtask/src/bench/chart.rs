//! A family as a picture: a bar for each row, and a line for the spread of its rounds.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Color as _, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _, IntoFont as _,
    PathElement, RGBColor, Rectangle, SVGBackend, Text, WHITE,
};

use super::report::{Report, Row, spread};

/// Pixels of a row.
const ROW: u32 = 24;
/// Pixels of names beside the bars.
const NAMES: u32 = 200;
const WIDTH: u32 = 800;
/// Pixels of the heading and the numbers below.
const FRAME: u32 = 75;
const GATEWAY: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const OTHER: RGBColor = RGBColor(0xb0, 0xb8, 0xc0);
/// Rows of the gateway's own ways carry one of these names.
const OWN: [&str; 4] = ["gateway", "handoff", "splice", "copy"];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws `FAMILY-YARDSTICK.svg` in the folder.
pub(super) fn write(report: &Report, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(format!("{}-{}.svg", report.family, report.yardstick));
    let rows = u32::try_from(report.rows.len())?;
    let area = SVGBackend::new(&path, (WIDTH, FRAME + rows * ROW)).into_drawing_area();
    draw(report, &area).map_err(|error| anyhow!("{error}"))?;
    area.present().with_context(|| format!("cannot write {}", path.display()))
}

fn draw(report: &Report, area: &Area<'_>) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    area.fill(&WHITE)?;
    let rows = f64::from(u32::try_from(report.rows.len()).unwrap_or(u32::MAX));
    let most = report.rows.iter().map(|row| spread(&row.values).1).fold(0.0, f64::max);
    let caption = format!("{} ({})", report.family, report.unit);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..most * 1.05, 0.0..rows)?;
    chart.configure_mesh().disable_y_mesh().y_labels(0).draw()?;
    for (place, row) in (0u32..).zip(&report.rows) {
        // The first row stands on top.
        let top = rows - f64::from(place);
        let color = if OWN.contains(&row.name.as_str()) { GATEWAY } else { OTHER };
        chart
            .draw_series([Rectangle::new([(0.0, top - 0.15), (row.median(), top - 0.85)], color.filled())])?;
        let (low, high) = spread(&row.values);
        chart
            .draw_series([PathElement::new([(low, top - 0.5), (high, top - 0.5)], BLACK.stroke_width(1))])?;
    }
    let names = report.rows.iter().enumerate().map(|(place, row)| label(report, row, place));
    names.into_iter().try_for_each(|text| area.draw(&text))
}

fn label(report: &Report, row: &Row, place: usize) -> Text<'static, (i32, i32), String> {
    /// From the picture's upper edge to the first name.
    const HEAD: i32 = 40;
    let place = i32::try_from(place).unwrap_or(i32::MAX);
    let row_height = i32::try_from(ROW).unwrap_or(i32::MAX);
    let text = format!("{}  {:.2}", row.path(), report.ratio(row));
    Text::new(text, (10, HEAD + place * row_height), ("sans-serif", 13).into_font())
}
