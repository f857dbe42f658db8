//! A picture of a report: the main rows beside their baselines.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

use super::{Report, Row};

/// The rows of the picture, in the suite and at the size that targets are set for.
const ROWS: [(&str, usize); 8] = [
    ("envelope_seal", 256),
    ("envelope_open", 256),
    ("session_seal_b64", 256),
    ("session_open_b64", 256),
    ("session_seal_b1", 256),
    ("session_open_b1", 256),
    ("handshake_total", 0),
    ("announcement_accept", 0),
];

const WIDTH: u32 = 900;
const BAR: i32 = 16;
/// A pair of bars and the space to the next.
const STEP: i32 = 2 * BAR + 14;
const TOP: i32 = 70;
/// Where the bars begin, and the most that they take.
const LEFT: i32 = 190;
const LENGTH: f64 = 560.0;
const MEASURED: RGBColor = RGBColor(31, 119, 180);
const BASELINE: RGBColor = RGBColor(174, 199, 232);

/// Why there is no picture.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlotError {
    /// The report has none of the rows that the picture shows.
    #[error("the report has none of the rows that the plot shows")]
    Empty,
    /// It could not be drawn or written.
    #[error("cannot draw: {0}")]
    Draw(String),
}

impl Report {
    /// Draws the main rows of suite 1 on `aws-lc` beside their baselines into an SVG file. Lengths are logarithmic: what is
    /// shown spans four orders of magnitude.
    ///
    /// # Errors
    ///
    /// The report has none of these rows, or the file cannot be written.
    pub fn plot(&self, file: &Path) -> Result<(), PlotError> {
        let mut svg = String::new();
        self.draw(&mut svg)?;
        // The backend panics where it cannot write its file, so it draws into memory.
        std::fs::write(file, svg).map_err(|error| PlotError::Draw(error.to_string()))
    }

    fn draw(&self, svg: &mut String) -> Result<(), PlotError> {
        let rows: Vec<&Row> = ROWS.iter().filter_map(|(name, bytes)| self.main(name, *bytes)).collect();
        let times = || rows.iter().flat_map(|row| [row.median, row.baseline]).filter(|time| *time > 0.0);
        let (least, most) = (times().fold(f64::INFINITY, f64::min), times().fold(0.0, f64::max));
        if !(least.is_finite() && most > 0.0) {
            return Err(PlotError::Empty);
        }
        // From the power of ten below the shortest, so that every bar is seen.
        let (low, high) = (least.log10().floor(), (most.log10()).max(least.log10().floor() + 1.0));
        let length = |time: f64| {
            let share = (time.max(least).log10() - low) / (high - low);
            (share * LENGTH) as i32
        };
        let height = TOP + STEP * rows.len() as i32 + 30;
        let area = SVGBackend::with_string(svg, (WIDTH, height.unsigned_abs())).into_drawing_area();
        let title = ("sans-serif", 18).into_font().color(&BLACK);
        let label = ("sans-serif", 13).into_font().color(&BLACK);
        let right = label.pos(Pos::new(HPos::Right, VPos::Center));
        let left = label.pos(Pos::new(HPos::Left, VPos::Center));
        let text = |text: String, at: (i32, i32), style: &TextStyle<'_>| {
            area.draw(&Text::new(text, at, style.clone())).map_err(drawing)
        };
        let bar = |from: (i32, i32), length: i32, color: RGBColor| {
            let to = (from.0 + length.max(1), from.1 + BAR);
            area.draw(&Rectangle::new([from, to], color.filled())).map_err(drawing)
        };
        area.fill(&WHITE).map_err(drawing)?;
        text("What operations cost: suite 1, aws-lc, µs, logarithmic".into(), (20, 16), &title)?;
        for (at, color, name) in [(LEFT, MEASURED, "median"), (LEFT + 120, BASELINE, "its primitives alone")]
        {
            bar((at, 44), BAR, color)?;
            text(name.into(), (at + BAR + 6, 44 + BAR / 2), &left)?;
        }
        for (row, top) in rows.iter().zip((TOP..).step_by(STEP as usize)) {
            text(row.name.into(), (LEFT - 10, top + BAR), &right)?;
            for (time, top, color) in [(row.median, top, MEASURED), (row.baseline, top + BAR, BASELINE)] {
                bar((LEFT, top), length(time), color)?;
                text(time.to_string(), (LEFT + length(time) + 6, top + BAR / 2), &left)?;
            }
        }
        area.present().map_err(drawing)
    }

    fn main(&self, name: &str, bytes: usize) -> Option<&Row> {
        self.rows.iter().find(|row| {
            let same = row.name == name && (bytes == 0 || row.bytes == bytes);
            same && row.suite == 1 && row.backend == "aws-lc" && row.unit == "us"
        })
    }
}

fn drawing(error: impl std::fmt::Display) -> PlotError {
    PlotError::Draw(error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use pqc_iiot_core::crypto::suite::SessionSuite;

    use super::*;

    fn report(rows: &[(&'static str, f64, f64)]) -> Report {
        let row = |&(name, median, baseline): &(&'static str, f64, f64)| {
            let row = Row::size(name, SessionSuite::Hybrid, 256, median, baseline, None);
            Row { unit: "us", ..row }
        };
        Report { rows: rows.iter().map(row).collect(), notes: Vec::new() }
    }

    #[test]
    fn a_plot_has_every_main_row_with_both_figures() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bench.svg");
        report(&[("session_seal_b64", 0.31, 0.12), ("handshake_total", 812.5, 790.25), ("other", 7.77, 1.0)])
            .plot(&file)
            .unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for shown in ["session_seal_b64", "0.31", "0.12", "handshake_total", "812.5", "790.25"] {
            assert!(svg.contains(shown), "{shown} is not in {svg}");
        }
        assert!(!svg.contains("7.77"));
    }

    #[test]
    fn no_rows_and_no_directory_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let rows = report(&[("session_seal_b64", 0.31, 0.12)]);
        assert!(matches!(report(&[]).plot(&directory.path().join("x.svg")), Err(PlotError::Empty)));
        assert!(matches!(rows.plot(&directory.path().join("none/x.svg")), Err(PlotError::Draw(_))));
    }
}
