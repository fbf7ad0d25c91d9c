//! Programs and steps that cannot be right are refused, with the same words on both devices.

#![allow(clippy::unwrap_used)]

mod common;

use genregrad::device::Device;
use genregrad::error::Result;
use genregrad::ops::{self, Adam, Classification};
use genregrad::run::{Plan, Table};
use genregrad::tape::{Source, Step, Tape, Var};
use genregrad::tensor::Params;
use genregrad::{autodiff, nn};

/// The CPU and, if there is one, the GPU.
fn devices() -> Vec<Device> {
    [Some(Device::Cpu), common::gpu().map(Device::Gpu)].into_iter().flatten().collect()
}

/// A dense layer of 4 rows, 2 inputs and 3 classes, trained by Adam.
struct Program {
    tape: Tape,
    x: Var,
    labels: Var,
    found: Classification,
}

fn program(adam: Adam) -> Program {
    let mut tape = Tape::new();
    let (x, labels) = (tape.input("x", [4, 2]), tape.labels(4));
    let logits = nn::dense(&mut tape, "layer", x, 3).unwrap();
    let found = ops::softmax_cross_entropy(&mut tape, logits, labels).unwrap();
    let grads = autodiff::backward(&mut tape, found.loss).unwrap();
    ops::adam(&mut tape, adam, &grads).unwrap();
    Program { tape, x, labels, found }
}

const X: [f32; 8] = [1.0, 0.0, 0.9, 0.2, -1.0, 0.1, -0.8, -0.3];

fn plan(program: &Program, device: &Device) -> Plan {
    Plan::new(&program.tape, device, &nn::initialise(&program.tape, 1).unwrap()).unwrap()
}

#[test]
fn a_label_that_is_no_class_is_refused_where_it_enters() {
    let program = program(Adam::default());
    let step = Step::new(1, 0, 0.1);
    for device in devices() {
        for label in [3.0, 7.0, 1e9, 0.5, -0.5, f32::NAN, f32::INFINITY] {
            let expected = format!(
                "softmax_cross_entropy: row 2 has label {label}, but there are 3 classes; expected 0 to 2, or a negative one"
            );
            let labels = [0.0, 1.0, label, 2.0];
            let mut plan = plan(&program, &device);
            let stepped = plan.step(&[(program.x, &X), (program.labels, &labels)], &step);
            assert_eq!(stepped.unwrap_err().to_string(), expected);
            let tables = [
                Table { input: program.x, data: &X, filled: 0.0 },
                Table { input: program.labels, data: &labels, filled: -1.0 },
            ];
            assert_eq!(plan.feed(&tables, 4).unwrap_err().to_string(), expected);
        }
    }
}

/// Whatever their size, negative labels mask their rows: the loss is the other rows' mean.
#[test]
fn negative_labels_mask_their_rows_alike() {
    let program = program(Adam::default());
    let loss = |device: &Device, labels: [f32; 4]| {
        let mut plan = plan(&program, device);
        plan.step(&[(program.x, &X), (program.labels, &labels)], &Step::new(1, 0, 0.1)).unwrap();
        plan.read(program.found.loss).unwrap()[0]
    };
    let mut losses = Vec::new();
    for device in devices() {
        let expected = loss(&device, [0.0, 1.0, -1.0, 2.0]);
        for label in [-2.0, -1e9, f32::NEG_INFINITY] {
            assert_eq!(loss(&device, [0.0, 1.0, label, 2.0]), expected);
        }
        losses.push(expected);
    }
    assert!(losses.iter().all(|loss| (loss / losses[0] - 1.0).abs() < 1e-6), "{losses:?}");
}

/// Labels that a program computes are not seen by the host. One that is no class masks its row on both devices.
#[test]
fn a_computed_label_that_is_no_class_masks_its_row() {
    let mut tape = Tape::new();
    let (logits, x, zero) = (tape.input("logits", [5, 3]), tape.input("x", [5]), tape.input("zero", [5]));
    let labels = ops::add(&mut tape, x, zero).unwrap();
    let found = ops::softmax_cross_entropy(&mut tape, logits, labels).unwrap();
    // By hand: logits 0 give log 3 in every row that counts, here rows 0 and 2 (label 2.5 is class 2).
    for device in devices() {
        let mut plan = Plan::new(&tape, &device, &Params::default()).unwrap();
        let given: [(Var, &[f32]); 3] = [(logits, &[0.0; 15]), (x, &[0.0, 3.0, 2.5, 1e9, -4.0]), (zero, &[0.0; 5])];
        plan.step(&given, &Step::new(1, 0, 0.0)).unwrap();
        assert!((plan.read(found.loss).unwrap()[0] - 3f32.ln()).abs() < 1e-6);
        assert_eq!(plan.read(found.correct).unwrap(), [1.0]);
    }
}

#[test]
fn an_input_that_was_never_filled_is_refused() {
    let program = program(Adam::default());
    let step = Step::new(1, 0, 0.1);
    for device in devices() {
        let mut plan = plan(&program, &device);
        let refused = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(refused(plan.step(&[], &step)), "plan: the input x was never filled; write it or feed it");
        let said = refused(plan.step(&[(program.x, &X)], &step));
        assert_eq!(said, "plan: the input labels was never filled; write it or feed it");
        let mut feed = plan.feed(&[Table { input: program.x, data: &X, filled: 0.0 }], 4).unwrap();
        plan.order(&mut feed, &[0, 1, 2, 3]).unwrap();
        assert!(plan.step_from(&feed, 0, &step).unwrap_err().to_string().contains("the input labels"));
        // What was written once stays.
        plan.write(program.labels, &[0.0, 1.0, 2.0, 0.0]).unwrap();
        plan.step_from(&feed, 0, &step).unwrap();
        plan.step(&[(program.x, &X)], &step).unwrap();
        plan.step(&[], &step).unwrap();
    }
}

#[test]
fn rows_that_disagree_are_refused() {
    let program = program(Adam::default());
    for device in devices() {
        let mut plan = plan(&program, &device);
        let tables = |x: &'static [f32], labels: &'static [f32]| {
            [
                Table { input: program.x, data: x, filled: 0.0 },
                Table { input: program.labels, data: labels, filled: -1.0 },
            ]
        };
        let said = plan.feed(&tables(&[0.0; 20], &[0.0; 7]), 10).unwrap_err().to_string();
        assert_eq!(said, "feed: x has 10 rows, but labels has 7");
        let said = plan.feed(&tables(&[0.0; 7], &[0.0; 7]), 10).unwrap_err().to_string();
        assert_eq!(said, "feed: expected rows of an input [4, 2], got 7 values");
        let mut feed = plan.feed(&tables(&[0.5; 20], &[0.0; 10]), 6).unwrap();
        let said = plan.order(&mut feed, &[0, 9, 10]).unwrap_err().to_string();
        assert_eq!(said, "order: row 10 of tables of 10 rows");
        let said = plan.order(&mut feed, &[0; 7]).unwrap_err().to_string();
        assert_eq!(said, "order: a list of 7 rows; the feed was made for 6 at most");
        plan.order(&mut feed, &[0, 9, 4, 4, 1, 8]).unwrap();
        plan.step_from(&feed, 4, &Step::new(1, 0, 0.1)).unwrap();
    }
}

#[test]
fn two_parameters_of_one_name_are_refused() {
    let mut tape = Tape::new();
    let x = tape.input("x", [4, 2]);
    let y = nn::dense(&mut tape, "layer", x, 2).unwrap();
    let said = nn::dense(&mut tape, "layer", y, 2).unwrap_err().to_string();
    assert_eq!(said, "param: layer.weight of shape [2, 2] exists already, of shape [2, 2]; use another name");
    assert!(tape.param("layer.bias", [7]).is_err(), "another shape is no excuse");
    // States are stored by name as well, beside the parameters.
    tape.param("w.m", [2]).unwrap();
    assert!(tape.state("w.m", [2]).is_err());
    tape.state("sum", [1]).unwrap();
    assert!(tape.state("sum", [1]).is_err() && tape.param("sum", [1]).is_err());
    assert_eq!(tape.vars(Source::Param).count(), 3);
    let w = tape.param("w", [2]).unwrap();
    let grad = tape.input("grad", [2]);
    let said = ops::adam(&mut tape, Adam::default(), &[(w, grad)]).unwrap_err().to_string();
    assert!(said.starts_with("state: w.m of shape [2] exists already"), "{said}");
}

/// A value that fusion left out, and a shape error, are errors, not panics.
#[test]
fn a_value_that_fusion_left_out_is_an_error() {
    let mut tape = Tape::new();
    let x = tape.input("x", [1, 1, 8, 8]);
    let map = nn::conv(&mut tape, "conv", x, 2, (3, 3), true).unwrap();
    let map = ops::leaky_relu(&mut tape, map, 0.3).unwrap();
    ops::max_pool2d(&mut tape, map, (2, 2)).unwrap();
    let tape = genregrad::fast::rewrite(&tape, genregrad::fast::ALL);
    for device in devices() {
        let mut plan = Plan::new(&tape, &device, &nn::initialise(&tape, 1).unwrap()).unwrap();
        let said = plan.read(map).unwrap_err().to_string();
        assert_eq!(said, "plan: leaky_relu#1 is left out by fusion; read it from the program as recorded");
    }
}

/// Adam with other decay rates than the usual, by hand: they are stated once, in the operation.
#[test]
fn adams_decay_rates_are_those_of_the_operation() {
    let grad = [0.5f32, -2.0, 0.0, 1e-3];
    for (beta1, beta2) in [(0.9, 0.999), (0.5, 0.75), (0.0, 0.5), (0.99, 0.9999), (0.0, 0.0)] {
        let settings = Adam { beta1, beta2, epsilon: 1e-8 };
        // Algorithm 1 in f64.
        let mut expected = [[1.0f64, 0.0, 0.0]; 4];
        for t in 1..=3 {
            for ([w, m, v], g) in expected.iter_mut().zip(grad.map(f64::from)) {
                *m = beta1 * *m + (1.0 - beta1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                let corrected = [*m / (1.0 - beta1.powi(t)), *v / (1.0 - beta2.powi(t))];
                *w -= 0.1 * corrected[0] / (corrected[1].sqrt() + 1e-8);
            }
        }
        for device in devices() {
            let mut tape = Tape::new();
            let (w, g) = (tape.param("w", [4]).unwrap(), tape.input("g", [4]));
            ops::adam(&mut tape, settings, &[(w, g)]).unwrap();
            let mut params = Params::default();
            params.push("w", genregrad::tensor::Tensor::new([4], vec![1.0; 4]).unwrap());
            let mut plan = Plan::new(&tape, &device, &params).unwrap();
            (1..=3).for_each(|number| plan.step(&[(g, &grad)], &Step::new(number, 0, 0.1)).unwrap());
            for (got, [expected, ..]) in plan.read(w).unwrap().iter().zip(&expected) {
                assert!((f64::from(*got) - expected).abs() < 1e-6, "{beta1}, {beta2}: {got} {expected}");
            }
        }
    }
}

/// The bias corrections over a whole training, against f64: their relative error on a GPU is that of a few roundings.
#[test]
fn adams_corrections_hold_at_any_step() {
    for device in devices() {
        for (beta1, beta2) in [(0.9, 0.999), (0.99, 0.99999)] {
            let mut tape = Tape::new();
            let (w, g) = (tape.param("w", [1]).unwrap(), tape.input("g", [1]));
            ops::adam(&mut tape, Adam { beta1, beta2, epsilon: 1e-8 }, &[(w, g)]).unwrap();
            for number in [1, 2, 3, 10, 50, 69, 70, 499, 500, 501, 10_000, 1_000_000] {
                let mut params = Params::default();
                params.push("w", genregrad::tensor::Tensor::new([1], vec![0.0]).unwrap());
                let mut plan = Plan::new(&tape, &device, &params).unwrap();
                // From moments of 0: m = (1 - beta1), v = (1 - beta2).
                plan.step(&[(g, &[1.0])], &Step::new(number, 0, 1.0)).unwrap();
                let t = f64::from(number);
                let (m, v) = ((1.0 - beta1) / (1.0 - beta1.powf(t)), (1.0 - beta2) / (1.0 - beta2.powf(t)));
                let (got, expected) = (f64::from(plan.read(w).unwrap()[0]), -m / (v.sqrt() + 1e-8));
                assert!((got / expected - 1.0).abs() < 2e-6, "{beta1}, {beta2}, step {number}: {got} {expected}");
            }
        }
    }
}

/// The first dropout of a tape has the number 0, the next one 1: masks by `pcg(element + pcg(node + pcg(step +
/// pcg(seed))))`, computed by an independent program.
#[test]
fn dropouts_are_numbered_by_the_tape() {
    for device in devices() {
        let mut tape = Tape::new();
        let x = tape.input("x", [16]);
        let masks = [ops::dropout(&mut tape, x, 0.5).unwrap(), ops::dropout(&mut tape, x, 0.5).unwrap()];
        let mut plan = Plan::new(&tape, &device, &Params::default()).unwrap();
        plan.step(&[(x, &[1.0; 16])], &Step::new(3, 7, 0.0)).unwrap();
        let kept = masks.map(|mask| {
            let mask = plan.read(mask).unwrap();
            mask.iter().map(|&y| if y == 2.0 { '1' } else { '0' }).collect::<String>()
        });
        assert_eq!(kept, ["0000001110000101", "0110100001100011"]);
    }
}
