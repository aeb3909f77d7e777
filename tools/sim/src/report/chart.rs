//! One drawing: axes, series, a caption and a legend.
//!
//! Decides how lines, bars and dots look. What is drawn is [`super::plots`]' and
//! [`super::growth`]'s.

use anyhow::Result;
use plotters::prelude::*;

use super::axis::Axis;
use super::colour::{Colour, GRID, INK, Style};
use super::html::{Html, element, tag};
use super::number::float;

const WIDTH: u32 = 400;
/// In points, of which the library makes 0.8 pixels each.
const FONT: u32 = 15;

/// A drawing.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What it shows, short.
    pub(super) title: String,
    /// Units and what one must know to read it.
    pub(super) note: String,
    /// The axis along the bottom.
    pub(super) x: Axis,
    /// The axis up the side.
    pub(super) y: Axis,
    /// How points are drawn.
    pub(super) shape: Shape,
    /// The data; a series without points is left out.
    pub(super) series: Vec<Series>,
}

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As a line.
    Line,
    /// As a line with a dot at each point.
    Dots,
    /// As bars that stand side by side.
    Bars,
    /// As bars that lie one above the other; points are (value, place).
    Lying,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// Its name in the legend.
    pub(super) label: String,
    /// Its looks.
    pub(super) style: Style,
    /// Where it goes.
    pub(super) points: Vec<(f64, f64)>,
}

impl Chart {
    /// The drawing with its caption; nothing where it has no points.
    ///
    /// # Errors
    /// Says what the library could not draw.
    pub(super) fn draw(&self) -> Result<Html> {
        let series: Vec<&Series> = self.series.iter().filter(|s| !s.points.is_empty()).collect();
        if series.is_empty() {
            return Ok(Html::default());
        }
        let caption =
            tag("b", &Html::text(&self.title)).then(&tag("span", &Html::text(&self.note)));
        let legend: Html = series.iter().map(|series| entry(series)).collect();
        let figure = tag("figcaption", &caption)
            .then(&element("ul", &[("class", "legend")], &legend))
            .then(&element(
                "div",
                &[("role", "img"), ("aria-label", &self.title)],
                &Html::drawing(self.svg(&series)?),
            ));
        Ok(tag("figure", &figure))
    }

    fn svg(&self, series: &[&Series]) -> Result<String> {
        let mut text = String::new();
        let is_lying = self.shape == Shape::Lying;
        let rows = u32::try_from(self.y.ticks() * (series.len() + 1)).unwrap_or(0);
        let height = if is_lying { (rows * 5 + 60).max(250) } else { 250 };
        {
            let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
            let mut chart = ChartBuilder::on(&root)
                .margin_top(8)
                .margin_right(24)
                .x_label_area_size(if self.x.title.is_empty() { 26 } else { 44 })
                .y_label_area_size(if is_lying { 112 } else { 50 })
                .build_cartesian_2d(self.x.clone(), self.y.clone())?;
            let font = ("sans-serif", FONT).into_font().color(&colour(INK));
            chart
                .configure_mesh()
                .x_labels(self.x.ticks())
                .y_labels(self.y.ticks())
                .x_label_formatter(&|value| self.x.label_at(*value))
                .y_label_formatter(&|value| self.y.label_at(*value))
                .bold_line_style(colour(GRID))
                .axis_style(colour(INK))
                .label_style(font.clone())
                .axis_desc_style(font)
                .x_desc(self.x.title)
                .draw()?;
            for (place, one) in series.iter().enumerate() {
                let ink = colour(one.style.colour);
                let points = || one.points.iter().copied();
                match self.shape {
                    Shape::Line | Shape::Dots => {
                        chart.draw_series(LineSeries::new(points(), ink.stroke_width(2)))?;
                    }
                    Shape::Bars | Shape::Lying => {
                        let bars = points().map(|point| self.bar(point, place, series.len()));
                        let bars = bars.map(|bar| Rectangle::new(bar, ink.filled()));
                        chart.draw_series(bars)?;
                    }
                }
                if self.shape == Shape::Dots {
                    chart.draw_series(points().map(|point| Circle::new(point, 3, ink.filled())))?;
                }
            }
            root.present()?;
        }
        Ok(text)
    }

    /// Two corners of the bar of the `place`-th of `count` series.
    fn bar(&self, (x, y): (f64, f64), place: usize, count: usize) -> [(f64, f64); 2] {
        let width = 0.84 / float(count);
        let offset = -0.42 + width * float(place);
        match self.shape {
            Shape::Lying => {
                // Names run from the top, so do the bars of one name.
                let top = y - offset;
                [(self.x.start(), top), (x, top - width * 0.9)]
            }
            Shape::Line | Shape::Dots | Shape::Bars => {
                [(x + offset, self.y.start()), (x + offset + width * 0.92, y)]
            }
        }
    }
}

fn colour(colour: Colour) -> RGBColor {
    let (red, green, blue) = colour.rgb();
    RGBColor(red, green, blue)
}

fn entry(series: &Series) -> Html {
    let css = series.style.colour.css();
    let class = if series.style.is_dashed { "swatch dashed" } else { "swatch" };
    let border = format!("border-color:{css}");
    let swatch = element(
        "span",
        &[("class", class), ("style", &border), ("data-colour", &css)],
        &Html::default(),
    );
    tag("li", &swatch.then(&Html::text(&series.label)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::colour::style;

    fn chart(shape: Shape, points: Vec<(f64, f64)>) -> Chart {
        let series = Series { label: "a & b".into(), style: style("banyan", 0), points };
        Chart {
            title: "<title>".into(),
            note: String::new(),
            x: Axis::linear("x", 10.0),
            y: Axis::names(&["<kind>", "other"]),
            shape,
            series: vec![series],
        }
    }

    #[test]
    fn every_shape_can_be_drawn() {
        for shape in [Shape::Line, Shape::Dots, Shape::Bars, Shape::Lying] {
            let html = chart(shape, vec![(1.0, 0.0), (2.0, 1.0)]).draw().expect("drawn");
            assert!(html.as_str().contains("<svg"));
        }
    }

    #[test]
    fn names_in_drawings_are_escaped() {
        let html = chart(Shape::Lying, vec![(1.0, 0.0)]).draw().expect("drawn");
        for escaped in ["&lt;title&gt;", "&lt;kind&gt;", "a &amp; b"] {
            assert!(html.as_str().contains(escaped), "{escaped}");
        }
        assert!(!html.as_str().contains("<kind>"));
    }

    #[test]
    fn a_chart_without_points_is_left_out() {
        assert!(chart(Shape::Line, Vec::new()).draw().expect("nothing").is_empty());
    }
}
