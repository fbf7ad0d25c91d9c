//! Weights as safetensors: f32, PyTorch's layouts and names (`spectral.0.weight [out, in, kh, kw]`, `fc1.weight [out, in]`).
//!
//! The [state](super::state) of an unfinished training is kept the same way.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};
use crate::files;
use crate::tape::{Source, Tape};
use crate::tensor::{Params, Tensor};

/// Longer headers are refused by every reader of safetensors.
const LONGEST_HEADER: u64 = 100_000_008;

/// Writes `params` to `path` (beside, then renamed).
///
/// # Errors
/// [`Error::Io`] if the disk refuses.
pub fn write(path: &Path, params: &Params) -> Result<()> {
    write_with(path, params, &[])
}

/// As [`write`], with lines of text besides.
pub(super) fn write_with(path: &Path, params: &Params, texts: &[(&str, String)]) -> Result<()> {
    let views: Vec<(&str, TensorView)> = params
        .iter()
        .map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(tensor.data());
            let view = TensorView::new(Dtype::F32, tensor.shape().dims().to_vec(), bytes);
            view.map(|view| (name, view)).map_err(|error| Error::data(path, error.to_string()))
        })
        .collect::<Result<_>>()?;
    let texts = texts.iter().map(|(name, text)| (name.to_string(), text.clone()));
    let metadata: HashMap<String, String> = texts.chain([("format".to_string(), "pt".to_string())]).collect();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| Error::data(path, error.to_string()))?;
    files::replace(path, &bytes)
}

/// Reads the parameters of `tape` from `path`.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Data`] if it is no safetensors file or belongs to another net.
pub fn read(path: &Path, tape: &Tape) -> Result<Params> {
    Ok(read_with(path, tape, &[Source::Param])?.0)
}

/// As [`read`], but values of all `sources`; with the lines of text besides.
pub(super) fn read_with(path: &Path, tape: &Tape, sources: &[Source]) -> Result<(Params, HashMap<String, String>)> {
    let values = || tape.vars_of(sources).into_iter().map(|var| &tape.values()[var.index()]);
    let numbers: usize = values().map(|value| value.shape.len()).sum();
    let bytes = files::read(path, LONGEST_HEADER + 4 * numbers as u64)?;
    let broken = |error| Error::data(path, format!("not a checkpoint (safetensors): {error}"));
    let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
    let mut params = Params::default();
    for var in tape.vars_of(sources) {
        let value = &tape.values()[var.index()];
        let other = |what: String| Error::data(path, format!("a checkpoint of another model: {what}"));
        let view = file.tensor(&value.name).map_err(|_| other(format!("it has no {}", value.name)))?;
        if view.dtype() != Dtype::F32 || view.shape() != value.shape.dims() {
            let got = format!("{} is {:?} {:?}", value.name, view.dtype(), view.shape());
            return Err(other(format!("{got}, expected F32 {}", value.shape)));
        }
        let numbers: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if let Some(i) = numbers.iter().position(|x| !x.is_finite()) {
            return Err(Error::data(path, format!("{}[{i}] is not a finite number", value.name)));
        }
        params.push(value.name.clone(), Tensor::new(value.shape.clone(), numbers)?);
    }
    if let Some(extra) = file.names().into_iter().find(|name| params.get(name).is_none()) {
        return Err(Error::data(
            path,
            format!("a checkpoint of another model: it has {extra}, which this net has not"),
        ));
    }
    Ok((params, metadata.metadata().clone().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Architecture, Mode};
    use crate::nn;
    use crate::train::config::{Config, Preset};

    fn tape(model: Architecture) -> Tape {
        let mut tape = Tape::new();
        let x = tape.input("x", [1, 1, 80, 80]);
        Config::preset(Preset::Paper, model).net(10).record(&mut tape, x, Mode::Evaluate).unwrap();
        tape
    }

    #[test]
    fn round_trip_and_the_other_models_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.safetensors");
        let shallow = tape(Architecture::Shallow);
        let params = nn::initialise(&shallow, 3).unwrap();
        write(&path, &params).unwrap();
        assert_eq!(read(&path, &shallow).unwrap(), params);
        let error = read(&path, &tape(Architecture::Deep)).unwrap_err().to_string();
        assert!(error.contains("a checkpoint of another model"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn damaged_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.safetensors");
        let shallow = tape(Architecture::Shallow);
        write(&path, &nn::initialise(&shallow, 3).unwrap()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in [0, 4, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let error = read(&path, &shallow).unwrap_err().to_string();
            assert!(error.contains("not a checkpoint"), "{error}");
        }
    }
}
