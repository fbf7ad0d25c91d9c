//! Spectrograms of many segments: the work of loading a corpus, without the decoding.

use std::time::Instant;

use rand::RngExt;
use rayon::prelude::*;

use super::Times;
use crate::audio::{FrontEnd, SEGMENT_SAMPLES, Transform};
use crate::error::{Error, Result};
use crate::rng;

/// A front end and random segments of the study's length for it.
pub struct Subject {
    plan: Box<dyn Transform>,
    samples: Vec<f32>,
    spectrograms: Vec<f32>,
    size: usize,
}

impl Subject {
    /// Plans `front_end` and makes `segments` segments of white noise.
    ///
    /// # Errors
    /// Settings of the front end that make no sense.
    pub fn new(front_end: &FrontEnd, segments: usize) -> Result<Self> {
        front_end.check()?;
        let plan = front_end.plan()?;
        let size = front_end.bins() * front_end.frames(SEGMENT_SAMPLES);
        let mut random = rng::stream(1, "bench/front-end");
        let samples = (0..segments * SEGMENT_SAMPLES).map(|_| random.random::<f32>() - 0.5).collect();
        Ok(Subject { plan, samples, spectrograms: vec![0.0; segments * size], size })
    }

    /// Computes every spectrogram once, a segment a task.
    pub fn pass(&mut self) {
        let rows = self.spectrograms.par_chunks_mut(self.size).zip(self.samples.par_chunks(SEGMENT_SAMPLES));
        rows.for_each(|(out, samples)| self.plan.transform(samples, out));
    }

    /// Times `passes` passes over all segments after `warmup` others.
    ///
    /// # Errors
    /// [`Error::Training`] if a value is not a number: its time would mean nothing.
    pub fn time(&mut self, warmup: u32, passes: u32, done: &mut dyn FnMut(u32)) -> Result<Times> {
        let mut times = Vec::new();
        for number in 1..=warmup + passes {
            let started = Instant::now();
            self.pass();
            if number > warmup {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
            done(number);
        }
        if self.spectrograms.iter().all(|value| value.is_finite()) {
            Ok(Times::of(&times))
        } else {
            Err(Error::Training("bench: a spectrogram of white noise is not finite".to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_segment_is_transformed() {
        let mut subject = Subject::new(&FrontEnd::default(), 3).unwrap();
        subject.spectrograms.fill(f32::NAN);
        let mut heard = 0;
        let times = subject.time(1, 2, &mut |done| heard = done).unwrap();
        assert!(heard == 3 && times.min_ms > 0.0 && subject.spectrograms.len() == 3 * 6_400);
        let mut expected = vec![0.0; 6_400];
        subject.plan.transform(&subject.samples[2 * SEGMENT_SAMPLES..], &mut expected);
        assert_eq!(subject.spectrograms[2 * 6_400..], expected);
    }
}
