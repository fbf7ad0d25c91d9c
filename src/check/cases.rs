//! What is checked: for every operation some small programs that end in one number, and both nets under both presets.
//!
//! Every case is a whole step: forward, gradients of every parameter, Adam. An operation's inputs are recorded as
//! parameters, so that it has to give all of its gradients. A new operation gets its rows in [`ops()`]; a test fails
//! while one is missing.

use rand::RngExt;

use crate::autodiff::{self, Grads};
use crate::device::Device;
use crate::error::Result;
use crate::fast;
use crate::models::Architecture;
use crate::nn::{self, Activation};
use crate::ops::{self, Adam, Padding};
use crate::rng::{self, Rng};
use crate::run::Plan;
use crate::tape::{Source, Step, Tape, Var};
use crate::tensor::{Params, Tensor};
use crate::train::config::{Config, Preset};
use crate::train::program::TrainProgram;

/// A program with everything that it needs to run.
#[derive(Clone, Debug)]
pub struct Case {
    /// The operation or net that it is about.
    pub subject: String,
    /// What is particular about it: `same, 3x4 kernel, no bias`.
    pub name: String,
    /// Forward, backward, Adam.
    pub tape: Tape,
    /// The number that the program computes, `[1]`.
    pub loss: Var,
    /// The forward pass is that many nodes.
    pub forward: usize,
    /// Every parameter and its gradient.
    pub grads: Grads,
    /// Inputs, and states that do not start at zero.
    pub given: Vec<(Var, Vec<f32>)>,
    /// Values of the parameters.
    pub params: Params,
    /// Adam's step size.
    pub learning_rate: f64,
    /// True for a whole net.
    pub net: bool,
    /// Adam's constants.
    pub adam: Adam,
    /// True if a gradient or all values may be 0 on both sides; elsewhere that counts as a check of nothing.
    pub zeros: bool,
}

impl Case {
    /// Step number `number`, from 1.
    pub fn step(&self, number: u32) -> Step {
        Step::new(number, 0x9e37_79b9, self.learning_rate)
    }

    /// The case ready to run on `device`.
    ///
    /// # Errors
    /// Those of [`Plan::new`].
    pub fn plan(&self, device: &Device) -> Result<Plan> {
        let mut plan = Plan::new(&self.tape, device, &self.params)?;
        for (var, data) in &self.given {
            plan.write(*var, data)?;
        }
        Ok(plan)
    }

    /// The same with neighbouring nodes fused.
    pub fn fused(&self) -> Self {
        let tape = fast::rewrite(&self.tape, fast::ALL);
        let forward = 1 + tape.nodes().iter().position(|node| node.writes.contains(&self.loss)).unwrap_or(0);
        Case { name: format!("{}, fused", self.name), tape, forward, ..self.clone() }
    }
}

/// A case while its forward pass is being recorded. Its random numbers come from its own seeded stream.
#[derive(Debug)]
pub struct Draft {
    /// The program so far.
    pub tape: Tape,
    given: Vec<(Var, Vec<f32>)>,
    params: Params,
    rng: Rng,
    /// Whether the program is fused in the end.
    fused: bool,
}

impl Draft {
    /// An empty one; `name` seeds its random numbers.
    pub fn new(name: &str) -> Self {
        Draft {
            tape: Tape::new(),
            given: Vec::new(),
            params: Params::default(),
            rng: rng::stream(1, name),
            fused: false,
        }
    }

    /// `len` numbers, uniform between -1 and 1.
    fn random(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| 2.0 * self.rng.random::<f32>() - 1.0).collect()
    }

    /// A random input.
    pub fn input<const R: usize>(&mut self, shape: [usize; R]) -> Var {
        let data = self.random(shape.iter().product());
        let var = self.tape.input("input", shape);
        self.given.push((var, data));
        var
    }

    /// A random parameter.
    ///
    /// # Errors
    /// None in practice: the data is made for the shape.
    pub fn param<const R: usize>(&mut self, name: &str, shape: [usize; R]) -> Result<Var> {
        let data = self.random(shape.iter().product());
        self.params.push(name, Tensor::new(shape, data)?);
        self.tape.param(name, shape)
    }

    /// Labels; negative ones mask their rows.
    fn labels(&mut self, labels: &[f32]) -> Var {
        let var = self.tape.labels(labels.len());
        self.given.push((var, labels.to_vec()));
        var
    }

    /// A convolution of a random input with random weights and, if `bias`, a bias.
    fn conv2d(&mut self, input: [usize; 4], kernel: [usize; 3], bias: bool, padding: Padding) -> Result<Var> {
        let [c_out, k_h, k_w] = kernel;
        let x = self.param("input", input)?;
        let weight = self.param("weight", [c_out, input[1], k_h, k_w])?;
        let bias = if bias { Some(self.param("bias", [c_out])?) } else { None };
        ops::conv2d(&mut self.tape, x, weight, bias, padding)
    }

    /// A convolution, an activation and a pool, to be rewritten as one node. ReLU comes without a bias.
    fn conv_block(
        &mut self,
        input: [usize; 4],
        kernel: [usize; 3],
        padding: Padding,
        activation: Activation,
        window: (usize, usize),
    ) -> Result<Var> {
        let map = self.conv2d(input, kernel, activation != Activation::Relu, padding)?;
        self.block(map, activation, window)
    }

    /// The same on an input that needs no gradient, as in a first layer.
    fn first_block(
        &mut self,
        input: [usize; 4],
        kernel: [usize; 3],
        activation: Activation,
        window: (usize, usize),
    ) -> Result<Var> {
        let ([c_out, k_h, k_w], x) = (kernel, self.input(input));
        let weight = self.param("weight", [c_out, input[1], k_h, k_w])?;
        let bias = if activation == Activation::Relu { None } else { Some(self.param("bias", [c_out])?) };
        let map = ops::conv2d(&mut self.tape, x, weight, bias, Padding::Same)?;
        self.block(map, activation, window)
    }

    fn block(&mut self, map: Var, activation: Activation, window: (usize, usize)) -> Result<Var> {
        let activated = activation.record(&mut self.tape, map, 0.3)?;
        self.fused = true;
        ops::max_pool2d(&mut self.tape, activated, window)
    }

    fn max_pool2d(&mut self, input: [usize; 4], window: (usize, usize)) -> Result<Var> {
        let x = self.param("input", input)?;
        ops::max_pool2d(&mut self.tape, x, window)
    }

    fn dense(&mut self, n: usize, inputs: usize, outputs: usize) -> Result<Var> {
        let x = self.param("input", [n, inputs])?;
        let weight = self.param("weight", [outputs, inputs])?;
        let bias = self.param("bias", [outputs])?;
        ops::dense(&mut self.tape, x, weight, bias)
    }

    /// `y`, and the L1 penalty of `x` beside it.
    fn penalised(&mut self, y: Var, x: Var) -> Result<Var> {
        let penalty = ops::l1_penalty(&mut self.tape, x, 0.01)?;
        let penalty = ops::reshape(&mut self.tape, penalty, [1, 1])?;
        let len = self.tape.shape(y).len();
        let row = ops::reshape(&mut self.tape, y, [1, len])?;
        ops::concat(&mut self.tape, row, penalty)
    }

    /// A dense layer to be fused with the update of its weight: with its penalty, with the gradient of its input.
    fn dense_update(&mut self, sizes: [usize; 3], penalised: bool, grad_input: bool) -> Result<Var> {
        self.fused = true;
        let [n, inputs, outputs] = sizes;
        let x = if grad_input { self.param("input", [n, inputs])? } else { self.input([n, inputs]) };
        let (weight, bias) = (self.param("weight", [outputs, inputs])?, self.param("bias", [outputs])?);
        let y = ops::dense(&mut self.tape, x, weight, bias)?;
        if penalised { self.penalised(y, weight) } else { Ok(y) }
    }

    fn softmax_cross_entropy(&mut self, classes: usize, labels: &[f32]) -> Result<Var> {
        let logits = self.param("logits", [labels.len(), classes])?;
        let labels = self.labels(labels);
        Ok(ops::softmax_cross_entropy(&mut self.tape, logits, labels)?.loss)
    }

    /// One number from all of `y`: its product with fixed random weights. Every element has its own gradient then.
    fn weigh(&mut self, y: Var) -> Result<Var> {
        let len = self.tape.shape(y).len();
        let row = ops::reshape(&mut self.tape, y, [1, len])?;
        let (weight, bias) = (self.input([1, len]), self.tape.input("bias", [1]));
        // Far from 0: a sum whose terms cancel would look less exact than it is.
        self.given.push((bias, vec![1.0 + len as f32]));
        let sum = ops::dense(&mut self.tape, row, weight, bias)?;
        ops::reshape(&mut self.tape, sum, [1])
    }

    /// Weighs `y` down to one number and records its gradients and an Adam step.
    ///
    /// # Errors
    /// Those of recording.
    pub fn finish(mut self, subject: &str, name: &str, y: Var) -> Result<Case> {
        let loss = self.weigh(y)?;
        let grads = autodiff::backward(&mut self.tape, loss)?;
        ops::adam(&mut self.tape, Adam::default(), &grads)?;
        let total = ops::accumulate(&mut self.tape, "total", loss)?;
        self.given.push((total, vec![40.0]));
        if self.fused {
            self.tape = fast::rewrite(&self.tape, fast::ALL);
        }
        let forward = 1 + self.tape.nodes().iter().position(|node| node.writes.contains(&loss)).unwrap_or(0);
        // Moments as they are in the middle of a training: the second one is positive.
        for (number, var) in
            self.tape.vars(Source::State).filter(|&var| var != total).collect::<Vec<_>>().into_iter().enumerate()
        {
            let mut data = self.random(self.tape.shape(var).len());
            if number % 2 == 1 {
                data.iter_mut().for_each(|v| *v = 0.01 + v.abs());
            }
            self.given.push((var, data));
        }
        let Draft { tape, given, params, .. } = self;
        let (subject, name) = (subject.to_string(), name.to_string());
        Ok(Case {
            subject,
            name,
            tape,
            loss,
            forward,
            grads,
            given,
            params,
            learning_rate: 0.01,
            net: false,
            adam: Adam::default(),
            zeros: false,
        })
    }
}

/// One row: the operation, what is particular, and how the value is recorded.
type Row = (&'static str, &'static str, fn(&mut Draft) -> Result<Var>);

const OPS: &[Row] = &[
    ("conv2d", "same, 3x3, bias", |d| d.conv2d([2, 3, 7, 9], [4, 3, 3], true, Padding::Same)),
    ("conv2d", "same, 3x3, no bias", |d| d.conv2d([2, 3, 7, 9], [4, 3, 3], false, Padding::Same)),
    ("conv2d", "same, even 2x4", |d| d.conv2d([2, 2, 6, 5], [3, 2, 4], true, Padding::Same)),
    ("conv2d", "valid, 3x2, bias", |d| d.conv2d([2, 3, 7, 6], [4, 3, 2], true, Padding::Valid)),
    ("conv2d", "valid, as large as the input", |d| d.conv2d([3, 2, 4, 5], [3, 4, 5], false, Padding::Valid)),
    ("conv2d", "same, larger than the input", |d| d.conv2d([1, 2, 4, 3], [2, 10, 7], true, Padding::Same)),
    ("conv2d", "same, 10x23 on one channel, batch 1", |d| d.conv2d([1, 1, 12, 25], [2, 10, 23], true, Padding::Same)),
    ("conv2d", "1x1", |d| d.conv2d([2, 5, 4, 3], [6, 1, 1], true, Padding::Same)),
    ("conv2d", "17 channels to 9", |d| d.conv2d([1, 17, 5, 4], [9, 2, 3], false, Padding::Same)),
    ("conv2d", "one pixel", |d| d.conv2d([1, 1, 1, 1], [1, 1, 1], true, Padding::Valid)),
    ("conv_block", "same, LeakyReLU, 2x2", |d| {
        d.conv_block([2, 3, 6, 8], [5, 3, 3], Padding::Same, Activation::LeakyRelu, (2, 2))
    }),
    ("conv_block", "same, ReLU without bias, 1x5 with columns left over", |d| {
        d.conv_block([2, 1, 5, 13], [17, 4, 2], Padding::Same, Activation::Relu, (1, 5))
    }),
    ("conv_block", "same, tanh, 5x1 with rows left over", |d| {
        d.conv_block([3, 2, 12, 3], [4, 2, 5], Padding::Same, Activation::Tanh, (5, 1))
    }),
    ("conv_block", "valid, LeakyReLU, 3x2 with both left over", |d| {
        d.conv_block([2, 2, 10, 9], [3, 3, 3], Padding::Valid, Activation::LeakyRelu, (3, 2))
    }),
    // Not tanh: seventeen channels saturate it, and `1 - y^2` has no digits left.
    ("conv_block", "valid, LeakyReLU, 17 channels, the whole plane", |d| {
        d.conv_block([2, 17, 4, 6], [2, 2, 4], Padding::Valid, Activation::LeakyRelu, (3, 2))
    }),
    ("conv_block", "first layer, LeakyReLU, 1x20 with columns left over", |d| {
        d.first_block([2, 1, 6, 43], [3, 4, 5], Activation::LeakyRelu, (1, 20))
    }),
    ("conv_block", "first layer, ReLU without bias, 20x1, 17 channels", |d| {
        d.first_block([2, 2, 40, 5], [17, 5, 3], Activation::Relu, (20, 1))
    }),
    ("conv_block", "first layer, tanh, a window of 8, 1x8 kernel", |d| {
        d.first_block([3, 3, 8, 9], [4, 1, 8], Activation::Tanh, (4, 2))
    }),
    ("conv_block", "same, LeakyReLU, kernel larger than the input, no pool", |d| {
        d.conv_block([1, 2, 4, 3], [2, 10, 7], Padding::Same, Activation::LeakyRelu, (1, 1))
    }),
    ("max_pool2d", "2x2", |d| d.max_pool2d([2, 3, 6, 8], (2, 2))),
    ("max_pool2d", "1x5 with columns left over", |d| d.max_pool2d([2, 3, 4, 13], (1, 5))),
    ("max_pool2d", "5x1 with rows left over", |d| d.max_pool2d([1, 2, 12, 3], (5, 1))),
    ("max_pool2d", "3x2 with both left over", |d| d.max_pool2d([2, 2, 8, 7], (3, 2))),
    ("max_pool2d", "the whole plane", |d| d.max_pool2d([2, 2, 3, 4], (3, 4))),
    ("dense", "3 rows", |d| d.dense(3, 20, 7)),
    ("dense", "1 row, 1 output", |d| d.dense(1, 33, 1)),
    ("dense", "17 rows past a tile", |d| d.dense(17, 65, 17)),
    ("dense", "fused, 15 rows", |d| d.dense_update([15, 70, 9], false, true)),
    ("dense", "fused, without a gradient of its input", |d| d.dense_update([3, 20, 7], false, false)),
    ("dense", "fused, with a penalty", |d| d.dense_update([4, 67, 11], true, true)),
    ("dense", "fused, with a penalty, without a gradient of its input", |d| d.dense_update([17, 33, 5], true, false)),
    ("leaky_relu", "slope 0 (ReLU)", |d| {
        let x = d.param("input", [3, 67])?;
        ops::leaky_relu(&mut d.tape, x, 0.0)
    }),
    ("leaky_relu", "slope 0.3", |d| {
        let x = d.param("input", [3, 67])?;
        ops::leaky_relu(&mut d.tape, x, 0.3)
    }),
    ("tanh", "3 rows", |d| {
        let x = d.param("input", [3, 67])?;
        ops::tanh(&mut d.tape, x)
    }),
    ("dropout", "p 0.25", |d| {
        let x = d.param("input", [3, 67])?;
        ops::dropout(&mut d.tape, x, 0.25)
    }),
    ("dropout", "p 0.9", |d| {
        let x = d.param("input", [130])?;
        ops::dropout(&mut d.tape, x, 0.9)
    }),
    ("dropout", "in vector registers", |d| {
        d.fused = true;
        let x = d.param("input", [3, 67])?;
        ops::dropout(&mut d.tape, x, 0.25)
    }),
    ("concat", "5 and 66 columns", |d| {
        let (a, b) = (d.param("a", [3, 5])?, d.param("b", [3, 66])?);
        ops::concat(&mut d.tape, a, b)
    }),
    ("reshape", "flatten", |d| {
        let x = d.param("input", [2, 3, 4, 5])?;
        ops::flatten(&mut d.tape, x)
    }),
    ("add", "two values", |d| {
        let (a, b) = (d.param("a", [3, 43])?, d.param("b", [3, 43])?);
        ops::add(&mut d.tape, a, b)
    }),
    ("add", "a value with itself", |d| {
        let x = d.param("input", [129])?;
        let y = ops::tanh(&mut d.tape, x)?;
        ops::add(&mut d.tape, y, y)
    }),
    ("add", "fan-out into two consumers", |d| {
        let x = d.param("input", [2, 2, 4, 6])?;
        let (a, b) = (ops::tanh(&mut d.tape, x)?, ops::leaky_relu(&mut d.tape, x, 0.1)?);
        let (a, b) = (ops::flatten(&mut d.tape, a)?, ops::flatten(&mut d.tape, b)?);
        ops::concat(&mut d.tape, a, b)
    }),
    ("softmax_cross_entropy", "3 classes", |d| d.softmax_cross_entropy(3, &[2.0, 0.0, 1.0, 1.0])),
    ("softmax_cross_entropy", "masked rows", |d| d.softmax_cross_entropy(10, &[4.0, -1.0, 9.0, 0.0, -1.0])),
    ("softmax_cross_entropy", "all rows but one masked", |d| d.softmax_cross_entropy(2, &[-1.0, 1.0])),
    ("l1_penalty", "a matrix", |d| {
        let x = d.param("input", [7, 31])?;
        ops::l1_penalty(&mut d.tape, x, 0.01)
    }),
    ("fill", "a constant beside a parameter", |d| {
        let x = d.param("input", [5, 13])?;
        let constant = ops::fill(&mut d.tape, [5, 13].into(), 2.5)?;
        ops::add(&mut d.tape, x, constant)
    }),
    // Every case ends in these two; here they have little else beside them.
    ("adam", "past a workgroup", |d| d.param("parameter", [65])),
    ("adam", "in vector registers", |d| {
        d.fused = true;
        d.param("parameter", [65])
    }),
    ("adam", "fused with a penalty", |d| {
        d.fused = true;
        let x = d.param("parameter", [3, 65])?;
        let y = ops::tanh(&mut d.tape, x)?;
        d.penalised(y, x)
    }),
    ("accumulate", "from 40", |d| d.param("parameter", [2])),
];

/// The cases of the operations.
///
/// # Errors
/// Those of recording.
pub fn ops() -> Result<Vec<Case>> {
    OPS.iter()
        .map(|&(subject, name, record)| {
            let mut draft = Draft::new(&format!("{subject}: {name}"));
            let y = record(&mut draft)?;
            draft.finish(subject, name, y)
        })
        .collect()
}

/// Programs of random sizes at the edges of tiles, workgroups and vector registers.
///
/// # Errors
/// Those of recording.
pub fn random(seed: u64) -> Result<Vec<Case>> {
    const EDGES: [usize; 10] = [1, 7, 8, 9, 15, 16, 17, 63, 64, 65];
    let mut rng = rng::stream(seed, "shapes");
    // Sizes whose product stays small: those that are drawn late take what is left.
    let mut sizes = |most: usize, count: usize| {
        let mut left = most;
        let mut sizes: Vec<usize> = Vec::new();
        for _ in 0..count {
            let fitting = EDGES.iter().filter(|&&size| size <= left).count();
            sizes.push(EDGES[rng.random_range(0..fitting)]);
            left /= sizes[sizes.len() - 1];
        }
        sizes
    };
    let mut cases = Vec::new();
    let mut add = |subject: &str, name: String, record: &dyn Fn(&mut Draft) -> Result<Var>| -> Result<()> {
        let mut draft = Draft::new(&format!("{seed}: {subject}: {name}"));
        let y = record(&mut draft)?;
        cases.push(draft.finish(subject, &name, y)?);
        Ok(())
    };
    let (plane, channels, kernel) = (sizes(600, 2), sizes(130, 2), sizes(40, 2));
    let input = [1 + seed as usize % 2, channels[0], plane[0], plane[1]];
    add("conv2d", format!("same, {input:?}, {kernel:?} to {}", channels[1]), &|d| {
        d.conv2d(input, [channels[1], kernel[0], kernel[1]], seed.is_multiple_of(2), Padding::Same)
    })?;
    let valid = [input[0], input[1], plane[0] + kernel[0] - 1, plane[1] + kernel[1] - 1];
    add("conv2d", format!("valid, {valid:?}, {kernel:?} to {}", channels[1]), &|d| {
        d.conv2d(valid, [channels[1], kernel[0], kernel[1]], !seed.is_multiple_of(2), Padding::Valid)
    })?;
    let dense = sizes(5000, 3);
    add("dense", format!("{dense:?}"), &|d| d.dense(dense[0], dense[1], dense[2]))?;
    let (penalised, grad_input) = (seed.is_multiple_of(2), !seed.is_multiple_of(3));
    add("dense", format!("fused, {dense:?}, penalty {penalised}, grad_input {grad_input}"), &|d| {
        d.dense_update([dense[0], dense[1], dense[2]], penalised, grad_input)
    })?;
    let window = (kernel[0].min(input[2]), kernel[1].min(input[3]));
    add("max_pool2d", format!("{input:?} by {window:?}"), &|d| d.max_pool2d(input, window))?;
    // Sizes that the rule accepts: eight taps, and no gradient of the input behind a large window.
    let kernel = [channels[1], kernel[0], if kernel[0] * kernel[1] < 8 { 8 } else { kernel[1] }];
    add("conv_block", format!("same, {input:?}, {kernel:?}, by {window:?}"), &|d| {
        if window.0 * window.1 < 8 {
            d.conv_block(input, kernel, Padding::Same, Activation::LeakyRelu, window)
        } else {
            d.first_block(input, kernel, Activation::LeakyRelu, window)
        }
    })?;
    let rows = sizes(2000, 3);
    add("concat", format!("{rows:?}"), &|d| {
        let (a, b) = (d.param("a", [rows[0], rows[1]])?, d.param("b", [rows[0], rows[2]])?);
        let y = ops::concat(&mut d.tape, a, b)?;
        let y = ops::dropout(&mut d.tape, y, 0.5)?;
        ops::tanh(&mut d.tape, y)
    })?;
    let classes = rows[1].max(2);
    let labels: Vec<f32> = (0..rows[0]).map(|row| (row * 7 % (classes + 1)) as f32 - 1.0).collect();
    add("softmax_cross_entropy", format!("[{}, {classes}]", rows[0]), &|d| d.softmax_cross_entropy(classes, &labels))?;
    Ok(cases)
}

/// Classes of [`nets`].
const CLASSES: usize = 4;

/// Both nets under both presets on spectrograms of 40x40, three at a time, dropout on.
///
/// # Errors
/// Those of recording.
pub fn nets() -> Result<Vec<Case>> {
    // Seeds of the weights: under these no pooling window and no activation is so near a choice that rounding, which
    // differs from one processor to the next, could decide it.
    let nets = [
        (Architecture::Shallow, Preset::Report, "shallow, report", 11),
        (Architecture::Shallow, Preset::Paper, "shallow, paper", 7),
        (Architecture::Deep, Preset::Report, "deep, report", 12),
        (Architecture::Deep, Preset::Paper, "deep, paper", 5),
    ];
    nets.into_iter().map(|(model, preset, name, seed)| net(model, preset, name, seed)).collect()
}

fn net(model: Architecture, preset: Preset, subject: &str, seed: u64) -> Result<Case> {
    let config = Config::preset(preset, model);
    let program = TrainProgram::record(&config.net(CLASSES), [3, 40, 40], config.l1, config.adam())?;
    let TrainProgram { tape, spectrograms, labels, loss, .. } = program;
    let nodes = || tape.nodes().iter();
    let forward = 1 + nodes().position(|node| node.writes.contains(&loss)).unwrap_or(0);
    // Adam reads a gradient and updates its parameter.
    let grads = nodes().filter(|node| node.op.name() == "adam").map(|node| (node.writes[0], node.reads[0])).collect();
    let params = nn::initialise(&tape, seed)?;
    let mut draft = Draft::new(subject);
    let given = vec![(spectrograms, draft.random(tape.shape(spectrograms).len())), (labels, vec![1.0, 3.0, 0.0])];
    let (subject, name) = (subject.to_string(), "40x40, batch 3".to_string());
    Ok(Case {
        subject,
        name,
        tape,
        loss,
        forward,
        grads,
        given,
        params,
        learning_rate: config.learning_rate,
        net: true,
        adam: config.adam(),
        zeros: false,
    })
}
