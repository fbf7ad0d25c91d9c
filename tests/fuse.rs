//! Fused programs compute what the recorded ones do, with fewer nodes; and what does not match exactly is left alone.

#![allow(clippy::unwrap_used)]

mod common;

use genregrad::autodiff;
use genregrad::check::cases::{self, Case};
use genregrad::check::compare::distance;
use genregrad::check::{self, Truth};
use genregrad::device::Device;
use genregrad::fast::{self, Rule};
use genregrad::models::Architecture;
use genregrad::nn;
use genregrad::ops::{self, Padding};
use genregrad::run::Plan;
use genregrad::tape::{Step, Tape, Var};
use genregrad::tensor::Params;
use genregrad::train::config::{Config, Preset};
use genregrad::train::program::{EvaluateProgram, TrainProgram};

fn names(tape: &Tape) -> Vec<&'static str> {
    tape.nodes().iter().map(|node| node.op.name()).collect()
}

fn count(tape: &Tape, start: &str) -> usize {
    names(tape).iter().filter(|name| name.starts_with(start)).count()
}

#[test]
fn every_convolution_of_the_nets_is_fused() {
    for (model, blocks) in [(Architecture::Shallow, 2), (Architecture::Deep, 8)] {
        for preset in [Preset::Paper, Preset::Report] {
            let config = Config::preset(preset, model);
            let net = config.net(10);
            let train = TrainProgram::record(&net, [2, 80, 80], config.l1, config.adam()).unwrap();
            let evaluate = EvaluateProgram::record(&net, [2, 80, 80]).unwrap();
            for (tape, nodes) in [(train.fused(true).tape, 2 * blocks), (evaluate.fused(true).tape, blocks)] {
                assert_eq!(count(&tape, "conv_block"), nodes, "{tape}");
                assert_eq!(count(&tape, "conv2d") + count(&tape, "max_pool2d"), 0, "{tape}");
                assert_eq!(names(&fast::rewrite(&tape, fast::ALL)), names(&tape), "no rule applies twice");
            }
        }
    }
}

/// Trains the recorded program and the one that `rules` make of it: compares values that both have, in the first step; then
/// losses. Returns the number of nodes that the rules made.
fn side_by_side(case: &Case, rules: &[Rule], device: &Device, steps: u32) -> usize {
    let fused = Case { tape: fast::rewrite(&case.tape, rules), ..case.clone() };
    let (mut textbook, mut plan) = (case.plan(device).unwrap(), fused.plan(device).unwrap());
    for number in 1..=steps {
        textbook.step(&[], &case.step(number)).unwrap();
        plan.step(&[], &case.step(number)).unwrap();
        if number == 1 {
            // Where ReLU gives 0 for a whole window, any place in it will do: the gradient there is 0.
            let relu = case.subject.contains("report");
            let different = plan.compare(&mut textbook, |value, fused, textbook| {
                let free = relu && value.name.starts_with("max_pool2d#") && value.name.ends_with(".1");
                !free && distance(fused, textbook) > 2e-5
            });
            let different = different.unwrap().map(|var| &case.tape.values()[var.index()].name);
            assert_eq!(different, None, "{}", case.subject);
        }
        let [a, b] = [&mut plan, &mut textbook].map(|plan| plan.read(case.loss).unwrap()[0]);
        assert!((a / b - 1.0).abs() < 1e-5, "{}: step {number}: fused {a}, recorded {b}", case.subject);
    }
    fused.tape.nodes().iter().filter(|node| node.rule.is_some()).count()
}

/// Each rule by itself, on both devices: the nodes that it makes compute what the nodes that it replaces do.
#[test]
fn each_rule_alone_computes_what_it_replaces() {
    let cases = cases::nets().unwrap();
    for rule in fast::ALL {
        let made: usize = cases.iter().map(|case| side_by_side(case, &[*rule], &Device::Cpu, 2)).sum();
        assert!(made >= cases.len(), "{}: made {made} nodes", rule.name);
    }
}

#[test]
fn small_nets_train_alike_fused_and_recorded() {
    cases::nets().unwrap().iter().for_each(|case| {
        side_by_side(case, fast::ALL, &Device::Cpu, 10);
    });
}

#[test]
fn small_nets_train_alike_on_the_gpu() {
    let Some(gpu) = common::gpu().map(Device::Gpu) else { return };
    cases::nets().unwrap().iter().for_each(|case| {
        side_by_side(case, fast::ALL, &gpu, 10);
    });
}

#[test]
fn fused_nets_compute_their_equations_on_both_devices() {
    for case in cases::nets().unwrap().iter().map(Case::fused) {
        let cpu = check::values(&case, &Device::Cpu, Truth::Reference).unwrap();
        assert!(cpu.passed(), "{}: {cpu:?}", case.subject);
        let Some(gpu) = common::gpu().map(Device::Gpu) else { continue };
        let values = check::values(&case, &gpu, Truth::Cpu).unwrap();
        assert!(values.passed(), "{}: {values:?}", case.subject);
    }
}

/// The losses of some steps of a net of the study's size, and its weights after them.
fn losses(config: &Config, fuse: bool, steps: u32) -> (Vec<f32>, Params) {
    let program = TrainProgram::record(&config.net(10), [15, 80, 80], config.l1, config.adam()).unwrap().fused(fuse);
    let mut plan = Plan::new(&program.tape, &Device::Cpu, &nn::initialise(&program.tape, 1).unwrap()).unwrap();
    let spectrograms: Vec<f32> =
        (0..15u32 * 6400).map(|i| (genregrad::rng::hash(1, 2, 3, i) >> 8) as f32 / 16_777_216.0 - 0.5).collect();
    let labels: Vec<f32> = (0..15).map(|i| if i == 14 { -1.0 } else { (i % 10) as f32 }).collect();
    let mut losses = Vec::new();
    for number in 1..=steps {
        let inputs = [(program.spectrograms, &spectrograms[..]), (program.labels, &labels[..])];
        plan.step(&inputs, &Step::new(number, 9, config.learning_rate)).unwrap();
        losses.push(plan.read(program.loss).unwrap()[0]);
    }
    (losses, plan.params().unwrap())
}

#[test]
fn nets_of_the_studys_size_train_alike_fused_and_recorded() {
    // In a deep net a near tie in a pool turns rounding into another winner, and how sums round depends on the machine's
    // vectors: losses are less than 1e-5 apart with AVX-512, 1.3e-5 with AVX2.
    let nets = [(Architecture::Shallow, Preset::Paper, 1e-5), (Architecture::Deep, Preset::Report, 1e-4)];
    for (model, preset, apart) in nets {
        let config = Config::preset(preset, model);
        let (fused, _) = losses(&config, true, 10);
        let (recorded, _) = losses(&config, false, 10);
        for (a, b) in fused.iter().zip(&recorded) {
            assert!((a / b - 1.0).abs() < apart, "{model}: {fused:?} {recorded:?}");
        }
        assert!(fused[9] < fused[0], "{fused:?}");
    }
}

#[test]
fn fused_results_do_not_depend_on_the_number_of_threads() {
    for model in [Architecture::Shallow, Architecture::Deep] {
        let config = Config::preset(Preset::Paper, model);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| losses(&config, true, 2))
        };
        let one = with(1);
        for threads in [2, 3, 5] {
            assert!(one == with(threads), "{model} with {threads} threads");
        }
    }
}

/// A convolution without bias, ready for what follows.
fn conv(tape: &mut Tape) -> Var {
    let (x, weight) = (tape.input("x", [2, 1, 8, 8]), tape.param("weight", [3, 1, 3, 3]).unwrap());
    ops::conv2d(tape, x, weight, None, Padding::Same).unwrap()
}

#[test]
fn a_forward_pass_alone_writes_no_places_of_winners() {
    let mut tape = Tape::new();
    let input = tape.input("x", [2, 1, 16, 16]);
    let mut x = input;
    for (depth, (kernel, bias)) in [((3, 5), true), ((3, 3), false)].into_iter().enumerate() {
        x = nn::conv(&mut tape, &format!("{depth}"), x, 4, kernel, bias).unwrap();
        x = ops::tanh(&mut tape, x).unwrap();
        x = ops::max_pool2d(&mut tape, x, (2, 2)).unwrap();
    }
    let params = nn::initialise(&tape, 1).unwrap();
    let data: Vec<f32> = (0..512).map(|i| (i * 7 % 13) as f32 / 13.0 - 0.5).collect();
    let values = |tape: &Tape, device: &Device| {
        let mut plan = Plan::new(tape, device, &params).unwrap();
        plan.poison().unwrap();
        plan.step(&[(input, &data)], &Step::new(1, 0, 0.0)).unwrap();
        plan.read(x).unwrap()
    };
    let mut fused = fast::rewrite(&tape, fast::ALL);
    assert_eq!(names(&fused), ["conv_block"; 2]);
    assert!(fused.nodes().iter().all(|node| node.writes.len() == 1), "{fused}");
    let expected = values(&tape, &Device::Cpu);
    let gpu = common::gpu().map(Device::Gpu);
    for device in std::iter::once(Device::Cpu).chain(gpu) {
        for (found, expected) in values(&fused, &device).iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
    // What was left out is missed by a gradient taken too late.
    let loss = ops::flatten(&mut fused, x).and_then(|x| ops::l1_penalty(&mut fused, x, 1.0)).unwrap();
    let error = autodiff::backward(&mut fused, loss).unwrap_err().to_string();
    assert!(error.starts_with("conv_block: has no gradient"), "{error}");
}

#[test]
fn what_does_not_match_exactly_is_left_alone() {
    type Record = fn(&mut Tape, Var) -> Var;
    let rows: [(&str, Record); 6] = [
        ("a slope that turns the order around", |t, map| {
            let y = ops::leaky_relu(t, map, -0.1).unwrap();
            ops::max_pool2d(t, y, (2, 2)).unwrap()
        }),
        ("a slope that is no number", |t, map| {
            let y = ops::leaky_relu(t, map, f32::NAN).unwrap();
            ops::max_pool2d(t, y, (2, 2)).unwrap()
        }),
        ("no activation", |t, map| ops::max_pool2d(t, map, (2, 2)).unwrap()),
        ("the map is used elsewhere", |t, map| {
            let y = ops::leaky_relu(t, map, 0.3).unwrap();
            let (a, b) = (ops::max_pool2d(t, y, (8, 8)).unwrap(), ops::tanh(t, map).unwrap());
            let (a, b) = (ops::flatten(t, a).unwrap(), ops::flatten(t, b).unwrap());
            ops::concat(t, a, b).unwrap()
        }),
        ("the activation is used elsewhere", |t, map| {
            let y = ops::tanh(t, map).unwrap();
            let a = ops::max_pool2d(t, y, (2, 2)).unwrap();
            let (a, b) = (ops::flatten(t, a).unwrap(), ops::flatten(t, y).unwrap());
            ops::concat(t, a, b).unwrap()
        }),
        ("two pools of one activation", |t, map| {
            let y = ops::leaky_relu(t, map, 0.3).unwrap();
            let (a, b) = (ops::max_pool2d(t, y, (2, 2)).unwrap(), ops::max_pool2d(t, y, (4, 4)).unwrap());
            let (a, b) = (ops::flatten(t, a).unwrap(), ops::flatten(t, b).unwrap());
            ops::concat(t, a, b).unwrap()
        }),
    ];
    for (name, record) in rows {
        let mut tape = Tape::new();
        let map = conv(&mut tape);
        let y = record(&mut tape, map);
        assert_eq!(names(&fast::rewrite(&tape, fast::ALL)), names(&tape), "{name}");
        // And with gradients.
        let flat = ops::flatten(&mut tape, y).unwrap();
        let logits = nn::dense(&mut tape, "dense", flat, 2).unwrap();
        let labels = tape.labels(2);
        let loss = ops::softmax_cross_entropy(&mut tape, logits, labels).unwrap().loss;
        autodiff::backward(&mut tape, loss).unwrap();
        assert_eq!(count(&fast::rewrite(&tape, fast::ALL), "conv_block"), 0, "{name}");
    }
}
