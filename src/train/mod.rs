//! Training and testing a net: epochs, schedules, metrics, checkpoints, the run's folder.
//!
//! Read [`program`] first (what one step is), then [`fit`] (what an epoch is), then [`evaluate`].

pub mod checkpoint;
pub mod config;
pub mod evaluate;
mod events;
pub mod fit;
pub mod metrics;
pub mod program;
pub mod results;
pub mod state;
