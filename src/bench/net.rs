//! A training step, or a forward pass, of one of the study's nets on random data: the programs that a run replays.

use std::time::Instant;

use rand::RngExt;

use super::Times;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::fast::{self, Rule};
use crate::nn;
use crate::rng;
use crate::run::{KernelTiming, Plan};
use crate::tape::{Node, Source, Step, Tape, Var};
use crate::train::config::Config;
use crate::train::program::{EvaluateProgram, TrainProgram};

/// Rows and columns of a spectrogram, and genres: the study's.
pub const SIZE: [usize; 2] = [80, 80];
/// Genres of the study.
pub const CLASSES: usize = 10;

/// Times of a GPU are taken over so many blocks of steps: a single step is submitted and not waited for.
const BLOCKS: u32 = 10;

/// What is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A training step: forward with dropout, loss with its L1 penalty, gradients, Adam.
    Train,
    /// A forward pass without dropout.
    Forward,
}

/// What one replay needs at least, counted on the textbook program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Useful floating-point operations (a multiply-add counts two) of convolutions and dense layers.
    pub flops: u64,
    /// The same, if the gradients of a convolution before a pool are taken at the pool's winners only.
    pub flops_at_winners: u64,
    /// Bytes of parameters, and of Adam's moments where there are any, read and written.
    pub bytes: u64,
}

/// A program ready to be timed.
#[derive(Debug)]
pub struct Subject {
    /// A plan for each of the nets that step side by side.
    plans: Vec<Plan>,
    /// What a run reads at the end: reading it waits for a GPU.
    result: Var,
    config: Config,
    waits: bool,
    steps: u32,
    cost: Cost,
}

impl Subject {
    /// Records what `config` says, rewrites it by `rules`, and makes it ready on `device` with random weights and data.
    ///
    /// # Errors
    /// Nonsense in `config`; those of the device.
    pub fn new(config: &Config, kind: Kind, rules: &[Rule], device: &Device) -> Result<Self> {
        Subject::several(config, kind, rules, device, 1)
    }

    /// The same for `nets` nets, at least one, which replay it next to each other ([`Plan::several`]).
    ///
    /// # Errors
    /// As [`Subject::new`]; more nets than the device takes.
    pub fn several(config: &Config, kind: Kind, rules: &[Rule], device: &Device, nets: usize) -> Result<Self> {
        config.check()?;
        let net = config.net(CLASSES);
        let shape = [config.batch, SIZE[0], SIZE[1]];
        let mut random = rng::stream(config.seed, "bench");
        // About the mean and spread of log-mel values.
        let spectrograms: Vec<f32> =
            (0..config.batch * SIZE[0] * SIZE[1]).map(|_| 6.0 * random.random::<f32>() - 7.0).collect();
        let labels: Vec<f32> = (0..config.batch).map(|_| random.random_range(0..CLASSES as u32) as f32).collect();
        let (tape, inputs, result) = match kind {
            Kind::Train => {
                let program = TrainProgram::record(&net, shape, config.l1, config.adam())?;
                let inputs = vec![(program.spectrograms, spectrograms), (program.labels, labels)];
                (program.tape, inputs, program.loss_sum)
            }
            Kind::Forward => {
                let program = EvaluateProgram::record(&net, shape)?;
                (program.tape, vec![(program.spectrograms, spectrograms)], program.logits)
            }
        };
        let params = nn::initialise(&tape, config.seed)?;
        let Cost { flops, flops_at_winners, bytes } = cost(&tape);
        let all = |count: u64| count * nets as u64;
        let cost = Cost { flops: all(flops), flops_at_winners: all(flops_at_winners), bytes: all(bytes) };
        let tape = fast::rewrite(&tape, rules);
        let mut plans = Plan::several(&tape, device, &vec![params; nets])?;
        for plan in &mut plans {
            for (var, data) in &inputs {
                plan.write(*var, data)?;
            }
        }
        let waits = matches!(device, Device::Cpu);
        Ok(Subject { plans, result, config: config.clone(), waits, steps: 0, cost })
    }

    /// What a replay of all nets needs at least.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// The program as it is replayed.
    pub fn tape(&self) -> &Tape {
        self.plans[0].tape()
    }

    /// A value of the first net as it stands; waits for every replay.
    ///
    /// # Errors
    /// Those of the plan.
    pub fn read(&mut self, var: Var) -> Result<Vec<f32>> {
        self.plans[0].read(var)
    }

    /// Replays the program once, on data that stay where they are. On a GPU this submits and returns.
    ///
    /// # Errors
    /// Those of the plan.
    pub fn step(&mut self) -> Result<()> {
        self.steps += 1;
        let Config { seed, learning_rate, .. } = self.config;
        let step = Step::new(self.steps, seed as u32, learning_rate);
        self.plans.iter_mut().try_for_each(|plan| plan.step(&[], &step))
    }

    /// What every kernel of a replay takes when it runs alone, the least of `steps` replays, in seconds.
    ///
    /// # Errors
    /// Those of [`Plan::profile`].
    pub fn profile(&mut self, steps: u32) -> Result<Vec<KernelTiming>> {
        let Config { seed, learning_rate, .. } = self.config;
        let mut least: Vec<KernelTiming> = Vec::new();
        for _ in 0..steps {
            self.steps += 1;
            let timings = self.plans[0].profile(&Step::new(self.steps, seed as u32, learning_rate))?;
            for (least, timing) in least.iter_mut().zip(&timings) {
                least.seconds = least.seconds.min(timing.seconds);
            }
            if least.is_empty() {
                least = timings;
            }
        }
        Ok(least)
    }

    /// On a GPU: how long the kernels took to compile, seconds, and how many dispatches a replay has.
    pub fn compiled(&self) -> Option<(f64, usize)> {
        self.plans[0].compiled()
    }

    /// Waits until every replay is done.
    ///
    /// # Errors
    /// Those of the plan; [`Error::Training`] if what was computed is not a number: its time would mean nothing.
    pub fn wait(&mut self) -> Result<()> {
        for plan in &mut self.plans {
            if let Some(value) = plan.read(self.result)?.iter().find(|value| !value.is_finite()) {
                return Err(Error::Training(format!("bench: the result is {value}; try other settings")));
            }
        }
        Ok(())
    }

    /// Times `steps` replays after `warmup` others. On the CPU each is timed; on a GPU, blocks of a tenth of them, each
    /// with one read of every net at its end. `done` hears how many are over, warm-up included.
    ///
    /// # Errors
    /// As [`Subject::step`] and [`Subject::wait`].
    pub fn time(&mut self, warmup: u32, steps: u32, done: &mut dyn FnMut(u32)) -> Result<Times> {
        for number in 1..=warmup {
            self.step()?;
            done(number);
        }
        self.wait()?;
        let block = if self.waits { 1 } else { steps.div_ceil(BLOCKS).max(1) };
        let (mut times, mut left) = (Vec::new(), steps);
        while left > 0 {
            let count = block.min(left);
            let started = Instant::now();
            for _ in 0..count {
                self.step()?;
            }
            if !self.waits {
                self.wait()?;
            }
            times.push(started.elapsed().as_secs_f64() * 1e3 / f64::from(count));
            left -= count;
            done(warmup + steps - left);
        }
        self.wait()?;
        Ok(Times::of(&times))
    }
}

/// Counts what `tape`, before fusion, needs at least.
fn cost(tape: &Tape) -> Cost {
    let floats = |source| tape.vars(source).map(|var| tape.shape(var).len() as u64).sum::<u64>();
    let (params, states) = (floats(Source::Param), floats(Source::State));
    // A training step reads and writes parameters and moments; a forward pass reads parameters. Its states are none.
    let bytes = if states == 0 { 4 * params } else { 8 * (params + states) };
    let at_winners = |node: &Node| (node.op.flops() as f64 * winners(tape, node)) as u64;
    Cost { flops: tape.flops(), flops_at_winners: tape.nodes().iter().map(at_winners).sum(), bytes }
}

/// The share of `grad_output` that is not zero by construction, if `node` is a convolution's gradient behind a pool.
fn winners(tape: &Tape, node: &Node) -> f64 {
    if !node.op.name().starts_with("conv2d.grad") {
        return 1.0;
    }
    let mut grad_output = node.reads[0];
    let elements = tape.shape(grad_output).len();
    // Activations hand the gradient on; the pool spreads a smaller one.
    while let Some(node) = tape.nodes().iter().find(|node| node.writes.contains(&grad_output)) {
        match node.op.name() {
            "max_pool2d.grad_input" => return tape.shape(node.reads[0]).len() as f64 / elements as f64,
            "leaky_relu.grad_input" | "tanh.grad_input" => grad_output = node.reads[1],
            _ => break,
        }
    }
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Architecture;
    use crate::train::config::Preset;

    fn config(model: Architecture, preset: Preset, batch: usize) -> Config {
        Config { batch, ..Config::preset(preset, model) }
    }

    fn costs(model: Architecture, preset: Preset, kind: Kind) -> Cost {
        let net = config(model, preset, 15).net(CLASSES);
        match kind {
            Kind::Train => {
                let adam = crate::ops::Adam::default();
                cost(&TrainProgram::record(&net, [15, 80, 80], 1e-4, adam).unwrap().tape)
            }
            Kind::Forward => cost(&EvaluateProgram::record(&net, [15, 80, 80]).unwrap().tape),
        }
    }

    #[test]
    fn operations_and_bytes_by_hand() {
        for preset in [Preset::Report, Preset::Paper] {
            let forward = costs(Architecture::Shallow, preset, Kind::Forward);
            // 15 images of 6,400 pixels, 16 channels of 230 and 420 taps; dense 10,240 x 200 and 200 x 10
            let conv = 2 * 15 * 6_400 * 16 * (230 + 420);
            let dense = 2 * 15 * (10_240 * 200 + 200 * 10);
            assert_eq!(forward.flops, conv + dense);
            assert_eq!(forward.flops_at_winners, forward.flops);
            let step = costs(Architecture::Shallow, preset, Kind::Train);
            // the first layers need no input gradient, both dense layers do
            assert_eq!(step.flops, 2 * conv + 3 * dense);
            assert_eq!(step.flops_at_winners, conv + conv / 20 + 3 * dense);
            let deep = costs(Architecture::Deep, preset, Kind::Train);
            assert!(deep.flops_at_winners * 3 < deep.flops * 2 && deep.flops > 13_000_000_000, "{deep:?}");
        }
        let params = 2_060_610;
        assert_eq!(costs(Architecture::Shallow, Preset::Report, Kind::Forward).bytes, 4 * params);
        // parameters and two moments, read and written, and the two running sums
        assert_eq!(costs(Architecture::Shallow, Preset::Report, Kind::Train).bytes, 8 * (3 * params + 2));
    }

    #[test]
    fn a_step_and_a_forward_pass_are_timed() {
        for (kind, rules) in [(Kind::Train, fast::ALL), (Kind::Forward, fast::ALL), (Kind::Forward, &[])] {
            let config = config(Architecture::Shallow, Preset::Report, 1);
            let mut subject = Subject::new(&config, kind, rules, &Device::Cpu).unwrap();
            let mut heard = Vec::new();
            let times = subject.time(2, 3, &mut |done| heard.push(done)).unwrap();
            assert_eq!(heard, [1, 2, 3, 4, 5]);
            assert!(0.0 < times.min_ms && times.min_ms <= times.median_ms && times.median_ms <= times.max_ms);
        }
    }

    #[test]
    fn a_result_that_is_no_number_is_an_error() {
        let config = Config { learning_rate: 1e30, ..config(Architecture::Shallow, Preset::Report, 1) };
        let mut subject = Subject::new(&config, Kind::Train, fast::ALL, &Device::Cpu).unwrap();
        let error = subject.time(0, 4, &mut |_| {}).unwrap_err().to_string();
        assert!(error.starts_with("bench: the result is "), "{error}");
        let nonsense = Config { batch: 0, ..config };
        let error = Subject::new(&nonsense, Kind::Train, fast::ALL, &Device::Cpu).unwrap_err().to_string();
        assert_eq!(error, "batch: expected 1 to 4096, got 0");
    }
}
