//! Dense layers, penalties and Adam, fused and as the textbook has them: the same training, with fewer passes.
#![allow(clippy::unwrap_used)]

mod common;

use genregrad::autodiff;
use genregrad::check::cases;
use genregrad::check::compare::{self, distance};
use genregrad::device::Device;
use genregrad::error::Result;
use genregrad::fast::{self, rules};
use genregrad::nn::{self, Activation};
use genregrad::ops::{self, Adam};
use genregrad::run::Plan;
use genregrad::tape::{Source, Step, Tape, Var};
use genregrad::tensor::Params;

/// A net of two dense layers on 15 rows, some of them masked, that learns.
struct Net {
    tape: Tape,
    x: Var,
    labels: Var,
    loss: Var,
    params: Params,
}

impl Net {
    fn record(inputs: usize, l1: f64) -> Result<Self> {
        let mut tape = Tape::new();
        let (x, labels) = (tape.input("x", [15, inputs]), tape.labels(15));
        let hidden = nn::dense(&mut tape, "fc1", x, 37)?;
        let hidden = Activation::Tanh.record(&mut tape, hidden, 0.0)?;
        let hidden = nn::dense(&mut tape, "fc2", hidden, 21)?;
        let logits = nn::dense(&mut tape, "fc3", hidden, 5)?;
        let mut loss = ops::softmax_cross_entropy(&mut tape, logits, labels)?.loss;
        if l1 != 0.0 {
            for param in tape.vars(Source::Param).collect::<Vec<_>>() {
                let penalty = ops::l1_penalty(&mut tape, param, l1)?;
                loss = ops::add(&mut tape, loss, penalty)?;
            }
        }
        let grads = autodiff::backward(&mut tape, loss)?;
        ops::adam(&mut tape, Adam::default(), &grads)?;
        let params = nn::initialise(&tape, 3)?;
        Ok(Net { tape, x, labels, loss, params })
    }

    /// The losses of ten steps; parameters, then moments, after them.
    fn train(&self, tape: &Tape, device: &Device, poison: bool) -> (Vec<f32>, Vec<Vec<f32>>) {
        let len = tape.shape(self.x).len();
        let x: Vec<f32> = (0..len).map(|i| ((i * 7919) % 1009) as f32 / 504.0 - 1.0).collect();
        let labels: Vec<f32> = (0..15).map(|row| (row * 7 % 6) as f32 - 1.0).collect();
        let mut plan = Plan::new(tape, device, &self.params).unwrap();
        let mut losses = Vec::new();
        for number in 1..=10 {
            if poison {
                plan.poison().unwrap();
            }
            let step = Step::new(number, 1, 0.01);
            plan.step(&[(self.x, &x), (self.labels, &labels)], &step).unwrap();
            losses.push(plan.read(self.loss).unwrap()[0]);
        }
        let kept: Vec<Var> = tape.vars(Source::Param).chain(tape.vars(Source::State)).collect();
        (losses, kept.into_iter().map(|var| plan.read(var).unwrap()).collect())
    }
}

fn names(tape: &Tape) -> Vec<&'static str> {
    let mut names: Vec<_> = tape.nodes().iter().map(|node| node.op.name()).collect();
    names.sort_unstable();
    names
}

fn count(tape: &Tape, name: &str) -> usize {
    names(tape).iter().filter(|other| **other == name).count()
}

#[test]
fn every_dense_layer_is_updated_in_one_pass() {
    for l1 in [0.0, 1e-3] {
        let tape = fast::rewrite(&Net::record(50, l1).unwrap().tape, fast::ALL);
        let counts = ["dense.update", "dense.grad_input", "dense.grad_weight", "l1_penalty.grad_input"];
        assert_eq!(counts.map(|name| count(&tape, name)), [3, 0, 0, 0], "{tape}");
        let rest = ["dense.blocked", "dense.penalised", "l1_penalty", "adam.vector", "adam.penalised"];
        let expected = if l1 == 0.0 { [3, 0, 0, 3, 0] } else { [0, 3, 3, 0, 3] };
        assert_eq!(rest.map(|name| count(&tape, name)), expected, "{tape}");
        // The first layer's input is nobody's child: three arrays are written, not four.
        let updates: Vec<usize> =
            tape.nodes().iter().filter(|n| n.op.name() == "dense.update").map(|n| n.writes.len()).collect();
        assert_eq!(updates, [4, 4, 3]);
        // A second time changes nothing.
        assert_eq!(names(&fast::rewrite(&tape, &[rules::DENSE_UPDATE])), names(&tape));
    }
}

#[test]
fn the_fused_net_trains_as_the_textbook_one() {
    for device in [Some(Device::Cpu), common::gpu().map(Device::Gpu)].into_iter().flatten() {
        // Past the columns of a task, and with a rest of every width.
        for (inputs, l1) in [(50, 0.0), (50, 1e-3), (1039, 1e-3)] {
            let net = Net::record(inputs, l1).unwrap();
            let (losses, kept) = net.train(&net.tape, &Device::Cpu, false);
            let (fused_losses, fused) = net.train(&fast::rewrite(&net.tape, fast::ALL), &device, false);
            for (a, b) in fused_losses.iter().zip(&losses) {
                assert!((a / b - 1.0).abs() < 1e-5, "{inputs} {l1}: {fused_losses:?} {losses:?}");
            }
            assert!(losses[9] < losses[0]);
            for (number, (a, b)) in fused.iter().zip(&kept).enumerate() {
                let apart = distance(a, b);
                assert!(apart < 1e-4, "{inputs} {l1}: array {number}: {apart:e}");
            }
        }
    }
}

#[test]
fn threads_and_old_values_change_no_bit() {
    let net = Net::record(1039, 1e-3).unwrap();
    let tape = fast::rewrite(&net.tape, fast::ALL);
    let with = |threads: usize, poison| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| net.train(&tape, &Device::Cpu, poison))
    };
    let one = with(1, false);
    for (threads, poison) in [(2, false), (3, false), (16, false), (1, true)] {
        assert!(one == with(threads, poison), "{threads} threads, poison {poison}");
    }
    assert!(one.1.iter().flatten().all(|x| x.is_finite()));
}

/// Both nets of the study under both presets; a pooling window that is a near tie may come out another way.
#[test]
fn the_nets_train_alike() {
    for case in cases::nets().unwrap() {
        let mut fused = case.clone();
        fused.tape = fast::rewrite(&case.tape, fast::ALL);
        assert!(count(&fused.tape, "dense.update") == 2, "{}", fused.tape);
        let (mut a, mut b) = (fused.plan(&Device::Cpu).unwrap(), case.plan(&Device::Cpu).unwrap());
        for number in 1..=10 {
            a.step(&[], &case.step(number)).unwrap();
            b.step(&[], &case.step(number)).unwrap();
            let (a, b) = (a.read(case.loss).unwrap()[0], b.read(case.loss).unwrap()[0]);
            assert!(f64::from((a / b - 1.0).abs()) < compare::LOSS_OF_STEPS, "{}: step {number}", case.subject);
        }
        let (a, b) = (a.params().unwrap(), b.params().unwrap());
        for (((name, start), (_, a)), (_, b)) in case.params.iter().zip(a.iter()).zip(b.iter()) {
            let way = |to: &[f32]| -> Vec<f32> { to.iter().zip(start.data()).map(|(to, from)| to - from).collect() };
            let apart = distance(&way(a.data()), &way(b.data()));
            assert!(apart < compare::WAY_OF_STEPS, "{}: way of {name}: {apart:e}", case.subject);
        }
    }
}

/// What somebody else still wants to see is not fused away.
#[test]
fn a_pattern_with_a_witness_stays() {
    let record = |witness: fn(&mut Tape, Var, Var)| {
        let mut tape = Tape::new();
        let (x, labels) = (tape.input("x", [2, 3]), tape.labels(2));
        let logits = nn::dense(&mut tape, "fc", x, 4).unwrap();
        let loss = ops::softmax_cross_entropy(&mut tape, logits, labels).unwrap().loss;
        let grads = autodiff::backward(&mut tape, loss).unwrap();
        witness(&mut tape, grads[0].0, grads[0].1);
        ops::adam(&mut tape, Adam::default(), &grads).unwrap();
        tape
    };
    assert_eq!(count(&fast::rewrite(&record(|_, _, _| {}), fast::ALL), "dense.update"), 1);
    // One reads the gradient, the other the weight before its update but after the gradient's place.
    let gradient = record(|tape, _, grad| assert!(ops::tanh(tape, grad).is_ok()));
    let weight = record(|tape, weight, _| assert!(ops::tanh(tape, weight).is_ok()));
    for tape in [gradient, weight] {
        assert_eq!(names(&fast::rewrite(&tape, &[rules::DENSE_UPDATE])), names(&tape));
    }
}

/// Two penalties of one parameter, recorded before what else reads it: Adam takes one of them, and loses neither.
#[test]
fn a_second_penalty_is_not_lost() {
    let mut tape = Tape::new();
    let (x, labels) = (tape.input("x", [2, 3]), tape.labels(2));
    let (weight, bias) = (tape.param("weight", [4, 3]).unwrap(), tape.param("bias", [4]).unwrap());
    let penalties = [0.3, 0.5].map(|lambda| ops::l1_penalty(&mut tape, weight, lambda).unwrap());
    let logits = ops::dense(&mut tape, x, weight, bias).unwrap();
    let mut loss = ops::softmax_cross_entropy(&mut tape, logits, labels).unwrap().loss;
    for penalty in penalties {
        loss = ops::add(&mut tape, loss, penalty).unwrap();
    }
    let grads = autodiff::backward(&mut tape, loss).unwrap();
    ops::adam(&mut tape, Adam::default(), &grads).unwrap();
    let fused = fast::rewrite(&tape, fast::ALL);
    assert_eq!(count(&fused, "adam.penalised"), 1, "{fused}");
    let params = nn::initialise(&tape, 3).unwrap();
    let moments = |tape: &Tape| {
        let mut plan = Plan::new(tape, &Device::Cpu, &params).unwrap();
        let step = Step::new(1, 1, 0.01);
        plan.step(&[(x, &[0.1, -0.2, 0.3, 0.4, -0.5, 0.6]), (labels, &[1.0, 3.0])], &step).unwrap();
        tape.vars(Source::State).flat_map(|var| plan.read(var).unwrap()).collect::<Vec<f32>>()
    };
    for (fused, textbook) in moments(&fused).iter().zip(moments(&tape)) {
        assert!((fused - textbook).abs() < 1e-6, "{fused} {textbook}");
    }
}
