//! Samples as a WAV file that everything plays.

use std::io::Cursor;
use std::path::Path;

use super::SAMPLE_RATE;
use crate::error::{Error, Result};

/// A WAV file of `samples`, -1 to 1, at [`SAMPLE_RATE`] Hz: mono, 16-bit PCM. What was decoded of 16-bit samples comes out
/// as it was; what lies outside of the range is clipped.
///
/// # Errors
/// More samples than a WAV file holds.
pub fn bytes(samples: &[f32]) -> Result<Vec<u8>> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::with_capacity(44 + 2 * samples.len()));
    let mut write = || {
        let mut writer = hound::WavWriter::new(&mut file, spec)?;
        // the cast clips
        samples.iter().try_for_each(|sample| writer.write_sample((sample * 32_768.0).round() as i16))?;
        writer.finalize()
    };
    write().map_err(|error| Error::audio(Path::new("a segment"), format!("cannot become a WAV file: {error}")))?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_come_out_as_they_went_in_and_louder_is_clipped() {
        let exact: Vec<i16> = vec![0, 1, -1, 1_234, -20_000, i16::MAX, i16::MIN];
        let samples: Vec<f32> = exact.iter().map(|&x| f32::from(x) / 32_768.0).chain([1.5, -7.0]).collect();
        let mut reader = hound::WavReader::new(Cursor::new(bytes(&samples).unwrap())).unwrap();
        let spec = reader.spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (1, 22_050, 16));
        let read: Vec<i16> = reader.samples().map(|sample| sample.unwrap()).collect();
        assert_eq!(read, [&exact[..], &[i16::MAX, i16::MIN]].concat());
    }
}
