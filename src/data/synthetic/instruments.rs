//! The band: how one note and one drum hit sound. Time is in samples at [`SR`] unless a name says seconds.
//!
//! Every pitched note is `level · envelope · low-pass(wave)`; the instruments differ in the wave ([`Tone`]) and in four
//! numbers. Drums are rendered once a track, like a sampler's, and then only added.

use std::f32::consts::TAU;

use rand::RngExt;

use crate::audio::SAMPLE_RATE;
use crate::rng::Rng;

/// The sample rate as a float, Hz.
pub(super) const SR: f32 = SAMPLE_RATE as f32;

/// Linear fade after a note's length: 30 ms.
const RELEASE: usize = SAMPLE_RATE as usize * 30 / 1000;

/// Samples of one stored period.
const TABLE: usize = 2048;

/// Which wave an instrument makes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tone {
    /// A plucked string: [`PluckedString`].
    Pluck,
    /// Frequency modulation, `sin(2π f t + index · e(t) · sin(2π ratio f t))`: the index falls with the envelope `e`,
    /// so a note starts bright and ends pure (Chowning 1973, "The synthesis of complex audio spectra by means of FM").
    Fm {
        /// Modulator's frequency over the carrier's.
        ratio: f32,
        /// Largest phase deviation, radians.
        index: f32,
    },
    /// Additive: amplitude of the 1st, 2nd, ... harmonic, summed once into a table of one period.
    Harmonics(&'static [f32]),
    /// Two saws, apart by so many cents.
    Saw(f32),
    /// A pulse that is high for this share of its period.
    Pulse(f32),
}

/// A pitched instrument.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instrument {
    /// Its wave.
    pub tone: Tone,
    /// Linear rise, seconds.
    pub attack: f32,
    /// Time constant of the exponential fall, seconds.
    pub decay: f32,
    /// Corner of the one-pole low-pass, Hz.
    pub cutoff: f32,
    /// Depth of the vibrato, cents (a string keeps its pitch).
    pub vibrato: f32,
}

const fn make(tone: Tone, attack: f32, decay: f32, cutoff: f32, vibrato: f32) -> Instrument {
    Instrument { tone, attack, decay, cutoff, vibrato }
}

// Strings
pub(super) const GUITAR: Instrument = make(Tone::Pluck, 0.001, 0.9, 3500.0, 0.0);
pub(super) const STEEL: Instrument = make(Tone::Pluck, 0.001, 1.4, 7000.0, 0.0);
pub(super) const MUTED: Instrument = make(Tone::Pluck, 0.001, 0.09, 3000.0, 0.0);
pub(super) const UPRIGHT: Instrument = make(Tone::Pluck, 0.004, 0.45, 700.0, 0.0);
pub(super) const FINGER: Instrument = make(Tone::Pluck, 0.002, 0.8, 1500.0, 0.0);
// Keys
pub(super) const PIANO: Instrument =
    make(Tone::Harmonics(&[1.0, 0.6, 0.4, 0.3, 0.15, 0.12, 0.07, 0.05, 0.03]), 0.003, 0.7, 4000.0, 0.0);
pub(super) const EPIANO: Instrument = make(Tone::Fm { ratio: 1.0, index: 1.6 }, 0.003, 0.8, 5000.0, 0.0);
pub(super) const BELL: Instrument = make(Tone::Fm { ratio: 3.5, index: 1.5 }, 0.002, 0.6, 8000.0, 0.0);
pub(super) const ORGAN: Instrument =
    make(Tone::Harmonics(&[0.8, 1.0, 0.8, 0.5, 0.0, 0.3, 0.0, 0.4]), 0.008, 30.0, 6000.0, 12.0);
// Bowed and blown
pub(super) const STRINGS: Instrument = make(Tone::Saw(14.0), 0.12, 8.0, 2200.0, 12.0);
pub(super) const FLUTE: Instrument = make(Tone::Harmonics(&[1.0, 0.25, 0.12, 0.03]), 0.05, 8.0, 5000.0, 25.0);
pub(super) const REED: Instrument =
    make(Tone::Harmonics(&[0.8, 1.0, 0.7, 0.7, 0.45, 0.4, 0.25, 0.2, 0.15, 0.1]), 0.03, 4.0, 3500.0, 25.0);
pub(super) const BRASS: Instrument = make(Tone::Saw(5.0), 0.04, 3.0, 2800.0, 10.0);
// Synthesisers
pub(super) const PAD: Instrument = make(Tone::Saw(22.0), 0.08, 10.0, 3500.0, 5.0);
pub(super) const SYNTH: Instrument = make(Tone::Saw(10.0), 0.004, 0.9, 6000.0, 8.0);
pub(super) const SQUARE: Instrument = make(Tone::Pulse(0.35), 0.004, 1.0, 4500.0, 12.0);
pub(super) const SAW_BASS: Instrument = make(Tone::Saw(6.0), 0.003, 0.5, 900.0, 0.0);
pub(super) const SUB: Instrument = make(Tone::Harmonics(&[1.0, 0.15, 0.05]), 0.008, 1.2, 600.0, 0.0);

/// When, how long, how high and how loud.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    /// First sample.
    pub start: usize,
    /// Samples held, before the release.
    pub length: usize,
    /// Pitch, Hz.
    pub hz: f32,
    /// Amplitude.
    pub level: f32,
}

/// An instrument as one track's player has it: its numbers bent a little, its table filled.
pub(super) struct Player {
    instrument: Instrument,
    table: Vec<f32>,
}

impl Player {
    /// `brightness` multiplies the low-pass corner and the FM index, `length` the decay.
    pub(super) fn new(mut instrument: Instrument, brightness: f32, length: f32) -> Self {
        instrument.cutoff *= brightness;
        instrument.decay *= length;
        let harmonics = match &mut instrument.tone {
            Tone::Harmonics(harmonics) => harmonics,
            Tone::Fm { index, .. } => {
                *index *= brightness;
                &[1.0][..]
            }
            _ => &[][..],
        };
        let sample = |i: usize| {
            let partial = |(k, a): (usize, &f32)| a * (TAU * ((i * (k + 1)) % TABLE) as f32 / TABLE as f32).sin();
            harmonics.iter().enumerate().map(partial).sum()
        };
        Player { instrument, table: (0..TABLE).map(sample).collect() }
    }

    /// Adds one note to `bus`; what would sound after its end is cut.
    pub(super) fn play(&self, note: Note, bus: &mut [f32], rng: &mut Rng) {
        let start: f32 = rng.random();
        let mut carrier = Oscillator::new(note.hz, start, self.instrument.vibrato);
        let table = |phase: f32| self.table[(phase * TABLE as f32) as usize % TABLE];
        match self.instrument.tone {
            Tone::Pluck => {
                let mut string = PluckedString::new(note.hz, rng);
                self.shape(note, bus, |_| string.next());
            }
            Tone::Harmonics(_) => self.shape(note, bus, |_| table(carrier.next())),
            Tone::Fm { ratio, index } => {
                let mut modulator = Oscillator::new(note.hz * ratio, 0.0, 0.0);
                self.shape(note, bus, |fall| {
                    let shift = index / TAU * fall * table(modulator.next());
                    table((carrier.next() + shift + 8.0) % 1.0) // + 8: the remainder of a negative number is negative
                });
            }
            Tone::Saw(cents) => {
                let mut other = Oscillator::new(note.hz * (cents / 1200.0).exp2(), 1.0 - start, 0.0);
                self.shape(note, bus, |_| 0.5 * (carrier.saw(0.0) + other.saw(0.0)));
            }
            // A pulse is a saw less the same saw a little later.
            Tone::Pulse(width) => {
                let mut other = Oscillator::new(note.hz, start, self.instrument.vibrato);
                self.shape(note, bus, |_| 0.5 * (carrier.saw(0.0) - other.saw(width)));
            }
        }
    }

    /// `level · rise · e^(-t / decay) · release · low-pass(wave)`; the wave is told its `e^(-t / decay)`.
    fn shape(&self, note: Note, bus: &mut [f32], mut wave: impl FnMut(f32) -> f32) {
        let Instrument { attack, decay, cutoff, .. } = self.instrument;
        let (total, rise, fade) = (note.length + RELEASE, 1.0 / (attack * SR), 1.0 / RELEASE as f32);
        let (factor, alpha) = ((-1.0 / (decay * SR)).exp(), one_pole(cutoff));
        let (mut fall, mut low) = (1.0, 0.0);
        for (n, out) in bus.iter_mut().skip(note.start).take(total).enumerate() {
            low += alpha * (wave(fall) - low);
            *out += note.level * (n as f32 * rise).min(1.0) * fall * ((total - n) as f32 * fade).min(1.0) * low;
            fall *= factor;
        }
    }
}

/// The coefficient of `y += a (x - y)`, a low-pass with its corner at `hz`: `a = 1 - e^(-2π hz / sr)`.
pub(super) fn one_pole(hz: f32) -> f32 {
    1.0 - (-TAU * hz / SR).exp()
}

/// A phase in cycles, `[0, 1)`, with a triangular vibrato of 5.5 Hz.
struct Oscillator {
    phase: f32,
    step: f32,
    vibrato: f32,
    depth: f32,
}

impl Oscillator {
    fn new(hz: f32, phase: f32, cents: f32) -> Self {
        Oscillator { phase, step: hz / SR, vibrato: 0.25, depth: (cents / 1200.0).exp2() - 1.0 }
    }

    fn next(&mut self) -> f32 {
        self.vibrato = wrap(self.vibrato + 5.5 / SR);
        self.phase = wrap(self.phase + self.step * (1.0 + self.depth * (4.0 * (self.vibrato - 0.5).abs() - 1.0)));
        self.phase
    }

    /// A saw, `shift` cycles on, its jump rounded over two samples by a polynomial so that little folds back from above
    /// the Nyquist frequency (PolyBLEP: Välimäki and Huovilainen 2007, "Antialiasing oscillators in subtractive
    /// synthesis").
    fn saw(&mut self, shift: f32) -> f32 {
        let (phase, step) = (wrap(self.next() + shift), self.step);
        let jump = if phase < step {
            let t = phase / step;
            2.0 * t - t * t - 1.0
        } else if phase > 1.0 - step {
            let t = (phase - 1.0) / step;
            t * t + 2.0 * t + 1.0
        } else {
            0.0
        };
        2.0 * phase - 1.0 - jump
    }
}

/// `x` in `[0, 2)` to `[0, 1)`: `fract` without a function call.
fn wrap(x: f32) -> f32 {
    if x >= 1.0 { x - 1.0 } else { x }
}

/// Karplus and Strong's string (1983, "Digital synthesis of plucked-string and drum timbres"): a delay line of noise
/// whose output, averaged over two samples, is fed back, `y[n] = ½ (y[n - N] + y[n - N - 1])`. The loop is `N + ½`
/// samples long; an all-pass adds the missing fraction `d` of a period (Jaffe and Smith 1983, "Extensions of the
/// Karplus-Strong plucked-string algorithm"): `z[n] = c x[n] + x[n - 1] - c z[n - 1]`, `c = (1 - d) / (1 + d)`.
struct PluckedString {
    line: Vec<f32>,
    at: usize,
    last: f32,
    mean: f32,
    tuned: f32,
    c: f32,
}

impl PluckedString {
    fn new(hz: f32, rng: &mut Rng) -> Self {
        let period = SR / hz;
        let n = (period - 0.6).floor().max(1.0);
        let d = period - 0.5 - n; // in [0.1, 1.1), where the all-pass is stable and its delay nearly d
        let mut line: Vec<f32> = (0..n as usize).map(|_| rng.random_range(-1.0..1.0)).collect();
        let mean = line.iter().sum::<f32>() / n; // the loop would keep it for ever: the average passes 0 Hz unchanged
        line.iter_mut().for_each(|v| *v -= mean);
        PluckedString { line, at: 0, last: 0.0, mean: 0.0, tuned: 0.0, c: (1.0 - d) / (1.0 + d) }
    }

    fn next(&mut self) -> f32 {
        let x = self.line[self.at];
        let mean = 0.5 * (x + self.last);
        self.tuned = self.c * (mean - self.tuned) + self.mean;
        (self.last, self.mean) = (x, mean);
        self.line[self.at] = self.tuned;
        self.at = if self.at + 1 == self.line.len() { 0 } else { self.at + 1 };
        x
    }
}

/// A drum kit: one recording a sound.
pub(super) struct Kit {
    /// A sine that falls to its pitch.
    pub kick: Vec<f32>,
    /// Noise and a tone.
    pub snare: Vec<f32>,
    /// A click: the stick on the rim.
    pub rim: Vec<f32>,
    /// Short high-passed noise.
    pub closed: Vec<f32>,
    /// The same, longer.
    pub open: Vec<f32>,
    /// Noise and inharmonic partials.
    pub ride: Vec<f32>,
}

impl Kit {
    /// A kit of its own size, tuning and damping. `weight` in `[0, 1]`: from a light, short kit to a deep, booming one.
    pub(super) fn new(weight: f32, rng: &mut Rng) -> Self {
        let mut vary = |low: f32, high: f32| rng.random_range(low..high);
        let (kick, sweep) = (62.0 - 18.0 * weight + vary(-6.0, 6.0), vary(60.0, 220.0));
        let (kick_tau, snare_tau) = (0.06 + 0.14 * weight * vary(0.6, 1.2), vary(0.04, 0.12));
        let (snare, snap, rim) = (vary(160.0, 260.0), vary(0.35, 0.8), vary(700.0, 1600.0));
        let (hat, hat_tau, open_tau) = (vary(5000.0, 8500.0), vary(0.015, 0.05), vary(0.12, 0.3));
        let (ride, ping) = (vary(2500.0, 4500.0), vary(0.1, 0.4));
        let mut phase = 0.0;
        Kit {
            kick: hit(kick_tau, rng, |t, _| {
                phase += (kick + sweep * (-t / 0.025).exp()) / SR;
                (TAU * phase).sin()
            }),
            snare: hit(snare_tau, rng, |t, x| (1.0 - snap) * (TAU * snare * t).sin() + snap * x),
            rim: hit(0.012, rng, |t, x| (TAU * rim * t).sin() + 0.3 * x),
            closed: hit(hat_tau, rng, high_pass(hat)),
            open: hit(open_tau, rng, high_pass(hat)),
            ride: {
                let mut hiss = high_pass(hat);
                let partial = move |t: f32, k: f32| (TAU * ride * k * t).sin();
                hit(0.25, rng, move |t, x| 0.6 * hiss(t, x) + ping * (partial(t, 1.0) + 0.6 * partial(t, 1.483)))
            },
        }
    }
}

/// `e^(-t / tau)` times `wave(seconds, white noise)`, until 60 dB below its start.
fn hit(tau: f32, rng: &mut Rng, mut wave: impl FnMut(f32, f32) -> f32) -> Vec<f32> {
    let samples = (6.9 * tau * SR) as usize;
    let seconds = |n| n as f32 / SR;
    (0..samples).map(|n| (-seconds(n) / tau).exp() * wave(seconds(n), rng.random_range(-1.0..1.0))).collect()
}

/// Two one-pole high-passes after each other, 12 dB an octave: each is `x - low-pass(x)`.
fn high_pass(hz: f32) -> impl FnMut(f32, f32) -> f32 {
    let (alpha, mut first, mut second) = (one_pole(hz), 0.0, 0.0);
    move |_, x| {
        first += alpha * (x - first);
        let once = x - first;
        second += alpha * (once - second);
        once - second
    }
}

#[cfg(test)]
mod tests {
    use rustfft::{FftPlanner, num_complex::Complex32};

    use super::*;
    use crate::rng::stream;

    /// Power of the first `len / 2` bins of the Hann-windowed signal.
    fn spectrum(x: &[f32]) -> Vec<f32> {
        let window = |n: usize| 0.5 - 0.5 * (TAU * n as f32 / x.len() as f32).cos();
        let mut z: Vec<_> = x.iter().enumerate().map(|(n, v)| Complex32::new(v * window(n), 0.0)).collect();
        FftPlanner::new().plan_fft_forward(x.len()).process(&mut z);
        z[..x.len() / 2].iter().map(|z| z.norm_sqr()).collect()
    }

    fn record(instrument: Instrument, hz: f32) -> Vec<f32> {
        let mut bus = vec![0.0; 32_768];
        let note = Note { start: 0, length: bus.len(), hz, level: 1.0 };
        Player::new(instrument, 1.0, 1.0).play(note, &mut bus, &mut stream(1, "note"));
        bus
    }

    #[test]
    fn a_plucked_string_sounds_its_pitch_and_its_harmonics_and_nothing_else() {
        for hz in [82.41, 196.0, 440.0, 987.77] {
            let power = spectrum(&record(GUITAR, hz));
            let bin = SR / 32_768.0;
            let band = (0.9 * hz / bin) as usize..(1.1 * hz / bin) as usize;
            let loudest = band.max_by(|a, b| power[*a].total_cmp(&power[*b])).unwrap();
            let cents = 1200.0 * (loudest as f32 * bin / hz).log2();
            assert!(cents.abs() < 12.0, "{hz} Hz: {cents} cents off"); // a bin is 14 cents at the lowest pitch
            let harmonic = |n: usize| {
                let k = n as f32 * bin / hz;
                k > 0.5 && (k - k.round()).abs() * hz < 6.0
            };
            let within: f32 = (0..power.len()).filter(|n| harmonic(*n)).map(|n| power[n]).sum();
            let share = within / power.iter().sum::<f32>();
            assert!(share > 0.95, "{hz} Hz: {share} at the harmonics");
        }
    }

    /// The average in the loop damps high partials more than low ones.
    #[test]
    fn a_string_fades_and_its_high_partials_first() {
        let x = record(GUITAR, 220.0);
        let energies = |x: &[f32]| {
            let power = spectrum(x);
            (power[..256].iter().sum::<f32>(), power[256..].iter().sum::<f32>()) // below, above 1.4 kHz
        };
        let ((low, high), (late_low, late_high)) = (energies(&x[..4096]), energies(&x[20_000..24_096]));
        assert!(low > 3.0 * late_low, "{low} {late_low}");
        assert!(high / low > 10.0 * late_high / late_low, "{} {}", high / low, late_high / late_low);
    }

    #[test]
    fn frequency_modulation_puts_energy_at_the_carrier_and_its_sidebands() {
        // ratio 3.5: sidebands at |1 ± 3.5 k| times the carrier, so none at 2 times it
        let power = spectrum(&record(BELL, 400.0));
        let at = |k: f32| {
            let n = (k * 400.0 / SR * 32_768.0).round() as usize;
            power[n - 4..n + 5].iter().sum::<f32>()
        };
        for partial in [1.0, 2.5, 4.5] {
            assert!(at(partial) > 100.0 * at(2.0), "{partial}");
        }
    }

    #[test]
    fn a_rounded_saw_folds_back_little() {
        // 3,001 Hz: its seventh harmonic folds back to 22,050 - 21,007 = 1,043 Hz, unrounded with 1/49 of the power
        let saw = Instrument { tone: Tone::Saw(0.0), attack: 1e-4, decay: 1e6, cutoff: 1e6, vibrato: 0.0 };
        let power = spectrum(&record(saw, 3001.0));
        let at = |hz: f32| {
            let n = (hz / SR * 32_768.0).round() as usize;
            power[n - 4..n + 5].iter().sum::<f32>()
        };
        assert!(at(3001.0) > 2000.0 * at(1043.0), "{}", at(3001.0) / at(1043.0));
    }
}
