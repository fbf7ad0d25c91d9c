//! What a person reads of finished runs: tables beside the published numbers, training curves, confusion matrices.
//!
//! It reads results and trains nothing. Read [`published`] first (what stands beside), then [`stats`] (how sure a
//! difference is) and [`tables`], then the pictures: [`curves`], [`confusion`] and [`spectrogram`]; [`examples`] picks
//! single tracks, and [`html`] puts all of it on one page. Results on the built-in corpus say `synthetic` wherever they
//! appear.

pub mod confusion;
pub mod curves;
mod drawing;
pub mod examples;
pub mod html;
mod labels;
pub mod published;
pub mod spectrogram;
pub mod stats;
pub mod tables;

use std::path::Path;

use crate::error::Result;
use crate::files;
use crate::train::results::Run;

pub use labels::{Section, clean, data_label, last_runs, run_name, variant};

/// Writes `report.html`, `tables.md`, `curves.svg` and one `confusion-<run's folder>.svg` a run into the existing `folder`.
///
/// # Errors
/// [`Error::Config`] without runs or with damaged results; [`Error::Io`] if the disk refuses.
///
/// [`Error::Config`]: crate::error::Error::Config
/// [`Error::Io`]: crate::error::Error::Io
pub fn write(folder: &Path, sections: &[Section]) -> Result<()> {
    let runs = last_runs(sections);
    if runs.is_empty() && sections.iter().any(|section| !section.baselines.is_empty()) {
        // the nets are still to be trained: there is nothing to draw yet
        return files::replace(&folder.join("tables.md"), tables::document(sections).as_bytes());
    }
    let curves = curves::training_curves(&runs)?;
    let matrices: Vec<String> = runs.iter().map(confusion::confusion_matrix).collect::<Result<_>>()?;
    files::replace(&folder.join("tables.md"), tables::document(sections).as_bytes())?;
    files::replace(&folder.join("curves.svg"), curves.as_bytes())?;
    for (run, svg) in runs.iter().zip(&matrices) {
        let name = run.folder.file_name().unwrap_or_default().to_string_lossy();
        files::replace(&folder.join(format!("confusion-{name}.svg")), svg.as_bytes())?;
    }
    html::write(folder, sections)
}

/// Writes `curves.svg` and `confusion.svg` into the run's own folder.
///
/// # Errors
/// [`Error::Config`] for damaged results; [`Error::Io`] if the disk refuses.
///
/// [`Error::Config`]: crate::error::Error::Config
/// [`Error::Io`]: crate::error::Error::Io
pub fn write_run(run: &Run) -> Result<()> {
    let curves = curves::training_curves(std::slice::from_ref(run))?;
    let matrix = confusion::confusion_matrix(run)?;
    files::replace(&run.folder.join("curves.svg"), curves.as_bytes())?;
    files::replace(&run.folder.join("confusion.svg"), matrix.as_bytes())
}
