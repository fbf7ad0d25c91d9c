//! The training loop: every epoch a fresh shuffle, every batch one replay of the step, one look at the test set.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::data::{Dataset, Meta, split};
use crate::device::{Device, memory};
use crate::error::{Error, Result};
use crate::files;
use crate::models::Net;
use crate::nn::{self, Activation};
use crate::run::{Plan, Table};
use crate::tape::{Source, Step, Tape};
use crate::tensor::{Params, Tensor};

use super::checkpoint;
use super::config::Config;
use super::evaluate::{self, Evaluation, Evaluator};
use super::metrics::Epoch;
use super::program::{EvaluateProgram, TrainProgram};
use super::state::{Reached, State};

/// What a training leaves at its end or at a milestone.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every epoch.
    pub epochs: Vec<Epoch>,
    /// The test set under the weights.
    pub evaluation: Evaluation,
    /// The test segments' logits `[N, classes]`.
    pub logits: Vec<f32>,
    /// The weights.
    pub params: Params,
    /// Steps taken.
    pub steps: u32,
    /// Wall time, s.
    pub seconds: f64,
}

/// Who watches a training, and who may stop it.
pub trait Observer {
    /// After every step: its number within the epoch, and how many there are.
    fn step(&mut self, epoch: u32, step: usize, steps: usize);

    /// After every epoch, with all epochs so far.
    ///
    /// # Errors
    /// Whatever saving them meets; it ends the training.
    fn epoch(&mut self, epochs: &[Epoch]) -> Result<()>;

    /// Whether to stop, asked after every step.
    fn stops(&self) -> bool {
        false
    }
}

/// Who keeps what a training makes, so that nothing is lost.
pub trait Keeper: Observer {
    /// After every epoch, with when it ended, s since 1970.
    ///
    /// # Errors
    /// Whatever keeping it meets; it ends the training.
    fn timed(&mut self, epoch: &Epoch, time: f64) -> Result<()>;

    /// Whether it is time to keep the state, asked after every epoch.
    fn wants_state(&self) -> bool;

    /// The state after an epoch, or after the step that was the last one before a stop.
    ///
    /// # Errors
    /// Whatever keeping it meets; it ends the training.
    fn state(&mut self, state: &State) -> Result<()>;

    /// What the training would leave if it ended here, at one of the configuration's milestones.
    ///
    /// # Errors
    /// Whatever keeping it meets; it ends the training.
    fn milestone(&mut self, outcome: &Outcome) -> Result<()>;
}

/// What a training does besides.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// For cross-checks with other programs: folder for `init.safetensors` (the weights before the first step) and
    /// `steps.csv` (every step's loss and batch).
    pub trace: Option<PathBuf>,
    /// Stop after so many steps.
    pub max_steps: Option<u32>,
}

/// A training whose loss over an epoch exceeds this has diverged; the study's are below 10,000.
const DIVERGED: f64 = 1e9;

/// The time of day, s since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The step's seed: 32 bits of the run's.
fn fold_seed(seed: u64) -> u32 {
    (seed ^ (seed >> 32)) as u32
}

/// A net about to be trained: the programs of its step and of its test, ready on a device, and the weights that it
/// starts from.
#[derive(Debug)]
pub struct Trainer<'d> {
    program: TrainProgram,
    init: Params,
    plan: Plan,
    evaluator: Evaluator<'d>,
}

impl<'d> Trainer<'d> {
    /// For a net of `config` on `dataset`.
    ///
    /// # Errors
    /// [`Error::Config`] for nonsense in `config`; those of recording (spectrograms too small for the net) and of
    /// [`Plan::new`].
    pub fn new(config: &Config, dataset: &'d Dataset, device: &Device) -> Result<Self> {
        Ok(Trainer::several(&[(config, dataset)], device)?.remove(0))
    }

    /// For nets, one at least, that differ in seeds and data alone. On a GPU they train side by side, each in a thread of
    /// its own (see [`Plan::several`]); each gets what it gets alone, bit for bit.
    ///
    /// # Errors
    /// Those of [`Trainer::new`] and [`Plan::several`]; [`Error::Config`] if the nets differ in anything else.
    pub fn several(nets: &[(&Config, &'d Dataset)], device: &Device) -> Result<Vec<Self>> {
        let (config, Dataset { meta, .. }) = nets[0];
        let alike = |(other, data): &(&Config, &Dataset)| {
            let sizes = |meta: &Meta| (meta.classes.len(), meta.bins, meta.frames);
            other.seedless() == config.seedless() && sizes(&data.meta) == sizes(meta)
        };
        if !nets.iter().all(alike) {
            return Err(Error::Config("only nets that differ in seeds and data alone train side by side".to_string()));
        }
        config.check()?;
        nets.iter().try_for_each(|(_, dataset)| dataset.check())?;
        let net = config.net(meta.classes.len());
        // Rows beyond the data would be masked in every step.
        let rows = nets.iter().map(|(_, dataset)| dataset.train.len()).max().unwrap_or(1);
        let batch = config.batch.min(rows).max(1);
        let program = TrainProgram::record(&net, [batch, meta.bins, meta.frames], config.l1, config.adam())?;
        let program = program.fused(config.fuse);
        check_memory(&program, &net, config, meta, device, nets.len())?;
        let init = nets.iter().map(|(config, _)| nn::initialise(&program.tape, config.seed));
        let init = init.collect::<Result<Vec<_>>>()?;
        let plans = Plan::several(&program.tape, device, &init)?;
        let ready = nets.iter().zip(init).zip(plans).map(|(((_, dataset), init), plan)| {
            let size = [meta.bins, meta.frames];
            let evaluator = Evaluator::new(&net, size, config.fuse, device, &init, &dataset.test)?;
            Ok(Trainer { program: program.clone(), init, plan, evaluator })
        });
        ready.collect()
    }

    /// The program of a step.
    pub fn tape(&self) -> &Tape {
        &self.program.tape
    }
}

/// Refuses a training that the computer has not the memory for, before anything is allocated.
fn check_memory(
    program: &TrainProgram,
    net: &Net,
    config: &Config,
    meta: &Meta,
    device: &Device,
    nets: usize,
) -> Result<()> {
    // The first weights and those of an epoch's end; a saved state is parameters and both moments, once as numbers and
    // once as the file's bytes.
    const COPIES: u64 = 2 + 2 * 3;
    let tape = &program.tape;
    let evaluation = EvaluateProgram::record(net, [evaluate::BATCH, meta.bins, meta.frames])?.fused(config.fuse);
    let weights: u64 = tape.vars(Source::Param).map(|var| tape.shape(var).len() as u64).sum();
    let plans = Plan::bytes(tape, device).saturating_add(Plan::bytes(&evaluation.tape, device));
    let needed = plans.saturating_add(weights.saturating_mul(COPIES * size_of::<f32>() as u64));
    let Meta { bins, frames, .. } = meta;
    let what = format!("training the {} net on spectrograms of {bins}x{frames}", config.model);
    memory::check(&what, needed.saturating_mul(nets as u64))
}

/// Trains and evaluates one net, from the start or from the state `from` of the same training. `config` and `dataset` are
/// those that `trainer` was made for.
///
/// # Errors
/// [`Error::Training`] if the loss diverges; [`Error::Interrupted`] if `keeper` stops it; those of device and disk.
pub fn fit(
    trainer: Trainer,
    config: &Config,
    dataset: &Dataset,
    options: &Options,
    from: Option<&State>,
    keeper: &mut dyn Keeper,
) -> Result<Outcome> {
    let started = Instant::now();
    let meta = &dataset.meta;
    let Trainer { program, init, mut plan, mut evaluator } = trainer;
    let steps_per_epoch = dataset.train.len().div_ceil(config.batch);
    let max_steps = options.max_steps.unwrap_or(u32::MAX);
    let batches = u32::try_from(steps_per_epoch).unwrap_or(u32::MAX);
    config.check_schedule(batches.saturating_mul(config.epochs).min(max_steps), batches)?;
    let mut trace = options.trace.as_deref().map(|folder| Trace::start(folder, &init)).transpose()?;
    drop(init);
    let Reached { mut step, mut epochs, mut times, seconds: before } =
        from.map_or_else(Reached::default, |s| s.reached.clone());
    // A state between two epochs stands at the first step of the next one.
    let skipped = (step as usize).checked_sub(epochs.len() * steps_per_epoch);
    let unfinished = |steps: &usize| *steps <= steps_per_epoch && epochs.len() < config.epochs as usize;
    let mut skipped = skipped.filter(unfinished).ok_or_else(|| {
        let message = format!("its state is of step {step} after {} epochs, which is not of this run", epochs.len());
        Error::Training(message)
    })?;
    if let Some(state) = from {
        plan.set_lasting(&state.values)?;
    }
    let labels: Vec<f32> = dataset.train.labels.iter().map(|&label| label as f32).collect();
    let tables = [
        Table { input: program.spectrograms, data: &dataset.train.spectrograms, filled: 0.0 },
        Table { input: program.labels, data: &labels, filled: -1.0 },
    ];
    let mut feed = plan.feed(&tables, dataset.train.len())?;
    loop {
        let epoch = epochs.len() as u32 + 1;
        if skipped == 0 {
            plan.write(program.loss_sum, &[0.0])?;
            plan.write(program.correct_sum, &[0.0])?;
        }
        let order = split::shuffled(dataset.train.len(), config.seed, epoch as usize);
        plan.order(&mut feed, &order)?;
        for (number, rows) in order.chunks(config.batch).enumerate().skip(std::mem::take(&mut skipped)) {
            if step == max_steps {
                break;
            }
            step += 1;
            let learning_rate = config.learning_rate_at(step, epoch);
            let now = Step::new(step, fold_seed(config.seed), learning_rate);
            plan.step_from(&feed, number * config.batch, &now)?;
            if let Some(trace) = &mut trace {
                trace.step(step, plan.read(program.loss)?[0], learning_rate, rows);
            }
            keeper.step(epoch, number + 1, steps_per_epoch);
            if keeper.stops() {
                let reached = Reached { step, epochs, times, seconds: before + started.elapsed().as_secs_f64() };
                keeper.state(&State { reached, values: plan.lasting()? })?;
                let message = format!("stopped after step {} of {steps_per_epoch} of epoch {epoch}", number + 1);
                return Err(Error::Interrupted(message));
            }
        }
        let loss = f64::from(plan.read(program.loss_sum)?[0]);
        let correct = f64::from(plan.read(program.correct_sum)?[0]);
        if !loss.is_finite() || loss > DIVERGED {
            let (what, remedy) =
                diverged(config, config.learning_rate_at(step.max(1), epoch), &plan.params()?, dataset);
            let message = format!("training diverged in epoch {epoch}: the loss is {loss:e}{what}; try {remedy}");
            return Err(Error::Training(message));
        }
        let params = plan.params()?;
        let logits = evaluator.logits(&params)?;
        let seen = ((step as usize - epochs.len() * steps_per_epoch) * config.batch).min(order.len());
        epochs.push(Epoch {
            epoch,
            learning_rate: config.learning_rate_at(step.max(1), epoch),
            loss,
            train_accuracy: 100.0 * correct / seen.max(1) as f64,
            test_accuracy: evaluate::raw_accuracy(&logits, &dataset.test.labels),
        });
        times.push(now());
        keeper.timed(&epochs[epochs.len() - 1], times[times.len() - 1])?;
        keeper.epoch(&epochs)?;
        let last = epoch == config.epochs || step == max_steps;
        let seconds = before + started.elapsed().as_secs_f64();
        if last || config.milestones.contains(&epoch) {
            let evaluation = evaluate::evaluate(&logits, &dataset.test, meta.classes.len());
            let outcome = Outcome { epochs: epochs.clone(), evaluation, logits, params, steps: step, seconds };
            if last {
                trace.map(Trace::finish).transpose()?;
                return Ok(outcome);
            }
            keeper.milestone(&outcome)?;
        }
        if keeper.wants_state() {
            let reached = Reached { step, epochs: epochs.clone(), times: times.clone(), seconds };
            keeper.state(&State { reached, values: plan.lasting()? })?;
        }
    }
}

/// What is known of a training that diverged at the learning rate `rate`: which numbers are out of bounds, and which
/// settings to change.
fn diverged(config: &Config, rate: f64, params: &Params, dataset: &Dataset) -> (String, String) {
    let size = |tensor: &Tensor| tensor.data().iter().map(|&x| f64::from(x).abs()).sum::<f64>();
    let penalty = config.l1 * params.iter().map(|(_, tensor)| size(tensor)).sum::<f64>();
    let loudest = dataset.train.spectrograms.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let what = match params.iter().find(|(_, tensor)| !size(tensor).is_finite()) {
        Some((name, _)) => format!(", and {name} holds numbers that are not finite"),
        None if penalty > 1e6 => format!(", and the L1 penalty alone is {penalty:e}"),
        None => String::new(),
    };
    let mut remedies = Vec::new();
    let Config { l1, slope, epsilon, beta1, beta2, learning_rate, .. } = *config;
    if rate > learning_rate {
        remedies.push(format!("a decay_rate below 1 (the learning rate had grown to {rate:e})"));
    } else if rate > 0.01 {
        remedies.push(format!("a lower learning rate than {rate:?}"));
    }
    if l1 > 0.1 {
        remedies.push(format!("a smaller l1 than {l1:?}"));
    }
    if slope.abs() > 1.0 && config.activation == Activation::LeakyRelu {
        remedies.push(format!("a slope nearer to 0 than {slope:?}"));
    }
    if epsilon < 1e-16 {
        remedies.push(format!("a larger epsilon than {epsilon:?}"));
    }
    if beta1 * beta1 > beta2 {
        remedies.push(format!("a beta2 of more than {:.4} (beta1 squared)", beta1 * beta1));
    }
    if loudest > 1e4 {
        remedies.push(format!("smaller spectrograms than these, with numbers up to {loudest:e}"));
    }
    if remedies.is_empty() {
        remedies.push("a lower learning rate".to_string());
    }
    (what, remedies.join(", "))
}

/// `init.safetensors` and `steps.csv`; a training that fails leaves neither.
struct Trace {
    folder: PathBuf,
    lines: String,
    finished: bool,
}

/// The weights before the first step.
const INIT: &str = "init.safetensors";

impl Drop for Trace {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(self.folder.join(INIT));
            files::discard(&self.folder);
        }
    }
}

impl Trace {
    fn start(folder: &Path, init: &Params) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("cannot create", folder))?;
        let lines = "step,loss,learning_rate,batch\n".to_string();
        let trace = Trace { folder: folder.to_path_buf(), lines, finished: false };
        checkpoint::write(&folder.join(INIT), init)?;
        Ok(trace)
    }

    fn step(&mut self, step: u32, loss: f32, learning_rate: f64, rows: &[u32]) {
        let rows: Vec<String> = rows.iter().map(u32::to_string).collect();
        self.lines += &format!("{step},{loss},{learning_rate},{}\n", rows.join(" "));
    }

    fn finish(mut self) -> Result<()> {
        files::replace(&self.folder.join("steps.csv"), self.lines.as_bytes())?;
        self.finished = true;
        Ok(())
    }
}
