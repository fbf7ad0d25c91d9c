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
use crate::tensor::Tensor;

use cases::Case;
use compare::{apart, difference, distance};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The operation or net.
    pub subject: String,
    /// What was compared with what.
    pub what: String,
    /// The error that came closest to its tolerance, or the first beyond it; see [`compare`] for its scale.
    pub error: f64,
    /// The largest error allowed there.
    pub tolerance: f64,
    /// True if all were within their tolerances.
    pub passed: bool,
    /// Where `error` is, if it is not 0.
    pub worst: Option<String>,
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
}

impl Finding {
    /// True while nothing failed.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }

    fn offer(&mut self, error: f64, tolerance: f64, at: impl FnOnce() -> String) {
        let worse = error * self.tolerance > self.error * tolerance || (error > 0.0 && self.at.is_none());
        if self.passed() && (worse || error > tolerance) {
            *self = Finding { error, tolerance, at: Some(at()) };
        } else if self.at.is_none() {
            self.tolerance = self.tolerance.max(tolerance);
        }
    }

    fn merge(&mut self, case: &Case, other: Finding) {
        let at = other.at.unwrap_or_default();
        self.offer(other.error, other.tolerance, || format!("{}: {at}", case.name));
    }
}

/// Runs every case on the CPU and, if there is one, on `gpu`. `progress` hears how many comparisons are done, of how
/// many, and whose is next.
///
/// # Errors
/// Those of the device; what does not agree is no error but a [`Check`] that has not passed.
pub fn run(gpu: Option<&Device>, progress: &mut dyn FnMut(usize, usize, &str)) -> Result<Vec<Check>> {
    let cases: Vec<Case> = cases::ops()?.into_iter().chain(cases::nets()?).collect();
    let total = cases.iter().map(|case| questions(case, gpu).len()).sum();
    let mut done = 0;
    let mut checks: Vec<(&str, Question, Finding)> = Vec::new();
    for case in &cases {
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
        passed: finding.passed(),
        error: finding.error,
        tolerance: finding.tolerance,
        worst: finding.at,
    };
    Ok(checks.into_iter().map(check).collect())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Question {
    Values,
    Gradients,
    GpuValues,
    GpuSteps,
}

/// What is asked of a case.
fn questions(case: &Case, gpu: Option<&Device>) -> Vec<Question> {
    let mut questions = vec![Question::Values, Question::Gradients];
    if gpu.is_some() {
        questions.push(Question::GpuValues);
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
            Question::GpuSteps => "10 Adam steps, dropout: GPU against CPU",
        }
    }

    fn ask(self, case: &Case, gpu: Option<&Device>) -> Result<Finding> {
        match (self, gpu) {
            (Question::GpuValues, Some(gpu)) => values(case, gpu, Truth::Cpu),
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
    let mut now = snapshot(&mut plan)?;
    let step = step_of(case);
    plan.step(&[], &step)?;
    let mut finding = Finding::default();
    for node in case.tape.nodes() {
        let computed = node.writes.iter().map(|&var| plan.read(var)).collect::<Result<Vec<_>>>()?;
        let tolerance = compare::tolerance(node.op.name());
        let differences = match truth {
            Truth::Reference => on_reference(node, &now, &computed, &step),
            Truth::Cpu => on_cpu(node, &now, &computed, &step),
        };
        for (var, found) in node.writes.iter().zip(differences) {
            // An operation's row is about its own nodes; those beside them only have to be right.
            let own = case.net || node.op.name().split('.').next() == Some(&case.subject);
            if own || found.error > tolerance {
                let name = &case.tape.values()[var.index()].name;
                finding.offer(found.error, tolerance, || format!("{name}[{}] of {}", found.element, node.op.name()));
            }
        }
        for (var, values) in node.writes.iter().zip(computed) {
            now[var.index()] = values;
        }
    }
    Ok(finding)
}

fn on_reference(node: &Node, now: &[Vec<f32>], computed: &[Vec<f32>], step: &Step) -> Vec<compare::Difference> {
    let wide = |var: &Var| -> Vec<f64> { now[var.index()].iter().map(|&x| f64::from(x)).collect() };
    let (read, mut outputs): (Vec<_>, Vec<_>) =
        (node.reads.iter().map(wide).collect(), node.writes.iter().map(wide).collect());
    let read: Vec<&[f64]> = read.iter().map(Vec::as_slice).collect();
    node.op.reference(&read, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(), step);
    computed.iter().zip(&outputs).map(|(a, b)| difference(a, b)).collect()
}

fn on_cpu(node: &Node, now: &[Vec<f32>], computed: &[Vec<f32>], step: &Step) -> Vec<compare::Difference> {
    let read: Vec<&[f32]> = node.reads.iter().map(|var| now[var.index()].as_slice()).collect();
    let mut outputs: Vec<Vec<f32>> = node.writes.iter().map(|var| now[var.index()].clone()).collect();
    node.op.cpu(&read, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(), step);
    computed.iter().zip(&outputs).map(|(a, b)| difference(a, b)).collect()
}

/// A parameter moves by this much either way. Small, so that few pooling windows and activations change sides; in f64
/// that leaves some eight digits.
const MOVE: f64 = 1e-6;

/// A parameter of an operation is probed element by element if that takes fewer operations than this.
const ELEMENTWISE: u64 = 400_000_000;

/// Compares the CPU's gradient of every parameter with central differences of the forward pass in f64.
///
/// Operations: element by element. Nets and large programs: along the gradient itself (which must give its length),
/// along random directions, and along some single coordinates.
///
/// # Errors
/// Those of the CPU's plan.
pub fn gradients(case: &Case) -> Result<Finding> {
    let mut plan = case.plan(&Device::Cpu)?;
    plan.step(&[], &step_of(case))?;
    let forward = Forward::new(case);
    let mut finding = Finding::default();
    for &(param, grad) in &case.grads {
        let grad: Vec<f64> = plan.read(grad)?.into_iter().map(f64::from).collect();
        let name = &case.tape.values()[param.index()].name;
        let scale = (grad.iter().map(|g| g * g).sum::<f64>() / grad.len() as f64).sqrt();
        let probes = probes(case, name, &grad);
        let nodes = forward.dependents(param);
        let slopes: Vec<f64> = probes.par_iter().map(|probe| forward.slope(param, &nodes, probe)).collect();
        let tolerance = if case.net { compare::GRADIENT_OF_NET } else { compare::GRADIENT_OF_OP };
        for (probe, slope) in probes.iter().zip(slopes) {
            let product = probe.dot(&grad);
            let error = apart(product, slope, scale);
            finding.offer(error, tolerance, || {
                format!("gradient of {name}, {}: {product:e}, slope {slope:e}", probe.name())
            });
        }
    }
    Ok(finding)
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
    fn name(&self) -> String {
        match self {
            Probe::Element(element) => format!("element {element}"),
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
        finding.offer(apart(losses[0], losses[1], 0.0), compare::LOSS_OF_STEPS, || format!("loss of step {number}"));
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
        let error = distance(&way(gpu), &way(cpu));
        finding.offer(error, compare::WAY_OF_STEPS, || format!("way of {name} in {count} steps"));
    }
    if let (false, Some(at), Some(first)) = (finding.passed(), &mut finding.at, first) {
        *at = format!("{at}; first value to differ: {first}");
    }
    Ok(finding)
}
