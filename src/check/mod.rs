//! `gradcheck`: every operation and both nets, held to their equations in f64, to central differences, and the GPU to
//! the CPU.
//!
//! Three questions, each with its own answer:
//!
//! - *Does each kernel compute its equation?* [`values`] runs a case on a device, every output filled with NaN before,
//!   and compares every node with the naive f64 equation (or, for a GPU, the CPU kernel) *on what the device itself had
//!   computed so far*. Errors do not pile up, so the first node that differs is the one that is wrong.
//! - *Is the gradient the derivative of the loss?* [`gradients`] compares it with central differences of the f64 forward
//!   pass, which know nothing of the backward one.
//! - *Do both devices train alike?* [`steps`] takes ten Adam steps with dropout on each.
//!
//! Read [`cases`] for what is checked and [`compare`] for how errors are measured.

pub mod cases;
pub mod compare;

use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;

use crate::device::Device;
use crate::error::Result;
use crate::rng;
use crate::run::{Plan, reference};
use crate::tape::{Node, Source, Step, Value, Var};
use crate::tensor::{Params, Tensor};

use cases::Case;
use compare::{apart, difference, distance};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The operation or net.
    pub subject: String,
    /// What was compared with what.
    pub what: String,
    /// How many numbers were compared; a check that compared none has failed.
    pub compared: u64,
    /// The error that came closest to its tolerance, or the first beyond it; see [`compare`] for its scale.
    pub error: f64,
    /// The largest error allowed there.
    pub tolerance: f64,
    /// True if all were within their tolerances.
    pub passed: bool,
    /// Where `error` is.
    pub worst: Option<String>,
    /// The number at `worst`, if it is a single one, and its neighbours.
    pub detail: Option<Detail>,
}

/// One number of an array that was compared, and its neighbours.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Detail {
    /// The array.
    pub value: String,
    /// Its sizes.
    pub shape: Vec<usize>,
    /// Where the number is, one index per size: `[n, c, h, w]`.
    pub index: Vec<usize>,
    /// What was computed.
    pub got: f64,
    /// What is right.
    pub expected: f64,
    /// The numbers around it in the array's last two sizes, each as `[got, expected]`.
    pub neighbourhood: Vec<Vec<[f64; 2]>>,
    /// The index of the neighbourhood's first number.
    pub corner: Vec<usize>,
}

impl Detail {
    /// The number at `element` of an array of the sizes `shape`, with those up to two columns and one row away.
    fn new(value: &str, shape: &[usize], element: usize, numbers: impl Fn(usize) -> [f64; 2]) -> Self {
        let index = index_of(element, shape);
        let near = |axis: usize, reach: usize| match (index.get(axis), shape.get(axis)) {
            (Some(&at), Some(&size)) => at.saturating_sub(reach)..(at + reach + 1).min(size),
            _ => 0..1,
        };
        // A vector has one row, a single number one column as well.
        let width = shape.last().copied().unwrap_or(1);
        let row = if shape.len() > 1 { index[shape.len() - 2] } else { 0 };
        let rows = if shape.len() > 1 { near(shape.len() - 2, 1) } else { 0..1 };
        let columns = near(shape.len().wrapping_sub(1), 2);
        let first = element - row * width - index.last().copied().unwrap_or(0);
        let cells = |row: usize| columns.clone().map(|column| numbers(first + row * width + column)).collect();
        let mut corner = index.clone();
        if let [.., corner_row, corner_column] = corner.as_mut_slice() {
            (*corner_row, *corner_column) = (rows.start, columns.start);
        } else if let [corner_column] = corner.as_mut_slice() {
            *corner_column = columns.start;
        }
        let neighbourhood = rows.map(cells).collect();
        let [got, expected] = numbers(element);
        Detail { value: value.to_string(), shape: shape.to_vec(), index, got, expected, neighbourhood, corner }
    }
}

/// The indices of an element of a row-major array of the sizes `shape`.
fn index_of(element: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    let mut rest = element;
    for (index, &size) in index.iter_mut().zip(shape).rev() {
        (*index, rest) = (rest % size.max(1), rest / size.max(1));
    }
    index
}

/// The worst of many comparisons: the first that fails or, while none does, the one nearest to its tolerance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// Its error.
    pub error: f64,
    /// What was allowed.
    pub tolerance: f64,
    /// Where it is.
    pub at: Option<String>,
    /// The number there, if it is a single one.
    pub detail: Option<Detail>,
    /// How many numbers were compared.
    pub compared: u64,
}

/// A comparison that did not take place.
const NOTHING: f64 = f64::INFINITY;

impl Finding {
    /// True if something was compared and nothing failed.
    pub fn passed(&self) -> bool {
        self.compared > 0 && self.is_within()
    }

    fn is_within(&self) -> bool {
        self.error <= self.tolerance
    }

    /// Takes in the comparison of `compared` numbers.
    fn offer(&mut self, compared: usize, error: f64, tolerance: f64, at: impl FnOnce() -> (String, Option<Detail>)) {
        let worse = error * self.tolerance > self.error * tolerance || self.at.is_none();
        let compared = self.compared + compared as u64;
        if self.is_within() && (worse || error > tolerance) {
            let (at, detail) = at();
            *self = Finding { error, tolerance, at: Some(at), detail, compared };
        }
        self.compared = compared;
    }

    /// Fails: `why` says what was not compared.
    fn fail(&mut self, why: String) {
        self.offer(0, NOTHING, 0.0, || (why, None));
    }

    fn merge(&mut self, case: &Case, other: Finding) {
        let Finding { error, tolerance, at, detail, compared } = other;
        if compared == 0 && error <= tolerance {
            self.fail(format!("{}: nothing was compared", case.name));
        }
        let at = || (format!("{}: {}", case.name, at.unwrap_or_default()), detail);
        self.offer(usize::try_from(compared).unwrap_or(usize::MAX), error, tolerance, at);
    }
}

/// Runs every case on the CPU and, if there is one, on `gpu`. `progress` hears how many comparisons are done, of how
/// many, and whose is next.
///
/// # Errors
/// Those of the device; what does not agree is no error but a [`Check`] that has not passed.
pub fn run(gpu: Option<&Device>, progress: &mut dyn FnMut(usize, usize, &str)) -> Result<Vec<Check>> {
    run_cases(&all_cases()?, gpu, progress)
}

/// The cases of [`run`].
///
/// # Errors
/// Those of recording.
pub fn all_cases() -> Result<Vec<Case>> {
    Ok(cases::ops()?.into_iter().chain(cases::nets()?).collect())
}

/// As [`run`], with these cases.
///
/// # Errors
/// As [`run`].
pub fn run_cases(
    cases: &[Case],
    gpu: Option<&Device>,
    progress: &mut dyn FnMut(usize, usize, &str),
) -> Result<Vec<Check>> {
    let total = cases.iter().map(|case| questions(case, gpu).len()).sum();
    let mut done = 0;
    let mut checks: Vec<(&str, Question, Finding)> = Vec::new();
    for case in cases {
        for question in questions(case, gpu) {
            progress(done, total, &case.subject);
            let answer = question.ask(case, gpu)?;
            let known = checks.iter().position(|(subject, asked, _)| *subject == case.subject && *asked == question);
            let place = known.unwrap_or_else(|| {
                checks.push((&case.subject, question, Finding::default()));
                checks.len() - 1
            });
            checks[place].2.merge(case, answer);
            done += 1;
        }
    }
    let check = |(subject, question, finding): (&str, Question, Finding)| Check {
        subject: subject.to_string(),
        what: question.name().to_string(),
        compared: finding.compared,
        passed: finding.passed(),
        error: finding.error,
        tolerance: finding.tolerance,
        worst: finding.at,
        detail: finding.detail,
    };
    Ok(checks.into_iter().map(check).collect())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Question {
    Values,
    Gradients,
    GpuValues,
    GpuNets,
    GpuSteps,
}

/// What is asked of a case.
fn questions(case: &Case, gpu: Option<&Device>) -> Vec<Question> {
    let mut questions = vec![Question::Values, Question::Gradients];
    if gpu.is_some() {
        questions.push(Question::GpuValues);
        questions.push(Question::GpuNets);
        if case.net {
            questions.push(Question::GpuSteps);
        }
    }
    questions
}

impl Question {
    fn name(self) -> &'static str {
        match self {
            Question::Values => "values: CPU against f64",
            Question::Gradients => "gradient: CPU against f64 differences",
            Question::GpuValues => "values, gradients: GPU against CPU",
            Question::GpuNets => "values, gradients: two nets at once on the GPU against CPU",
            Question::GpuSteps => "10 Adam steps, dropout: GPU against CPU",
        }
    }

    fn ask(self, case: &Case, gpu: Option<&Device>) -> Result<Finding> {
        match (self, gpu) {
            (Question::GpuValues, Some(gpu)) => values(case, gpu, Truth::Cpu),
            (Question::GpuNets, Some(gpu)) => two_nets(case, gpu),
            (Question::GpuSteps, Some(gpu)) => steps(case, gpu, 10),
            (Question::Gradients, _) => gradients(case),
            _ => values(case, &Device::Cpu, Truth::Reference),
        }
    }
}

/// What a device's values are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The naive equation in f64.
    Reference,
    /// The CPU kernel.
    Cpu,
}

/// The step that a case is checked in: a net's first; an operation's moments are those of a later one.
fn step_of(case: &Case) -> Step {
    case.step(if case.net { 1 } else { 5 })
}

/// All values of a plan; nothing for those that fusion left out.
fn snapshot(plan: &mut Plan) -> Result<Vec<Vec<f32>>> {
    let vars = (0..plan.tape().values().len()).map(Var);
    vars.map(|var| if plan.tape().is_live(var) { plan.read(var) } else { Ok(Vec::new()) }).collect()
}

/// Runs one step of `case` on `device`, poisoned before, and compares every node with `truth` on the node's own inputs.
///
/// # Errors
/// Those of the device.
pub fn values(case: &Case, device: &Device, truth: Truth) -> Result<Finding> {
    let mut plan = case.plan(device)?;
    plan.poison()?;
    let before = snapshot(&mut plan)?;
    let step = step_of(case);
    plan.step(&[], &step)?;
    nodes(case, &mut plan, before, truth, &step)
}

/// Runs one step of two nets of `case` that differ in every number, at once on `gpu`, and compares every node of the
/// second with the CPU's: a kernel that takes one net for the other is found.
///
/// # Errors
/// Those of the device.
pub fn two_nets(case: &Case, gpu: &Device) -> Result<Finding> {
    let mut other = case.clone();
    other.params = Params::default();
    for (name, tensor) in case.params.iter() {
        other.params.push(name, Tensor::new(tensor.shape().clone(), rearranged(tensor.data()))?);
    }
    other.given.iter_mut().for_each(|(_, data)| *data = rearranged(data));
    let both = [case, &other];
    let mut plans = Plan::several(&case.tape, gpu, &both.map(|case| case.params.clone()))?;
    let mut before = Vec::new();
    for (plan, case) in plans.iter_mut().zip(both) {
        for (var, data) in &case.given {
            plan.write(*var, data)?;
        }
        plan.poison()?;
        before = snapshot(plan)?;
    }
    let first = step_of(case);
    let second = Step { step: first.step + 1, seed: !first.seed, learning_rate: 2.0 * first.learning_rate, ..first };
    for (plan, step) in plans.iter_mut().zip([first, second]) {
        plan.step(&[], &step)?;
    }
    nodes(&other, &mut plans[1], before, Truth::Cpu, &second)
}

/// The numbers in another order, and a single one a quarter larger: labels stay classes, second moments positive.
fn rearranged(data: &[f32]) -> Vec<f32> {
    match data {
        [one] => vec![one * 1.25],
        data => data.iter().rev().copied().collect(),
    }
}

/// Compares every node of a plan that has taken `step` with `truth`, on the node's own inputs; `now` are the values before
/// the step.
fn nodes(case: &Case, plan: &mut Plan, mut now: Vec<Vec<f32>>, truth: Truth, step: &Step) -> Result<Finding> {
    let mut finding = Finding::default();
    let mut zeros = true;
    for node in case.tape.nodes() {
        let computed = node.writes.iter().map(|&var| plan.read(var)).collect::<Result<Vec<_>>>()?;
        let expected = match truth {
            Truth::Reference => on_reference(node, &now, step),
            Truth::Cpu => on_cpu(node, &now, step),
        };
        // An operation's row is about its own nodes; those beside them only have to be right.
        let own = case.net || node.op.name().split('.').next() == Some(&case.subject);
        let tolerance = compare::tolerance(node.op.name());
        for (var, (got, expected)) in node.writes.iter().zip(computed.iter().zip(&expected)) {
            let found = difference(got, expected);
            if own || found.error > tolerance {
                let value = &case.tape.values()[var.index()];
                let numbers = |i: usize| [f64::from(got[i]), expected[i]];
                finding.offer(if own { got.len() } else { 0 }, found.error, tolerance, || {
                    let detail = Detail::new(&value.name, value.shape.dims(), found.element, numbers);
                    (format!("{}{:?} of {}", value.name, detail.index, node.op.name()), Some(detail))
                });
            }
            zeros &= !own || got.iter().all(|&x| x == 0.0) && expected.iter().all(|&x| x == 0.0);
        }
        for (var, values) in node.writes.iter().zip(computed) {
            now[var.index()] = values;
        }
    }
    if zeros && finding.compared > 0 && !case.zeros {
        finding.fail(format!("every value of {} is 0 on both sides", case.subject));
    }
    Ok(finding)
}

/// What the node's equation makes of the values `now`.
fn on_reference(node: &Node, now: &[Vec<f32>], step: &Step) -> Vec<Vec<f64>> {
    let wide = |var: &Var| -> Vec<f64> { now[var.index()].iter().map(|&x| f64::from(x)).collect() };
    let (read, mut outputs): (Vec<_>, Vec<_>) =
        (node.reads.iter().map(wide).collect(), node.writes.iter().map(wide).collect());
    let read: Vec<&[f64]> = read.iter().map(Vec::as_slice).collect();
    node.op.reference(&read, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(), step);
    outputs
}

/// What the node's CPU kernel makes of the values `now`.
fn on_cpu(node: &Node, now: &[Vec<f32>], step: &Step) -> Vec<Vec<f64>> {
    let read: Vec<&[f32]> = node.reads.iter().map(|var| now[var.index()].as_slice()).collect();
    let mut outputs: Vec<Vec<f32>> = node.writes.iter().map(|var| now[var.index()].clone()).collect();
    node.op.cpu(&read, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(), step);
    outputs.into_iter().map(|output| output.into_iter().map(f64::from).collect()).collect()
}

/// A parameter moves by this much either way. Small, so that few pooling windows and activations change sides; in f64
/// that leaves some eight digits.
const MOVE: f64 = 1e-6;

/// A parameter of an operation is probed element by element if that takes fewer operations than this.
const ELEMENTWISE: u64 = 400_000_000;

/// Compares the CPU's gradient of every parameter with central differences of the forward pass in f64.
///
/// Operations: element by element. Nets and large programs: along the gradient itself (which must give its length),
/// along random directions, and along some single coordinates. A gradient that fusion keeps from memory is derived from
/// Adam's first moment.
///
/// # Errors
/// Those of the CPU's plan.
pub fn gradients(case: &Case) -> Result<Finding> {
    let mut plan = case.plan(&Device::Cpu)?;
    let moments: Vec<(Var, Var)> = case.tape.vars(Source::Param).filter_map(|p| Some((p, moment(case, p)?))).collect();
    for &(_, moment) in &moments {
        plan.write(moment, &vec![0.0; case.tape.shape(moment).len()])?;
    }
    plan.step(&[], &step_of(case))?;
    let forward = Forward::new(case);
    let mut finding = Finding::default();
    let mut worst = None;
    let tolerance = if case.net { compare::GRADIENT_OF_NET } else { compare::GRADIENT_OF_OP };
    for param in case.tape.vars(Source::Param) {
        let Value { name, shape, .. } = &case.tape.values()[param.index()];
        let live = case.grads.iter().find(|(of, grad)| *of == param && case.tape.is_live(*grad));
        let moment = moments.iter().find(|(of, _)| *of == param);
        let grad: Vec<f64> = match (live, moment) {
            (Some(&(_, grad)), _) => plan.read(grad)?.into_iter().map(f64::from).collect(),
            // m = beta1 0 + (1 - beta1) grad
            (None, Some(&(_, m))) => {
                plan.read(m)?.into_iter().map(|m| f64::from(m) / (1.0 - case.adam.beta1)).collect()
            }
            (None, None) => {
                finding.fail(format!("gradient of {name}: there is none"));
                continue;
            }
        };
        let scale = (grad.iter().map(|g| g * g).sum::<f64>() / grad.len() as f64).sqrt();
        let probes = probes(case, name, &grad);
        let dependents = forward.dependents(param);
        let slopes: Vec<f64> = probes.par_iter().map(|probe| forward.slope(param, &dependents, probe)).collect();
        for (probe, &slope) in probes.iter().zip(&slopes) {
            let product = probe.dot(&grad);
            finding.offer(1, apart(product, slope, scale), tolerance, || {
                worst = probe.element().map(|element| (param, element, grad.clone()));
                (format!("gradient of {name}, {}: {product:e}, slope {slope:e}", probe.name(shape.dims())), None)
            });
        }
        if grad.iter().chain(&slopes).all(|&x| x == 0.0) && !case.zeros {
            finding.fail(format!("gradient of {name}: 0 on both sides"));
        }
    }
    if let (Some((param, element, grad)), Some(at)) = (worst, &finding.at) {
        let Value { name, shape, .. } = &case.tape.values()[param.index()];
        let value = format!("gradient of {name}");
        if at.starts_with(&format!("{value}, [")) {
            let dependents = forward.dependents(param);
            let numbers = |i: usize| [grad[i], forward.slope(param, &dependents, &Probe::Element(i))];
            finding.detail = Some(Detail::new(&value, shape.dims(), element, numbers));
        }
    }
    Ok(finding)
}

/// Adam's first moment of a parameter.
fn moment(case: &Case, param: Var) -> Option<Var> {
    let name = format!("{}.m", case.tape.values()[param.index()].name);
    case.tape.vars(Source::State).find(|var| case.tape.values()[var.index()].name == name)
}

/// A direction in which one parameter moves, of length 1.
enum Probe {
    Element(usize),
    Direction(&'static str, Vec<f64>),
}

fn probes(case: &Case, name: &str, grad: &[f64]) -> Vec<Probe> {
    if !case.net && grad.len() as u64 * case.tape.flops() <= ELEMENTWISE {
        return (0..grad.len()).map(Probe::Element).collect();
    }
    let mut rng = rng::stream(1, &format!("probes/{}/{}/{name}", case.subject, case.name));
    let elements = if case.net { 1 } else { 12 };
    let mut probes: Vec<Probe> = (0..elements).map(|_| Probe::Element(rng.random_range(0..grad.len()))).collect();
    let random = (0..grad.len()).map(|_| if rng.random::<bool>() { 1.0 } else { -1.0 }).collect();
    for (name, mut direction) in [("along itself", grad.to_vec()), ("along random signs", random)] {
        let length = direction.iter().map(|x: &f64| x * x).sum::<f64>().sqrt();
        if length > 0.0 {
            direction.iter_mut().for_each(|x| *x /= length);
            probes.push(Probe::Direction(name, direction));
        }
    }
    probes
}

impl Probe {
    /// The element, if it is a single one.
    fn element(&self) -> Option<usize> {
        match self {
            Probe::Element(element) => Some(*element),
            Probe::Direction(..) => None,
        }
    }

    /// Where it is in a parameter of the sizes `shape`.
    fn name(&self, shape: &[usize]) -> String {
        match self {
            Probe::Element(element) => format!("{:?}", index_of(*element, shape)),
            Probe::Direction(name, _) => name.to_string(),
        }
    }

    fn dot(&self, grad: &[f64]) -> f64 {
        match self {
            Probe::Element(element) => grad[*element],
            Probe::Direction(_, direction) => direction.iter().zip(grad).map(|(d, g)| d * g).sum(),
        }
    }

    fn moved(&self, from: &[f64], by: f64) -> Vec<f64> {
        let mut to = from.to_vec();
        match self {
            Probe::Element(element) => to[*element] += by,
            Probe::Direction(_, direction) => to.iter_mut().zip(direction).for_each(|(x, d)| *x += by * d),
        }
        to
    }
}

/// The forward pass in f64, to be repeated with one parameter moved.
struct Forward<'c> {
    case: &'c Case,
    step: Step,
    values: Vec<Vec<f64>>,
}

impl<'c> Forward<'c> {
    fn new(case: &'c Case) -> Self {
        let mut given: Vec<(Var, &[f32])> = case.given.iter().map(|(var, data)| (*var, data.as_slice())).collect();
        let params = case.tape.vars(Source::Param);
        given.extend(params.zip(case.params.iter()).map(|(var, (_, tensor))| (var, tensor.data())));
        let (mut values, step) = (reference::values(&case.tape, &given), step_of(case));
        reference::run(&case.tape, &mut values, case.forward, &step);
        Forward { case, step, values }
    }

    /// The forward nodes whose values change with `param`.
    fn dependents(&self, param: Var) -> Vec<&Node> {
        let mut changed = vec![false; self.values.len()];
        changed[param.index()] = true;
        let mut nodes = Vec::new();
        for node in &self.case.tape.nodes()[..self.case.forward] {
            if node.reads.iter().any(|var| changed[var.index()]) {
                node.writes.iter().for_each(|var| changed[var.index()] = true);
                nodes.push(node);
            }
        }
        nodes
    }

    /// The loss with `param` at `moved`; only `nodes` are computed anew.
    fn loss(&self, param: Var, nodes: &[&Node], moved: Vec<f64>) -> f64 {
        let mut anew: Vec<Option<Vec<f64>>> = vec![None; self.values.len()];
        anew[param.index()] = Some(moved);
        for node in nodes {
            let mut outputs: Vec<Vec<f64>> =
                node.writes.iter().map(|var| vec![0.0; self.values[var.index()].len()]).collect();
            let value = |var: &Var| anew[var.index()].as_deref().unwrap_or(&self.values[var.index()]);
            let read: Vec<&[f64]> = node.reads.iter().map(value).collect();
            node.op.reference(&read, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(), &self.step);
            for (var, output) in node.writes.iter().zip(outputs) {
                anew[var.index()] = Some(output);
            }
        }
        anew[self.case.loss.index()].as_ref().unwrap_or(&self.values[self.case.loss.index()])[0]
    }

    fn slope(&self, param: Var, nodes: &[&Node], probe: &Probe) -> f64 {
        let from = &self.values[param.index()];
        let side = |by| self.loss(param, nodes, probe.moved(from, by));
        (side(MOVE) - side(-MOVE)) / (2.0 * MOVE)
    }
}

/// Takes `count` training steps from the same weights on the CPU and on `gpu`, and compares the loss of every step and
/// in the end the weights, relative to how far they have moved. If those differ, the first value that did is named.
///
/// Not every value is held to a tolerance here: a pooling window that is a near tie may have two winners.
///
/// # Errors
/// Those of the device.
pub fn steps(case: &Case, gpu: &Device, count: u32) -> Result<Finding> {
    let (mut cpu, mut gpu) = (case.plan(&Device::Cpu)?, case.plan(gpu)?);
    let mut finding = Finding::default();
    let mut first = None;
    for number in 1..=count {
        cpu.step(&[], &case.step(number))?;
        gpu.step(&[], &case.step(number))?;
        let losses = [gpu.read(case.loss)?[0], cpu.read(case.loss)?[0]].map(f64::from);
        finding.offer(1, apart(losses[0], losses[1], 0.0), compare::LOSS_OF_STEPS, || {
            let [gpu, cpu] = losses;
            (format!("loss of step {number}: {gpu:e} on the GPU, {cpu:e} on the CPU"), None)
        });
        if first.is_none() {
            let differs = |_: &Value, cpu: &[f32], gpu: &[f32]| distance(gpu, cpu) > compare::VALUE_OF_STEPS;
            let found = cpu.compare(&mut gpu, differs)?;
            first = found.map(|var| format!("{} in step {number}", case.tape.values()[var.index()].name));
        }
    }
    let (cpu, gpu) = (cpu.params()?, gpu.params()?);
    for (((name, start), (_, cpu)), (_, gpu)) in case.params.iter().zip(cpu.iter()).zip(gpu.iter()) {
        let way = |to: &Tensor| -> Vec<f64> {
            to.data().iter().zip(start.data()).map(|(&to, &from)| f64::from(to) - f64::from(from)).collect()
        };
        let (gpu, cpu) = (way(gpu), way(cpu));
        finding.offer(cpu.len(), distance(&gpu, &cpu), compare::WAY_OF_STEPS, || {
            let value = format!("way of {name} in {count} steps");
            let element = difference(&gpu, &cpu).element;
            let detail = Detail::new(&value, start.shape().dims(), element, |i| [gpu[i], cpu[i]]);
            (value, Some(detail))
        });
        if gpu.iter().chain(&cpu).all(|&x| x == 0.0) && !case.zeros {
            finding.fail(format!("way of {name} in {count} steps: 0 on both devices"));
        }
    }
    if let (false, Some(at), Some(first)) = (finding.is_within(), &mut finding.at, first) {
        *at = format!("{at}; first value to differ: {first}");
    }
    Ok(finding)
}
