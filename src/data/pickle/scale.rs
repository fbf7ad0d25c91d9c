//! The samples' full scale, so that they lie in -1..1: their type says it, or their peak does, or the file is refused.

use super::numpy::Dtype;
use super::value::Items;

/// What samples are stored as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stored {
    /// Floats, of full scale 1 or that of the integers that they were.
    Floats,
    /// Python's integers, which have no width.
    Numbers,
    /// Integers of more bits than most samples have.
    Wide,
    /// Integers of 8 or 16 bits.
    Signed(u32),
    /// Integers of so many bits, half of them silence.
    Unsigned(u32),
}

impl Stored {
    /// Of an array of this type.
    pub fn of_array(dtype: Dtype) -> Self {
        let bits = 8 * dtype.size as u32;
        match (dtype.kind, bits) {
            (b'f', _) => Stored::Floats,
            (b'i', 8 | 16) => Stored::Signed(bits),
            (b'i', _) => Stored::Wide,
            _ => Stored::Unsigned(bits),
        }
    }

    /// Of a list.
    pub fn of_list(items: &Items) -> Self {
        match items {
            Items::Floats(_) => Stored::Floats,
            _ => Stored::Numbers,
        }
    }

    /// Of both; none where two types are not of one scale.
    pub fn with(self, other: Self) -> Option<Self> {
        use Stored::*;
        match (self, other) {
            (a, b) if a == b => Some(a),
            (Numbers, b @ (Floats | Wide)) | (b @ (Floats | Wide), Numbers) => Some(b),
            _ => None,
        }
    }
}

impl std::fmt::Display for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stored::Floats => f.write_str("floats"),
            Stored::Numbers => f.write_str("integers"),
            Stored::Wide => f.write_str("integers of 32 or 64 bits"),
            Stored::Signed(bits) => write!(f, "{bits}-bit integers"),
            Stored::Unsigned(bits) => write!(f, "unsigned {bits}-bit integers"),
        }
    }
}

/// How loud samples are, as they are stored.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loudness {
    peak: f32,
    sum: f64,
    count: u64,
}

impl Loudness {
    pub fn add(&mut self, samples: &[f32]) {
        self.peak = samples.iter().fold(self.peak, |peak, sample| peak.max(sample.abs()));
        self.sum += samples.iter().map(|&sample| f64::from(sample)).sum::<f64>();
        self.count += samples.len() as u64;
    }
}

/// What is taken off samples, and what they are divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub offset: f32,
    pub full: f32,
}

/// Widths of the samples that most programs write, in bits, and how far below full scale the loudest of a corpus may lie to
/// be told by it: between the ranges it could be of either.
const WIDTHS: [(u32, f64); 3] = [(16, 128.0), (32, 16.0), (64, 16.0)];

/// Floats may lie beyond full scale, after a change of their rate say.
const BEYOND: f64 = 2.0;

/// The scale of samples, and how it was found, in words.
///
/// # Errors
/// The message, where it cannot be told.
pub(super) fn of(stored: Stored, loudness: &Loudness) -> Result<(Scale, String), String> {
    let peak = f64::from(loudness.peak);
    let shown = (peak * 1000.0).round() / 1000.0;
    let full = |bits: u32| (bits as f64 - 1.0).exp2();
    let divided = |how: &str, bits: u32| {
        let scale = Scale { offset: 0.0, full: full(bits) as f32 };
        (scale, format!("samples {how} {bits}-bit integers (peak {shown}): divided by {}", grouped(full(bits))))
    };
    let beyond = if stored == Stored::Floats { BEYOND } else { 1.0 };
    match stored {
        Stored::Signed(bits) => return Ok(divided("are", bits)),
        Stored::Unsigned(bits) => {
            let mean = loudness.sum / loudness.count.max(1) as f64;
            // of 64 bits the upper half was cut off when they were read
            if bits < 64 && (mean / full(bits) - 1.0).abs() < 0.25 {
                let half = grouped(full(bits));
                let scale = Scale { offset: full(bits) as f32, full: full(bits) as f32 };
                return Ok((scale, format!("samples are {stored}: {half} is taken off, then they are divided by it")));
            }
        }
        Stored::Floats if peak <= BEYOND => {
            let scale = Scale { offset: 0.0, full: 1.0 };
            return Ok((scale, format!("samples look like floats in -1..1 (peak {shown}): used as they are")));
        }
        _ => {
            let told = |&(bits, below): &(u32, f64)| (full(bits) / below..=full(bits) * beyond).contains(&peak);
            if let Some((bits, _)) = WIDTHS.into_iter().find(told) {
                return Ok(divided("look like", bits));
            }
        }
    }
    Err(format!(
        "its samples are {stored} with a peak of {shown}, which does not tell what full scale is; give floats in -1..1 or \
         16-bit integers"
    ))
}

/// `32,768`.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(stored: Stored, samples: &[f32]) -> Result<f32, String> {
        let mut loudness = Loudness::default();
        loudness.add(samples);
        of(stored, &loudness).map(|(scale, _)| (samples[0] - scale.offset) / scale.full)
    }

    #[test]
    fn full_scale_is_one_whatever_the_type() {
        use Stored::*;
        for (stored, low, high) in [
            (Floats, -1.0, 0.99),
            (Floats, -32_768.0, 32_767.0),
            (Floats, -2_147_483_648.0, 2_147_483_647.0),
            (Numbers, -32_768.0, 32_767.0),
            (Wide, -32_768.0, 32_767.0),
            (Wide, -2_147_483_648.0, 2_147_483_647.0),
            (Wide, -9_223_372_036_854_775_808.0, 9e18),
            (Signed(8), -128.0, 127.0),
            (Signed(16), -32_768.0, 32_767.0),
            (Unsigned(8), 0.0, 255.0),
            (Unsigned(16), 0.0, 65_535.0),
            (Unsigned(32), 0.0, 4_294_967_295.0),
        ] {
            assert_eq!(scale(stored, &[low, high]), Ok(-1.0), "{stored}, {low} to {high}");
        }
        // a quiet corpus of a type that says it all
        assert_eq!(scale(Signed(16), &[1.0, -1.0]), Ok(1.0 / 32_768.0));
        assert_eq!(scale(Wide, &[268_435_456.0, 0.0]), Ok(0.125));
    }

    #[test]
    fn what_cannot_be_told_is_refused_with_the_peak() {
        use Stored::*;
        for (stored, peak) in
            [(Floats, 3.0), (Floats, 127.0), (Floats, 8_388_607.0), (Wide, 8_388_607.0), (Numbers, 1.0), (Floats, 1e12)]
        {
            let said = scale(stored, &[peak, -peak]).unwrap_err();
            assert!(said.contains(&format!("{stored} with a peak of {}", f64::from(peak))), "{said}");
        }
        assert!(scale(Unsigned(16), &[0.0, 255.0]).is_err(), "8 bits in 16, or very quiet");
        assert_eq!(Signed(16).with(Floats), None);
        assert_eq!((Numbers.with(Floats), Wide.with(Numbers)), (Some(Floats), Some(Wide)));
        assert_eq!([32_768.0, 128.0, 2_147_483_648.0].map(grouped), ["32,768", "128", "2,147,483,648"]);
    }
}
