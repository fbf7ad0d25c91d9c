//! Training curves as a picture: loss on the left, raw accuracy on the right, one colour a net.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::error::{Error, Result};
use crate::train::metrics::Epoch;
use crate::train::results::{Results, Run};

use super::drawing::{Area, Drawn, GREY, INK, WARNING, font, label, svg};
use super::labels::{SYNTHETIC, clean, counted, data_label, data_labels, group_names, groups};
use super::tables::repeats;

/// Okabe and Ito's palette, told apart with any colour vision, without its yellow and in an order dark enough on white.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// Where the parts of the picture are, in pixels.
struct Layout {
    /// Width of the picture.
    width: u32,
    /// Height of a panel with its axes.
    panel: u32,
    /// Room above the panels.
    head: i32,
    /// Whether the panels are below each other, without a title.
    narrow: bool,
    /// Longest line of the legend, in characters.
    line: usize,
}

/// A file of its own: both panels in a row.
const FILE: Layout = Layout { width: 1000, panel: 360, head: 62, narrow: false, line: usize::MAX };
/// On a phone, below a heading.
const NARROW: Layout = Layout { width: 380, panel: 280, head: 52, narrow: true, line: 44 };
/// Height of a line of the legend.
const LINE: i32 = 22;
/// Up to so many epochs are marked by dots.
const MARKED: usize = 12;
/// Larger losses have lost all meaning, and would not fit the axis.
const LARGEST: f64 = 1e12;

/// Runs that are averaged, with their colour.
struct Curve<'a> {
    name: String,
    colour: RGBColor,
    runs: Vec<&'a Run>,
}

impl Curve<'_> {
    /// `pick` of every run.
    fn each(&self, pick: fn(&Epoch) -> f64) -> Vec<Vec<(u32, f64)>> {
        self.runs.iter().map(|run| run.epochs.iter().map(|epoch| (epoch.epoch, pick(epoch))).collect()).collect()
    }

    /// The mean of `pick` over the runs, for the epochs that all of them have.
    fn mean(&self, pick: fn(&Epoch) -> f64) -> Vec<(u32, f64)> {
        let shortest = self.runs.iter().map(|run| run.epochs.len()).min().unwrap_or_default();
        let mean = |k: usize| self.runs.iter().map(|run| pick(&run.epochs[k])).sum::<f64>() / self.runs.len() as f64;
        (0..shortest).map(|k| (self.runs[0].epochs[k].epoch, mean(k))).collect()
    }
}

/// An SVG of loss and raw accuracy per epoch. Runs that differ in the seed share a colour: thin lines, and their mean.
///
/// # Errors
/// [`Error::Config`] without runs, for a run without epochs, or for values that cannot be drawn.
pub fn training_curves(runs: &[Run]) -> Result<String> {
    picture(runs, &FILE)
}

/// As [`training_curves`], for a narrow page that names the data above it.
///
/// # Errors
/// As [`training_curves`].
pub fn narrow_training_curves(runs: &[Run]) -> Result<String> {
    picture(runs, &NARROW)
}

fn picture(runs: &[Run], layout: &Layout) -> Result<String> {
    if runs.is_empty() {
        return Err(Error::Config("curves: expected one finished run or more, got none".to_string()));
    }
    runs.iter().try_for_each(check)?;
    let one_data = runs.iter().all(|run| run.results.data.name == runs[0].results.data.name);
    let groups = groups(runs);
    let names = group_names(&groups);
    let curves: Vec<Curve> = groups
        .into_iter()
        .zip(names)
        .enumerate()
        .map(|(k, (runs, mut name))| {
            let Results { epochs, seed, data, .. } = &runs[0].results;
            if !one_data {
                name += &format!(", {}", data_label(data));
            }
            name += &format!(", {}", counted(*epochs as usize, "epoch"));
            name += &match runs.len() {
                1 => format!(", seed {seed}"),
                _ => format!(", mean of {} (thin: each)", repeats(&runs)),
            };
            // More groups than colours: the same again, paler, then darker.
            let shade = |c: u8| [c, c / 2 + 120, c / 2][k / PALETTE.len() % 3];
            let RGBColor(r, g, b) = PALETTE[k % PALETTE.len()];
            Curve { name, colour: RGBColor(shade(r), shade(g), shade(b)), runs }
        })
        .collect();
    let synthetic = runs.iter().any(|run| run.results.data.synthetic);
    let title = format!("Training curves: {}", clean(&data_labels(runs), 80));
    let &Layout { width, panel: tall, head, narrow, line } = layout;
    let legend: Vec<Vec<String>> = curves.iter().map(|curve| wrapped(&curve.name, line)).collect();
    let lines = legend.iter().map(Vec::len).sum::<usize>() as u32;
    let height = head as u32 + if narrow { 2 * tall } else { tall } + lines * LINE as u32 + 20;
    svg((width, height), &title, |area| {
        if !narrow {
            label(area, &title, (16, 24), 17.0, INK, HPos::Left)?;
        }
        if synthetic {
            let (place, pixels) = if narrow { ((8, 14), 11.0) } else { ((16, 48), 12.0) };
            label(area, SYNTHETIC, place, pixels, WARNING, HPos::Left)?;
        }
        key(area, if narrow { (20, 38) } else { (width as i32 / 2 + 78, 48) })?;
        let (_, below) = area.split_vertically(head);
        let (panels, legend_area) = below.split_vertically(if narrow { 2 * tall } else { tall });
        let (left, right) = match narrow {
            true => panels.split_vertically(tall as i32),
            false => panels.split_horizontally(width as i32 / 2),
        };
        let highest = runs.iter().flat_map(|run| &run.epochs).map(|epoch| epoch.loss).fold(0.0, f64::max);
        let top = if highest > 0.0 { highest * 1.05 } else { 1.0 };
        panel(&left, &curves, "training loss (sum over batches)", top, |e| e.loss, None)?;
        panel(&right, &curves, "raw accuracy (%)", 100.0, |e| e.test_accuracy, Some(|e| e.train_accuracy))?;
        legend_lines(&legend_area, &curves, &legend)
    })
}

/// `name` in lines of at most `longest` characters, where its parts allow it.
fn wrapped(name: &str, longest: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in name.split(", ") {
        match lines.last_mut() {
            Some(line) if line.chars().count() + part.chars().count() < longest.saturating_sub(2) => {
                *line += &format!(", {part}");
            }
            _ => lines.push(part.to_string()),
        }
    }
    lines.into_iter().map(|line| clean(&line, longest)).collect()
}

/// A `metrics.csv` can hold anything.
fn check(run: &Run) -> Result<()> {
    let path = run.folder.join("metrics.csv");
    if run.epochs.is_empty() {
        return Err(Error::data(path, "holds no epoch, so there is no curve to draw"));
    }
    let percent = |x: f64| (0.0..=100.0).contains(&x);
    for epoch in &run.epochs {
        let fine = epoch.loss.abs() <= LARGEST && percent(epoch.train_accuracy) && percent(epoch.test_accuracy);
        if !fine || epoch.epoch > 1_000_000_000 {
            let message = format!("epoch {}: its loss or an accuracy is not a number that can be drawn", epoch.epoch);
            return Err(Error::data(path, message));
        }
    }
    Ok(())
}

/// One chart: solid lines for `solid`, dashed ones for `dashed`.
fn panel(
    area: &Area,
    curves: &[Curve],
    unit: &str,
    top: f64,
    solid: fn(&Epoch) -> f64,
    dashed: Option<fn(&Epoch) -> f64>,
) -> Drawn {
    let epochs = || curves.iter().flat_map(|curve| &curve.runs).flat_map(|run| &run.epochs).map(|epoch| epoch.epoch);
    let (first, last) = (epochs().min().unwrap_or_default(), epochs().max().unwrap_or_default());
    let marked = ((last - first) as usize) < MARKED;
    // A single epoch stands in the middle.
    let range = if first == last { first.saturating_sub(1)..last + 1 } else { first..last };
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(range, 0.0..top)?;
    let number = move |y: &f64| if top < 10.0 { format!("{y:.2}") } else { format!("{y:.0}") };
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc(unit)
        .y_label_formatter(&number)
        .x_labels(area.dim_in_pixel().0 as usize / 45)
        .y_labels(11)
        .axis_desc_style(font(13.0).color(&INK))
        .label_style(font(12.0).color(&INK))
        .axis_style(GREY)
        .bold_line_style(RGBColor(226, 226, 226))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for curve in curves {
        let line = |width: u32| curve.colour.stroke_width(width);
        if let Some(pick) = dashed {
            let points = curve.mean(pick);
            chart.draw_series(DashedLineSeries::new(points.clone(), 6, 4, line(2)))?;
            if marked || points.len() == 1 {
                chart.draw_series(points.into_iter().map(|point| Circle::new(point, 4, line(1))))?;
            }
        }
        if curve.runs.len() > 1 {
            for points in curve.each(solid) {
                chart.draw_series(LineSeries::new(points, curve.colour.mix(0.45).stroke_width(1)))?;
            }
        }
        let points = curve.mean(solid);
        chart.draw_series(LineSeries::new(points.clone(), line(2)))?;
        if marked || points.len() == 1 {
            chart.draw_series(points.into_iter().map(|point| Circle::new(point, 4, curve.colour.filled())))?;
        }
    }
    Ok(())
}

/// The legend: a stroke of each net's colour, and its name in one line or more.
fn legend_lines(area: &Area, curves: &[Curve], names: &[Vec<String>]) -> Drawn {
    let mut y = 8;
    for (curve, lines) in curves.iter().zip(names) {
        area.draw(&PathElement::new(vec![(24, y), (56, y)], curve.colour.stroke_width(3)))?;
        for line in lines {
            label(area, line, (66, y), 13.0, INK, HPos::Left)?;
            y += LINE;
        }
    }
    Ok(())
}

/// What solid and dashed mean, from `at` on.
fn key(area: &Area, (left, y): (i32, i32)) -> Drawn {
    let samples = [(0, "test", vec![(0, 32)]), (90, "training (dropout on)", vec![(0, 8), (12, 20), (24, 32)])];
    for (at, name, dashes) in samples {
        for (from, to) in dashes {
            area.draw(&PathElement::new(vec![(left + at + from, y), (left + at + to, y)], GREY.stroke_width(2)))?;
        }
        label(area, name, (left + at + 40, y), 12.0, INK, HPos::Left)?;
    }
    Ok(())
}
