//! Which tracks are held out together.

use serde::{Deserialize, Serialize};

/// Which tracks of a class are held out together.
///
/// GTZAN's neighbours often share artist and album (B. L. Sturm, "The GTZAN dataset: its contents, its faults, their
/// effects on evaluation, and its future use", 2013), so a random split tests, in part, whether a net has heard that
/// album before. Holding out neighbours together leaves it fewer acquaintances: only those across the ends of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// any tracks, drawn at random: the report's and the paper's
    #[default]
    Random,
    /// runs of neighbouring track numbers, so that fewer artists and albums are on both sides
    Blocks,
}
