//! The ten genres' habits, as data. A bar has 16 steps (four beats of four); `track` in the module above draws from it.
//!
//! A rhythm is 16 letters, one a step; a note sounds until the next letter unless it is a short one:
//!
//! | letter | sounds | letter | sounds |
//! |---|---|---|---|
//! | `x` | the chord | `r` | its root |
//! | `s` | the chord, short | `f` | its fifth |
//! | `p` | a power chord: root, fifth, octave | `o` | the octave above the root |
//! | `m` | a power chord, short (palm-muted) | `a` | its next tone, upwards (arpeggio) |
//! | `w` | a step or two along the scale | `-`, `.` | silence, nothing new |
//!
//! A groove is three such lines: kick (`x`); snare (`x`, a soft `g`, the rim `r`); cymbals (`x` closed, `o` open, `r`
//! ride).

use super::instruments::*;

/// From, to.
pub(super) type Range = (f32, f32);

/// Semitones above the tonic, and the chord's tones above that.
pub(super) type Chord = (i32, &'static [i32]);

/// One player's habits.
pub(super) struct Part {
    /// What is played on.
    pub voices: &'static [Instrument],
    /// What is played.
    pub rhythms: &'static [&'static str],
    /// Where: the MIDI note about which notes lie (69 is A4, 440 Hz).
    pub register: Range,
    /// The amplifier's gain, see `effects::overdrive`; under 0.5 it is clean.
    pub drive: Range,
    /// Loudness in the mix, dB.
    pub level: Range,
}

/// One genre's habits.
pub(super) struct Genre {
    /// Beats a minute.
    pub tempo: Range,
    /// Where in its half the second quarter of a beat falls, as a share of the beat: ½ straight, ⅔ a triplet's swing.
    pub swing: Range,
    /// Kick, snare, cymbals.
    pub grooves: &'static [[&'static str; 3]],
    /// Size and depth of the kit, `Kit::new`.
    pub weight: Range,
    /// Loudness of the drums, dB.
    pub drums: Range,
    /// Chords, one a bar.
    pub progressions: &'static [&'static [Chord]],
    /// Semitones of the scale.
    pub scale: &'static [i32],
    /// Bass, accompaniment, melody.
    pub parts: [Part; 3],
    /// Share of reverberation.
    pub wet: Range,
    /// Feedback of the echo.
    pub echo: Range,
    /// The master's slope from low to high, dB.
    pub tilt: Range,
}

const MAJOR: &[i32] = &[0, 4, 7];
const MINOR: &[i32] = &[0, 3, 7];
const SEVENTH: &[i32] = &[0, 4, 7, 10];
const MAJOR7: &[i32] = &[0, 4, 7, 11];
const MINOR7: &[i32] = &[0, 3, 7, 10];

const IONIAN: &[i32] = &[0, 2, 4, 5, 7, 9, 11];
const AEOLIAN: &[i32] = &[0, 2, 3, 5, 7, 8, 10];
const DORIAN: &[i32] = &[0, 2, 3, 5, 7, 9, 10];
const PENTATONIC: &[i32] = &[0, 2, 4, 7, 9];
const MINOR_PENTATONIC: &[i32] = &[0, 3, 5, 7, 10];
const BLUES_SCALE: &[i32] = &[0, 3, 5, 6, 7, 10];
const PHRYGIAN: &[i32] = &[0, 1, 3, 5, 7, 8, 10];

#[rustfmt::skip] // three lines of four bars
const TWELVE_BARS: &[Chord] = &[
    (0, SEVENTH), (0, SEVENTH), (0, SEVENTH), (0, SEVENTH),
    (5, SEVENTH), (5, SEVENTH), (0, SEVENTH), (0, SEVENTH),
    (7, SEVENTH), (5, SEVENTH), (0, SEVENTH), (7, SEVENTH),
];
const AXIS: &[Chord] = &[(0, MAJOR), (7, MAJOR), (9, MINOR), (5, MAJOR)];
const THREE_CHORDS: &[Chord] = &[(0, MAJOR), (5, MAJOR), (7, MAJOR), (0, MAJOR)];
const DOO_WOP: &[Chord] = &[(0, MAJOR), (9, MINOR), (5, MAJOR), (7, MAJOR)];
const MINOR_FALL: &[Chord] = &[(0, MINOR), (10, MAJOR), (8, MAJOR), (7, MAJOR)];
const MINOR_VAMP: &[Chord] = &[(0, MINOR7), (5, MINOR7)];
const TWO_FIVE_ONE: &[Chord] = &[(2, MINOR7), (7, SEVENTH), (0, MAJOR7), (9, SEVENTH)];
const CADENCE: &[Chord] = &[(0, MAJOR), (2, MINOR), (7, SEVENTH), (0, MAJOR)];
const DARK: &[Chord] = &[(0, MINOR), (1, MAJOR), (0, MINOR), (8, MAJOR)];
const MIXOLYDIAN: &[Chord] = &[(0, MAJOR), (10, MAJOR), (5, MAJOR), (0, MAJOR)];

const MELODY: &[&str] =
    &["w...w...w.w.w...", "w.....w.w.......", "..w.w.w...w.w...", "w.w.w.w.w...-...", "w..w..w.-...w.w."];
const RUNS: &[&str] = &["w.w.w.w.w.w.w.w.", "..w.w.www.w.w...", "w.wwww.w.wwww...", "wwwwwwwwwwwwwwww"];

/// The habits of `super::GENRES[genre]`.
#[rustfmt::skip] // a table
pub(super) static HABITS: [Genre; 10] = [
    // blues: a shuffle, twelve bars of seventh chords, a guitar on the edge of breaking up
    Genre {
        tempo: (60.0, 110.0),
        swing: (0.6, 0.68),
        grooves: &[
            ["x.......x.......", "....x.......x...", "x.x.x.x.x.x.x.x."],
            ["x.....x.x.......", "....x..g....x..g", "r.r.r.r.r.r.r.r."],
        ],
        weight: (0.2, 0.6),
        drums: (-12.0, -6.0),
        progressions: &[TWELVE_BARS],
        scale: BLUES_SCALE,
        parts: [
            Part { voices: &[UPRIGHT, FINGER], register: (36.0, 43.0), drive: (0.2, 0.8), level: (-6.0, -2.0),
                   rhythms: &["r...f...o...f...", "r.r.f.f.o.o.f.f."] },
            Part { voices: &[GUITAR, ORGAN, PIANO], register: (50.0, 60.0), drive: (0.3, 2.5), level: (-9.0, -4.0),
                   rhythms: &["x...x...x...x...", "..s...s...s...s.", "p.p.p.p.p.p.p.p."] },
            Part { voices: &[GUITAR, STEEL, REED], register: (60.0, 74.0), drive: (1.5, 5.0), level: (-3.0, 2.0),
                   rhythms: MELODY },
        ],
        wet: (0.1, 0.35),
        echo: (0.0, 0.1),
        tilt: (-7.0, -1.0),
    },
    // classical: no drums, strings, piano and flute, arpeggios, a hall
    Genre {
        tempo: (60.0, 140.0),
        swing: (0.5, 0.5),
        grooves: &[["................", "................", "................"]],
        weight: (0.0, 0.3),
        drums: (-16.0, -8.0),
        progressions: &[CADENCE, THREE_CHORDS, DOO_WOP],
        scale: IONIAN,
        parts: [
            Part { voices: &[STRINGS, PIANO], register: (38.0, 48.0), drive: (0.1, 0.3), level: (-9.0, -3.0),
                   rhythms: &["r...............", "r.......f.......", "r...f...r...f..."] },
            Part { voices: &[PIANO, STRINGS, STRINGS], register: (54.0, 66.0), drive: (0.1, 0.3), level: (-6.0, -1.0),
                   rhythms: &["a.a.a.a.a.a.a.a.", "aaaaaaaaaaaaaaaa", "x...............", "x.......x......."] },
            Part { voices: &[FLUTE, STRINGS, PIANO], register: (66.0, 82.0), drive: (0.1, 0.3), level: (-5.0, 0.0),
                   rhythms: &["w...w...w.w.w...", "w.......w...w...", "w.w.w.w.w.w.w.w."] },
        ],
        wet: (0.3, 0.9),
        echo: (0.0, 0.05),
        tilt: (-6.0, 0.0),
    },
    // country: boom-chick, bright strings, dry
    Genre {
        tempo: (85.0, 170.0),
        swing: (0.5, 0.58),
        grooves: &[
            ["x.......x.......", "....x.......x...", "x...x...x...x..."],
            ["x.......x.......", "g.g.x.g.g.g.x.g.", "................"],
            ["x.......x.x.....", "....r.......r...", "x.x.x.x.x.x.x.x."],
        ],
        weight: (0.1, 0.5),
        drums: (-14.0, -7.0),
        progressions: &[THREE_CHORDS, AXIS, MIXOLYDIAN],
        scale: PENTATONIC,
        parts: [
            Part { voices: &[UPRIGHT, FINGER], register: (36.0, 44.0), drive: (0.2, 0.6), level: (-7.0, -2.0),
                   rhythms: &["r.......f.......", "r...r...f...f..."] },
            Part { voices: &[STEEL, STEEL, GUITAR], register: (52.0, 62.0), drive: (0.2, 0.7), level: (-6.0, -1.0),
                   rhythms: &["..x...x...x...x.", "....x.......x...", "x.x.xxx.x.x.xxx.", "aaaaaaaaaaaaaaaa"] },
            Part { voices: &[STEEL, GUITAR, STRINGS], register: (62.0, 76.0), drive: (0.2, 0.8), level: (-6.0, 0.0),
                   rhythms: MELODY },
        ],
        wet: (0.02, 0.2),
        echo: (0.0, 0.2),
        tilt: (1.0, 6.0),
    },
    // disco: four on the floor, open hats between, octaves in the bass
    Genre {
        tempo: (108.0, 132.0),
        swing: (0.5, 0.53),
        grooves: &[
            ["x...x...x...x...", "....x.......x...", "x.o.x.o.x.o.x.o."],
            ["x...x...x...x...", "....x.......x...", "xxoxxxoxxxoxxxox"],
        ],
        weight: (0.3, 0.7),
        drums: (-5.0, 0.0),
        progressions: &[MINOR_VAMP, MINOR_FALL],
        scale: DORIAN,
        parts: [
            Part { voices: &[FINGER, SAW_BASS], register: (36.0, 44.0), drive: (0.2, 1.0), level: (-5.0, -1.0),
                   rhythms: &["r.o.r.o.r.o.r.o.", "r.or..o.r.or..o."] },
            Part { voices: &[MUTED, EPIANO, GUITAR], register: (56.0, 66.0), drive: (0.2, 0.8), level: (-9.0, -4.0),
                   rhythms: &["s.sss.sss.sss.ss", "..s...s...s...s.", "x..x..x...x..x.."] },
            Part { voices: &[STRINGS, BRASS, STRINGS], register: (66.0, 80.0), drive: (0.1, 0.5), level: (-7.0, -2.0),
                   rhythms: MELODY },
        ],
        wet: (0.1, 0.35),
        echo: (0.0, 0.15),
        tilt: (-2.0, 4.0),
    },
    // hiphop: a heavy, lazy kit, a sine for a bass, a dull sampled loop
    Genre {
        tempo: (78.0, 104.0),
        swing: (0.52, 0.62),
        grooves: &[
            ["x..x......x.....", "....x.......x...", "x.x.x.x.x.x.x.x."],
            ["x.x....x..x.....", "....x..g....x...", "x.x.x.xxx.x.x.o."],
            ["x......x..xx....", "....x.......x...", "xxxxx.xxx.xxxxx."],
        ],
        weight: (0.7, 1.0),
        drums: (-3.0, 2.0),
        progressions: &[MINOR_VAMP, MINOR_FALL],
        scale: AEOLIAN,
        parts: [
            Part { voices: &[SUB, SUB, UPRIGHT], register: (31.0, 40.0), drive: (0.2, 1.5), level: (-4.0, 1.0),
                   rhythms: &["r..r......r.....", "r.......-.r.r...", "r......r..rr...."] },
            Part { voices: &[EPIANO, PIANO, STRINGS], register: (54.0, 66.0), drive: (0.2, 0.8), level: (-10.0, -5.0),
                   rhythms: &["x.......x.......", "x..x............", "a.a.a.a.a.a.a.a."] },
            Part { voices: &[SQUARE, BELL, REED], register: (62.0, 78.0), drive: (0.2, 0.8), level: (-13.0, -6.0),
                   rhythms: &["w.....w.........", "....w...w.......", "w.w.............", "w...w...w.w.w..."] },
        ],
        wet: (0.02, 0.2),
        echo: (0.0, 0.2),
        tilt: (-9.0, 0.0),
    },
    // jazz: a ride cymbal, a walking bass, sevenths, a horn
    Genre {
        tempo: (95.0, 210.0),
        swing: (0.58, 0.68),
        grooves: &[
            ["x...............", "......g.......g.", "r...r.r.r...r.r."],
            ["................", "....g.......r...", "r...r.r.r...r.r."],
            ["x.....x...x.....", "...g......g..g..", "r.r.r.r.r.r.r.r."],
        ],
        weight: (0.0, 0.4),
        drums: (-11.0, -5.0),
        progressions: &[TWO_FIVE_ONE],
        scale: IONIAN,
        parts: [
            Part { voices: &[UPRIGHT], register: (36.0, 45.0), drive: (0.1, 0.4), level: (-6.0, -1.0),
                   rhythms: &["w...w...w...w...", "r...f...w...w..."] },
            Part { voices: &[PIANO, EPIANO, GUITAR], register: (54.0, 64.0), drive: (0.1, 0.5), level: (-9.0, -4.0),
                   rhythms: &["s.....s.........", "..s...........x.", "x.....x...-.....", "......s.....s..."] },
            Part { voices: &[REED, PIANO, BRASS], register: (60.0, 76.0), drive: (0.1, 0.6), level: (-5.0, 0.0),
                   rhythms: RUNS },
        ],
        wet: (0.08, 0.35),
        echo: (0.0, 0.05),
        tilt: (-6.0, 0.0),
    },
    // metal: double kicks, muted power chords through much gain
    Genre {
        tempo: (95.0, 190.0),
        swing: (0.5, 0.5),
        grooves: &[
            ["xxxxxxxxxxxxxxxx", "....x.......x...", "o...o...o...o..."],
            ["x.xxx.xxx.xxx.xx", "....x.......x...", "r.r.r.r.r.r.r.r."],
            ["x.x.x.x.x.x.x.x.", "..x...x...x...x.", "o...o...o...o..."],
            ["x..x..x.x.......", "....x.......x...", "o.o.o.o.o.o.o.o."],
        ],
        weight: (0.3, 0.8),
        drums: (-5.0, 0.0),
        progressions: &[DARK, MINOR_FALL],
        scale: PHRYGIAN,
        parts: [
            Part { voices: &[FINGER], register: (29.0, 38.0), drive: (1.0, 3.0), level: (-7.0, -3.0),
                   rhythms: &["rrrrrrrrrrrrrrrr", "r.r.r.r.r.r.r.r.", "r.rrr.rrr.rrr.rr"] },
            Part { voices: &[GUITAR], register: (38.0, 46.0), drive: (4.0, 14.0), level: (-3.0, 2.0),
                   rhythms: &["mmmmmmmmmmmmmmmm", "p.mmp.mmp.mmp.mm", "p.......p...p...", "pmmmmmmmpmmmmmmm"] },
            Part { voices: &[GUITAR, SYNTH], register: (62.0, 78.0), drive: (3.0, 10.0), level: (-9.0, -3.0),
                   rhythms: RUNS },
        ],
        wet: (0.02, 0.2),
        echo: (0.0, 0.15),
        tilt: (-1.0, 5.0),
    },
    // pop: synthesisers, four chords, a square lead
    Genre {
        tempo: (92.0, 132.0),
        swing: (0.5, 0.53),
        grooves: &[
            ["x.......x.......", "....x.......x...", "x.x.x.x.x.x.x.x."],
            ["x...x...x...x...", "....x.......x...", "x.x.x.x.x.x.x.x."],
            ["x.....x.x.......", "....x.......x...", "xxxxxxxxxxxxxxxx"],
        ],
        weight: (0.4, 0.8),
        drums: (-5.0, 0.0),
        progressions: &[AXIS, DOO_WOP],
        scale: IONIAN,
        parts: [
            Part { voices: &[SAW_BASS, SUB, FINGER], register: (33.0, 43.0), drive: (0.2, 1.0), level: (-6.0, -2.0),
                   rhythms: &["r.r.r.r.r.r.r.r.", "r.....r.r.......", "r..r..r.r..r..r."] },
            Part { voices: &[PAD, SYNTH, PIANO, STEEL], register: (56.0, 67.0), drive: (0.2, 0.8), level: (-8.0, -3.0),
                   rhythms: &["x...............", "x.......x.......", "a.a.a.a.a.a.a.a.", "x..x..x.x..x..x."] },
            Part { voices: &[SQUARE, SYNTH, BELL, FLUTE], register: (64.0, 78.0), drive: (0.2, 1.0),
                   level: (-6.0, -1.0), rhythms: MELODY },
        ],
        wet: (0.1, 0.35),
        echo: (0.0, 0.3),
        tilt: (-1.0, 5.0),
    },
    // reggae: one drop on the third beat, chords between the beats, echo
    Genre {
        tempo: (66.0, 92.0),
        swing: (0.5, 0.6),
        grooves: &[
            ["........x.......", "........r.......", "x.x.x.x.x.x.x.x."],
            ["........x.......", "........x......g", "x.xxx.x.x.xxx.x."],
            ["x.......x.......", "........r.......", "..x...x...x...x."],
        ],
        weight: (0.5, 0.9),
        drums: (-7.0, -2.0),
        progressions: &[THREE_CHORDS, AXIS, MIXOLYDIAN],
        scale: PENTATONIC,
        parts: [
            Part { voices: &[SUB, FINGER], register: (33.0, 41.0), drive: (0.2, 0.7), level: (-3.0, 2.0),
                   rhythms: &["-...r.r.f...r...", "r..r..f.-...r.f.", "r...f.o.-.......", "-...r..rf.o....."] },
            Part { voices: &[ORGAN, GUITAR, MUTED], register: (55.0, 65.0), drive: (0.2, 0.7), level: (-8.0, -2.0),
                   rhythms: &["..s...s...s...s.", "..ss..ss..ss..ss", "....s.......s..."] },
            Part { voices: &[REED, ORGAN, BRASS, MUTED], register: (60.0, 74.0), drive: (0.2, 0.7),
                   level: (-10.0, -4.0), rhythms: &["w...w...w.w.w...", "w.....w.........", "....w.w.-......."] },
        ],
        wet: (0.08, 0.35),
        echo: (0.1, 0.5),
        tilt: (-8.0, 0.0),
    },
    // rock: a backbeat, eighths on a driven guitar
    Genre {
        tempo: (95.0, 155.0),
        swing: (0.5, 0.54),
        grooves: &[
            ["x.......x.x.....", "....x.......x...", "x.x.x.x.x.x.x.x."],
            ["x.....x.x.......", "....x.......x...", "o.o.o.o.o.o.o.o."],
            ["x..x..x.x.x.....", "....x.......x...", "r.r.r.r.r.r.r.r."],
        ],
        weight: (0.3, 0.7),
        drums: (-5.0, 0.0),
        progressions: &[MIXOLYDIAN, THREE_CHORDS, AXIS, MINOR_FALL],
        scale: MINOR_PENTATONIC,
        parts: [
            Part { voices: &[FINGER], register: (33.0, 42.0), drive: (0.4, 1.8), level: (-6.0, -2.0),
                   rhythms: &["r.r.r.r.r.r.r.r.", "r.....r.r.r.....", "r..r..r.r.r....."] },
            Part { voices: &[GUITAR, GUITAR, STEEL, ORGAN], register: (42.0, 55.0), drive: (1.0, 6.0),
                   level: (-5.0, 0.0), rhythms: &["p.p.p.p.p.p.p.p.", "x...x...x...x...", "p..p..p.p.......", "x.....x.x.x....."] },
            Part { voices: &[GUITAR, SYNTH, ORGAN], register: (60.0, 76.0), drive: (1.0, 6.0), level: (-7.0, -1.0),
                   rhythms: MELODY },
        ],
        wet: (0.05, 0.25),
        echo: (0.0, 0.2),
        tilt: (-2.0, 4.0),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_bar_of_known_letters_and_every_range_goes_up() {
        let known = |line: &str, letters: &str| line.len() == 16 && line.chars().all(|c| letters.contains(c));
        for (genre, name) in HABITS.iter().zip(crate::data::synthetic::GENRES) {
            for groove in genre.grooves {
                for (line, letters) in groove.iter().zip([".x", ".xgr", ".xor"]) {
                    assert!(known(line, letters), "{name}: {line}");
                }
            }
            let mut ranges =
                vec![genre.tempo, genre.swing, genre.weight, genre.drums, genre.wet, genre.echo, genre.tilt];
            for part in &genre.parts {
                for line in part.rhythms {
                    assert!(known(line, ".-xspmrfoaw"), "{name}: {line}");
                }
                assert!(!part.voices.is_empty() && !part.rhythms.is_empty(), "{name}");
                ranges.extend([part.register, part.drive, part.level]);
            }
            assert!(!genre.progressions.is_empty() && !genre.grooves.is_empty(), "{name}");
            assert!(ranges.iter().all(|(low, high)| low <= high), "{name}: {ranges:?}");
        }
    }
}
