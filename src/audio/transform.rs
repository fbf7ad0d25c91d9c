//! What every planned front end does.

/// A planned front end.
pub trait Transform: Send + Sync {
    /// Writes `[bins, frames]` of `samples` (mono, at the front end's rate) to `out`, row by row.
    fn transform(&self, samples: &[f32], out: &mut [f32]);
}
