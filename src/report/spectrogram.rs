//! A spectrogram as a picture: time to the right, frequency upwards, level as colour.
//!
//! Read [`png()`] first. Colours are viridis: equal steps of level look equally large, in grey and with any colour vision.

use ab_glyph::{Font, FontRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::audio::Scale;
use crate::error::{Error, Result};

use super::drawing::{GREY, INK, escaped, font, undrawable};
use super::labels::clean;

/// What is drawn, and what its axes say.
#[derive(Clone, Copy, Debug)]
pub struct Spectrogram<'a> {
    /// Natural logarithms of amplitudes `[bins, frames]`, row by row, the lowest frequency first.
    pub values: &'a [f32],
    /// The frequency of each row in Hz, ascending: as many as there are bins.
    pub centres: &'a [f64],
    /// How frequencies are named.
    pub scale: Scale,
    /// When the first frame is, in seconds.
    pub start: f64,
    /// From one frame to the next, in seconds.
    pub step: f64,
    /// The line above the picture.
    pub title: &'a str,
}

/// Width and height of the coloured area in pixels that suit a spectrogram: cells of whole pixels, square ones as long as
/// the picture does not get too wide.
pub fn natural_size(bins: usize, frames: usize) -> (u32, u32) {
    const HEIGHT: usize = 640;
    const WIDTH: std::ops::RangeInclusive<usize> = 480..=1600;
    let cell = (HEIGHT / bins.max(1)).max(1);
    let height = if bins > HEIGHT { HEIGHT } else { bins.max(1) * cell };
    (frames.saturating_mul(cell).clamp(*WIDTH.start(), *WIDTH.end()) as u32, height as u32)
}

/// The largest side of the coloured area, pixels.
const LARGEST: u32 = 8192;
/// Seconds that an axis can show.
const TIMES: std::ops::RangeInclusive<f64> = 1e-6..=1e10;
/// So much below the loudest cell, in dB, colours end.
const RANGE: f64 = 80.0;
/// Colours span so many dB at least: differences that nobody hears should not look large.
const LEAST_RANGE: f64 = 20.0;
/// Decibels in a neper of amplitude.
const DB: f64 = 20.0 * std::f64::consts::LOG10_E;

/// Room on the left of the coloured area: ticks and axis title.
const LEFT: i32 = 112;
/// Room above: the title.
const TOP: i32 = 58;
/// Room below: ticks and axis title.
const BOTTOM: i32 = 84;
/// From the coloured area to the colour bar.
const GAP: i32 = 28;
/// The colour bar.
const BAR: i32 = 28;
/// Room for the colour bar's ticks and title.
const RIGHT: i32 = 104;
/// Height of ordinary text.
const TEXT: f64 = 20.0;
/// Height of the title.
const TITLE: f64 = 23.0;
/// Length of a tick.
const TICK: i32 = 7;

/// Draws `picture` as a PNG file whose coloured area has `size` (width, height) pixels; axes, colour bar and title come
/// around it.
///
/// A pixel that stands for several cells has their mean level. Levels are decibels of amplitude (an amplitude of 1 is
/// 0 dB); what lies more than 80 dB below the loudest cell is as dark as what lies 80 dB below.
///
/// # Errors
/// [`Error::Shape`] if `values` is not `[bins, frames]` with at least one of each; [`Error::Config`] for values or times that
/// cannot be drawn, or a size of zero or beyond 8192.
pub fn png(picture: &Spectrogram, size: (u32, u32)) -> Result<Vec<u8>> {
    let frames = frames_of(picture)?;
    if !(1..=LARGEST).contains(&size.0) || !(1..=LARGEST).contains(&size.1) {
        let message = format!("spectrogram: a picture of {} x {} pixels: expected 1 to {LARGEST} each", size.0, size.1);
        return Err(Error::Config(message));
    }
    let layout = Layout { left: LEFT, top: TOP, width: size.0 as i32, height: size.1 as i32 };
    let whole = ((layout.right() + GAP + BAR + RIGHT) as u32, (layout.bottom() + BOTTOM) as u32);
    let mut pixels = vec![255; 3 * whole.0 as usize * whole.1 as usize];
    let levels = levels(picture.values);
    let (width, height) = (size.0 as usize, size.1 as usize);
    let (cells, bar) = (cells(picture, levels, (width, height)), bar(levels, height));
    for y in 0..height {
        let mut put = |x: i32, rgb: &[u8]| {
            let at = 3 * ((TOP as usize + y) * whole.0 as usize + x as usize);
            pixels[at..at + rgb.len()].copy_from_slice(rgb);
        };
        put(LEFT, &cells[3 * y * width..3 * (y + 1) * width]);
        (0..BAR).for_each(|x| put(layout.right() + GAP + x, &bar[3 * y..3 * y + 3]));
    }
    {
        let area = BitMapBackend::with_buffer(&mut pixels, whole).into_drawing_area();
        draw(&area, &layout, picture, frames, levels).and_then(|()| area.present()).map_err(undrawable)?;
    }
    encoded(&pixels, whole)
}

/// The number of frames of a picture that can be drawn.
fn frames_of(picture: &Spectrogram) -> Result<usize> {
    let bins = picture.centres.len();
    let frames = picture.values.len().checked_div(bins).unwrap_or(0);
    if frames == 0 || frames * bins != picture.values.len() {
        let message = format!("expected [{bins}, frames] values, got {}", picture.values.len());
        return Err(Error::shape("spectrogram", message));
    }
    let fault = |message: String| Err(Error::Config(format!("spectrogram: {message}")));
    if !picture.values.iter().all(|value| value.is_finite()) || !picture.centres.iter().all(|hz| hz.is_finite()) {
        return fault("values that are not finite cannot be drawn".to_string());
    }
    if !TIMES.contains(&picture.step) || !(0.0..=*TIMES.end()).contains(&picture.start) {
        return fault(format!("frames every {} s from {} s on cannot be drawn", picture.step, picture.start));
    }
    Ok(frames)
}

/// Draws `picture` for a page: an SVG whose colours are PNG images, one pixel per cell, and whose lines and words have the
/// colour of the text around it. `title` becomes its text alternative.
///
/// # Errors
/// As [`png()`].
pub fn svg(picture: &Spectrogram) -> Result<String> {
    // the page's text is smaller than a file's: ticks are as far apart as in a picture of `scale` times the size
    let (left, top, side, gap, thick, size) = (56, 8, 208, 10, 10, 12);
    let scale = |length: i32| (f64::from(length) * TEXT / f64::from(size)) as i32;
    let frames = frames_of(picture)?;
    let (low, high) = levels(picture.values);
    let (bins, columns) = (picture.centres.len().min(LARGEST as usize), frames.min(LARGEST as usize));
    let cells = encoded(&cells(picture, (low, high), (columns, bins)), (columns as u32, bins as u32))?;
    let bar = encoded(&bar((low, high), side as usize), (1, side as u32))?;
    let (right, bottom) = (left + side, top + side);
    let (bar_left, bar_right) = (right + gap, right + gap + thick);
    let mut drawn = String::new();
    let mut image = |png: &[u8], x: i32, width: i32| {
        drawn += &format!(
            "<image x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{side}\" preserveAspectRatio=\"none\" \
             href=\"data:image/png;base64,{}\"/>\n<rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{side}\"/>\n",
            STANDARD.encode(png)
        );
    };
    image(&cells, left, side);
    image(&bar, bar_left, thick);
    let mut word = |text: &str, x: i32, y: i32, anchor: &str, turn: &str| {
        drawn += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\"{turn}>{text}</text>\n");
    };
    let upright = |x: i32| format!(" transform=\"rotate(-90 {x} {})\"", top + side / 2);
    let place = |share: f64| (share * f64::from(side)).round() as i32;
    let mut ticks = String::new();
    let mut tick = |x: i32, y: i32, along: &str| ticks += &format!("<path d=\"M{x} {y}{along}\"/>\n");
    let (time, times) = time_ticks(picture, frames, scale(side));
    for (at, name) in times {
        tick(left + place(at), bottom, "v4");
        word(&name, left + place(at), bottom + 16, "middle", "");
    }
    word(time, left + side / 2, bottom + 34, "middle", "");
    for (row, name) in frequency_ticks(picture.centres, picture.scale, scale(side)) {
        let y = bottom - place(row / picture.centres.len() as f64);
        tick(left, y, "h-4");
        word(&name, left - 6, y + 4, "end", "");
    }
    word(frequency_unit(picture.scale), 10, top + side / 2, "middle", &upright(10));
    for db in level_ticks(low, high, scale(side)) {
        let y = bottom - place((db - low) / (high - low));
        tick(bar_right, y, "h4");
        word(&signed(db), bar_right + 6, y + 4, "start", "");
    }
    word("level (dB)", bar_right + 44, top + side / 2, "middle", &upright(bar_right + 44));
    let (width, height) = (bar_right + 50, bottom + 40);
    let title = escaped(picture.title);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" font-size=\"{size}\">\n\
         <title>{title}</title>\n{drawn}{ticks}</svg>"
    ))
}

/// Where the coloured area lies.
struct Layout {
    left: i32,
    top: i32,
    width: i32,
    height: i32,
}

impl Layout {
    fn right(&self) -> i32 {
        self.left + self.width
    }

    fn bottom(&self) -> i32 {
        self.top + self.height
    }
}

/// Lowest and highest level of the colours, dB.
fn levels(values: &[f32]) -> (f64, f64) {
    let (low, high) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    let (low, high) = (DB * f64::from(low), DB * f64::from(high));
    // a picture of one level, silence for instance, is dark
    (low.max(high - RANGE), high.max(low + LEAST_RANGE))
}

/// The cells of a run of `cells` that pixel `pixel` of `pixels` stands for: at least one.
fn share(pixel: usize, pixels: usize, cells: usize) -> std::ops::Range<usize> {
    let first = pixel * cells / pixels;
    first..((pixel + 1) * cells / pixels).max(first + 1)
}

/// The colour of `db` between the lowest and the highest level.
fn colour(db: f64, (bottom, top): (f64, f64)) -> [u8; 3] {
    let RGBColor(r, g, b) = ViridisRGB::get_color_normalized(db, bottom, top);
    [r, g, b]
}

/// The cells as RGB, `width` times `height` pixels, the highest frequency first.
fn cells(picture: &Spectrogram, levels: (f64, f64), (width, height): (usize, usize)) -> Vec<u8> {
    let bins = picture.centres.len();
    let frames = picture.values.len() / bins;
    // sums of each row over the frames of each pixel: long recordings have many more frames than pixels
    let columns: Vec<f64> = picture
        .values
        .chunks_exact(frames)
        .flat_map(|row| (0..width).map(move |x| row[share(x, width, frames)].iter().map(|&v| f64::from(v)).sum()))
        .collect();
    let mut pixels = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        let rows = share(height - 1 - y, height, bins);
        for x in 0..width {
            let cells = (rows.len() * share(x, width, frames).len()) as f64;
            let sum: f64 = rows.clone().map(|row| columns[row * width + x]).sum();
            pixels.extend(colour(DB * sum / cells, levels));
        }
    }
    pixels
}

/// The colour bar as RGB, one pixel wide, the highest level first.
fn bar((bottom, top): (f64, f64), height: usize) -> Vec<u8> {
    let db = |y: usize| bottom + (top - bottom) * (height - 1 - y) as f64 / (height - 1).max(1) as f64;
    (0..height).flat_map(|y| colour(db(y), (bottom, top))).collect()
}

/// An area of pixels.
type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// What drawing returns.
type Drawn = std::result::Result<(), DrawingAreaErrorKind<<BitMapBackend<'static> as DrawingBackend>::ErrorType>>;

/// Frames, ticks and words around the colours.
fn draw(area: &Area, layout: &Layout, picture: &Spectrogram, frames: usize, (low, high): (f64, f64)) -> Drawn {
    let Layout { left, top, width, height } = *layout;
    let (right, bottom) = (layout.right(), layout.bottom());
    let middle = top + height / 2;
    // seven tenths of an em a letter are more than text of any length needs
    let letters = f64::from(width + GAP + BAR + RIGHT) / (0.55 * TITLE);
    text(area, &title(picture.title, letters as usize), (left, TOP / 2), TITLE, INK, HPos::Left)?;

    let (unit, ticks) = time_ticks(picture, frames, width);
    for (at, name) in ticks {
        let x = left + (at * f64::from(width)).round() as i32;
        line(area, (x, bottom), (x, bottom + TICK))?;
        text(area, &name, (x, bottom + 22), TEXT, INK, HPos::Center)?;
    }
    text(area, unit, (left + width / 2, bottom + 58), TEXT, GREY, HPos::Center)?;

    for (row, name) in frequency_ticks(picture.centres, picture.scale, height) {
        let y = bottom - (row / picture.centres.len() as f64 * f64::from(height)).round() as i32;
        line(area, (left - TICK, y), (left, y))?;
        text(area, &name, (left - TICK - 6, y), TEXT, INK, HPos::Right)?;
    }
    upright(area, frequency_unit(picture.scale), (22, middle))?;

    let bar = right + GAP + BAR;
    for db in level_ticks(low, high, height) {
        let y = bottom - ((db - low) / (high - low) * f64::from(height)).round() as i32;
        line(area, (bar, y), (bar + TICK, y))?;
        text(area, &signed(db), (bar + TICK + 6, y), TEXT, INK, HPos::Left)?;
    }
    upright(area, "level (dB)", (bar + RIGHT - 18, middle))?;
    for (from, to) in [((left, top), (right, bottom)), ((right + GAP, top), (bar, bottom))] {
        area.draw(&Rectangle::new([(from.0 - 1, from.1 - 1), to], GREY.stroke_width(1)))?;
    }
    Ok(())
}

fn line(area: &Area, from: (i32, i32), to: (i32, i32)) -> Drawn {
    area.draw(&PathElement::new([from, to], GREY.stroke_width(1)))
}

/// `text` in at most `longest` letters that the font has. Others are transliterated, with a code after them: texts that
/// are transliterated alike (of Chinese there are many) have different codes.
fn title(text: &str, longest: usize) -> String {
    let Ok(font) = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT) else { return clean(text, longest) };
    // without what cannot be printed, and not yet cut
    let whole = clean(text, usize::MAX);
    let is_drawn = |c: char| font.glyph_id(c).0 != 0;
    if whole.chars().all(|c| is_drawn(c) || c == '\u{fffd}') {
        return clean(text, longest);
    }
    let letters = |c: char| match any_ascii::any_ascii_char(c) {
        _ if is_drawn(c) => c.to_string(),
        "" => "?".to_owned(),
        letters => letters.to_owned(),
    };
    let code = &blake3::hash(text.as_bytes()).to_hex()[..4];
    let note = format!(" (transliterated, {code})");
    clean(&whole.chars().map(letters).collect::<String>(), longest.saturating_sub(note.len())) + &note
}

/// One line of text; `at` is the middle of its capitals in height.
fn text(area: &Area, words: &str, at: (i32, i32), pixels: f64, colour: RGBColor, side: HPos) -> Drawn {
    let style = font(pixels).color(&colour).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(words.to_string(), (at.0, at.1 + lowered(pixels)), style))
}

/// Text that reads upwards, centred on `at`.
fn upright(area: &Area, words: &str, at: (i32, i32)) -> Drawn {
    let style = font(TEXT).transform(FontTransform::Rotate270).color(&GREY).pos(Pos::new(HPos::Center, VPos::Center));
    area.draw(&Text::new(words.to_string(), (at.0 + lowered(TEXT), at.1), style))
}

/// plotters sets the capitals of bitmap text so much above the middle that was asked for.
fn lowered(pixels: f64) -> i32 {
    (0.2 * 1.24 * pixels).round() as i32
}

fn frequency_unit(scale: Scale) -> &'static str {
    match scale {
        Scale::Hertz => "frequency (Hz)",
        Scale::Notes => "pitch",
    }
}

/// `-20` with a minus sign.
fn signed(number: f64) -> String {
    if number < 0.0 { format!("\u{2212}{}", -number) } else { number.to_string() }
}

/// 1, 2 or 5 times a power of ten: the smallest that is at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|&step| step >= least * (1.0 - 1e-9)).unwrap_or(power)
}

/// The axis title, and (place from 0, left, to 1, right; name) of each tick.
fn time_ticks(picture: &Spectrogram, frames: usize, width: i32) -> (&'static str, Vec<(f64, String)>) {
    const APART: f64 = 100.0;
    // a column is as wide as the step and stands around its frame
    let first = picture.start - picture.step / 2.0;
    let length = picture.step * frames as f64;
    let last = first + length;
    let least = length * APART / f64::from(width);
    let clock = last > 120.0 && length > 10.0;
    let step = if clock {
        let steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400];
        steps.into_iter().map(f64::from).find(|&step| step >= least).unwrap_or(round_step(least / 86_400.0) * 86_400.0)
    } else {
        round_step(least)
    };
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let name = |time: f64| {
        let seconds = time.round() as u64;
        let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        match (clock, last >= 3600.0) {
            (false, _) => format!("{time:.decimals$}"),
            (true, false) => format!("{m}:{s:02}"),
            (true, true) => format!("{h}:{m:02}:{s:02}"),
        }
    };
    let unit = match (clock, last >= 3600.0) {
        (false, _) => "time (s)",
        (true, false) => "time (min:s)",
        (true, true) => "time (h:min:s)",
    };
    let ticks = ((first.max(0.0) / step).ceil() as u64..)
        .map(|k| k as f64 * step)
        .take_while(|&time| time <= last)
        .map(|time| ((time - first) / length, name(time)))
        .collect();
    (unit, ticks)
}

/// (rows from the bottom edge, name) of each tick; the centre of row r is at r + 0.5.
fn frequency_ticks(centres: &[f64], scale: Scale, height: i32) -> Vec<(f64, String)> {
    const APART: f64 = 24.0;
    let apart = APART * centres.len() as f64 / f64::from(height);
    let (Some(&low), Some(&high)) = (centres.first(), centres.last()) else { return Vec::new() };
    // best first
    let candidates: Vec<(f64, String)> = match scale {
        Scale::Hertz => {
            let even = (high - low) / (centres.len().max(2) - 1) as f64;
            let is_even = centres.windows(2).all(|pair| ((pair[1] - pair[0]) / even - 1.0).abs() < 0.01);
            if is_even {
                let step = round_step((even * apart * 1.5).max(1e-3));
                (0..=(high / step) as u64 + 1).map(|k| k as f64 * step).map(|hz| (hz, hz.to_string())).collect()
            } else {
                let octaves = [0, 1, -1, 2, -2, 3, -3, 4, 5].map(|octave| 1000.0 * 2f64.powi(octave));
                octaves.map(|hz| (hz, hz.to_string())).to_vec()
            }
        }
        Scale::Notes => {
            let note = |hz: f64| 69.0 + 12.0 * (hz / 440.0).log2();
            let (low, high) = (note(low.max(1.0)), note(high.max(1.0)));
            let notes = (low - 0.5).ceil() as i64..=(high + 0.5).floor() as i64;
            // C alone where there are several
            let few = high - low < 24.0;
            let (cs, others): (Vec<i64>, Vec<i64>) = notes.partition(|note| note.rem_euclid(12) == 0);
            let name = |note: i64| {
                const NAMES: [&str; 12] = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];
                let hz = 440.0 * 2f64.powf((note - 69) as f64 / 12.0);
                (hz, format!("{}{}", NAMES[note.rem_euclid(12) as usize], note.div_euclid(12) - 1))
            };
            cs.into_iter().chain(if few { others } else { Vec::new() }).map(name).collect()
        }
    };
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for (hz, name) in candidates {
        let Some(row) = row(centres, hz) else { continue };
        if ticks.iter().all(|(other, _)| (other - row).abs() >= apart) {
            ticks.push((row, name));
        }
    }
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    ticks
}

/// Where `hz` lies, in rows from the bottom edge: between two centres in proportion, beyond the last half a row further at
/// most.
fn row(centres: &[f64], hz: f64) -> Option<f64> {
    let bins = centres.len();
    if bins == 1 {
        return (hz == centres[0]).then_some(0.5);
    }
    let after = centres.partition_point(|&centre| centre < hz).clamp(1, bins - 1);
    let (low, high) = (centres[after - 1], centres[after]);
    let row = after as f64 - 0.5 + (hz - low) / (high - low);
    (0.0..=bins as f64).contains(&row).then_some(row)
}

/// Levels with a tick.
fn level_ticks(low: f64, high: f64, height: i32) -> Vec<f64> {
    const APART: f64 = 30.0;
    let step = 10.0 * ((high - low) / 10.0 * APART / f64::from(height)).ceil();
    let first = (low / step).ceil() as i64;
    (first..=(high / step).floor() as i64).map(|k| k as f64 * step).collect()
}

fn encoded(pixels: &[u8], size: (u32, u32)) -> Result<Vec<u8>> {
    encode(pixels, size).map_err(undrawable)
}

fn encode(pixels: &[u8], (width, height): (u32, u32)) -> std::result::Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // blocks of one colour: smallest unfiltered
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::FrontEnd;

    fn picture<'a>(values: &'a [f32], centres: &'a [f64]) -> Spectrogram<'a> {
        Spectrogram { values, centres, scale: Scale::Hertz, start: 0.0, step: 256.0 / 22_050.0, title: "a title" }
    }

    /// Pixels (width, height, RGB) of a PNG file.
    fn read(bytes: &[u8]) -> (usize, usize, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        (info.width as usize, info.height as usize, pixels)
    }

    #[test]
    fn titles_are_drawn_or_transliterated_and_stay_different() {
        for plain in ["blues.00012: log-mel", "Größe à la Ωμέγα, Я", ""] {
            assert_eq!(title(plain, 80), plain);
        }
        // as pinyin has them
        let shown = title("山川.wav: log-mel", 80);
        assert!(shown.starts_with("ShanChuan.wav: log-mel (transliterated, "), "{shown}");
        assert!(title("Привет 東京 🎵", 80).starts_with("Привет "), "what the font has is kept");
        // all of them are read "shi"
        let alike: Vec<String> = ["市.wav", "是.wav", "事.wav"].map(|name| title(name, 80)).to_vec();
        assert!(alike[0] != alike[1] && alike[1] != alike[2] && alike[0] != alike[2], "{alike:?}");
        let long = title(&"山".repeat(100), 60);
        assert!(long.chars().count() == 60 && long.contains("… (transliterated, "), "{long}");
    }

    #[test]
    fn cells_have_the_colour_of_their_level() {
        // 2 rows, 3 columns; 40 dB from the softest to the loudest
        let nepers = |db: f64| (db / DB) as f32;
        let values = [0.0, -40.0, -40.0, -20.0, 0.0, -40.0].map(nepers);
        let (width, height, pixels) = read(&super::png(&picture(&values, &[100.0, 200.0]), (300, 200)).unwrap());
        assert_eq!((width, height), ((LEFT + 300 + GAP + BAR + RIGHT) as usize, (TOP + 200 + BOTTOM) as usize));
        let at = |x: i32, y: i32| {
            let at = 3 * ((TOP + y) as usize * width + (LEFT + x) as usize);
            <[u8; 3]>::try_from(&pixels[at..at + 3]).unwrap()
        };
        let (loudest, softest) = ([254, 232, 37], [68, 1, 84]);
        // the first row of values is the lowest
        for (column, [upper, lower]) in
            [[None, Some(loudest)], [Some(loudest), Some(softest)], [Some(softest); 2]].iter().enumerate()
        {
            for (y, expected) in [(1, upper), (98, upper), (101, lower), (198, lower)] {
                for x in [1, 98] {
                    let got = at(100 * column as i32 + x, y);
                    // halfway is a green between the two
                    let expected = expected.unwrap_or(ViridisRGB::get_color(0.5).to_backend_color().rgb.into());
                    let close = got.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1);
                    assert!(close, "column {column}, {x}, {y}: {got:?} instead of {expected:?}");
                }
            }
        }
        // the colour bar has the loudest on top
        assert_eq!((at(300 + GAP + 3, 0), at(300 + GAP + 3, 199)), (loudest, softest));
        // and something is written on all sides
        let inked = |xs: std::ops::Range<i32>, ys: std::ops::Range<i32>| {
            xs.clone().any(|x| ys.clone().any(|y| at(x, y).iter().all(|&c| c < 120)))
        };
        assert!(inked(0..200, -TOP..-4) && inked(-LEFT..-8, 0..200) && inked(0..300, 8..BOTTOM));
        assert!(inked(300 + GAP + BAR + 8..300 + GAP + BAR + RIGHT, 0..200));
    }

    #[test]
    fn many_cells_in_a_pixel_are_averaged_and_silence_is_dark() {
        // 0 and -40 dB in turn, 1000 columns on 10 pixels: all -20 dB, and therefore of one colour
        let values: Vec<f32> = (0..4_000).map(|i| (-40.0 * f64::from(i % 2) / DB) as f32).collect();
        let centres = [1.0, 2.0, 3.0, 4.0];
        let colours = |values: &[f32]| {
            let (width, _, pixels) = read(&super::png(&picture(values, &centres), (10, 10)).unwrap());
            let inside = (0..100).map(|i| 3 * ((TOP as usize + 1 + i / 10 % 8) * width + LEFT as usize + i % 9));
            inside.map(|at| pixels[at..at + 3].to_vec()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(colours(&values).len(), 1);
        assert_eq!(colours(&[1e-6f32.ln(); 40]), [vec![68, 1, 84]].into());
    }

    #[test]
    fn any_size_is_drawn_or_refused() {
        let values = vec![0.5; 80 * 7];
        let centres = FrontEnd::default().centres();
        for size in [(1, 1), (3, 700), (700, 3), natural_size(80, 7)] {
            read(&super::png(&picture(&values, &centres), size).unwrap());
        }
        // the smallest spectrogram, at any time
        for (start, step) in [(0.0, 0.01), (1e6, 0.01), (3e9, 1e-6), (0.0, 1e9), (1e10, 1e10)] {
            let picture = Spectrogram { start, step, ..picture(&[1.0], &[440.0]) };
            read(&super::png(&picture, (480, 640)).unwrap());
        }
        for (start, step) in [(0.0, 0.0), (0.0, -1.0), (0.0, f64::NAN), (-1.0, 0.1), (f64::INFINITY, 0.1)] {
            let picture = Spectrogram { start, step, ..picture(&values, &centres) };
            assert!(super::png(&picture, (9, 9)).unwrap_err().one_line().ends_with("s on cannot be drawn"));
        }
        let refused = |values: &[f32], size| super::png(&picture(values, &centres), size).unwrap_err().one_line();
        assert_eq!(refused(&values[1..], (9, 9)), "spectrogram: expected [80, frames] values, got 559");
        assert_eq!(refused(&[], (9, 9)), "spectrogram: expected [80, frames] values, got 0");
        assert!(refused(&values, (0, 9)).contains("expected 1 to 8192 each"));
        assert!(refused(&values, (9, 8193)).contains("expected 1 to 8192 each"));
        let mut holed = values.clone();
        holed[3] = f32::NAN;
        assert!(refused(&holed, (9, 9)).contains("not finite"));
    }

    #[test]
    fn cells_are_square_while_the_picture_is_not_too_wide() {
        assert_eq!(natural_size(80, 80), (640, 640));
        assert_eq!(natural_size(84, 80), (560, 588));
        assert_eq!(natural_size(80, 2_584), (1_600, 640));
        assert_eq!(natural_size(80, 1), (480, 640));
        assert_eq!(natural_size(3_000, usize::MAX), (1_600, 640));
    }

    #[test]
    fn time_has_round_ticks() {
        let ticks = |start: f64, seconds: f64, width: i32| {
            let step = 256.0 / 22_050.0;
            let (unit, ticks) =
                time_ticks(&Spectrogram { start, step, ..picture(&[], &[]) }, (seconds / step) as usize, width);
            assert!(ticks.iter().all(|(at, _)| (0.0..=1.0).contains(at)));
            assert!(ticks.windows(2).all(|pair| (pair[1].0 - pair[0].0) * f64::from(width) >= 90.0), "{ticks:?}");
            (unit, ticks.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(ticks(0.0, 0.928, 640), ("time (s)", "0.0 0.2 0.4 0.6 0.8".into()));
        assert_eq!(ticks(0.0, 30.0, 1_600), ("time (s)", "0 2 4 6 8 10 12 14 16 18 20 22 24 26 28".into()));
        assert_eq!(ticks(62.5, 5.0, 640), ("time (s)", "63 64 65 66 67".into()));
        assert_eq!(
            ticks(0.0, 600.0, 1_000),
            ("time (min:s)", "0:00 1:00 2:00 3:00 4:00 5:00 6:00 7:00 8:00 9:00".into())
        );
        assert_eq!(
            ticks(0.0, 10_800.1, 640),
            ("time (h:min:s)", "0:00:00 0:30:00 1:00:00 1:30:00 2:00:00 2:30:00 3:00:00".into())
        );
        assert_eq!(ticks(3_600.0, 5.0, 640).1, "3600 3601 3602 3603 3604");
    }

    #[test]
    fn frequencies_have_ticks_where_their_rows_are() {
        let names = |ticks: &[(f64, String)]| ticks.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>().join(" ");
        let front_end = FrontEnd::default();
        let ticks = frequency_ticks(&front_end.centres(), front_end.scale(), 640);
        assert_eq!(names(&ticks), "125 250 500 1000 2000 4000 8000");
        // band b of the mel scale peaks at (b + 1) / 81 of it, in the middle of its row
        for (row, name) in &ticks {
            let mel =
                81.0 * crate::audio::mel::hz_to_mel(name.parse().unwrap()) / crate::audio::mel::hz_to_mel(11_025.0);
            assert!((row - (mel - 0.5)).abs() < 0.02, "{name} Hz in row {row}");
        }
        let linear: Vec<f64> = (0..80).map(|k| 50.0 + 100.0 * f64::from(k)).collect();
        let ticks = frequency_ticks(&linear, Scale::Hertz, 640);
        assert_eq!(names(&ticks), "0 500 1000 1500 2000 2500 3000 3500 4000 4500 5000 5500 6000 6500 7000 7500 8000");
        assert!(ticks.iter().all(|(row, name)| (row - name.parse::<f64>().unwrap() / 100.0).abs() < 1e-9));

        let notes =
            |bins: i32| (0..bins).map(|k| 32.703_195_662_574_83 * 2f64.powf(f64::from(k) / 12.0)).collect::<Vec<f64>>();
        let ticks = frequency_ticks(&notes(80), Scale::Notes, 640);
        assert_eq!(names(&ticks), "C1 C2 C3 C4 C5 C6 C7");
        assert!(
            ticks.iter().enumerate().all(|(octave, (row, _))| (row - (12 * octave) as f64 - 0.5).abs() < 1e-6),
            "{ticks:?}"
        );
        assert_eq!(names(&frequency_ticks(&notes(84), Scale::Notes, 588)), "C1 C2 C3 C4 C5 C6 C7");
        // less than two octaves: other notes too, as many as fit
        assert_eq!(names(&frequency_ticks(&notes(4), Scale::Notes, 640)), "C1 C#1 D1 D#1");
        assert_eq!(names(&frequency_ticks(&[440.0], Scale::Notes, 640)), "A4");
    }
}
