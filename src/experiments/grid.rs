//! The study as a list of trainings: which table needs which, each of them once.
//!
//! Tables overlap (log-mel with ReLU is a row of four of them), so that a table names its cells and the grid holds every
//! cell once. Read `Table::variations` first.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::audio::Kind;
use crate::data::{pickle, prepared, split};
use crate::error::{Error, Result};
use crate::files;
use crate::models::Architecture;
use crate::nn::Activation;
use crate::train::config::{Config, Schedule};

/// The nets of every table, in its order.
pub const MODELS: [Architecture; 2] = [Architecture::Shallow, Architecture::Deep];

/// Epochs on the built-in corpus: both nets are far above chance after so many, within minutes on two cores.
pub const SYNTHETIC_EPOCHS: u32 = 10;

/// Tracks a genre of the built-in corpus.
pub const SYNTHETIC_TRACKS: usize = 16;

/// A table of the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// the nets as described, on log-mel spectrograms (report, section VII; paper, table 2)
    Replication,
    /// constant-Q spectrograms, a decaying learning rate, and both (report, section X.C)
    Improvements,
    /// the same nets trained on stretched and shifted tracks too (paper, table 2)
    Augmentation,
    /// constant-Q over seven whole octaves: 84 rows instead of 80 (the report's future work)
    Bins,
    /// log-mel, constant-Q, linear and wavelet spectrograms; MFCCs with Gaussian mixtures instead of a net
    Representations,
    /// tanh, ReLU and LeakyReLU after every convolution
    Activations,
}

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A net, as the configuration says.
    #[default]
    Net,
    /// MFCCs and Gaussian mixtures (see [`crate::baseline`]); of the configuration, data and seed matter.
    Mixtures,
}

/// What a row of a table changes of the settings that it starts from.
#[derive(Clone, Copy, Debug, Default)]
struct Variation {
    front_end: Option<(Kind, Option<usize>)>,
    schedule: Option<Schedule>,
    activation: Option<Activation>,
    augment: bool,
    method: Method,
}

impl Variation {
    fn front_end(kind: Kind) -> Self {
        Variation { front_end: Some((kind, None)), ..Self::default() }
    }

    /// Changes `config`; the learning rate follows the front end unless it is `fixed`.
    fn apply(&self, config: &mut Config, fixed: bool) {
        if let Some((kind, bins)) = self.front_end {
            if kind != config.data.front_end.kind() {
                config.data.front_end = kind.into();
                if !fixed {
                    config.learning_rate = config.preset_learning_rate();
                }
            }
            if let Some(bins) = bins {
                config.data.front_end = config.data.front_end.clone().with_bins(bins);
            }
        }
        config.schedule = self.schedule.unwrap_or(config.schedule);
        config.activation = self.activation.unwrap_or(config.activation);
        config.data.augment |= self.augment;
    }
}

impl Table {
    /// Every table, in the study's order.
    pub const ALL: [Table; 6] = [
        Table::Replication,
        Table::Improvements,
        Table::Augmentation,
        Table::Bins,
        Table::Representations,
        Table::Activations,
    ];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Table::Replication => "Replication",
            Table::Improvements => "Improvements: CQT, EXP, and both",
            Table::Augmentation => "Augmentation",
            Table::Bins => "Constant-Q: 80 and 84 rows",
            Table::Representations => "Representations",
            Table::Activations => "Activations",
        }
    }

    /// The epochs after which the nets are tested: those published, where there are any.
    fn epochs(self) -> &'static [u32] {
        match self {
            Table::Replication | Table::Improvements | Table::Bins => &[100, 200],
            Table::Augmentation | Table::Representations | Table::Activations => &[100],
        }
    }

    /// Its rows: what each changes of the settings, but for the nets, seeds and splits, which every table varies.
    fn variations(self) -> Vec<Variation> {
        let plain = Variation::default();
        let exp = Variation { schedule: Some(Schedule::Exp), ..plain };
        let cqt = Variation::front_end(Kind::Cqt);
        match self {
            Table::Replication => vec![plain],
            Table::Improvements => vec![cqt, exp, Variation { schedule: exp.schedule, ..cqt }],
            Table::Augmentation => vec![plain, Variation { augment: true, ..plain }],
            Table::Bins => vec![cqt, Variation { front_end: Some((Kind::Cqt, Some(84))), ..plain }],
            Table::Representations => {
                let nets = [Kind::Mel, Kind::Cqt, Kind::Linear, Kind::Cwt].map(Variation::front_end);
                let before = Variation { method: Method::Mixtures, ..Variation::front_end(Kind::Mel) };
                nets.into_iter().chain([before]).collect()
            }
            Table::Activations => [Activation::Tanh, Activation::Relu, Activation::LeakyRelu]
                .map(|activation| Variation { activation: Some(activation), ..plain })
                .into(),
        }
    }
}

/// One training, with a row at each of its milestones and one at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Its folder within the study's: `deep-cqt-exp-seed2`.
    pub name: String,
    /// What is trained.
    #[serde(default)]
    pub method: Method,
    /// Every setting.
    pub config: Config,
}

impl Cell {
    /// True if the two are nets that differ in seeds and folds alone.
    pub fn trains_beside(&self, other: &Cell) -> bool {
        [self, other].iter().all(|cell| cell.method == Method::Net) && self.config.seedless() == other.config.seedless()
    }
}

/// Which cells a table shows, and after how many epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// The table.
    pub table: Table,
    /// Its rows' epochs.
    pub epochs: Vec<u32>,
    /// Names of its cells.
    pub cells: Vec<String>,
}

/// All that a study trains: `grid.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// The tables, in order.
    pub tables: Vec<Listed>,
    /// Their cells, each once; those on the same data follow one another.
    pub cells: Vec<Cell>,
}

/// What is asked of a grid.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Which tables.
    pub tables: &'a [Table],
    /// The settings that every row starts from, one a net, seed, fold and front end asked for.
    pub bases: &'a [Config],
    /// Epochs of all rows, instead of the tables' own.
    pub epochs: &'a [u32],
    /// Whether the learning rate was given, and does not follow the front end.
    pub fixed_learning_rate: bool,
    /// Whether the replication is done on blocks of neighbouring tracks too.
    pub blocks: bool,
}

/// The grid's file within the study's folder.
const FILE: &str = "grid.json";

impl Grid {
    /// The cells of the tables asked for.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that make no sense, or for tables that need what the data do not hold.
    pub fn new(request: &Request) -> Result<Self> {
        let mut grid = Grid::default();
        for &table in request.tables {
            let own = if request.epochs.is_empty() { table.epochs() } else { request.epochs };
            let mut epochs = own.to_vec();
            epochs.sort_unstable();
            epochs.dedup();
            let mut listed = Listed { table, cells: Vec::new(), epochs };
            let splits = if request.blocks && table == Table::Replication { 2 } else { 1 };
            let rows = request.bases.iter().flat_map(|base| (0..splits).map(move |split| (base, split)));
            for (base, variation) in rows.flat_map(|row| table.variations().into_iter().map(move |v| (row, v))) {
                let (base, split) = base;
                let mut config = base.clone();
                variation.apply(&mut config, request.fixed_learning_rate);
                if split == 1 {
                    config.data.split = split::Kind::Blocks;
                }
                config.epochs = listed.epochs.last().copied().unwrap_or(config.epochs);
                config.set_milestones(&listed.epochs);
                config.check()?;
                check_data(base, &config)?;
                let name = grid.add(variation.method, config, request.bases);
                if !listed.cells.contains(&name) {
                    listed.cells.push(name);
                }
            }
            grid.tables.push(listed);
        }
        grid.group_by_data();
        Ok(grid)
    }

    /// Adds a cell, or more milestones to the one that is there; gives its name.
    fn add(&mut self, method: Method, mut config: Config, bases: &[Config]) -> String {
        if method == Method::Mixtures {
            // one for both nets
            config =
                Config { data: config.data, seed: config.seed, ..Config::preset(config.preset, Architecture::Shallow) };
        }
        let timeless = |config: &Config| Config { epochs: 1, milestones: Vec::new(), ..config.clone() };
        if let Some(cell) =
            self.cells.iter_mut().find(|cell| cell.method == method && timeless(&cell.config) == timeless(&config))
        {
            let own = &mut cell.config;
            let all = [&own.milestones, &[own.epochs][..], &config.milestones, &[config.epochs]].concat();
            own.epochs = own.epochs.max(config.epochs);
            own.set_milestones(&all);
            return cell.name.clone();
        }
        let stem = name(method, &config, bases);
        let taken = |name: &str| self.cells.iter().any(|cell| cell.name == name);
        let numbered = (2..).map(|number| format!("{stem}-{number}"));
        let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(stem);
        self.cells.push(Cell { name: name.clone(), method, config });
        name
    }

    /// Puts cells on the same data together, so that they are loaded once; data come in the order of first need.
    fn group_by_data(&mut self) {
        let mut grouped: Vec<Cell> = Vec::with_capacity(self.cells.len());
        while !self.cells.is_empty() {
            let data = self.cells[0].config.data.clone();
            let (now, later) = std::mem::take(&mut self.cells).into_iter().partition(|cell| cell.config.data == data);
            grouped.extend::<Vec<Cell>>(now);
            self.cells = later;
        }
        self.cells = grouped;
    }

    /// Cell `number`, from 0.
    ///
    /// # Errors
    /// [`Error::Config`] if there are not so many.
    pub fn cell(&self, number: usize) -> Result<&Cell> {
        self.cells.get(number).ok_or_else(|| {
            Error::Config(format!("cell {number}: there are {}, counted from 0; see --list", self.cells.len()))
        })
    }

    /// The number of its cells and a digest of their names and settings: `4-0f3a9c21b7d4e865`. It does not depend on
    /// where the data are.
    ///
    /// # Errors
    /// [`Error::Config`] if the settings cannot be written as JSON.
    pub fn digest(&self) -> Result<String> {
        let mut grid = self.clone();
        grid.cells.iter_mut().for_each(|cell| cell.config.data.path = None);
        let text = serde_json::to_string(&grid).map_err(|error| Error::Config(error.to_string()))?;
        let digest = blake3::hash(text.as_bytes()).to_hex();
        Ok(format!("{}-{}", self.cells.len(), &digest[..16]))
    }

    /// Refuses a grid other than the one whose [`Grid::digest`] is `expected`.
    ///
    /// # Errors
    /// [`Error::Config`], with the number of trainings if it differs.
    pub fn check_digest(&self, expected: &str) -> Result<()> {
        let own = self.digest()?;
        if own == expected {
            return Ok(());
        }
        let count = expected.split('-').next().unwrap_or_default();
        let differs = match count == self.cells.len().to_string() {
            true => "its trainings have other settings".to_string(),
            false => format!("it has {} trainings instead of {count}", self.cells.len()),
        };
        Err(Error::Config(format!(
            "--grid {expected}: this is another study: {differs}; print the script again with --slurm"
        )))
    }

    /// Writes it into the study's folder.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        files::replace_json(&folder.join(FILE), self)
    }

    /// Removes its file from the study's folder.
    pub fn remove(folder: &Path) {
        let _ = std::fs::remove_file(folder.join(FILE));
    }

    /// Whether `folder` is that of a study.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// Reads the grid of the study in `folder`.
    ///
    /// # Errors
    /// [`Error::Config`] if the folder is none of a study's; [`Error::Io`] or [`Error::Data`] if the file is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        if !Grid::is_in(folder) {
            let message = format!(
                "{}: not a study's folder (it has no {FILE}); give the folder that reproduce wrote",
                folder.display()
            );
            return Err(Error::Config(message));
        }
        let path = folder.join(FILE);
        let grid: Grid = files::read_json(&path)?;
        let mut names = HashSet::new();
        for cell in &grid.cells {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
            if cell.name.starts_with('.') || cell.name.is_empty() || !cell.name.chars().all(plain) {
                return Err(Error::data(&path, format!("{:?}: no name of a cell", cell.name)));
            }
            if !names.insert(cell.name.as_str()) {
                return Err(Error::data(&path, format!("the cell {} is in it twice", cell.name)));
            }
            cell.config.check()?;
        }
        for (place, listed) in grid.tables.iter().enumerate() {
            if grid.tables[..place].iter().any(|other| other.table == listed.table) {
                return Err(Error::data(&path, format!("the table {} is in it twice", listed.table.title())));
            }
            if let Some(name) = listed.cells.iter().find(|name| !names.contains(name.as_str())) {
                return Err(Error::data(&path, format!("{}: {name:?} is none of its cells", listed.table.title())));
            }
        }
        Ok(grid)
    }
}

/// A prepared file holds one kind of spectrogram, and like a pickle no whole tracks to deform.
fn check_data(base: &Config, config: &Config) -> Result<()> {
    let (has, needs) = (&base.data, &config.data);
    let Some(path) = has.path.as_deref().filter(|path| path.is_file()) else { return Ok(()) };
    let prepared = prepared::is_prepared(path);
    let refused = if prepared && has.front_end != needs.front_end {
        format!("holds {} spectrograms, and this table needs {} too", has.front_end, needs.front_end)
    } else if needs.augment && (pickle::is_pickle(path) || prepared && !prepared::is_augmented(path)?) {
        "holds no whole tracks, and augmentation needs them".to_string()
    } else {
        return Ok(());
    };
    Err(Error::Config(format!("{}: {refused}; give the tracks themselves", path.display())))
}

/// `deep-cqt-exp-seed2`: the net, and what is not as in the first of `bases`.
fn name(method: Method, config: &Config, bases: &[Config]) -> String {
    let plain = bases.first().unwrap_or(config);
    let (data, usual) = (&config.data, &plain.data);
    let mut parts = vec![config.model.to_string()];
    if method == Method::Mixtures {
        parts = vec!["mixtures".to_string()];
    }
    if data.front_end != usual.front_end || bases.iter().any(|base| base.data.front_end != usual.front_end) {
        parts.push(data.front_end.slug());
    }
    if config.schedule != plain.schedule && method == Method::Net {
        parts.push(if config.schedule == Schedule::Exp { "exp" } else { "constant" }.to_string());
    }
    if config.activation != plain.activation && method == Method::Net {
        parts.push(
            match config.activation {
                Activation::Relu => "relu",
                Activation::LeakyRelu => "leaky-relu",
                Activation::Tanh => "tanh",
            }
            .to_string(),
        );
    }
    if data.augment != usual.augment {
        parts.push("augmented".to_string());
    }
    if data.split != usual.split {
        parts.push(if data.split == split::Kind::Blocks { "blocks" } else { "random" }.to_string());
    }
    parts.push(format!("seed{}", config.seed));
    if data.folds > 0 {
        parts.push(format!("fold{}", data.fold));
    }
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::Preset;

    fn bases(seeds: &[u64]) -> Vec<Config> {
        let base = |&(seed, model): &(u64, Architecture)| Config { seed, ..Config::preset(Preset::Report, model) };
        let pairs: Vec<_> = seeds.iter().flat_map(|&seed| MODELS.map(|model| (seed, model))).collect();
        pairs.iter().map(base).collect()
    }

    fn grid(tables: &[Table], seeds: &[u64]) -> Grid {
        let bases = bases(seeds);
        Grid::new(&Request { tables, bases: &bases, epochs: &[], fixed_learning_rate: false, blocks: false }).unwrap()
    }

    #[test]
    fn one_training_of_200_epochs_gives_both_rows() {
        let grid = grid(&[Table::Replication], &[1, 2]);
        let names: Vec<&str> = grid.cells.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(names, ["shallow-seed1", "deep-seed1", "shallow-seed2", "deep-seed2"]);
        assert!(grid.cells.iter().all(|cell| cell.config.epochs == 200 && cell.config.milestones == [100]));
        assert_eq!(grid.tables[0].epochs, [100, 200]);
    }

    #[test]
    fn the_improvements_are_the_reports_twelve_rows() {
        let grid = grid(&[Table::Improvements], &[1]);
        let names: Vec<&str> = grid.cells.iter().map(|cell| cell.name.as_str()).collect();
        let cqt = ["shallow-cqt-seed1", "shallow-cqt-exp-seed1", "deep-cqt-seed1", "deep-cqt-exp-seed1"];
        assert_eq!(names[..4], cqt);
        assert_eq!(names[4..], ["shallow-exp-seed1", "deep-exp-seed1"]);
        let rows: usize = grid.cells.iter().map(|cell| 1 + cell.config.milestones.len()).sum();
        assert_eq!(rows, 12);
        let rates: Vec<f64> = grid.cells.iter().map(|cell| cell.config.learning_rate).collect();
        assert_eq!(rates, [3e-5, 3e-5, 3e-5, 3e-5, 5e-5, 5e-5]);
    }

    #[test]
    fn tables_share_their_cells() {
        let grid = grid(&Table::ALL, &[1]);
        // log-mel; CQT, EXP, both; augmented; 84 bins; linear, CWT; tanh, LeakyReLU (ReLU is the preset's): ten rows a net,
        // and the mixtures
        assert_eq!(grid.cells.len(), 21);
        let plain = grid.cells.iter().find(|cell| cell.name == "deep-seed1").unwrap();
        assert_eq!((plain.config.epochs, &plain.config.milestones[..]), (200, &[100][..]));
        let used =
            |name: &str| grid.tables.iter().filter(|listed| listed.cells.iter().any(|cell| cell == name)).count();
        assert_eq!((used("deep-seed1"), used("deep-cqt-seed1"), used("deep-cqt84-seed1")), (4, 3, 1));
        let mut names: Vec<&String> = grid.cells.iter().map(|cell| &cell.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 21);
        let changes = grid.cells.windows(2).filter(|pair| pair[0].config.data != pair[1].config.data).count();
        assert_eq!(changes, 5, "each of six data sets is loaded once");
    }

    #[test]
    fn the_replication_stands_on_both_splits() {
        let bases = bases(&[1]);
        let request = Request {
            tables: &[Table::Replication],
            bases: &bases,
            epochs: &[5],
            fixed_learning_rate: false,
            blocks: true,
        };
        let grid = Grid::new(&request).unwrap();
        let names: Vec<&str> = grid.cells.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(names, ["shallow-seed1", "deep-seed1", "shallow-blocks-seed1", "deep-blocks-seed1"]);
        let splits = grid.cells.iter().map(|cell| cell.config.data.split == split::Kind::Blocks);
        assert!(splits.eq([false, false, true, true]));
    }

    #[test]
    fn a_digest_tells_studies_apart_and_not_where_their_data_are() {
        let mut one = grid(&[Table::Replication], &[1, 2]);
        let digest = one.digest().unwrap();
        assert!(digest.starts_with("4-"), "{digest}");
        one.cells[0].config.data.path = Some("/elsewhere".into());
        one.check_digest(&digest).unwrap();
        let refused = |grid: &Grid| grid.check_digest(&digest).unwrap_err().one_line();
        assert!(refused(&grid(&[Table::Replication], &[1])).contains("2 trainings instead of 4"));
        one.cells[3].config.epochs += 1;
        assert!(refused(&one).contains("other settings"));
    }

    #[test]
    fn a_grid_survives_its_file_and_a_foreign_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let grid = grid(&Table::ALL, &[1, 2]);
        grid.write(dir.path()).unwrap();
        assert_eq!(Grid::read(dir.path()).unwrap(), grid);
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        std::fs::write(dir.path().join(FILE), text.replace("deep-seed1", "../deep")).unwrap();
        let error = Grid::read(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("\"../deep\": no name of a cell"), "{error}");
    }
}
