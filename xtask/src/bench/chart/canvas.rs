//! Text, bars and lines on a picture of two liveries.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::{
    Color as _, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _, IntoFont as _, PathElement,
    RGBColor, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, TextStyle};

/// Pixels.
pub(super) const WIDTH: i32 = 840;

/// Colours by day; [`NIGHT`] says what they are by night.
pub(super) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
pub(super) const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
pub(super) const FAINT: RGBColor = RGBColor(0x59, 0x63, 0x6e);
pub(super) const GRID: RGBColor = RGBColor(0xd1, 0xd9, 0xe0);
pub(super) const OWN: RGBColor = RGBColor(0x21, 0x7a, 0xe0);
pub(super) const OTHER: RGBColor = RGBColor(0x9a, 0xa4, 0xaf);
pub(super) const LINES: [RGBColor; 3] = [OWN, RGBColor(0xd8, 0x6b, 0x0d), RGBColor(0x2d, 0x9d, 0x5a)];

/// A page shows a picture without its own styles: what the reader prefers is asked in the picture, for the paper and
/// for what is on it alike, so that it is legible on any page.
const NIGHT: &str = "<style>@media (prefers-color-scheme: dark) {\
    [fill=\"#FFFFFF\"] {fill: #0D1117} [fill=\"#1F2328\"] {fill: #F0F6FC} [stroke=\"#1F2328\"] {stroke: #F0F6FC} \
    [fill=\"#59636E\"] {fill: #9198A1} [stroke=\"#59636E\"] {stroke: #9198A1} [stroke=\"#D1D9E0\"] {stroke: #3D444D} \
    [fill=\"#9AA4AF\"] {fill: #656C76}}</style>";

pub(super) type Failed = DrawingAreaErrorKind<io::Error>;

/// Where text stands beside its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Right,
    Left,
    Middle,
}

/// A picture that is being drawn.
pub(super) struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

impl Canvas<'_> {
    /// Draws a picture with what is in it for those who do not see it.
    pub(super) fn picture(
        title: &str,
        height: i32,
        draw: impl FnOnce(&Canvas<'_>) -> Result<(), Failed>,
    ) -> Result<String, Failed> {
        let mut svg = String::new();
        let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
        let canvas = Canvas(SVGBackend::with_string(&mut svg, size).into_drawing_area());
        canvas.0.fill(&PAPER)?;
        draw(&canvas)?;
        canvas.0.present()?;
        drop(canvas);
        let title = title.replace('&', "&amp;").replace('<', "&lt;");
        // Behind the tag that the drawing begins with.
        let begin = svg.find('>').map_or(0, |end| end + 1);
        svg.insert_str(begin, &format!("\n<title>{title}</title>\n{NIGHT}"));
        Ok(svg)
    }

    pub(super) fn text(
        &self,
        text: &str,
        at: (i32, i32),
        side: Side,
        size: i32,
        color: RGBColor,
    ) -> Result<(), Failed> {
        self.write(text, at, side, ("sans-serif", size).into_font().color(&color))
    }

    pub(super) fn heading(&self, text: &str, at: (i32, i32)) -> Result<(), Failed> {
        let font = ("sans-serif", 20).into_font().style(FontStyle::Bold);
        self.write(text, at, Side::Right, font.color(&INK))
    }

    fn write(&self, text: &str, at: (i32, i32), side: Side, style: TextStyle<'_>) -> Result<(), Failed> {
        let horizontal = match side {
            Side::Right => HPos::Left,
            Side::Left => HPos::Right,
            Side::Middle => HPos::Center,
        };
        let style = style.pos(Pos::new(horizontal, VPos::Center));
        self.0.draw(&Text::new(text.to_owned(), at, style))
    }

    pub(super) fn bar(&self, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Result<(), Failed> {
        self.0.draw(&Rectangle::new([from, to], color.filled()))
    }

    pub(super) fn line(&self, points: &[(i32, i32)], color: RGBColor, width: u32) -> Result<(), Failed> {
        self.0.draw(&PathElement::new(points.to_vec(), color.stroke_width(width)))
    }
}
