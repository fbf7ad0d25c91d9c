//! The flags that subcommands share, in groups, and how they become a [`Config`].

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, value_parser};

use crate::audio::{FrontEnd, Kind};
use crate::data::cache::Cache;
use crate::data::{prepared, split};
use crate::device::{Choice, Device};
use crate::error::{Error, Result};
use crate::fast::{self, Rule};
use crate::models::{Architecture, DropoutAt};
use crate::nn::Activation;
use crate::train::config::{Config, Data, DecayUnit, Preset, Schedule};
use crate::train::results::Saves;

use super::progress::Progress;

/// The largest seed: a `run.toml` holds 64-bit integers with a sign.
pub const MAX_SEED: u64 = i64::MAX as u64;

/// Where spectrograms come from and how tracks are split.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// Tracks: a folder whose sub-folders are the genres, the course's pickle, or a file that `prepare` wrote [default:
    /// the built-in corpus]
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    making: MakingArgs,
    /// Seed of the segments' places and of the split [default: the run's seed]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(..=MAX_SEED))]
    pub split_seed: Option<u64>,
    #[command(flatten)]
    pub cache: CacheArgs,
}

/// How segments are made of tracks, and how tracks are split.
#[derive(Args, Clone, Debug)]
pub struct MakingArgs {
    /// Random segments a track [default: 15]
    #[arg(long, value_name = "N")]
    segments: Option<usize>,
    /// Share of each genre's tracks held out for the test [default: 0.25]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    test_fraction: Option<f64>,
    /// Cross-validation: number of folds, instead of --test-fraction [default: 0, one split]
    #[arg(long, value_name = "K")]
    folds: Option<usize>,
    /// Cross-validation: the fold to test on, from 0
    #[arg(long, value_name = "N")]
    fold: Option<usize>,
    /// Which tracks are held out together: any, or neighbours by number, which in GTZAN often share artist and album.
    /// Random splits have an album's other tracks in training, and score higher for it; blocks show by how much.
    /// [default: random, as in the published numbers; `reproduce` of a folder of tracks: the replication on both]
    #[arg(long, value_enum, value_name = "KIND")]
    split: Option<split::Kind>,
    /// Also train on time-stretched and pitch-shifted training tracks: 48 more segments each (16 deformations, 3 segments
    /// of each); the test set stays as it is. Needs audio
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    augment: Option<bool>,
    /// Tracks of each genre of the built-in corpus [default: 16]
    #[arg(long, value_name = "N")]
    synthetic_tracks: Option<usize>,
}

/// What a spectrogram is.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct FrontEndArgs {
    /// Which representation of sound [default: mel]
    #[arg(long, value_enum, value_name = "KIND")]
    pub front_end: Option<Kind>,
    /// Rows of a spectrogram; 84 of cqt or cwt are seven whole octaves [default: 80]
    #[arg(long, value_name = "N")]
    pub n_bins: Option<usize>,
}

/// Where made spectrograms are kept.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    /// Keep prepared spectrograms here [default: the user's cache folder, or $GENREGRAD_CACHE]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache", help_heading = "Data")]
    cache: Option<PathBuf>,
    /// Neither read nor keep prepared spectrograms
    #[arg(long, help_heading = "Data")]
    no_cache: bool,
}

/// The net and its training.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Net and training (default: the preset's)")]
pub struct TrainingArgs {
    /// Whose choices fill what is left open [default: report]
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,
    /// Passes over the training segments; several numbers: the net is tested after each of them [default: 100;
    /// `reproduce`: what the tables have, or 10 on the built-in corpus]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub epochs: Vec<u32>,
    /// What follows every convolution
    #[arg(long, value_enum)]
    activation: Option<Activation>,
    /// LeakyReLU's slope below zero
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    slope: Option<f64>,
    /// Whether convolutions have biases
    #[arg(long, value_name = "true|false")]
    conv_bias: Option<bool>,
    /// Whether the activation also follows the dense layer of 200
    #[arg(long, value_name = "true|false")]
    dense_activation: Option<bool>,
    /// Probability of dropping an element
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    dropout: Option<f64>,
    /// Where elements are dropped
    #[arg(long, value_enum)]
    dropout_at: Option<DropoutAt>,
    /// Weight of the L1 penalty on all trainable parameters
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    l1: Option<f64>,
    /// Adam's step size at the start
    #[arg(long, alias = "lr", value_name = "X", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// How the learning rate changes
    #[arg(long, value_enum)]
    schedule: Option<Schedule>,
    /// EXP: the factor
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    decay_rate: Option<f64>,
    /// EXP: the interval after which the factor is fully applied
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    decay_steps: Option<f64>,
    /// EXP: what the interval counts
    #[arg(long, value_enum)]
    decay_unit: Option<DecayUnit>,
    /// Adam's decay of the mean gradient
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    beta1: Option<f64>,
    /// Adam's decay of the mean squared gradient
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    beta2: Option<f64>,
    /// Adam's guard against division by zero
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    epsilon: Option<f64>,
    /// Segments of a step
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Run every operation by itself, as recorded: slower, the same up to rounding
    #[arg(long)]
    no_fuse: bool,
}

/// Which rules rewrite a program.
#[derive(Args, Clone, Debug)]
pub struct RuleArgs {
    /// Keep the textbook's operations: apply no rule
    #[arg(long)]
    pub no_fuse: bool,
    /// Rules to leave out
    #[arg(long, value_name = "RULE,…", value_delimiter = ',', conflicts_with = "no_fuse",
          value_parser = PossibleValuesParser::new(fast::ALL.iter().map(|rule| rule.name)))]
    pub without: Vec<String>,
}

impl RuleArgs {
    /// The rules to apply, in order.
    pub fn rules(&self) -> Vec<Rule> {
        let wanted = |rule: &&Rule| !self.no_fuse && !self.without.iter().any(|name| name == rule.name);
        fast::ALL.iter().filter(wanted).copied().collect()
    }
}

/// What computes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// auto (a GPU if there is one, else the CPU), cpu, gpu, or an adapter's number or part of its name: see `genregrad
    /// devices`
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub device: String,
    #[command(flatten)]
    pub threads: ThreadArgs,
}

/// How many threads the CPU runs.
#[derive(Args, Clone, Debug)]
pub struct ThreadArgs {
    /// Threads on the CPU; 0 is one a core. Results do not depend on it
    #[arg(long = "threads", value_name = "N", default_value_t = 0, value_parser = value_parser!(u16).range(..=1024))]
    pub count: u16,
}

/// How a training is kept while it runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct SaveArgs {
    /// Save everything needed to go on after the first epoch that ends so long after the last time
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    save_every: u32,
    /// Also write the curve as TensorBoard's event file; a run that has one keeps it when it is resumed
    #[arg(long)]
    tensorboard: bool,
}

impl DeviceArgs {
    /// True if a GPU was asked for: any, or one by its name.
    pub fn needs_gpu(&self) -> bool {
        !matches!(self.device.as_str(), "auto" | "cpu")
    }

    /// What must be given again to compute the same bits: ` --device cpu`.
    pub fn again(&self) -> String {
        match self.device.as_str() {
            "auto" => String::new(),
            name => format!(" --device {}", shlex::try_quote(name).unwrap_or(name.into())),
        }
    }
}

impl SaveArgs {
    /// What must be given again to save the same: ` --tensorboard`.
    pub fn again(&self) -> &'static str {
        if self.tensorboard { " --tensorboard" } else { "" }
    }

    /// As the training takes it.
    pub fn saves(&self) -> Saves {
        Saves { every: Duration::from_secs(self.save_every.into()), tensorboard: self.tensorboard }
    }
}

/// What is printed.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print the result as one JSON document on standard output
    #[arg(long)]
    pub json: bool,
    /// No progress and no notes on standard error
    #[arg(long)]
    pub quiet: bool,
}

impl MakingArgs {
    /// Sets what was given.
    pub fn apply(&self, data: &mut Data) {
        set(&mut data.segments, self.segments);
        set(&mut data.test_fraction, self.test_fraction);
        set(&mut data.folds, self.folds);
        set(&mut data.fold, self.fold);
        set(&mut data.split, self.split);
        set(&mut data.augment, self.augment);
        set(&mut data.synthetic_tracks, self.synthetic_tracks);
    }
}

impl DataArgs {
    /// True if the size of the built-in corpus was given.
    pub fn names_synthetic_tracks(&self) -> bool {
        self.making.synthetic_tracks.is_some()
    }

    /// True if one kind of split was asked for.
    pub fn names_split(&self) -> bool {
        self.making.split.is_some()
    }

    /// True if cross-validation was asked for, or refused.
    pub fn names_folds(&self) -> bool {
        self.making.folds.is_some()
    }

    /// True if one fold was asked for.
    pub fn names_fold(&self) -> bool {
        self.making.fold.is_some()
    }

    /// Where the data lie, if that was given: absolute, since run.toml must name the tracks from wherever it is read.
    pub fn place(&self) -> Option<PathBuf> {
        self.data.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
    }

    /// Sets what was given.
    pub fn apply(&self, data: &mut Data) {
        self.making.apply(data);
        set(&mut data.seed, self.split_seed);
        if let Some(path) = self.place() {
            data.path = Some(path);
        }
    }
}

impl FrontEndArgs {
    /// Sets what was given.
    pub fn apply(&self, front_end: &mut FrontEnd) {
        if let Some(kind) = self.front_end.filter(|kind| *kind != front_end.kind()) {
            *front_end = kind.into();
        }
        if let Some(bins) = self.n_bins {
            *front_end = front_end.clone().with_bins(bins);
        }
    }

    /// As [`Self::apply`]; but a prepared file brings its own front end, and its own split.
    ///
    /// # Errors
    /// Its header cannot be read, or another front end was asked for.
    pub fn settle(&self, data: &mut Data) -> Result<()> {
        self.apply(&mut data.front_end);
        let Some(path) = data.path.as_ref().filter(|path| prepared::is_prepared(path)) else { return Ok(()) };
        let own = prepared::front_end(path)?;
        let asked = self.front_end.is_some() || self.n_bins.is_some();
        if asked && own != data.front_end {
            let (path, asked) = (path.display(), &data.front_end);
            return Err(Error::Config(format!("{path}: holds {own} spectrograms, not {asked}; prepare them anew")));
        }
        data.front_end = own;
        if prepared::split(path)? == split::Kind::Blocks {
            // one that is not is refused with the data if blocks were asked for
            data.split = split::Kind::Blocks;
        }
        Ok(())
    }
}

impl CacheArgs {
    /// The cache that is meant.
    pub fn cache(&self) -> Cache {
        match &self.cache {
            _ if self.no_cache => Cache::none(),
            Some(folder) => Cache::at(folder),
            None => Cache::standard(),
        }
    }
}

impl TrainingArgs {
    /// The preset's choices for `model`, then what was given.
    ///
    /// `seed` also decides the split unless `data` says otherwise.
    ///
    /// # Errors
    /// Those of [`FrontEndArgs::settle`].
    pub fn config(&self, model: Architecture, seed: u64, data: &DataArgs, front_end: FrontEndArgs) -> Result<Config> {
        let mut config = Config::preset(self.preset.unwrap_or(Preset::Report), model);
        config.seed = seed;
        config.data.seed = seed;
        data.apply(&mut config.data);
        front_end.settle(&mut config.data)?;
        config.learning_rate = config.preset_learning_rate();
        self.apply(&mut config);
        Ok(config)
    }

    /// Whether Adam's step size was given.
    pub fn names_learning_rate(&self) -> bool {
        self.learning_rate.is_some()
    }

    /// Sets what was given.
    pub fn apply(&self, config: &mut Config) {
        if let Some(&last) = self.epochs.iter().max() {
            config.epochs = last;
            config.set_milestones(&self.epochs);
        }
        set(&mut config.activation, self.activation);
        set(&mut config.slope, self.slope);
        set(&mut config.conv_bias, self.conv_bias);
        set(&mut config.dense_activation, self.dense_activation);
        set(&mut config.dropout, self.dropout);
        set(&mut config.dropout_at, self.dropout_at);
        set(&mut config.l1, self.l1);
        set(&mut config.learning_rate, self.learning_rate);
        set(&mut config.schedule, self.schedule);
        set(&mut config.decay_rate, self.decay_rate);
        set(&mut config.decay_steps, self.decay_steps);
        set(&mut config.decay_unit, self.decay_unit);
        set(&mut config.beta1, self.beta1);
        set(&mut config.beta2, self.beta2);
        set(&mut config.epsilon, self.epsilon);
        set(&mut config.batch, self.batch);
        config.fuse &= !self.no_fuse;
    }
}

impl DeviceArgs {
    /// Opens the device.
    ///
    /// # Errors
    /// No such device, or it cannot be opened.
    pub fn open(&self, progress: &mut Progress) -> Result<Choice> {
        let choice = Device::choose(&self.device)?;
        progress.device(&choice);
        Ok(choice)
    }
}

impl ThreadArgs {
    /// The number asked for, if it is not one per core.
    pub fn asked(&self) -> Option<u16> {
        (self.count > 0).then_some(self.count)
    }
}

fn set<T: Copy>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        training: TrainingArgs,
        #[command(flatten)]
        data: DataArgs,
        #[command(flatten)]
        front_end: FrontEndArgs,
    }

    fn config(flags: &str) -> Config {
        let line = Line::try_parse_from(std::iter::once("x").chain(flags.split_whitespace())).unwrap();
        line.training.config(Architecture::Deep, 7, &line.data, line.front_end).unwrap()
    }

    #[test]
    fn without_flags_a_config_is_the_presets_and_the_seed_decides_the_split() {
        for (flags, preset) in [("", Preset::Report), ("--preset paper", Preset::Paper)] {
            let mut expected = Config::preset(preset, Architecture::Deep);
            (expected.seed, expected.data.seed) = (7, 7);
            assert_eq!(config(flags), expected);
        }
        assert_eq!(config("--split-seed 1").data.seed, 1);
        assert_eq!(config("--split-seed 1").seed, 7);
        let rate = |flags| config(flags).learning_rate;
        assert_eq!((rate("--front-end cqt"), rate("--front-end cqt --lr 5e-5")), (3e-5, 5e-5));
        assert_eq!((rate("--front-end cqt --preset paper"), rate("--front-end linear")), (5e-5, 5e-5));
    }

    #[test]
    fn every_value_has_its_flag() {
        let flags = "--preset paper --epochs 3,1,2 --activation tanh --slope -0.5 --conv-bias false --dense-activation false \
            --dropout 0.5 --dropout-at merge --l1 0.1 --lr 0.2 --schedule exp --decay-rate 0.7 --decay-steps 50 \
            --decay-unit epochs --beta1 0.1 --beta2 0.2 --epsilon 0.3 --batch 4 --no-fuse --data d --segments 5 --split-seed 6 \
            --test-fraction 0.4 --folds 8 --fold 7 --split blocks --augment --synthetic-tracks 9 \
            --front-end cwt --n-bins 84";
        let data = Data {
            path: Some(std::path::absolute("d").unwrap()),
            synthetic_tracks: 9,
            segments: 5,
            seed: 6,
            test_fraction: 0.4,
            folds: 8,
            fold: 7,
            split: split::Kind::Blocks,
            augment: true,
            front_end: FrontEnd::from(Kind::Cwt).with_bins(84),
        };
        // written out, so that a new field is missed here
        let expected = Config {
            preset: Preset::Paper,
            model: Architecture::Deep,
            activation: Activation::Tanh,
            slope: -0.5,
            conv_bias: false,
            dense_activation: false,
            dropout: 0.5,
            dropout_at: DropoutAt::Merge,
            l1: 0.1,
            learning_rate: 0.2,
            schedule: Schedule::Exp,
            decay_rate: 0.7,
            decay_steps: 50.0,
            decay_unit: DecayUnit::Epochs,
            beta1: 0.1,
            beta2: 0.2,
            epsilon: 0.3,
            epochs: 3,
            milestones: vec![1, 2],
            batch: 4,
            seed: 7,
            fuse: false,
            data,
        };
        assert_eq!(config(flags), expected);
    }
}
