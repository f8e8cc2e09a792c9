//! A chart: lines over a common axis, drawn as SVG, with a tooltip at each of its places.

use std::fmt::Write as _;

use super::axis::{Scale, top};
use super::escape;

/// Size of the drawing and of what is left for the axes.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// Lines over a common axis.
pub(super) struct Chart {
    pub(super) title: String,
    /// Said below the title.
    pub(super) note: String,
    /// Where on the common axis the values are, 0 to 1, rising, and how a tooltip calls it.
    pub(super) places: Vec<(f64, String)>,
    /// Ticks of the common axis: 0 to 1, and label.
    pub(super) ticks: Vec<(f64, String)>,
    /// Dashed uprights: where a stage ends.
    pub(super) marks: Vec<f64>,
    pub(super) lines: Vec<Line>,
    /// How values are written.
    pub(super) unit: fn(f64) -> String,
    /// 1024 for bytes, else 10.
    pub(super) base: f64,
    /// Whether each factor of ten may get the same height, where small values could not be told apart otherwise.
    pub(super) may_be_log: bool,
}

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    /// One for each place; nothing where there is none.
    pub(super) values: Vec<Option<f64>>,
    /// Index of its colour.
    pub(super) colour: usize,
    pub(super) is_dashed: bool,
}

impl Chart {
    fn values(&self) -> impl Iterator<Item = f64> {
        self.lines.iter().flat_map(|line| line.values.iter().flatten().copied())
    }

    /// Says whether there is anything to draw.
    pub(super) fn is_empty(&self) -> bool {
        self.values().next().is_none()
    }

    /// Draws it.
    pub(super) fn draw(&self) -> String {
        let largest = self.values().fold(0.0, f64::max);
        let smallest = self.values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let range = (HEIGHT - BOTTOM, TOP);
        // Evenly, the small ones could not be told apart.
        let y = if self.may_be_log && smallest.is_finite() && largest / smallest > 40.0 {
            Scale::log((smallest * 0.8, largest * 1.2), range)
        } else {
            Scale::linear((0.0, top(largest, self.base)), range)
        };
        let x = Scale::linear((0.0, 1.0), (LEFT, WIDTH - RIGHT));
        let mut svg = String::new();
        self.axes(&mut svg, &x, &y);
        for line in &self.lines {
            Self::line(&mut svg, &self.places, line, &x, &y);
        }
        self.tips(&mut svg, &x, &y);
        format!(
            "<figure>\n<figcaption><b>{}</b>{}<span>{}</span></figcaption>\n\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n{svg}</svg>\n</figure>\n",
            escape(&self.title),
            self.legend(),
            escape(&self.note),
            escape(&self.title)
        )
    }

    fn legend(&self) -> String {
        let entry = |line: &Line| {
            let dashed = if line.is_dashed { " dashed" } else { "" };
            format!("<i class=\"k{}{dashed}\">{}</i>", line.colour, escape(&line.name))
        };
        self.lines.iter().map(entry).collect()
    }

    fn axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        // Writing into a string does not fail.
        for tick in y.ticks(self.base) {
            let (at, label) = (y.at(tick), escape(&short(&(self.unit)(tick))));
            let below = at + 4.0;
            write!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>").ok();
            writeln!(
                svg,
                "<text class=\"y\" x=\"{:.0}\" y=\"{below:.1}\">{label}</text>",
                LEFT - 8.0
            )
            .ok();
        }
        for mark in &self.marks {
            writeln!(svg, "<path class=\"mark\" d=\"M{:.1} {TOP}V{bottom}\"/>", x.at(*mark)).ok();
        }
        writeln!(svg, "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>").ok();
        for (tick, label) in &self.ticks {
            let (at, below) = (x.at(*tick), HEIGHT - 8.0);
            writeln!(
                svg,
                "<text class=\"x\" x=\"{at:.1}\" y=\"{below}\">{}</text>",
                escape(label)
            )
            .ok();
        }
    }

    fn line(svg: &mut String, places: &[(f64, String)], line: &Line, x: &Scale, y: &Scale) {
        let mut path = String::new();
        let mut is_down = false;
        for ((place, _), value) in places.iter().zip(&line.values) {
            let Some(value) = value else {
                is_down = false;
                continue;
            };
            let (at, height) = (x.at(*place), y.at(*value));
            // A move alone draws nothing: a single value is a dot.
            if is_down {
                write!(path, "L{at:.1} {height:.1}").ok();
            } else {
                write!(path, "M{at:.1} {height:.1}h.01").ok();
            }
            is_down = true;
        }
        let dashed = if line.is_dashed { " dashed" } else { "" };
        writeln!(svg, "<path class=\"line c{}{dashed}\" d=\"{path}\"/>", line.colour).ok();
    }

    /// What is shown while the pointer is over a place: style sheets do that alone.
    fn tips(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let centre = |index: usize| self.places.get(index).map(|(place, _)| x.at(*place));
        for (index, (place, label)) in self.places.iter().enumerate() {
            let at = x.at(*place);
            let before = index
                .checked_sub(1)
                .and_then(centre)
                .map_or(LEFT, |before| before.midpoint(at));
            let after = centre(index + 1).map_or(WIDTH - RIGHT, |after| after.midpoint(at));
            let rows: Vec<(usize, String, f64)> = self
                .lines
                .iter()
                .filter_map(|line| {
                    let value = (*line.values.get(index)?)?;
                    Some((
                        line.colour,
                        format!("{}  {}", line.name, (self.unit)(value)),
                        y.at(value),
                    ))
                })
                .collect();
            if rows.is_empty() {
                continue;
            }
            let (wide, bottom) = ((after - before).max(0.5), HEIGHT - BOTTOM);
            write!(
                svg,
                "<g class=\"h\"><rect x=\"{before:.1}\" y=\"{TOP}\" width=\"{wide:.1}\" height=\"{bottom}\"/>"
            )
            .ok();
            write!(svg, "<g><path d=\"M{at:.1} {TOP}V{bottom}\"/>").ok();
            for (colour, _, height) in &rows {
                write!(
                    svg,
                    "<circle class=\"f{colour}\" cx=\"{at:.1}\" cy=\"{height:.1}\" r=\"3\"/>"
                )
                .ok();
            }
            tip(svg, at, label, &rows);
            svg.push_str("</g></g>\n");
        }
    }
}

/// Returns a number with its unit, without zeros that say nothing: `20.0 ms` is `20 ms`.
fn short(text: &str) -> String {
    let (number, unit) = text.split_once(' ').map_or((text, ""), |(number, unit)| (number, unit));
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    if number == "0" || unit.is_empty() {
        number.to_owned()
    } else {
        format!("{number} {unit}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "letters of a label")]
fn tip(svg: &mut String, at: f64, label: &str, rows: &[(usize, String, f64)]) {
    let letters = rows.iter().map(|(_, text, _)| text.chars().count() + 2);
    let letters = letters.chain([label.chars().count()]).max().unwrap_or_default();
    let (wide, high) = (letters as f64 * 6.4 + 16.0, rows.len() as f64 * 15.0 + 24.0);
    let left = if at + wide + 12.0 < WIDTH {
        at + 10.0
    } else {
        at - wide - 10.0
    };
    let text = left + 8.0;
    write!(
        svg,
        "<rect class=\"tip\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{wide:.1}\" height=\"{high:.1}\" rx=\"5\"/>"
    )
    .ok();
    write!(
        svg,
        "<text><tspan class=\"at\" x=\"{text:.1}\" y=\"{:.1}\">{}</tspan>",
        TOP + 16.0,
        escape(label)
    )
    .ok();
    for (index, (colour, row, _)) in rows.iter().enumerate() {
        let line = TOP + 31.0 + index as f64 * 15.0;
        write!(
            svg,
            "<tspan class=\"f{colour}\" x=\"{text:.1}\" y=\"{line:.1}\">●</tspan> {}",
            escape(row)
        )
        .ok();
    }
    svg.push_str("</text>");
}
