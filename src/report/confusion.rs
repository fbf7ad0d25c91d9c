//! The confusion matrix as a picture: truth on the left, prediction by max on top, tracks in the cells.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};
use crate::train::results::{Results, Run};

use super::drawing::{Area, Drawn, GREY, INK, WARNING, label, svg};
use super::labels::{SYNTHETIC, counted, data_label, variant};
use super::tables::{abbreviations, class_accuracy, row_names};

/// Sizes of the picture, in pixels.
struct Sizes {
    /// Side of a cell.
    cell: i32,
    /// Room above the matrix.
    top: i32,
    /// Room right of it, for the accuracies.
    right: i32,
    /// Longest name of a row, in characters.
    name: usize,
    /// Whether it has a title.
    titled: bool,
}

/// A file of its own: title, data, label and column names above.
const FILE: Sizes = Sizes { cell: 36, top: 118, right: 90, name: 24, titled: true };
/// On a phone, below a heading.
const NARROW: Sizes = Sizes { cell: 22, top: 76, right: 68, name: 12, titled: false };
/// Height of the line below the title.
const DETAIL: f64 = 12.0;

/// An SVG heat map of the run's confusion matrix: a cell's colour is its share of the truth's tracks; the share that is correct
/// stands at the end of each row.
///
/// # Errors
/// [`Error::Config`] if the matrix has not one row and one column a class.
pub fn confusion_matrix(run: &Run) -> Result<String> {
    sized(run, &FILE)
}

/// As [`confusion_matrix`], for a narrow page that names the run above it.
///
/// # Errors
/// As [`confusion_matrix`].
pub fn narrow_confusion_matrix(run: &Run) -> Result<String> {
    sized(run, &NARROW)
}

fn sized(run: &Run, sizes: &Sizes) -> Result<String> {
    let results = &run.results;
    let classes = results.data.classes.len();
    let square = results.confusion.len() == classes && results.confusion.iter().all(|row| row.len() == classes);
    if classes == 0 || !square {
        let message =
            format!("results.json: expected a confusion matrix of {classes} x {classes} counts; run evaluate again");
        return Err(Error::Config(message));
    }
    let names = row_names(&results.data.classes, sizes.name);
    let n = classes as i32;
    // Generous: 8.4 pixels a letter of 13 pixels, a full square beyond the alphabets; and room for the word "truth".
    let pixels = |name: &String| name.chars().map(|c| if c < '\u{1100}' { 8.4 } else { 13.0 }).sum::<f64>();
    let left = 44 + names.iter().map(pixels).fold(0.0, f64::max) as i32;
    let variant = variant(run);
    let variant = variant.strip_prefix(&format!("{}, ", results.model)).unwrap_or(&variant);
    let what = format!("{variant}; data: {}", data_label(&results.data));
    let words = if sizes.titled { 500.max(28 + (0.6 * DETAIL * what.chars().count() as f64) as i32) } else { 370 };
    let width = (left + n * sizes.cell + sizes.right).max(words);
    let size = (width as u32, (sizes.top + n * sizes.cell + 44) as u32);
    let title = format!(
        "Confusion matrix: {}, {}, seed {}",
        results.model,
        counted(results.epochs as usize, "epoch"),
        results.seed
    );
    let alternative = format!("{title}, {what}");
    svg(size, &alternative, |area| {
        let mut line = 17;
        if sizes.titled {
            label(area, &title, (14, 22), 17.0, INK, HPos::Left)?;
            label(area, &what, (14, 43), DETAIL, GREY, HPos::Left)?;
            line = 61;
        }
        if results.data.synthetic {
            label(area, SYNTHETIC, (14, line), 12.0, WARNING, HPos::Left)?;
        }
        draw(area, results, &names, sizes, left)
    })
}

fn draw(area: &Area, results: &Results, names: &[String], sizes: &Sizes, left: i32) -> Drawn {
    let &Sizes { cell: side, top, .. } = sizes;
    let n = names.len() as i32;
    let (right, bottom) = (left + n * side, top + n * side);
    label(area, "predicted, by max (sum of logits)", (left, top - 33), 12.0, GREY, HPos::Left)?;
    label(area, "correct", (right + 10, top - 12), 12.0, GREY, HPos::Left)?;
    let truth = super::drawing::font(12.0).transform(FontTransform::Rotate270).color(&GREY);
    let truth = truth.pos(Pos::new(HPos::Center, VPos::Center));
    area.draw(&Text::new("truth", (18, (top + bottom) / 2), truth))?;
    for (column, short) in abbreviations(&results.data.classes).iter().enumerate() {
        let x = left + column as i32 * side + side / 2;
        label(area, short, (x, top - 12), if short.chars().count() > 3 { 10.0 } else { 13.0 }, INK, HPos::Center)?;
    }
    for (k, (name, row)) in names.iter().zip(&results.confusion).enumerate() {
        let y = top + k as i32 * side;
        label(area, name, (left - 8, y + side / 2), 13.0, INK, HPos::Right)?;
        let total: u64 = row.iter().map(|&count| u64::from(count)).sum();
        for (column, &count) in row.iter().enumerate() {
            let x = left + column as i32 * side;
            let share = if total == 0 { 0.0 } else { f64::from(count) / total as f64 };
            let cell = [(x, y), (x + side, y + side)];
            area.draw(&Rectangle::new(cell, heat(share).filled()))?;
            area.draw(&Rectangle::new(cell, RGBColor(214, 214, 214).stroke_width(1)))?;
            let ink = if count == 0 { GREY } else { ink_on(heat(share)) };
            let count = count.to_string();
            let pixels = 13f64.min(f64::from(side - 4) / (0.66 * count.len() as f64));
            label(area, &count, (x + side / 2, y + side / 2), pixels, ink, HPos::Center)?;
        }
        let accuracy = class_accuracy(row, k).map_or("–".to_string(), |percent| format!("{percent:.1} %"));
        label(area, &accuracy, (right + 10, y + side / 2), 13.0, INK, HPos::Left)?;
    }
    let foot = format!("max: {:.2} % of {}", results.accuracies.max, counted(results.tracks.len(), "test track"));
    label(area, &foot, (14, bottom + 24), 13.0, INK, HPos::Left)
}

/// White or black, whichever differs more from `paper`: at least 4.5 to 1 by WCAG's measure.
fn ink_on(paper: RGBColor) -> RGBColor {
    if 1.05 / (luminance(paper) + 0.05) >= 4.5 { WHITE } else { BLACK }
}

/// WCAG 2's relative luminance, 0 to 1.
fn luminance(RGBColor(r, g, b): RGBColor) -> f64 {
    let linear = |c: u8| {
        let c = f64::from(c) / 255.0;
        if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
}

/// White to dark blue, in equal steps of lightness: readable without colour.
fn heat(share: f64) -> RGBColor {
    let mix = |from: f64, to: f64| (from + (to - from) * share.clamp(0.0, 1.0)).round() as u8;
    RGBColor(mix(255.0, 8.0), mix(255.0, 64.0), mix(255.0, 129.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_legible_on_every_share() {
        // by hand: black on white is 21 to 1
        assert!((1.05 / (luminance(BLACK) + 0.05) - 21.0).abs() < 1e-9);
        let contrast = |a: RGBColor, b: RGBColor| {
            let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
            a.max(b) / a.min(b)
        };
        assert!(contrast(GREY, heat(0.0)) >= 4.5);
        for share in 0..=1000 {
            let paper = heat(f64::from(share) / 1000.0);
            assert!(contrast(ink_on(paper), paper) >= 4.5, "{share}");
        }
    }
}
