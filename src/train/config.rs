//! Everything that a run depends on, as one file: `run.toml`. Presets fill it, flags change it, it can be fed back.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audio::{FrontEnd, Kind};
use crate::data::load::Source;
use crate::data::segments::Settings;
use crate::data::split;
use crate::error::{Error, Result};
use crate::models::{Architecture, DropoutAt, Net};
use crate::nn::Activation;
use crate::ops::Adam;

/// Whose choices fill what the user leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Schindler, Lidy and Rauber 2016
    Paper,
    /// Wyborn, Butt and Klas, as their code has it
    Report,
}

/// How the learning rate changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// the same rate throughout
    Constant,
    /// rate * decay_rate ^ (t / decay_steps), the report's EXP
    Exp,
}

/// What `t` counts in the EXP schedule: the report's code counts batches, its text says epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DecayUnit {
    /// mini-batches (the report's code)
    Batches,
    /// epochs (the report's text)
    Epochs,
}

/// Adam's step size at the start, where nothing says otherwise.
const LEARNING_RATE: f64 = 5e-5;

/// One training run, resolved: every value is written out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the defaults came from.
    pub preset: Preset,
    /// Which net.
    pub model: Architecture,
    /// After every convolution.
    pub activation: Activation,
    /// LeakyReLU's slope below zero.
    pub slope: f64,
    /// Whether convolutions have biases.
    pub conv_bias: bool,
    /// Whether the activation also follows dense 200.
    pub dense_activation: bool,
    /// Probability of dropping an element.
    pub dropout: f64,
    /// Where.
    pub dropout_at: DropoutAt,
    /// Weight of the L1 penalty on all trainable parameters.
    pub l1: f64,
    /// Adam's step size at the start.
    pub learning_rate: f64,
    /// How it changes.
    pub schedule: Schedule,
    /// EXP: the factor.
    pub decay_rate: f64,
    /// EXP: the interval.
    pub decay_steps: f64,
    /// EXP: what the interval counts.
    pub decay_unit: DecayUnit,
    /// Adam.
    pub beta1: f64,
    /// Adam.
    pub beta2: f64,
    /// Adam.
    pub epsilon: f64,
    /// Passes over the training set.
    pub epochs: u32,
    /// Earlier epochs after which the net is tested as it is after the last, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<u32>,
    /// Segments of a step.
    pub batch: usize,
    /// Seed of weights, shuffles and dropout.
    pub seed: u64,
    /// Whether the program is rewritten by the rules of [`crate::fast`].
    #[serde(default = "yes")]
    pub fuse: bool,
    /// Where the tracks come from.
    pub data: Data,
}

/// What a `run.toml` means that does not say.
fn yes() -> bool {
    true
}

/// The data part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Folder, pickle or prepared file; none for the built-in corpus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Tracks a genre of the built-in corpus.
    pub synthetic_tracks: usize,
    /// Random segments a track.
    pub segments: usize,
    /// Seed of the segments' places and of the split.
    pub seed: u64,
    /// Share of each class's tracks held out for the test, when `folds` is 0.
    pub test_fraction: f64,
    /// Number of folds of a cross-validation, or 0.
    pub folds: usize,
    /// Which fold is the test set, from 0.
    pub fold: usize,
    /// Which tracks are held out together.
    #[serde(default)]
    pub split: split::Kind,
    /// Whether deformed segments of the training tracks are trained on as well: 48 a track.
    #[serde(default)]
    pub augment: bool,
    /// The representation.
    pub front_end: FrontEnd,
}

impl Default for Data {
    fn default() -> Self {
        Data {
            path: None,
            synthetic_tracks: 16,
            segments: 15,
            seed: 1,
            test_fraction: 0.25,
            folds: 0,
            fold: 0,
            split: split::Kind::Random,
            augment: false,
            front_end: FrontEnd::default(),
        }
    }
}

impl Data {
    /// Refuses data that are not there any more.
    ///
    /// # Errors
    /// [`Error::Config`], with what to do about it.
    pub fn check_there(&self) -> Result<()> {
        match self.path.as_ref().filter(|path| !path.exists()) {
            Some(gone) => {
                let message = format!("{}: the data are gone; say with --data where they lie now", gone.display());
                Err(Error::Config(message))
            }
            None => Ok(()),
        }
    }

    /// Names another place for the same data.
    ///
    /// # Errors
    /// [`Error::Config`] if nothing is there, or if the data are the built-in corpus, which lies nowhere.
    pub fn move_to(&mut self, place: &Path) -> Result<()> {
        let path = self.path.as_mut().ok_or_else(|| {
            Error::Config("--data: this was begun on the built-in corpus; leave it out, or start anew".to_string())
        })?;
        if !place.exists() {
            return Err(Error::Config(format!("{}: no such file or folder", place.display())));
        }
        *path = place.to_path_buf();
        Ok(())
    }

    /// Where the tracks come from.
    pub fn source(&self) -> Source {
        match &self.path {
            Some(path) => Source::Path(path.clone()),
            None => Source::Synthetic { tracks_per_genre: self.synthetic_tracks },
        }
    }

    /// How segments are made of them.
    pub fn settings(&self) -> Settings {
        let Data { segments, seed, augment, .. } = *self;
        Settings { front_end: self.front_end.clone(), segments, seed, augment }
    }
}

impl Config {
    /// The same for every seed, split and fold: what is equal for nets that a mean is taken over.
    pub fn seedless(&self) -> Config {
        let mut config = self.clone();
        (config.seed, config.data.seed, config.data.fold) = (0, 0, 0);
        config
    }

    /// The choices of `preset` for `model`.
    pub fn preset(preset: Preset, model: Architecture) -> Self {
        let paper = preset == Preset::Paper;
        let deep = model == Architecture::Deep;
        let adam = Adam::default();
        Config {
            preset,
            model,
            activation: if paper { Activation::LeakyRelu } else { Activation::Relu },
            slope: 0.3,
            conv_bias: paper,
            dense_activation: paper || deep,
            dropout: if deep { 0.25 } else { 0.1 },
            dropout_at: if paper { DropoutAt::Dense } else { DropoutAt::Merge },
            l1: 1e-4,
            learning_rate: LEARNING_RATE,
            schedule: Schedule::Constant,
            decay_rate: 0.9,
            decay_steps: 3000.0,
            decay_unit: DecayUnit::Batches,
            beta1: adam.beta1,
            beta2: adam.beta2,
            epsilon: adam.epsilon,
            epochs: 100,
            milestones: Vec::new(),
            batch: 15,
            seed: 1,
            fuse: true,
            data: Data::default(),
        }
    }

    /// The preset's learning rate for the front end: the report's code takes 3e-5 on constant-Q spectrograms.
    pub fn preset_learning_rate(&self) -> f64 {
        match (self.preset, self.data.front_end.kind()) {
            (Preset::Report, Kind::Cqt) => 3e-5,
            _ => LEARNING_RATE,
        }
    }

    /// Takes those of `epochs` that come before the last epoch as milestones.
    pub fn set_milestones(&mut self, epochs: &[u32]) {
        self.milestones = epochs.iter().filter(|&&epochs| epochs < self.epochs).copied().collect();
        self.milestones.sort_unstable();
        self.milestones.dedup();
    }

    /// The net for `classes` classes.
    pub fn net(&self, classes: usize) -> Net {
        Net {
            architecture: self.model,
            activation: self.activation,
            slope: self.slope,
            conv_bias: self.conv_bias,
            dense_activation: self.dense_activation,
            dropout: self.dropout,
            dropout_at: self.dropout_at,
            classes,
        }
    }

    /// Adam's constants.
    pub fn adam(&self) -> Adam {
        Adam { beta1: self.beta1, beta2: self.beta2, epsilon: self.epsilon }
    }

    /// The learning rate of step `step` (from 1) of epoch `epoch` (from 1).
    ///
    /// EXP is the report's section X.A: `lr = lr0 * rate ^ (global / decay)`, continuous, `global` counted from 0.
    pub fn learning_rate_at(&self, step: u32, epoch: u32) -> f64 {
        let global = match self.decay_unit {
            DecayUnit::Batches => step - 1,
            DecayUnit::Epochs => epoch - 1,
        };
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Exp => self.learning_rate * self.decay_rate.powf(f64::from(global) / self.decay_steps),
        }
    }

    /// Refuses values that make no sense, in the type that they are used in.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field, its value and what would do.
    pub fn check(&self) -> Result<()> {
        self.check_numbers()?;
        let refuse = |field: &str, value: &dyn std::fmt::Display, wanted: &str| {
            Err(Error::Config(format!("{field}: expected {wanted}, got {value}")))
        };
        if let Some(path) = self.data.path.as_deref().filter(|path| path.to_str().is_none()) {
            let message = "its name is not UTF-8, as run.toml is; rename it, or name a link to it";
            return Err(Error::Config(format!("{}: {message}", path.display())));
        }
        match self {
            c if c.epochs == 0 => refuse("epochs", &c.epochs, "1 or more"),
            c if c.milestones.iter().any(|&epochs| epochs == 0 || epochs >= c.epochs) => {
                refuse("milestones", &format!("{:?}", c.milestones), "epochs from 1 to before the last")
            }
            c if c.batch == 0 || c.batch > 4096 => refuse("batch", &c.batch, "1 to 4096"),
            c if c.data.segments == 0 || c.data.segments > 10_000 => refuse("segments", &c.data.segments, "1 to 10000"),
            c if c.data.synthetic_tracks < 2 || c.data.synthetic_tracks > 10_000 => {
                refuse("synthetic_tracks", &c.data.synthetic_tracks, "2 to 10000")
            }
            c if !(c.data.test_fraction > 0.0 && c.data.test_fraction < 1.0) => {
                refuse("test_fraction", &c.data.test_fraction, "a number between 0 and 1")
            }
            c if c.data.folds == 1 => refuse("folds", &c.data.folds, "0 (one split) or 2 or more"),
            c if c.data.folds == 0 && c.data.fold > 0 => refuse("fold", &c.data.fold, "0 where there are no --folds"),
            c if c.data.folds > 0 && c.data.fold >= c.data.folds => {
                refuse("fold", &c.data.fold, "a fold below the number of folds (counted from 0)")
            }
            c => c.data.front_end.check(),
        }
    }

    /// Checks the numbers that the net and Adam compute with, which they do in f32.
    fn check_numbers(&self) -> Result<()> {
        let refuse = |field: &str, value: f64, wanted: &str| {
            Err(Error::Config(format!("{field}: expected {wanted}, got {value:?}{}", range(value))))
        };
        let share = |x: f64| x == 0.0 || (x > 0.0 && (x as f32) < 1.0);
        match self {
            c if !is_positive(c.learning_rate) => refuse("learning_rate", c.learning_rate, "a positive number"),
            c if !share(c.dropout) => refuse("dropout", c.dropout, "a number from 0 up to but not 1"),
            c if c.l1 != 0.0 && !is_positive(c.l1) => refuse("l1", c.l1, "0 or a positive number"),
            c if c.slope != 0.0 && !is_positive(c.slope.abs()) => refuse("slope", c.slope, "a number"),
            c if !is_positive(c.decay_rate) => refuse("decay_rate", c.decay_rate, "a positive number"),
            c if !is_positive(c.decay_steps) => refuse("decay_steps", c.decay_steps, "a positive number"),
            c if !share(c.beta1) => refuse("beta1", c.beta1, "a number from 0 up to but not 1"),
            c if !share(c.beta2) => refuse("beta2", c.beta2, "a number from 0 up to but not 1"),
            c if !is_positive(c.epsilon) => refuse("epsilon", c.epsilon, "a positive number"),
            _ => Ok(()),
        }
    }

    /// Refuses a schedule under which the learning rate leaves the range of f32 within `steps` steps, `batches` an epoch:
    /// the net would learn nothing, or nothing but infinities.
    ///
    /// # Errors
    /// [`Error::Config`] naming the settings and the step.
    pub fn check_schedule(&self, steps: u32, batches: u32) -> Result<()> {
        let epoch = |step: u32| 1 + (step - 1) / batches.max(1);
        let rate = |step: u32| self.learning_rate_at(step, epoch(step));
        if steps == 0 || is_positive(rate(steps)) {
            return Ok(());
        }
        // The rate only falls, or only rises: the first step that it fails at is found by halving.
        let (mut fine, mut bad) = (0, steps);
        while bad - fine > 1 {
            let middle = fine + (bad - fine) / 2;
            *(if is_positive(rate(middle)) { &mut fine } else { &mut bad }) = middle;
        }
        let Config { decay_rate, decay_steps, .. } = self;
        let (value, bad_epoch) = (rate(bad), epoch(bad));
        Err(Error::Config(format!(
            "decay_rate {decay_rate:?} and decay_steps {decay_steps:?}: the learning rate of step {bad} (epoch \
             {bad_epoch}) is {value:?}{}; use larger decay_steps, a decay_rate nearer to 1 or fewer epochs",
            range(value)
        )))
    }
}

/// True for a positive number that f32 holds with all its digits.
fn is_positive(x: f64) -> bool {
    (f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&x)
}

/// What to add to a message about `x`, if its size is the fault.
fn range(x: f64) -> String {
    if x == 0.0 || !x.is_finite() || is_positive(x.abs()) {
        return String::new();
    }
    format!(" (computed in f32, which holds {:e} to {:e})", f32::MIN_POSITIVE, f32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::mel;

    #[test]
    fn exp_in_batches_is_nine_tenths_every_3000_and_in_epochs_nearly_constant() {
        let mut config = Config::preset(Preset::Report, Architecture::Shallow);
        config.schedule = Schedule::Exp;
        assert_eq!(config.learning_rate_at(1, 1), 5e-5);
        assert!((config.learning_rate_at(3001, 5) / 4.5e-5 - 1.0).abs() < 1e-12);
        assert!((config.learning_rate_at(1501, 3) / (5e-5 * 0.9f64.sqrt()) - 1.0).abs() < 1e-12);
        config.decay_unit = DecayUnit::Epochs;
        assert!(config.learning_rate_at(150_000, 200) > 4.96e-5);
    }

    #[test]
    fn a_config_survives_toml() {
        for preset in [Preset::Paper, Preset::Report] {
            let mut config = Config::preset(preset, Architecture::Deep);
            config.data.path = Some("genres".into());
            for kind in [Kind::Mel, Kind::Cqt, Kind::Linear, Kind::Cwt] {
                config.data.front_end = FrontEnd::from(kind).with_bins(84);
                let text = toml::to_string(&config).unwrap();
                assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
                // written before there was a choice
                for line in ["fuse = true\n", "split = \"random\"\n", "augment = false\n"] {
                    assert!(text.contains(line), "{text}");
                    assert_eq!(toml::from_str::<Config>(&text.replace(line, "")).unwrap(), config);
                }
            }
        }
    }

    #[test]
    fn only_the_reports_constant_q_learns_more_slowly() {
        for (preset, kind, rate) in [
            (Preset::Report, Kind::Mel, 5e-5),
            (Preset::Report, Kind::Cqt, 3e-5),
            (Preset::Report, Kind::Cwt, 5e-5),
            (Preset::Paper, Kind::Cqt, 5e-5),
        ] {
            let mut config = Config::preset(preset, Architecture::Deep);
            config.data.front_end = kind.into();
            assert_eq!(config.preset_learning_rate(), rate);
        }
    }

    /// f32 holds 1.18e-38 (below it digits are lost) to 3.4e38.
    #[test]
    fn numbers_are_checked_in_the_type_that_computes_with_them() {
        type Field = fn(&mut Config) -> &mut f64;
        let fields: [(&str, Field, bool); 9] = [
            ("learning_rate", |c| &mut c.learning_rate, true),
            ("l1", |c| &mut c.l1, true),
            ("slope", |c| &mut c.slope, true),
            ("decay_rate", |c| &mut c.decay_rate, true),
            ("decay_steps", |c| &mut c.decay_steps, true),
            ("epsilon", |c| &mut c.epsilon, true),
            ("dropout", |c| &mut c.dropout, false),
            ("beta1", |c| &mut c.beta1, false),
            ("beta2", |c| &mut c.beta2, false),
        ];
        for (name, field, positive) in fields {
            let check = |value: f64| {
                let mut config = Config::preset(Preset::Paper, Architecture::Shallow);
                *field(&mut config) = value;
                config.check().map_err(|error| error.to_string())
            };
            let mut bad = vec![f64::NAN, f64::INFINITY, -f64::INFINITY];
            let (small, shares) = ([1e-39, 1e-46, 1e-310, 3.5e38, 1e300], [1.0, 0.999_999_999, -1e-9, -1e-46]);
            bad.extend(if positive { &small[..] } else { &shares[..] });
            for value in bad {
                let message = check(value).unwrap_err();
                assert!(message.starts_with(&format!("{name}: expected ")) && message.contains(&format!("{value:?}")));
            }
            let good = if positive { [1.2e-38, 1e-5, 3.4e38] } else { [0.0, 1e-46, 0.999_999] };
            good.into_iter().for_each(|value| check(value).unwrap());
        }
        let mut config = Config::preset(Preset::Paper, Architecture::Shallow);
        config.epsilon = 1e-46;
        let message = "epsilon: expected a positive number, got 1e-46 (computed in f32, which holds 1.1754944e-38 to 3.4028235e38)";
        assert_eq!(config.check().unwrap_err().to_string(), message);
    }

    #[test]
    fn a_schedule_that_leaves_f32_is_refused_with_its_step() {
        let mut config = Config::preset(Preset::Report, Architecture::Shallow);
        (config.schedule, config.decay_rate, config.decay_steps) = (Schedule::Exp, 0.1, 1.0);
        // 5e-5 * 0.1^(step - 1): 5e-38 in step 34, 5e-39 in step 35
        assert!(config.check_schedule(34, 10).is_ok());
        let message = config.check_schedule(1000, 10).unwrap_err().to_string();
        assert!(message.contains("the learning rate of step 35 (epoch 4) is "), "{message}");
        assert!(message.starts_with("decay_rate 0.1 and decay_steps 1.0: "), "{message}");
        config.decay_rate = 10.0; // 5e-5 * 10^43 is 5e38
        let message = config.check_schedule(1000, 10).unwrap_err().to_string();
        assert!(message.contains("the learning rate of step 44 (epoch 5) is "), "{message}");
        // The rate of epoch 35, whose first step is 341.
        (config.decay_rate, config.decay_unit) = (0.1, DecayUnit::Epochs);
        assert!(config.check_schedule(340, 10).is_ok());
        assert!(config.check_schedule(350, 10).unwrap_err().to_string().contains("step 341 (epoch 35)"));
        config.decay_steps = 1e-30;
        assert!(config.check_schedule(10, 10).is_ok(), "one epoch has the first rate throughout");
        config.schedule = Schedule::Constant;
        assert!(config.check_schedule(u32::MAX, 10).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_run_toml_cannot_hold_is_refused_by_name() {
        use std::os::unix::ffi::OsStrExt;
        let mut config = Config::preset(Preset::Paper, Architecture::Deep);
        config.data.path = Some(std::ffi::OsStr::from_bytes(b"genr\xe9s").into());
        let said = config.check().unwrap_err().to_string();
        assert_eq!(said, "genr\u{fffd}s: its name is not UTF-8, as run.toml is; rename it, or name a link to it");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let mut config = Config::preset(Preset::Paper, Architecture::Deep);
        assert!(config.check().is_ok());
        config.dropout = 1.0;
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "dropout: expected a number from 0 up to but not 1, got 1.0"
        );
        config.dropout = 0.1;
        config.data.fold = 3;
        assert_eq!(config.check().unwrap_err().to_string(), "fold: expected 0 where there are no --folds, got 3");
        config.data.fold = 0;
        config.data.front_end = FrontEnd::Mel(mel::Settings { hop_length: 0, ..mel::Settings::default() });
        assert_eq!(config.check().unwrap_err().to_string(), "mel: hop_length must be at least 1 sample, got 0");
    }
}
