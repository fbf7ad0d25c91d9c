//! Faults planted in an operation, one of each way in which a check could be empty: `check` finds every one.

#![allow(clippy::unwrap_used)]

mod common;

use genregrad::check::cases::{Case, Draft};
use genregrad::check::{self, Check};
use genregrad::device::Device;
use genregrad::dispatch::{Dispatch, Shader};
use genregrad::error::{Error, Result};
use genregrad::tape::{Gradient, Op, Step};
use genregrad::tensor::Shape;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// `backward` does nothing.
    NoGradient,
    /// `backward` forgets the second input.
    SecondForgotten,
    /// The gradient of the second input has another shape.
    GradientOfAnotherShape,
    /// Equation and kernels agree on a NaN.
    NanOnBothSides,
    /// Equation and kernels of the gradient agree on 0.
    ZeroGradient,
    /// The operation computes 0, and its gradient is 0.
    ZeroEverywhere,
    /// The operation goes by another name than its row of the table.
    NotCompared,
    /// The GPU kernel takes every net for the first.
    IgnoresZ,
    /// So does the gradient's.
    GradientIgnoresZ,
    /// The GPU kernel writes nothing.
    WritesNothing,
}

const LEN: usize = 70;

/// `y = 2 a + 3 b`, or with only one input `y = factor a`: the gradient.
#[derive(Clone, Copy, Debug)]
struct Sum {
    factors: [f32; 2],
    inputs: usize,
    fault: Fault,
}

impl Sum {
    fn gradient(self, factor: f32) -> Sum {
        let factor = if self.fault == Fault::ZeroGradient { 0.0 } else { factor };
        Sum { factors: [factor, 0.0], inputs: 1, ..self }
    }
}

const KERNELS: Shader = Shader {
    file: "test-sum.wgsl",
    source: "
        override len: u32 = 1u;
        override first: f32 = 1.0;
        override second: f32 = 1.0;
        override nets: u32 = 1u; // 0: every net is taken for the first
        override most: u32 = 1u; // elements written
        @group(0) @binding(0) var<storage, read> a: array<f32>;
        @group(0) @binding(1) var<storage, read> b: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64)
        fn two(@builtin(global_invocation_id) id: vec3u) {
            if (id.x < most) {
                let at = id.z * nets * len + id.x;
                y[at] = first * a[at] + second * b[at];
            }
        }
        @group(0) @binding(1) var<storage, read_write> dx: array<f32>;
        @compute @workgroup_size(64)
        fn one(@builtin(global_invocation_id) id: vec3u) {
            if (id.x < most) {
                let at = id.z * nets * len + id.x;
                dx[at] = first * a[at];
            }
        }",
};

impl Op for Sum {
    fn name(&self) -> &'static str {
        match (self.fault, self.inputs) {
            (Fault::NotCompared, 2) => "other",
            (Fault::NotCompared, _) => "other.grad",
            (_, 2) => "sum",
            _ => "sum.grad",
        }
    }

    fn output_shapes(&self, _: &[&Shape]) -> Result<Vec<Shape>> {
        Ok(vec![[LEN].into()])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], _: &Step) {
        for (i, y) in write[0].iter_mut().enumerate() {
            *y = read.iter().zip(self.factors).map(|(x, factor)| f64::from(factor) * x[i]).sum();
        }
        if self.fault == Fault::NanOnBothSides {
            write[0][3] = f64::NAN;
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        for (i, y) in write[0].iter_mut().enumerate() {
            *y = read.iter().zip(self.factors).map(|(x, factor)| factor * x[i]).sum();
        }
        if self.fault == Fault::NanOnBothSides {
            write[0][3] = f32::NAN;
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let forward = self.inputs == 2;
        let ignores = if forward { Fault::IgnoresZ } else { Fault::GradientIgnoresZ };
        let nets = if self.fault == ignores { 0.0 } else { 1.0 };
        let most = if forward && self.fault == Fault::WritesNothing { 0.0 } else { LEN as f64 };
        let [first, second] = self.factors.map(f64::from);
        let mut constants = vec![("len", LEN as f64), ("first", first), ("nets", nets), ("most", most)];
        if forward {
            constants.push(("second", second));
        }
        vec![Dispatch::linear(KERNELS, if forward { "two" } else { "one" }, constants, LEN)]
    }

    fn backward(&self, g: &mut Gradient) -> Result<()> {
        if self.fault == Fault::NoGradient {
            return Ok(());
        }
        g.give(0, self.gradient(self.factors[0]), &[g.grad_output()])?;
        match self.fault {
            Fault::SecondForgotten => Ok(()),
            Fault::GradientOfAnotherShape => {
                let part = genregrad::ops::fill(g.tape, [LEN - 1].into(), 3.0)?;
                g.pass(1, part);
                Ok(())
            }
            _ => g.give(1, self.gradient(self.factors[1]), &[g.grad_output()]),
        }
    }
}

fn case(fault: Fault) -> Result<Case> {
    let mut draft = Draft::new("planted");
    let (a, b) = (draft.param("a", [LEN])?, draft.param("b", [LEN])?);
    let factors = if fault == Fault::ZeroEverywhere { [0.0; 2] } else { [2.0, 3.0] };
    let y = draft.tape.one(Sum { factors, inputs: 2, fault }, &[a, b])?;
    draft.finish("sum", "planted", y)
}

const VALUES: &str = "values: CPU against f64";
const GRADIENT: &str = "gradient: CPU against f64 differences";
const GPU: &str = "values, gradients: GPU against CPU";
const NETS: &str = "values, gradients: two nets at once on the GPU against CPU";

/// The checks of an operation with a fault, and the names of those that fail.
fn checks(fault: Fault, gpu: Option<&Device>) -> (Vec<Check>, Vec<String>) {
    let checks = check::run_cases(&[case(fault).unwrap()], gpu, &mut |_, _, _| ()).unwrap();
    let failed = checks.iter().filter(|check| !check.passed).map(|check| check.what.clone()).collect();
    (checks, failed)
}

#[test]
fn a_gradient_that_is_needed_and_not_given_is_refused_by_name() {
    let refused = |fault| match case(fault) {
        Err(Error::Shape { op, message }) => format!("{op}: {message}"),
        other => panic!("{fault:?}: {other:?}"),
    };
    assert_eq!(refused(Fault::NoGradient), "sum: gives no gradient of its input 0, a, which needs one");
    assert_eq!(refused(Fault::SecondForgotten), "sum: gives no gradient of its input 1, b, which needs one");
    assert_eq!(refused(Fault::GradientOfAnotherShape), "sum: gives a gradient [69] of its input 1, b [70]");
}

#[test]
fn planted_faults_are_found_on_the_cpu() {
    let (found, failed) = checks(Fault::None, None);
    assert!(failed.is_empty(), "{found:#?}");
    // Values: y and two gradients. Gradient: every element of both inputs.
    assert_eq!(found.iter().map(|check| check.compared).collect::<Vec<_>>(), [3 * LEN as u64, 2 * LEN as u64]);
    for (fault, expected) in [
        (Fault::NanOnBothSides, vec![VALUES, GRADIENT]),
        (Fault::ZeroGradient, vec![GRADIENT]),
        (Fault::ZeroEverywhere, vec![VALUES, GRADIENT]),
        (Fault::NotCompared, vec![VALUES]),
    ] {
        let (found, failed) = checks(fault, None);
        assert_eq!(failed, expected, "{fault:?}: {found:#?}");
    }
    let (found, _) = checks(Fault::NotCompared, None);
    assert_eq!((found[0].compared, found[0].worst.as_deref()), (0, Some("planted: nothing was compared")));
    let (found, _) = checks(Fault::ZeroEverywhere, None);
    assert_eq!(found[0].worst.as_deref(), Some("planted: every value of sum is 0 on both sides"));
    assert_eq!(found[1].worst.as_deref(), Some("planted: gradient of a: 0 on both sides"));
}

#[test]
fn zeros_that_are_meant_pass() {
    let case = Case { zeros: true, ..case(Fault::ZeroEverywhere).unwrap() };
    let checks = check::run_cases(&[case], None, &mut |_, _, _| ()).unwrap();
    assert!(checks.iter().all(|check| check.passed), "{checks:#?}");
}

#[test]
fn planted_faults_are_found_on_the_gpu() {
    let Some(gpu) = common::gpu().map(Device::Gpu) else { return };
    let (found, failed) = checks(Fault::None, Some(&gpu));
    assert!(failed.is_empty(), "{found:#?}");
    for (fault, expected) in [
        (Fault::IgnoresZ, vec![NETS]),
        (Fault::GradientIgnoresZ, vec![NETS]),
        (Fault::WritesNothing, vec![GPU, NETS]),
        (Fault::ZeroEverywhere, vec![VALUES, GRADIENT, GPU, NETS]),
        (Fault::NotCompared, vec![VALUES, GPU, NETS]),
    ] {
        let (found, failed) = checks(fault, Some(&gpu));
        assert_eq!(failed, expected, "{fault:?}: {found:#?}");
    }
}

#[test]
fn the_worst_number_comes_with_its_index_and_its_neighbours() {
    let (found, _) = checks(Fault::NanOnBothSides, None);
    let detail = found[0].detail.clone().unwrap();
    assert_eq!((detail.value.as_str(), &detail.shape[..], &detail.index[..]), ("sum#0", &[LEN][..], &[3][..]));
    assert!(detail.got.is_nan() && detail.expected.is_nan());
    // Two numbers either side, all of them right but the one in the middle.
    assert_eq!((detail.corner, detail.neighbourhood.len(), detail.neighbourhood[0].len()), (vec![1], 1, 5));
    for (column, [got, expected]) in detail.neighbourhood[0].iter().enumerate() {
        assert!(if column == 2 { got.is_nan() } else { (got - expected).abs() < 1e-5 && *got != 0.0 });
    }
}

/// A case that was fused has gradients that never reach memory: they are compared all the same.
#[test]
fn gradients_of_a_fused_case_are_compared() {
    for case in check::cases::ops().unwrap().iter().filter(|case| case.subject == "dense") {
        let params: u64 = case.params.iter().map(|(_, tensor)| tensor.data().len() as u64).sum();
        for case in [case.clone(), case.fused()] {
            let finding = check::gradients(&case).unwrap();
            assert!(finding.passed() && finding.compared == params, "{}: {finding:?}", case.name);
        }
    }
}
