//! The confusion matrix as a picture: truth on the left, prediction by max on top, tracks in the cells.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};
use crate::train::results::{Results, Run};

use super::tables::{abbreviations, class_accuracy, row_names};
use super::{Area, Drawn, GREY, INK, SYNTHETIC, WARNING, counted, data_label, label, svg, variant};

/// Side of a cell in pixels.
const CELL: i32 = 36;
/// Room above the matrix: title, data, label, column names.
const TOP: i32 = 118;
/// Room right of it for the accuracies.
const RIGHT: i32 = 90;
/// Height of the line below the title.
const DETAIL: f64 = 12.0;

/// An SVG heat map of the run's confusion matrix: a cell's colour is its share of the truth's tracks; the share that is correct
/// stands at the end of each row.
///
/// # Errors
/// [`Error::Config`] if the matrix has not one row and one column a class.
pub fn confusion_matrix(run: &Run) -> Result<String> {
    let results = &run.results;
    let classes = results.data.classes.len();
    let square = results.confusion.len() == classes && results.confusion.iter().all(|row| row.len() == classes);
    if classes == 0 || !square {
        let message =
            format!("results.json: expected a confusion matrix of {classes} x {classes} counts; run evaluate again");
        return Err(Error::Config(message));
    }
    let names = row_names(&results.data.classes, 24);
    let n = classes as i32;
    // Generous: 8.4 pixels a letter of 13 pixels, a full square beyond the alphabets; and room for the word "truth".
    let pixels = |name: &String| name.chars().map(|c| if c < '\u{1100}' { 8.4 } else { 13.0 }).sum::<f64>();
    let left = 44 + names.iter().map(pixels).fold(0.0, f64::max) as i32;
    let variant = variant(run);
    let variant = variant.strip_prefix(&format!("{}, ", results.model)).unwrap_or(&variant);
    let what = format!("{variant}; data: {}", data_label(&results.data));
    let width = (left + n * CELL + RIGHT).max(500).max(28 + (0.6 * DETAIL * what.chars().count() as f64) as i32);
    let size = (width as u32, (TOP + n * CELL + 44) as u32);
    let title = format!(
        "Confusion matrix: {}, {}, seed {}",
        results.model,
        counted(results.epochs as usize, "epoch"),
        results.seed
    );
    let alternative = format!("{title}, {what}");
    svg(size, &alternative, |area| draw(area, results, &names, [&title, &what], left))
}

fn draw(area: &Area, results: &Results, names: &[String], [title, what]: [&str; 2], left: i32) -> Drawn {
    let n = names.len() as i32;
    let (right, bottom) = (left + n * CELL, TOP + n * CELL);
    label(area, title, (14, 22), 17.0, INK, HPos::Left)?;
    label(area, what, (14, 43), DETAIL, GREY, HPos::Left)?;
    if results.data.synthetic {
        label(area, SYNTHETIC, (14, 61), 12.0, WARNING, HPos::Left)?;
    }
    label(area, "predicted, by max (sum of logits)", (left, TOP - 33), 12.0, GREY, HPos::Left)?;
    label(area, "correct", (right + 10, TOP - 12), 12.0, GREY, HPos::Left)?;
    let truth = super::font(12.0).transform(FontTransform::Rotate270).color(&GREY);
    let truth = truth.pos(Pos::new(HPos::Center, VPos::Center));
    area.draw(&Text::new("truth", (18, (TOP + bottom) / 2), truth))?;
    for (column, short) in abbreviations(&results.data.classes).iter().enumerate() {
        let x = left + column as i32 * CELL + CELL / 2;
        label(area, short, (x, TOP - 12), if short.chars().count() > 3 { 10.0 } else { 13.0 }, INK, HPos::Center)?;
    }
    for (k, (name, row)) in names.iter().zip(&results.confusion).enumerate() {
        let y = TOP + k as i32 * CELL;
        label(area, name, (left - 8, y + CELL / 2), 13.0, INK, HPos::Right)?;
        let total: u64 = row.iter().map(|&count| u64::from(count)).sum();
        for (column, &count) in row.iter().enumerate() {
            let x = left + column as i32 * CELL;
            let share = if total == 0 { 0.0 } else { f64::from(count) / total as f64 };
            let cell = [(x, y), (x + CELL, y + CELL)];
            area.draw(&Rectangle::new(cell, heat(share).filled()))?;
            area.draw(&Rectangle::new(cell, RGBColor(214, 214, 214).stroke_width(1)))?;
            let ink = match count {
                0 => RGBColor(150, 150, 150),
                _ if share > 0.5 => WHITE,
                _ => INK,
            };
            let count = count.to_string();
            let pixels = 13f64.min(f64::from(CELL - 4) / (0.66 * count.len() as f64));
            label(area, &count, (x + CELL / 2, y + CELL / 2), pixels, ink, HPos::Center)?;
        }
        let accuracy = class_accuracy(row, k).map_or("–".to_string(), |percent| format!("{percent:.1} %"));
        label(area, &accuracy, (right + 10, y + CELL / 2), 13.0, INK, HPos::Left)?;
    }
    let foot = format!("max: {:.2} % of {}", results.accuracies.max, counted(results.tracks.len(), "test track"));
    label(area, &foot, (14, bottom + 24), 13.0, INK, HPos::Left)
}

/// White to dark blue, in equal steps of lightness: readable without colour.
fn heat(share: f64) -> RGBColor {
    let mix = |from: f64, to: f64| (from + (to - from) * share.clamp(0.0, 1.0)).round() as u8;
    RGBColor(mix(255.0, 8.0), mix(255.0, 64.0), mix(255.0, 129.0))
}
