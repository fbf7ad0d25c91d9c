//! Every operation, held to its equation in f64, to central differences and to the other device; and proof that what is
//! wrong is found.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use genregrad::check::cases::{self, Case, Draft};
use genregrad::check::{self, Finding, Truth};
use genregrad::device::Device;
use genregrad::dispatch::Dispatch;
use genregrad::error::Result;
use genregrad::ops;
use genregrad::run::Plan;
use genregrad::tape::{Gradient, Op, Source, Step, Tape};
use genregrad::tensor::{Params, Shape, Tensor};

/// Fails naming every case that did not pass.
fn all_pass(cases: &[Case], ask: impl Fn(&Case) -> Result<Finding>) {
    let mut failed = Vec::new();
    for case in cases {
        let finding = ask(case).unwrap();
        if !finding.passed() {
            failed.push(format!("{}: {}: {finding:?}", case.subject, case.name));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases fail:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn random_shapes(seeds: std::ops::Range<u64>) -> Vec<Case> {
    seeds.flat_map(|seed| cases::random(seed).unwrap()).collect()
}

#[test]
fn every_operation_has_a_case() {
    // The names that the sources give: the literals that `fn name` returns.
    let mut names = BTreeSet::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let [ops, fast] = ["ops", "fast"].map(|folder| walkdir::WalkDir::new(source.join(folder)));
    for entry in ops.into_iter().chain(fast) {
        let entry = entry.unwrap();
        if !entry.file_type().is_file() {
            continue;
        }
        let source = std::fs::read_to_string(entry.path()).unwrap();
        for body in source.split("fn name(&self) -> &'static str {").skip(1) {
            let body = body.split("\n    }").next().unwrap();
            names.extend(body.split('"').skip(1).step_by(2).map(ToString::to_string));
        }
    }
    assert!(names.len() > 20 && ["conv2d.grad_weight", "adam.penalised"].iter().all(|name| names.contains(*name)));
    let cases = cases::ops().unwrap();
    let covered: BTreeSet<_> =
        cases.iter().flat_map(|case| case.tape.nodes()).map(|node| node.op.name().to_string()).collect();
    let missing: Vec<_> = names.difference(&covered).collect();
    assert!(missing.is_empty(), "no case in check::cases has {missing:?}");
    // And a row of its own for each, gradients aside.
    let subjects: BTreeSet<_> = cases.iter().map(|case| case.subject.clone()).collect();
    let operations: BTreeSet<_> = names.into_iter().filter(|name| !name.contains('.')).collect();
    assert_eq!(subjects, operations);
}

#[test]
fn cpu_kernels_compute_their_equations() {
    all_pass(&cases::ops().unwrap(), |case| check::values(case, &Device::Cpu, Truth::Reference));
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    all_pass(&cases::ops().unwrap(), check::gradients);
}

#[test]
fn random_shapes_pass_on_the_cpu() {
    let cases = random_shapes(0..6);
    all_pass(&cases, |case| check::values(case, &Device::Cpu, Truth::Reference));
    all_pass(&cases, check::gradients);
}

#[test]
fn gpu_kernels_compute_what_the_cpus_do() {
    let Some(gpu) = common::gpu().map(Device::Gpu) else { return };
    all_pass(&cases::ops().unwrap(), |case| check::values(case, &gpu, Truth::Cpu));
}

#[test]
fn random_shapes_pass_on_the_gpu() {
    let Some(gpu) = common::gpu().map(Device::Gpu) else { return };
    all_pass(&random_shapes(0..3), |case| check::values(case, &gpu, Truth::Reference));
}

/// What a case is given for net `net`: the numbers of a value in another order, single ones larger.
fn for_net(data: &[f32], net: usize) -> Vec<f32> {
    match data {
        [one] => vec![one + net as f32 / 4.0],
        data => {
            let mut data = data.to_vec();
            let by = 7 * net % data.len();
            data.rotate_left(by);
            data
        }
    }
}

/// Three nets of every program, each with its own values and steps, next to each other and one by one.
#[test]
fn nets_side_by_side_compute_what_each_computes_alone() {
    let Some(gpu) = common::gpu().map(Device::Gpu) else { return };
    for case in cases::ops().unwrap() {
        let params = |net| {
            let mut params = Params::default();
            for (name, tensor) in case.params.iter() {
                params
                    .push(name.to_string(), Tensor::new(tensor.shape().clone(), for_net(tensor.data(), net)).unwrap());
            }
            params
        };
        let params: Vec<Params> = (0..3).map(params).collect();
        let values = |plans: &mut [Plan], first: usize| -> Vec<Vec<Vec<u32>>> {
            for (net, plan) in (first..).zip(plans.iter_mut()) {
                case.given.iter().for_each(|(var, data)| plan.write(*var, &for_net(data, net)).unwrap());
            }
            for number in 1..=2 {
                for (net, plan) in (first as u32..).zip(plans.iter_mut()) {
                    let step = case.step(number + 3 * net);
                    plan.step(&[], &Step { seed: step.seed + net, ..step }).unwrap();
                }
            }
            let read = |plan: &mut Plan| {
                let vars: Vec<_> = plan.tape().nodes().iter().flat_map(|node| node.writes.clone()).collect();
                vars.into_iter().map(|var| plan.read(var).unwrap().iter().map(|x| x.to_bits()).collect()).collect()
            };
            plans.iter_mut().map(read).collect()
        };
        let together = values(&mut Plan::several(&case.tape, &gpu, &params).unwrap(), 0);
        for (net, together) in together.iter().enumerate() {
            let mut alone = [Plan::new(&case.tape, &gpu, &params[net]).unwrap()];
            assert!(*together == values(&mut alone, net)[0], "{}: {}, net {net}", case.subject, case.name);
        }
        assert!(together[0] != together[1], "{}: {}: nets that do the same show nothing", case.subject, case.name);
    }
}

/// The values of all parameters and states after three steps.
fn trained(case: &Case, device: &Device) -> Vec<Vec<u32>> {
    let mut plan = case.plan(device).unwrap();
    for number in 1..=3 {
        plan.step(&[], &case.step(number)).unwrap();
    }
    let vars: Vec<_> = case.tape.vars(Source::Param).chain(case.tape.vars(Source::State)).collect();
    vars.into_iter().map(|var| plan.read(var).unwrap().iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn a_repeated_run_is_bit_identical() {
    for device in [Some(Device::Cpu), common::gpu().map(Device::Gpu)].into_iter().flatten() {
        for case in cases::ops().unwrap() {
            assert_eq!(trained(&case, &device), trained(&case, &device), "{}: {}", case.subject, case.name);
        }
    }
}

#[test]
fn dropout_masks_are_bit_identical_on_both_devices() {
    let Some(gpu) = common::gpu().map(Device::Gpu) else { return };
    let mut tape = Tape::new();
    let x = tape.input("x", [3, 50_021]);
    let outputs = [0.1, 0.25, 0.5].map(|p| ops::dropout(&mut tape, x, p).unwrap());
    let mut plans = [Device::Cpu, gpu].map(|device| Plan::new(&tape, &device, &Params::default()).unwrap());
    let data: Vec<f32> = (0..150_063).map(|i| 1.0 + (i % 97) as f32 / 7.0).collect();
    for (number, seed) in [(1, 0), (2, 1), (70_000, u32::MAX)] {
        let step = Step::new(number, seed, 0.0);
        let [cpu, gpu] = plans.each_mut().map(|plan| {
            plan.step(&[(x, &data)], &step).unwrap();
            outputs.map(|y| plan.read(y).unwrap().iter().map(|y| y.to_bits()).collect::<Vec<_>>())
        });
        assert!(cpu == gpu, "step {number}, seed {seed}");
        assert!(cpu[1].contains(&0) && cpu[1].iter().any(|&y| y != 0));
    }
}

/// What is wrong with a [`Square`].
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    Nothing,
    /// The gradient is 1 % too large.
    Gradient,
    /// One element is 0.1 % too large.
    Value,
    /// The last element is not written.
    Unwritten,
}

/// `y = x^2`, with a flaw.
#[derive(Debug)]
struct Square(Shape, Flaw);

impl Op for Square {
    fn name(&self) -> &'static str {
        "square"
    }

    fn output_shapes(&self, _: &[&Shape]) -> Result<Vec<Shape>> {
        Ok(vec![self.0.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0].iter_mut().zip(read[0]).for_each(|(y, x)| *y = x * x);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let written = if self.1 == Flaw::Unwritten { read[0].len() - 1 } else { read[0].len() };
        write[0].iter_mut().zip(read[0]).take(written).for_each(|(y, x)| *y = x * x);
        if self.1 == Flaw::Value {
            write[0][3] *= 1.001;
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        unreachable!("runs on the CPU only")
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        let factor = if self.1 == Flaw::Gradient { 2.02 } else { 2.0 };
        g.give(0, SquareGradInput(self.0.clone(), factor), &[g.input(0), g.grad_output()])
    }
}

/// `dx = factor x dy`.
#[derive(Debug)]
struct SquareGradInput(Shape, f32);

impl Op for SquareGradInput {
    fn name(&self) -> &'static str {
        "square.grad_input"
    }

    fn output_shapes(&self, _: &[&Shape]) -> Result<Vec<Shape>> {
        Ok(vec![self.0.clone()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        write[0].iter_mut().zip(read[0].iter().zip(read[1])).for_each(|(dx, (x, dy))| *dx = f64::from(self.1) * x * dy);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        write[0].iter_mut().zip(read[0].iter().zip(read[1])).for_each(|(dx, (x, dy))| *dx = self.1 * x * dy);
    }

    fn gpu(&self) -> Vec<Dispatch> {
        unreachable!("runs on the CPU only")
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        unreachable!("gradients are taken once")
    }
}

fn square(len: usize, flaw: Flaw) -> Case {
    let mut draft = Draft::new("square");
    let x = draft.param("x", [len]).unwrap();
    let y = draft.tape.one(Square([len].into(), flaw), &[x]).unwrap();
    draft.finish("square", "planted", y).unwrap()
}

#[test]
fn a_planted_flaw_is_found_and_named() {
    // 50 elements are probed one by one, 40,000 along directions too.
    for len in [50, 40_000] {
        let values = |flaw| check::values(&square(len, flaw), &Device::Cpu, Truth::Reference).unwrap();
        let gradients = |flaw| check::gradients(&square(len, flaw)).unwrap();
        assert!(values(Flaw::Nothing).passed() && gradients(Flaw::Nothing).passed());

        // A wrong gradient is a right kernel for the wrong equation: only the slopes know.
        assert!(values(Flaw::Gradient).passed());
        let found = gradients(Flaw::Gradient);
        assert!(!found.passed() && found.error > 50.0 * found.tolerance, "{found:?}");
        assert!(found.at.unwrap().starts_with("gradient of x, "));

        let found = values(Flaw::Value);
        assert!(!found.passed() && found.error < 1e-3, "{found:?}");
        assert_eq!(found.at.unwrap(), "square#0[3] of square");

        let found = values(Flaw::Unwritten);
        assert_eq!((found.passed(), found.error), (false, f64::INFINITY));
        assert_eq!(found.at.unwrap(), format!("square#0[{}] of square", len - 1));
    }
}

/// An operation whose GPU kernel is given another constant, or too few workgroups.
#[derive(Debug)]
struct Misdispatched(Arc<dyn Op>, fn(&mut Dispatch));

impl Op for Misdispatched {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        self.0.output_shapes(inputs)
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        self.0.reference(read, write, step);
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], step: &Step) {
        self.0.cpu(read, write, step);
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let mut dispatches = self.0.gpu();
        self.1(&mut dispatches[0]);
        dispatches
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        self.0.backward(g)
    }
}

#[test]
fn a_planted_flaw_of_a_gpu_kernel_is_found_and_named() {
    let Some(gpu) = common::gpu().map(Device::Gpu) else { return };
    let case = |flaw: fn(&mut Dispatch)| {
        let mut draft = Draft::new("misdispatched");
        let x = draft.param("x", [1000]).unwrap();
        let mut other = Tape::new();
        let like = other.input("x", [1000]);
        ops::leaky_relu(&mut other, like, 0.3).unwrap();
        let y = draft.tape.one(Misdispatched(other.nodes()[0].op.clone(), flaw), &[x]).unwrap();
        draft.finish("leaky_relu", "planted", y).unwrap()
    };
    let found = |flaw| check::values(&case(flaw), &gpu, Truth::Cpu).unwrap();
    assert!(found(|_| {}).passed());
    let slope = found(|dispatch| dispatch.constants[1].1 *= 1.0001);
    assert!(!slope.passed() && slope.at.clone().unwrap().starts_with("leaky_relu#0["), "{slope:?}");
    let steps = check::steps(&case(|dispatch| dispatch.constants[1].1 *= 1.5), &gpu, 3).unwrap();
    assert!(!steps.passed() && steps.at.clone().unwrap().ends_with("differ: leaky_relu#0 in step 1"), "{steps:?}");
    let groups = found(|dispatch| dispatch.groups[0] -= 1);
    assert_eq!((groups.passed(), groups.error), (false, f64::INFINITY));
    assert_eq!(groups.at.unwrap(), "leaky_relu#0[960] of leaky_relu");
}

#[test]
fn plans_that_differ_name_the_first_node() {
    let mut tape = Tape::new();
    let x = tape.input("x", [100]);
    let a = ops::tanh(&mut tape, x).unwrap();
    let b = ops::dropout(&mut tape, a, 0.5).unwrap();
    ops::add(&mut tape, a, b).unwrap();
    let plan = |seed| {
        let mut plan = Plan::new(&tape, &Device::Cpu, &Params::default()).unwrap();
        plan.step(&[(x, &[0.5; 100])], &Step::new(1, seed, 0.0)).unwrap();
        plan
    };
    let mut seen = Vec::new();
    let mut differs = |value: &genregrad::tape::Value, a: &[f32], b: &[f32]| {
        seen.push(value.name.clone());
        a != b
    };
    assert_eq!(plan(1).compare(&mut plan(1), &mut differs).unwrap(), None);
    assert_eq!(plan(1).compare(&mut plan(2), &mut differs).unwrap(), Some(b));
    assert_eq!(seen, ["tanh#0", "dropout#1", "add#2", "tanh#0", "dropout#1"]);
}
