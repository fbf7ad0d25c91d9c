//! The built-in corpus: ten procedural genres, for a first look at the whole study without any data.
//!
//! What it is: a small band (`instruments`) that plays from tables of habits (`genres`) through a small studio
//! (`effects`). Tempo, groove, chords, voices, form and sound are drawn at random for each track around its genre's
//! habits, and each part may be lent by another genre, so that genres overlap and no track is a pure specimen.
//! What it is not: music, or evidence about music. Results on it are labelled synthetic wherever they appear.
//! Read [`track`] first, then the table in `genres.rs`.

mod effects;
mod genres;
mod instruments;

use rand::RngExt;

use self::genres::{Chord, Genre, HABITS, Part, Range};
use self::instruments::{Kit, Note, Player, SR};
use crate::rng::{self, Rng};

/// The genres, in alphabetical order: a label is an index into them.
pub const GENRES: [&str; 10] =
    ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"];

/// Length of a track, seconds.
pub const TRACK_SECONDS: f64 = 8.0;

/// Grows whenever the sound changes, so that spectrograms cached from an older one are not taken for this one's.
pub const VERSION: u32 = 1;

/// The probability that a habit (tempo, groove, harmony, a part, the sound) is lent by a genre drawn from all ten. It
/// sets how hard the corpus is: 0 is easy, 1 is chance.
const LENT: f32 = 0.06;

/// Steps in a bar, and in a beat.
const STEPS: usize = 16;
const BEAT: usize = 4;

/// Track number `index` of `GENRES[genre]` under `seed`: [`TRACK_SECONDS`] of mono sound.
///
/// The same arguments give the same samples (on another machine, to its `sin` and `exp`): every choice comes from the
/// stream `synthetic/<genre>/<index>` of `seed`.
///
/// # Units
/// Amplitude at [`SAMPLE_RATE`](crate::audio::SAMPLE_RATE); the peak lies between 0.2 and 1.
///
/// # Panics
/// If `genre` is not an index into [`GENRES`].
pub fn track(genre: usize, index: usize, seed: u64) -> Vec<f32> {
    let mut rng = rng::stream(seed, &format!("synthetic/{}/{index}", GENRES[genre]));
    let song = Song::draw(genre, &mut rng);
    let mut mix = vec![0.0; (TRACK_SECONDS * f64::from(SR)) as usize];
    song.drums(&mut mix, genre, &mut rng);
    for part in 0..3 {
        song.part(&mut mix, part, genre, &mut rng);
    }
    master(&mut mix, lender(genre, &mut rng), song.beat, &mut rng);
    mix
}

/// Whose habit is followed: the genre's own, or with probability [`LENT`] anyone's.
fn lender(genre: usize, rng: &mut Rng) -> &'static Genre {
    let lent = rng.random::<f32>() < LENT;
    &HABITS[if lent { rng.random_range(0..HABITS.len()) } else { genre }]
}

fn within((low, high): Range, rng: &mut Rng) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

fn choose<T: Copy>(options: &[T], rng: &mut Rng) -> T {
    options[rng.random_range(0..options.len())]
}

fn amplitude(db: f32) -> f32 {
    10f32.powf(db / 20.0)
}

/// What all players share.
struct Song {
    /// Samples in a beat.
    beat: f32,
    /// Where the middle of a beat falls in it, `[0, 1]`.
    swing: f32,
    /// Chords, one a bar, and the bar the cut begins with.
    chords: &'static [Chord],
    first_bar: usize,
    scale: &'static [i32],
    /// Pitch class of the tonic, with the band's tuning: up to 50 cents off.
    tonic: i32,
    tuning: f32,
    /// The form: for each two bars, who plays (drums, bass, accompaniment, melody).
    form: Vec<[bool; 4]>,
    /// How far from the beat people play, samples.
    looseness: f32,
    bars: usize,
}

impl Song {
    /// Tempo, swing and harmony by habit; key, tuning and form by chance.
    fn draw(genre: usize, rng: &mut Rng) -> Self {
        let time = lender(genre, rng);
        let tempo = within(time.tempo, rng) * within((-0.1, 0.1), rng).exp2();
        let harmony = lender(genre, rng);
        let beat = 60.0 / tempo * SR;
        let bars = (TRACK_SECONDS as f32 * SR / (4.0 * beat)).ceil() as usize;
        // Most play most of the time; the accompaniment, when the melody does not.
        let section = |rng: &mut Rng| {
            let melody = rng.random::<f32>() < 0.7;
            [rng.random::<f32>() < 0.85, rng.random::<f32>() < 0.85, !melody || rng.random::<f32>() < 0.8, melody]
        };
        Song {
            beat,
            swing: within(time.swing, rng),
            chords: choose(harmony.progressions, rng),
            first_bar: rng.random_range(0..12),
            scale: harmony.scale,
            tonic: rng.random_range(0..12),
            tuning: within((-0.5, 0.5), rng),
            form: (0..bars.div_ceil(2)).map(|_| section(rng)).collect(),
            looseness: within((0.0, 0.012), rng) * SR,
            bars,
        }
    }

    /// The sample at which a step begins: within a beat, the first half lasts `swing` of it.
    fn time(&self, bar: usize, step: usize) -> f32 {
        let u = (step % BEAT) as f32 / BEAT as f32;
        let swung = if u < 0.5 { 2.0 * u * self.swing } else { self.swing + (2.0 * u - 1.0) * (1.0 - self.swing) };
        (bar * 4 + step / BEAT) as f32 * self.beat + swung * self.beat
    }

    /// `time`, as a player hits it.
    fn onset(&self, bar: usize, step: usize, rng: &mut Rng) -> usize {
        (self.time(bar, step) + self.looseness * rng.random_range(-1.0..1.0)).max(0.0) as usize
    }

    /// The frequency of a MIDI note: `440 · 2^((note - 69) / 12)`.
    fn hz(&self, midi: f32) -> f32 {
        440.0 * ((midi + self.tuning - 69.0) / 12.0).exp2()
    }

    /// Plays one groove throughout, but for the sections without drums.
    fn drums(&self, mix: &mut [f32], genre: usize, rng: &mut Rng) {
        let habits = lender(genre, rng);
        let kit = Kit::new(within(habits.weight, rng), rng);
        let groove = choose(habits.grooves, rng);
        let levels = [within((0.7, 1.3), rng), within((0.5, 1.1), rng), within((0.3, 1.0), rng)];
        let mut bus = vec![0.0; mix.len()];
        for bar in (0..self.bars).filter(|bar| self.form[bar / 2][0]) {
            for (limb, line) in groove.iter().enumerate() {
                for (step, letter) in line.bytes().enumerate() {
                    let (sound, soft) = match (limb, letter) {
                        (_, b'.') => continue,
                        (0, _) => (&kit.kick, 1.0),
                        (1, b'r') => (&kit.rim, 0.8),
                        (1, b'g') => (&kit.snare, 0.3),
                        (1, _) => (&kit.snare, 1.0),
                        (_, b'o') => (&kit.open, 1.0),
                        (_, b'r') => (&kit.ride, 1.0),
                        _ => (&kit.closed, 1.0),
                    };
                    let start = self.onset(bar, step, rng);
                    let gain = levels[limb] * soft * rng.random_range(0.6..1.0);
                    bus.iter_mut().skip(start).zip(sound).for_each(|(out, v)| *out += gain * v);
                }
            }
        }
        blend(mix, &bus, within(habits.drums, rng));
    }

    /// Plays bass (0), accompaniment (1) or melody (2).
    fn part(&self, mix: &mut [f32], number: usize, genre: usize, rng: &mut Rng) {
        let Part { voices, rhythms, register, drive, level } = &lender(genre, rng).parts[number];
        let player = Player::new(choose(voices, rng), within((-0.5, 0.5), rng).exp2(), within((-0.5, 0.5), rng).exp2());
        let register = within(*register, rng).round() as i32;
        let motif = [choose(rhythms, rng), choose(rhythms, rng)]; // every other bar varies
        let mut bus = vec![0.0; mix.len()];
        let mut place = Place { register, tone: 0, degree: 0 };
        for bar in (0..self.bars).filter(|bar| self.form[bar / 2][number + 1]) {
            let letters = motif[bar % 2].as_bytes();
            for (step, &letter) in letters.iter().enumerate() {
                let pitches = self.pitches(letter, bar, &mut place, rng);
                if pitches.is_empty() {
                    continue;
                }
                let until = (step + 1..STEPS).find(|&s| letters[s] != b'.').unwrap_or(STEPS);
                let held = if matches!(letter, b's' | b'm') { step + 1 } else { until };
                let length = 0.9 * (self.time(bar, held) - self.time(bar, step));
                let (start, level) = (self.onset(bar, step, rng), rng.random_range(0.6..1.0));
                for (voice, pitch) in pitches.iter().enumerate() {
                    // a strum: the strings of a chord are not struck at once
                    let note = Note {
                        start: start + voice * (self.looseness * 0.7) as usize,
                        length: length as usize,
                        hz: self.hz(*pitch as f32),
                        level,
                    };
                    player.play(note, &mut bus, rng);
                }
            }
        }
        effects::overdrive(&mut bus, within(*drive, rng), within((2800.0, 6500.0), rng));
        blend(mix, &bus, within(*level, rng));
    }

    /// The MIDI notes that a letter of a rhythm asks for (table in `genres.rs`); none for a rest.
    fn pitches(&self, letter: u8, bar: usize, place: &mut Place, rng: &mut Rng) -> Vec<i32> {
        // the same pitch class within the octave above the register
        let register = place.register;
        let near = |pitch: i32| register + (pitch - register).rem_euclid(12);
        let (root, tones) = self.chords[(bar + self.first_bar) % self.chords.len()];
        let root = near(self.tonic + root);
        match letter {
            b'x' | b's' => tones.iter().map(|tone| near(root + tone)).collect(),
            b'p' | b'm' => vec![root, root + 7, root + 12],
            b'r' => vec![root],
            b'f' => vec![root + 7],
            b'o' => vec![root + 12],
            b'a' => {
                place.tone += 1;
                let octave = place.tone / tones.len() % 2;
                vec![root + tones[place.tone % tones.len()] + 12 * octave as i32]
            }
            b'w' => {
                place.degree = (place.degree + rng.random_range(-2..=2)).clamp(-5, 7);
                let size = self.scale.len() as i32;
                let (octave, degree) = (place.degree.div_euclid(size), place.degree.rem_euclid(size));
                vec![near(self.tonic) + self.scale[degree as usize] + 12 * octave]
            }
            _ => Vec::new(),
        }
    }
}

/// Where a player's hand is.
struct Place {
    /// The MIDI note about which it plays.
    register: i32,
    /// How many tones of arpeggios it has played.
    tone: usize,
    /// Its degree of the scale, counted from the tonic.
    degree: i32,
}

/// Adds a bus to the mix at `db` relative to an RMS of 1; a silent one stays silent.
fn blend(mix: &mut [f32], bus: &[f32], db: f32) {
    let level = effects::rms(bus);
    if level > 0.0 {
        let gain = amplitude(db) / level;
        mix.iter_mut().zip(bus).for_each(|(out, v)| *out += gain * v);
    }
}

/// Echo, room, tone, hiss, loudness.
fn master(mix: &mut [f32], habits: &Genre, beat: f32, rng: &mut Rng) {
    effects::echo(mix, choose(&[0.5, 0.75, 1.0], rng) * beat / SR, within(habits.echo, rng));
    effects::reverb(mix, within((0.3, 2.2), rng), within(habits.wet, rng));
    let tilt = within(habits.tilt, rng) + within((-3.0, 3.0), rng);
    effects::tilt(mix, within((500.0, 2000.0), rng), amplitude(-tilt / 2.0), amplitude(tilt / 2.0));
    let hiss = amplitude(within((-65.0, -38.0), rng)) * effects::peak(mix).max(1e-3);
    effects::hiss(mix, hiss, rng);
    let gain = amplitude(within((-12.0, 0.0), rng)) / effects::peak(mix);
    effects::scale(mix, gain);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{SAMPLE_RATE, SEGMENT_SAMPLES};

    #[test]
    fn a_track_is_finite_audible_bounded_and_of_its_length_in_every_genre() {
        for (genre, name) in GENRES.iter().enumerate() {
            for index in 0..3 {
                let x = track(genre, index, 5);
                assert_eq!(x.len(), (TRACK_SECONDS * f64::from(SAMPLE_RATE)) as usize);
                assert!(x.len() > SEGMENT_SAMPLES);
                let peak = effects::peak(&x);
                assert!(x.iter().all(|v| v.is_finite()) && (0.2..=1.0).contains(&peak), "{name}: {peak}");
                assert!(effects::rms(&x) > 0.01, "{name}/{index}: {}", effects::rms(&x));
            }
        }
    }

    #[test]
    fn a_track_repeats_and_differs_by_genre_index_and_seed() {
        let first = track(3, 1, 7);
        assert!(first == track(3, 1, 7));
        for other in [track(4, 1, 7), track(3, 2, 7), track(3, 1, 8)] {
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < first.len() / 100, "{same} samples are equal");
        }
    }

    #[test]
    fn swing_moves_the_middle_of_a_beat_and_nothing_else() {
        let mut song = Song::draw(0, &mut rng::stream(1, "song"));
        (song.beat, song.swing) = (12.0, 2.0 / 3.0);
        let times: Vec<_> = (0..6).map(|step| song.time(0, step).round()).collect();
        assert_eq!(times, [0.0, 4.0, 8.0, 10.0, 12.0, 16.0]);
        assert_eq!((song.time(1, 0), song.time(0, STEPS)), (48.0, 48.0));
    }

    #[test]
    fn letters_are_notes_near_the_register() {
        let mut song = Song::draw(0, &mut rng::stream(1, "song"));
        (song.tonic, song.tuning, song.first_bar, song.scale) = (9, 0.0, 0, &[0, 2, 4, 5, 7, 9, 11]);
        song.chords = &[(0, &[0, 4, 7]), (5, &[0, 3, 7])]; // A major, D minor
        let mut place = Place { register: 60, tone: 0, degree: 0 };
        let mut play = |letter, bar| song.pitches(letter, bar, &mut place, &mut rng::stream(1, "walk"));
        assert_eq!(play(b'x', 0), [69, 61, 64]); // a' and, within the octave above c', its third and fifth
        assert_eq!(play(b'p', 1), [62, 69, 74]);
        assert_eq!([play(b'r', 0), play(b'f', 0), play(b'o', 0)].concat(), [69, 76, 81]);
        assert_eq!([play(b'a', 1), play(b'a', 1), play(b'a', 1)].concat(), [65, 69, 74]);
        assert!(play(b'.', 0).is_empty() && play(b'-', 0).is_empty());
        for _ in 0..50 {
            let note = play(b'w', 0)[0];
            assert!((60..=81).contains(&note) && song.scale.contains(&(note - 69).rem_euclid(12)), "{note}");
        }
        assert!((song.hz(69.0) - 440.0).abs() < 1e-3 && (song.hz(57.0) - 220.0).abs() < 1e-3);
    }

    /// Mean and spread over half-seconds of the log energy in eight bands an octave wide, by one-pole filters: far less
    /// than the nets see.
    fn summary(x: &[f32]) -> Vec<f32> {
        let mut features = Vec::new();
        for octave in 0..8 {
            let (alpha, mut low) = (instruments::one_pole(50.0 * f32::exp2(octave as f32)), [0.0; 2]);
            let band: Vec<f32> = x
                .iter()
                .map(|v| {
                    low[0] += alpha * (v - low[0]);
                    low[1] += alpha * (v - low[0] - low[1]);
                    low[1]
                })
                .collect();
            let levels: Vec<f32> = band.chunks_exact(SR as usize / 20).map(|c| effects::rms(c).ln()).collect();
            let mean = levels.iter().sum::<f32>() / levels.len() as f32;
            let spread = levels.iter().map(|l| (l - mean).powi(2)).sum::<f32>() / levels.len() as f32;
            features.extend([mean, spread.sqrt()]);
        }
        features
    }

    /// The corpus is worth learning from, and not trivial: by the nearest genre's mean summary, tracks that were not
    /// averaged are placed better than by chance (10 %) and far from perfectly.
    #[test]
    fn genres_can_be_told_apart_but_not_easily() {
        let started = std::time::Instant::now();
        let tracks: Vec<Vec<Vec<f32>>> =
            (0..10).map(|genre| (0..12).map(|index| summary(&track(genre, index, 11))).collect()).collect();
        println!("120 tracks in {:.2} s", started.elapsed().as_secs_f32());
        let means: Vec<Vec<f32>> = tracks
            .iter()
            .map(|genre| (0..16).map(|k| genre[..8].iter().map(|f| f[k]).sum::<f32>() / 8.0).collect())
            .collect();
        let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let nearest = |f: &[f32]| (0..10).min_by(|a, b| distance(f, &means[*a]).total_cmp(&distance(f, &means[*b])));
        let right = (0..10).flat_map(|g| tracks[g][8..].iter().filter(move |f| nearest(f) == Some(g))).count();
        println!("{right} of 40 tracks by the nearest mean");
        assert!((9..=34).contains(&right), "{right} of 40");
    }
}
