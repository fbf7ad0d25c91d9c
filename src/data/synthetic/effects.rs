//! What the studio does to a bus or to the mix, in place.

use rand::RngExt;

use super::instruments::{SR, one_pole};
use crate::rng::Rng;

/// Root mean square.
pub(super) fn rms(x: &[f32]) -> f32 {
    (x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32).sqrt()
}

/// Largest magnitude.
pub(super) fn peak(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m, v| v.abs().max(m))
}

/// Multiplies by `gain`.
pub(super) fn scale(x: &mut [f32], gain: f32) {
    x.iter_mut().for_each(|v| *v *= gain);
}

/// An overdriven amplifier: `x ← tanh(drive · x / rms)`, then the loudspeaker, a low-pass at `cabinet` Hz. `tanh` is
/// its Padé approximant `x (27 + x²) / (27 + 9 x²)` up to |x| = 3, where that reaches 1: fast, and the same on every
/// machine.
pub(super) fn overdrive(x: &mut [f32], drive: f32, cabinet: f32) {
    let level = rms(x);
    if level == 0.0 {
        return;
    }
    let (gain, alpha, mut low) = (drive / level, one_pole(cabinet), 0.0);
    for v in x {
        let u = (gain * *v).clamp(-3.0, 3.0);
        low += alpha * (u * (27.0 + u * u) / (27.0 + 9.0 * u * u) - low);
        *v = low;
    }
}

/// A tape echo: `y[n] = x[n] + amount · y[n - delay]`.
pub(super) fn echo(x: &mut [f32], seconds: f32, amount: f32) {
    let delay = (seconds * SR) as usize;
    for n in delay..x.len() {
        x[n] += amount * x[n - delay];
    }
}

/// Schroeder's reverberator (1962, "Natural sounding artificial reverberation"): four combs `y[n] = x[n] + g y[n - N]`
/// side by side, with `g = 10^(-3 N / (sr · t60))`, then two all-passes; `wet` of the result is added.
pub(super) fn reverb(x: &mut [f32], t60: f32, wet: f32) {
    let mut sum = vec![0.0; x.len()];
    for seconds in [0.0297, 0.0371, 0.0411, 0.0437] {
        let (feedback, mut line, mut at) = (10f32.powf(-3.0 * seconds / t60), vec![0.0; (seconds * SR) as usize], 0);
        for (out, v) in sum.iter_mut().zip(x.iter()) {
            line[at] = v + feedback * line[at];
            *out += 0.25 * line[at];
            at = if at + 1 == line.len() { 0 } else { at + 1 };
        }
    }
    for seconds in [0.005, 0.0017] {
        let (mut line, mut at) = (vec![0.0; (seconds * SR) as usize], 0);
        for v in &mut sum {
            let delayed: f32 = line[at];
            line[at] = *v + 0.7 * delayed;
            *v = delayed - 0.7 * line[at];
            at = if at + 1 == line.len() { 0 } else { at + 1 };
        }
    }
    x.iter_mut().zip(&sum).for_each(|(v, s)| *v += wet * s);
}

/// The master's tone: below `corner` Hz times `low`, above it times `high`.
pub(super) fn tilt(x: &mut [f32], corner: f32, low: f32, high: f32) {
    let (alpha, mut below) = (one_pole(corner), 0.0);
    for v in x {
        below += alpha * (*v - below);
        *v = low * below + high * (*v - below);
    }
}

/// Adds white noise of amplitude `level`.
pub(super) fn hiss(x: &mut [f32], level: f32, rng: &mut Rng) {
    x.iter_mut().for_each(|v| *v += level * rng.random_range(-1.0..1.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_repeats_and_fades_by_its_amount() {
        let mut x = vec![0.0; 35];
        x[0] = 1.0;
        echo(&mut x, 10.5 / SR, 0.5);
        let heard: Vec<_> = x.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(n, v)| (n, *v)).collect();
        assert_eq!(heard, [(0, 1.0), (10, 0.5), (20, 0.25), (30, 0.125)]);
    }

    #[test]
    fn a_room_fades_by_60_db_in_its_time() {
        let mut x = vec![0.0; 3 * SR as usize];
        x[0] = 1.0;
        reverb(&mut x, 1.0, 1.0);
        let at = |seconds: f32| rms(&x[(seconds * SR) as usize..][..8192]);
        let db = 20.0 * (at(0.5) / at(1.5)).log10();
        assert!((db - 60.0).abs() < 3.0, "{db}");
    }

    #[test]
    fn an_overdrive_is_bounded_and_leaves_silence_alone() {
        let mut x: Vec<f32> = (0..1000).map(|n| (n as f32 * 0.1).sin()).collect();
        overdrive(&mut x, 50.0, 5000.0);
        assert!(peak(&x) <= 1.0 && rms(&x) > 0.8, "{} {}", peak(&x), rms(&x));
        let mut silence = vec![0.0; 100];
        overdrive(&mut silence, 50.0, 5000.0);
        assert_eq!(silence, vec![0.0; 100]);
    }

    #[test]
    fn a_tilt_weighs_low_and_high() {
        let settled = |wave: fn(usize) -> f32| {
            let mut x: Vec<f32> = (0..4000).map(wave).collect();
            tilt(&mut x, 1000.0, 2.0, 0.5);
            rms(&x[2000..])
        };
        assert!((settled(|_| 1.0) - 2.0).abs() < 1e-3);
        let nyquist = settled(|n| if n % 2 == 0 { 1.0 } else { -1.0 });
        assert!((0.5..0.8).contains(&nyquist), "{nyquist}");
    }
}
