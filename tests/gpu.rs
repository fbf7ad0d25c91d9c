//! The GPU executor on kernels made for the test: data goes there and back unharmed, and mistakes come back as errors.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use genregrad::device::gpu::{Gpu, NETS};
use genregrad::dispatch::{Bind, Dispatch, Shader};
use genregrad::error::Result;
use genregrad::run::gpu::Executor;
use genregrad::tape::{Gradient, Op, Step, Tape};
use genregrad::tensor::Shape;

/// An operation that exists on the GPU only.
#[derive(Debug)]
struct Test {
    shape: Shape,
    dispatches: Vec<Dispatch>,
    in_place: bool,
}

impl Op for Test {
    fn name(&self) -> &'static str {
        "test"
    }

    fn output_shapes(&self, _: &[&Shape]) -> Result<Vec<Shape>> {
        Ok(vec![self.shape.clone()])
    }

    fn reference(&self, _: &[&[f64]], _: &mut [&mut [f64]], _: &Step) {
        unreachable!("runs on the GPU only")
    }

    fn cpu(&self, _: &[&[f32]], _: &mut [&mut [f32]], _: &Step) {
        unreachable!("runs on the GPU only")
    }

    fn gpu(&self) -> Vec<Dispatch> {
        self.dispatches.clone()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        unreachable!("has no gradient")
    }

    fn in_place(&self) -> bool {
        self.in_place
    }

    fn scratch(&self) -> Vec<usize> {
        vec![1]
    }
}

fn op(len: usize, dispatches: Vec<Dispatch>) -> Test {
    Test { shape: [len].into(), dispatches, in_place: false }
}

const NO_STEP: Step = Step { step: 0, seed: 0, learning_rate: 0.0, first: 0 };

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Compiles a tape with one node that has one input and one output of `len` numbers.
fn compile(gpu: &Arc<Gpu>, len: usize, dispatch: Dispatch) -> Result<Executor> {
    let mut tape = Tape::new();
    let input = tape.input("input", [len]);
    tape.push(op(len, vec![dispatch]), &[input]).unwrap();
    Executor::new(&tape, gpu)
}

#[test]
fn values_come_back_bit_for_bit() {
    let Some(gpu) = common::gpu() else { return };
    let mut tape = Tape::new();
    // Quiet and signalling NaNs with payloads, infinities, both zeros, the smallest subnormal, the largest number.
    let odd = [0x7fc0_1234, 0x7f80_0001, 0xffc0_0000, 0x7f80_0000, 0xff80_0000, 0x8000_0000, 0, 1, 0x7f7f_ffff];
    let shapes: [&[usize]; 5] = [&[1], &[7], &[3, 5, 11], &[2, 1, 64, 65], &[100_003]];
    let vars = shapes.map(|shape| tape.input("input", shape));
    let mut executor = Executor::new(&tape, &gpu).unwrap();
    for round in 0..2_usize {
        for &var in &vars {
            let len = tape.shape(var).len();
            let zeros = executor.read(var).unwrap();
            assert!(round > 0 || zeros == vec![0.0; len], "values start as zeros");
            let data: Vec<f32> = (0..len).map(|i| f32::from_bits(odd[(i + round) % odd.len()])).collect();
            executor.write(var, &data).unwrap();
            assert_eq!(bits(&executor.read(var).unwrap()), bits(&data), "shape {}", tape.shape(var));
        }
    }
}

const COUNT: Shader = Shader {
    file: "test-count.wgsl",
    source: "
        override N: u32 = 1u;
        @group(0) @binding(0) var<storage, read_write> result: array<f32>;
        @compute @workgroup_size(64)
        fn count(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
            let i = id.x + id.y * groups.x * 64u;
            if (i < N) { result[i] = f32(i); }
        }",
};

#[test]
fn a_linear_grid_reaches_every_element_once_rows_are_folded() {
    let Some(gpu) = common::gpu() else { return };
    // One row of groups is 32,768 * 64 elements.
    let row = 32_768 * 64;
    for len in [1, 64, 65, row, row + 1, 2 * row + 197] {
        let dispatch = Dispatch::linear(COUNT, "count", vec![("N", len as f64)], len);
        assert_eq!(dispatch.groups[1] as usize, len.div_ceil(row));
        let mut tape = Tape::new();
        let out = tape.one(op(len, vec![dispatch]), &[]).unwrap();
        let mut executor = Executor::new(&tape, &gpu).unwrap();
        executor.write(out, &vec![f32::NAN; len]).unwrap();
        executor.step(&NO_STEP).unwrap();
        let counted = executor.read(out).unwrap();
        // Whole numbers below 2^24 are exact in f32.
        let wrong = counted.iter().enumerate().find(|(i, value)| **value != *i as f32);
        assert_eq!(wrong, None, "{len} elements");
    }
}

const STEP: Shader = Shader {
    file: "test-step.wgsl",
    source: "
        struct Step { @align(16) step: u32, seed: u32, learning_rate: f32, first: u32 }
        @group(0) @binding(0) var<storage, read_write> result: array<u32>;
        @group(1) @binding(0) var<uniform> steps: array<Step, 16>;
        @compute @workgroup_size(1)
        fn show(@builtin(workgroup_id) group: vec3u) {
            let now = steps[group.z];
            result[4u * group.z] = now.step;
            result[4u * group.z + 1u] = now.seed;
            result[4u * group.z + 2u] = bitcast<u32>(now.learning_rate);
            result[4u * group.z + 3u] = now.first;
        }",
};

#[test]
fn each_step_sees_its_own_uniform() {
    let Some(gpu) = common::gpu() else { return };
    let mut tape = Tape::new();
    let out = tape.one(op(4, vec![Dispatch::single(STEP, "show", vec![])]), &[]).unwrap();
    let mut executors = Executor::several(&tape, &gpu, NETS).unwrap();
    assert!(Executor::several(&tape, &gpu, NETS + 1).is_err());
    let steps: Vec<Step> = (1..=NETS as u32)
        .map(|number| Step {
            first: 7 * number,
            ..Step::new(number * number * 300, 0xdead_0000 + number, 1e-3 / f64::from(number))
        })
        .collect();
    for (executor, step) in executors.iter_mut().zip(&steps) {
        executor.step(step).unwrap();
    }
    for (executor, step) in executors.iter_mut().zip(&steps) {
        let expected = [step.step, step.seed, step.learning_rate.to_bits(), step.first];
        assert_eq!(bits(&executor.read(out).unwrap()), expected);
    }
}

const LINE: Shader = Shader {
    file: "test-line.wgsl",
    source: "
        override SLOPE: f32 = 3.0;
        @group(0) @binding(0) var<storage, read> a: array<f32>;
        @group(0) @binding(1) var<storage, read> b: array<f32>;
        @group(0) @binding(2) var<storage, read_write> result: array<f32>;
        @compute @workgroup_size(64)
        fn line(@builtin(global_invocation_id) id: vec3u) {
            if (id.x < arrayLength(&result)) { result[id.x] = SLOPE * a[id.x] + b[id.x]; }
        }
        @compute @workgroup_size(64)
        fn double(@builtin(global_invocation_id) id: vec3u) {
            if (id.x < arrayLength(&result)) { result[id.x] = 2.0 * result[id.x]; }
        }",
};

#[test]
fn constants_kernels_and_nodes_follow_in_order() {
    let Some(gpu) = common::gpu() else { return };
    let n = 101;
    let line = |constants| Dispatch::linear(LINE, "line", constants, n);
    let double = || Dispatch::linear(LINE, "double", vec![], n);
    let mut tape = Tape::new();
    let (a, b) = (tape.input("a", [n]), tape.input("b", [n]));
    // u = 2 (3 a + b); v = 5 a + a, one value read through two bindings; w = 2 (2 (-u + v)).
    let u = tape.one(op(n, vec![line(vec![]), double()]), &[a, b]).unwrap();
    let v = tape.one(op(n, vec![line(vec![("SLOPE", 5.0)])]), &[a, a]).unwrap();
    let w = tape.one(op(n, vec![line(vec![("SLOPE", -1.0)]), double(), double()]), &[u, v]).unwrap();
    let mut executor = Executor::new(&tape, &gpu).unwrap();
    for round in 0..3_u8 {
        let first: Vec<f32> = (0..n).map(|i| i as f32 - f32::from(round)).collect();
        let second: Vec<f32> = (0..n).map(|i| (i * i) as f32).collect();
        executor.write(a, &first).unwrap();
        executor.write(b, &second).unwrap();
        executor.step(&NO_STEP).unwrap();
        let expected: Vec<f32> =
            first.iter().zip(&second).map(|(a, b)| 4.0 * (6.0 * a - 2.0 * (3.0 * a + b))).collect();
        assert_eq!(executor.read(w).unwrap(), expected, "round {round}");
    }
}

const COUNTER: Shader = Shader {
    file: "test-counter.wgsl",
    source: "
        @group(0) @binding(0) var<storage, read> amount: array<f32>;
        @group(0) @binding(1) var<storage, read_write> sum: array<f32>;
        @compute @workgroup_size(1)
        fn count() { sum[0] = 2.0 * sum[0] + amount[0]; }",
};

#[test]
fn many_steps_in_flight_keep_their_order_and_inputs() {
    let Some(gpu) = common::gpu() else { return };
    let mut tape = Tape::new();
    let (amount, sum) = (tape.input("amount", [1]), tape.state("sum", [1]).unwrap());
    let add = Test { in_place: true, ..op(1, vec![Dispatch::single(COUNTER, "count", vec![])]) };
    tape.update(add, &[amount], &[sum]).unwrap();
    let mut executor = Executor::new(&tape, &gpu).unwrap();
    // s becomes 2 s + [k is even], for k below 24: the bits 1010...10 of a number that f32 holds exactly.
    for k in 0..24_u8 {
        executor.write(amount, &[f32::from((k + 1) % 2)]).unwrap();
        executor.step(&NO_STEP).unwrap();
    }
    assert_eq!(executor.read(sum).unwrap(), [f32::from(0xaa_u8) * 65_793.0]);
    executor.write(sum, &[0.0]).unwrap();
    executor.step(&NO_STEP).unwrap();
    assert_eq!(executor.read(sum).unwrap(), [0.0], "the host can reset a state");
}

const COPY: Shader = Shader {
    file: "test-copy.wgsl",
    source: "
        @group(0) @binding(0) var<storage, read> rows: array<f32>;
        @group(0) @binding(1) var<storage, read> labels: array<f32>;
        @group(0) @binding(2) var<storage, read_write> result: array<f32>;
        @compute @workgroup_size(64)
        fn pair(@builtin(global_invocation_id) id: vec3u) {
            let length = arrayLength(&rows) / arrayLength(&labels);
            if (id.x < arrayLength(&labels)) {
                result[2u * id.x] = rows[id.x * length + length - 1u];
                result[2u * id.x + 1u] = labels[id.x];
            }
        }",
};

/// Tables of 5,300 rows of 6,400 numbers are more than 128 MiB: as much as many devices bind at once.
#[test]
fn a_data_set_on_the_device_feeds_the_steps() {
    let Some(gpu) = common::gpu() else { return };
    let (batch, length) = (4, 6_400);
    let mut tape = Tape::new();
    let (rows, labels) = (tape.input("rows", [batch, length]), tape.labels(batch));
    let pair = Dispatch::linear(COPY, "pair", vec![], batch);
    let out =
        tape.one(Test { shape: [batch, 2].into(), dispatches: vec![pair], in_place: false }, &[rows, labels]).unwrap();
    let mut executor = Executor::new(&tape, &gpu).unwrap();
    for count in [3, 5_300] {
        // The last number of row k is k, its label is -k; the list goes backwards.
        let table: Vec<f32> = (0..count * length).map(|i| (i / length) as f32).collect();
        let classes: Vec<f32> = (0..count).map(|row| -(row as f32)).collect();
        let order: Vec<u32> = (0..count as u32).rev().collect();
        let feed = executor.feed(&[(rows, &table, 0.5), (labels, &classes, -1.0)], batch, count).unwrap();
        executor.order(&feed, &order).unwrap();
        let expected = |place: usize| match order.get(place) {
            Some(&row) => [row as f32, -(row as f32)],
            None => [0.5, -1.0],
        };
        for first in [0, (count - 1) / batch * batch] {
            executor.step_from(&feed, first, &NO_STEP).unwrap();
            let wanted: Vec<f32> = (first..first + batch).flat_map(expected).collect();
            assert_eq!(executor.read(out).unwrap(), wanted, "{count} rows, from {first}");
        }
        let all: Vec<f32> = (0..count).flat_map(expected).collect();
        assert_eq!(executor.over(&feed, count, out, &NO_STEP).unwrap(), all, "{count} rows");
        // A shorter list, and then a step on what the host writes.
        executor.order(&feed, &[1]).unwrap();
        assert_eq!(executor.over(&feed, 1, out, &NO_STEP).unwrap(), [1.0, -1.0]);
        executor.write(rows, &vec![7.0; batch * length]).unwrap();
        executor.step(&NO_STEP).unwrap();
        assert_eq!(executor.read(out).unwrap()[..4], [7.0, -1.0, 7.0, -1.0]);
        // Two sources in turn, without a read between them.
        let other = executor.feed(&[(labels, &[5.0, 6.0, 7.0, 8.0], -1.0)], batch, batch).unwrap();
        executor.order(&other, &[3, 2, 1, 0]).unwrap();
        executor.step_from(&feed, 0, &NO_STEP).unwrap();
        executor.step_from(&other, 0, &NO_STEP).unwrap();
        assert_eq!(executor.read(out).unwrap()[..4], [1.0, 8.0, 0.5, 7.0]);
    }
}

/// Nets of a thread each: their own data, their own number of steps, now and then a look at what there is. Nobody waits
/// for one that has left.
#[test]
fn nets_side_by_side_go_their_own_ways() {
    let Some(gpu) = common::gpu() else { return };
    let sum = Shader {
        file: "test-sum.wgsl",
        source: "
            @group(0) @binding(0) var<storage, read> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> sum: array<f32>;
            @compute @workgroup_size(1)
            fn add(@builtin(workgroup_id) group: vec3u) { sum[group.z] += x[2u * group.z] + x[2u * group.z + 1u]; }",
    };
    let mut tape = Tape::new();
    let (x, total) = (tape.input("x", [2, 1]), tape.state("sum", [1]).unwrap());
    let add = Test { in_place: true, ..op(1, vec![Dispatch::single(sum, "add", vec![])]) };
    tape.update(add, &[x], &[total]).unwrap();
    let executors = Executor::several(&tape, &gpu, 4).unwrap();
    std::thread::scope(|scope| {
        for (net, mut executor) in executors.into_iter().enumerate() {
            scope.spawn(move || {
                // Rows 1, 2, ... of which the last batch has but one.
                let rows: Vec<f32> = (0..=20 * net).map(|row| (row + 1 + 1000 * net) as f32).collect();
                let order: Vec<u32> = (0..rows.len() as u32).rev().collect();
                let feed = executor.feed(&[(x, &rows, 0.0)], 2, rows.len()).unwrap();
                let mut expected = 0.0;
                for _ in 0..=2 * net {
                    executor.order(&feed, &order).unwrap();
                    for first in (0..rows.len()).step_by(2) {
                        executor.step_from(&feed, first, &NO_STEP).unwrap();
                    }
                    expected += rows.iter().sum::<f32>();
                    assert_eq!(executor.read(total).unwrap(), [expected], "net {net}");
                }
                executor.write(x, &[0.25, 0.5]).unwrap();
                executor.step(&NO_STEP).unwrap();
                assert_eq!(executor.read(total).unwrap(), [expected + 0.75], "net {net}");
            });
        }
    });
}

#[test]
fn scratch_memory_and_old_values_are_bound_as_asked() {
    let Some(gpu) = common::gpu() else { return };
    // sum = 2 sum + amount in two steps: twice the old value to scratch memory, then back with the amount.
    let shader = Shader {
        file: "test-scratch.wgsl",
        source: "
            @group(0) @binding(0) var<storage, read> old: array<f32>;
            @group(0) @binding(1) var<storage, read_write> to: array<f32>;
            @group(0) @binding(2) var<storage, read> amount: array<f32>;
            @compute @workgroup_size(1) fn twice() { to[0] = 2.0 * old[0]; }
            @compute @workgroup_size(1) fn add() { to[0] = old[0] + amount[0]; }",
    };
    let twice = Dispatch::single(shader, "twice", vec![]).binding([Bind::Old(0), Bind::Scratch(0)]);
    let add = Dispatch::single(shader, "add", vec![]).binding([Bind::ScratchRead(0), Bind::Write(0), Bind::Read(0)]);
    let mut tape = Tape::new();
    let (amount, sum) = (tape.input("amount", [1]), tape.state("sum", [1]).unwrap());
    tape.update(Test { in_place: true, ..op(1, vec![twice, add]) }, &[amount], &[sum]).unwrap();
    let mut executor = Executor::new(&tape, &gpu).unwrap();
    executor.write(amount, &[3.0]).unwrap();
    for expected in [3.0, 9.0, 21.0] {
        executor.step(&NO_STEP).unwrap();
        assert_eq!(executor.read(sum).unwrap(), [expected]);
    }
}

#[test]
fn a_profile_times_every_kernel_and_changes_nothing() {
    let Some(gpu) = common::gpu() else { return };
    if !gpu.has_timestamps() {
        return assert!(Executor::new(&Tape::new(), &gpu).unwrap().profile(&NO_STEP).is_err());
    }
    let mut tape = Tape::new();
    let out = tape.one(op(101, vec![Dispatch::linear(COUNT, "count", vec![("N", 101.0)], 101)]), &[]).unwrap();
    let mut executor = Executor::new(&tape, &gpu).unwrap();
    let timings = executor.profile(&NO_STEP).unwrap();
    assert_eq!(
        timings.iter().map(|timing| (timing.op, timing.kernel.as_str())).collect::<Vec<_>>(),
        [("test", "count")]
    );
    assert!(timings[0].seconds >= 0.0 && timings[0].seconds < 60.0, "{timings:?}");
    assert_eq!(executor.read(out).unwrap()[100], 100.0);
}

#[test]
fn a_kernel_that_does_not_compile_is_an_error_that_names_its_file() {
    let Some(gpu) = common::gpu() else { return };
    let copy = "@group(0) @binding(0) var<storage, read> a: array<f32>;
        @group(0) @binding(1) var<storage, read_write> b: array<f32>;
        @compute @workgroup_size(1) fn copy() { b[0] = a[0]; }";
    let swapped = "@group(0) @binding(1) var<storage, read> a: array<f32>;
        @group(0) @binding(0) var<storage, read_write> b: array<f32>;
        @compute @workgroup_size(1) fn copy() { b[0] = a[0]; }";
    let good = Shader { file: "test-good.wgsl", source: copy };
    let cases = [
        Dispatch::single(Shader { file: "test-bad.wgsl", source: "fn copy( {" }, "copy", vec![]),
        Dispatch::single(
            Shader { file: "test-bad.wgsl", source: "@compute @workgroup_size(1) fn copy() { let x: f32 = 1u; }" },
            "copy",
            vec![],
        ),
        Dispatch::single(Shader { file: "test-bad.wgsl", source: swapped }, "copy", vec![]),
        Dispatch::single(Shader { file: "test-bad.wgsl", source: copy }, "paste", vec![]),
        Dispatch::single(Shader { file: "test-bad.wgsl", source: copy }, "copy", vec![("WIDTH", 4.0)]),
    ];
    for dispatch in cases {
        let message = compile(&gpu, 1, dispatch.clone()).unwrap_err().to_string();
        assert!(message.starts_with("device: shaders/test-bad.wgsl: "), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    compile(&gpu, 1, Dispatch::single(good, "copy", vec![])).unwrap();
}

#[test]
fn what_exceeds_the_device_is_an_error_with_a_remedy() {
    let Some(gpu) = common::gpu() else { return };
    let most = gpu.info().max_binding_bytes;
    let mut tape = Tape::new();
    tape.input("spectra", [most as usize / 4 + 1]);
    let message = Executor::new(&tape, &gpu).unwrap_err().to_string();
    assert!(message.contains("spectra") && message.contains("smaller batch"), "{message}");

    let mut dispatch = Dispatch::linear(COUNT, "count", vec![], 1);
    dispatch.groups = [70_000, 1];
    let mut tape = Tape::new();
    tape.push(op(1, vec![dispatch]), &[]).unwrap();
    let message = Executor::new(&tape, &gpu).unwrap_err().to_string();
    assert!(message.contains("70000 x 1 workgroups") && message.contains("smaller batch"), "{message}");
}

#[test]
fn a_lost_device_is_an_error_at_the_next_call() {
    type Call = fn(&mut Executor, &Tape) -> Result<()>;
    let write: Call = |executor, tape| executor.write(tape.nodes()[0].reads[0], &[1.0]);
    let step: Call = |executor, _| executor.step(&NO_STEP);
    let read: Call = |executor, tape| executor.read(tape.nodes()[0].reads[0]).map(drop);
    // A loss is known once the work before it has ended: `busy` leaves some, and then only `read` must notice.
    for (call, busy) in [(write, false), (step, false), (read, false), (read, true)] {
        let Some(gpu) = common::fresh_gpu() else { return };
        let mut tape = Tape::new();
        let input = tape.input("input", [1]);
        tape.push(op(1, vec![Dispatch::single(COUNTER, "count", vec![])]), &[input]).unwrap();
        let mut executor = Executor::new(&tape, &gpu).unwrap();
        for _ in 0..5 {
            executor.write(input, &[1.0]).unwrap();
            executor.step(&NO_STEP).unwrap();
        }
        if !busy {
            executor.read(input).unwrap();
        }
        gpu.device().destroy();
        for _ in 0..2 {
            let message = call(&mut executor, &tape).unwrap_err().to_string();
            assert!(message.starts_with("device: lost: "), "{message}");
        }
        assert!(Executor::new(&tape, &gpu).is_err());
    }
}
