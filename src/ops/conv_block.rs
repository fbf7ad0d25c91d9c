//! Convolution, bias, activation and max-pooling as one operation; recorded by fusion only ([`crate::run::fuse`]).
//!
//! The activations (LeakyReLU with a slope of 0 or more, tanh) are monotone, so the pool comes first and the winners
//! alone are activated:
//!
//! ```text
//! y[n, o, p, q] = activation(bias[o] + max over window (p, q) of (weight * x)[n, o, i, j])
//! ```
//!
//! # Shapes
//! `input [N, C_in, H, W]`, `weight [C_out, C_in, K_h, K_w]`, `bias [C_out]` (or none) to `pooled [N, C_out, H_p,
//! W_p]` and `argmax` of that shape: the winner's place `i W_out + j` in its plane of the convolution, as in
//! [`mod@super::max_pool2d`]. A forward pass alone needs no `argmax`, and writes none.
//!
//! # Gradient
//! Only winners have one, and the activation's slope there follows from y: `g = grad_pooled * slope(y)`.
//! With (i, j) the winner of window (p, q):
//! ```text
//! grad_weight[o, c, r, s] = sum_{n, p, q} g[n, o, p, q] x[n, c, i + r - top, j + s - left]
//! grad_input[n, c, h, w]  = sum_{o, p, q} g[n, o, p, q] weight[o, c, h + top - i, w + left - j]
//! grad_bias[o]            = sum_{n, p, q} g[n, o, p, q]
//! ```
//! One node writes all three (`grad_input` only if it is needed).
//!
//! # CPU
//! Forward, each row of sixteen channels goes through a `Pool` while it is in the cache: the map is never whole.
//! Backward, the winners' gradients are taken one by one (`winners.rs`), or as maps of mostly zeros where they are many
//! enough for `spectral.rs` to be faster.

mod winners;

use std::sync::Arc;

use rayon::prelude::*;

use super::conv_tiled::{self, Constants, WeightGradient};
use super::conv2d::{self, Conv2d};
use super::kernels::simd::{self, Lanes};
use super::kernels::{Kernel, LANES, Vector, run};
use super::leaky_relu::{self, LeakyRelu};
use super::max_pool2d::{self, MaxPool2d};
use super::pool::{self, Pool};
use super::spectral::Spectral;
use super::tanh::{self, Tanh};
use super::{expect, once, scratch};
use crate::error::Result;
use crate::shader;
use crate::tape::{Bind, Dispatch, Fusion, Gradient, Neighbours, Node, Op, Step};
use crate::tensor::Shape;

use winners::Winners;

/// An activation that keeps order and whose slope follows from its value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Monotone {
    LeakyRelu(f32),
    Tanh,
}

impl Monotone {
    /// The activation that node `number` is, if it is one.
    fn of(around: &Neighbours, number: usize) -> Option<Self> {
        match around.op::<LeakyRelu>(number) {
            Some(op) => (op.slope >= 0.0).then_some(Monotone::LeakyRelu(op.slope)),
            None => around.op::<Tanh>(number).map(|_| Monotone::Tanh),
        }
    }

    /// True if node `number` is the gradient of such an activation.
    fn has_gradient(self, around: &Neighbours, number: usize) -> bool {
        match self {
            Monotone::LeakyRelu(_) => around.op::<leaky_relu::GradInput>(number).is_some(),
            Monotone::Tanh => around.op::<tanh::GradInput>(number).is_some(),
        }
    }

    /// The derivative where the activation is `y`.
    #[inline(always)]
    fn slope(self, y: f32) -> f32 {
        match self {
            Monotone::LeakyRelu(_) if y > 0.0 => 1.0,
            Monotone::LeakyRelu(slope) => slope,
            Monotone::Tanh => 1.0 - y * y,
        }
    }

    /// What tells shaders which one it is.
    fn constants(self) -> Constants {
        let (saturating, slope) = match self {
            Monotone::LeakyRelu(slope) => (0.0, f64::from(slope)),
            Monotone::Tanh => (1.0, 0.0),
        };
        vec![("saturating", saturating), ("slope", slope)]
    }

    fn apply_f64(self, x: f64) -> f64 {
        match self {
            Monotone::LeakyRelu(_) if x > 0.0 => x,
            Monotone::LeakyRelu(slope) => f64::from(slope) * x,
            Monotone::Tanh => x.tanh(),
        }
    }

    fn slope_f64(self, y: f64) -> f64 {
        match self {
            Monotone::LeakyRelu(_) if y > 0.0 => 1.0,
            Monotone::LeakyRelu(slope) => f64::from(slope),
            Monotone::Tanh => 1.0 - y * y,
        }
    }
}

/// Fuses a pool with the convolution before it, if nothing else sees what is between them. In a training step the
/// gradients of the three become one node too:
///
/// ```text
/// conv2d, activation, max_pool2d                              ->  conv_block, in the place of max_pool2d
/// max_pool2d.grad, activation.grad, conv2d.grad (all of them)  ->  conv_block.grad, in the place of max_pool2d.grad
/// ```
pub(super) fn fuse(pool: &MaxPool2d, around: &Neighbours) -> Option<Fusion> {
    let node = around.node(around.number);
    let [activated, pooled, argmax] = [node.reads[0], node.writes[0], node.writes[1]];
    let activation_at = around.writer(activated)?;
    let activation = Monotone::of(around, activation_at)?;
    let map = around.node(activation_at).reads[0];
    let conv_at = around.writer(map)?;
    let mut block = ConvBlock::new(around.op::<Conv2d>(conv_at)?.clone(), activation, pool.clone());
    let reads = around.node(conv_at).reads.clone();
    let (input, weight) = (reads[0], reads[1]);

    let mut fusion = Fusion { removed: vec![conv_at, activation_at, around.number], added: Vec::new() };
    let seen_by = |var, readers: &[usize]| around.readers(var) == readers;
    let Some(&pool_grad_at) = around.readers(argmax).first() else {
        block.places = false;
        fusion.added.push((around.number, Node { op: Arc::new(block), reads, writes: vec![pooled] }));
        return (seen_by(activated, &[around.number]) && seen_by(map, &[activation_at])).then_some(fusion);
    };
    fusion.added.push((around.number, Node { op: Arc::new(block.clone()), reads, writes: vec![pooled, argmax] }));

    around.op::<max_pool2d::GradInput>(pool_grad_at)?;
    let (grad_pooled, grad_activated) = (around.node(pool_grad_at).reads[0], around.node(pool_grad_at).writes[0]);
    let &[activation_grad_at] = around.readers(grad_activated).as_slice() else { return None };
    let activation_grad = around.node(activation_grad_at);
    // LeakyReLU's gradient reads its input, tanh's its output.
    let (seen, map_readers, activated_readers) = match activation {
        Monotone::LeakyRelu(_) => (map, vec![activation_at, activation_grad_at], vec![around.number]),
        Monotone::Tanh => (activated, vec![activation_at], vec![around.number, activation_grad_at]),
    };
    let exact = around.node(pool_grad_at).reads[1] == argmax
        && activation.has_gradient(around, activation_grad_at)
        && activation_grad.reads == [seen, grad_activated]
        && seen_by(argmax, &[pool_grad_at])
        && seen_by(map, &map_readers)
        && seen_by(activated, &activated_readers);
    if !exact {
        return None;
    }
    let grad_map = activation_grad.writes[0];
    let (mut grad_weight, mut grad_bias, mut grad_input) = (None, None, None);
    let conv_grads = around.readers(grad_map);
    for &number in &conv_grads {
        let node = around.node(number);
        let (slot, expected) = if around.op::<conv2d::GradWeight>(number).is_some() {
            (&mut grad_weight, vec![grad_map, input])
        } else if around.op::<conv2d::GradInput>(number).is_some() {
            (&mut grad_input, vec![grad_map, weight])
        } else {
            around.op::<conv2d::GradBias>(number)?;
            (&mut grad_bias, vec![grad_map])
        };
        if node.reads != expected || slot.replace(node.writes[0]).is_some() {
            return None;
        }
    }
    if grad_bias.is_some() != block.conv.bias {
        return None;
    }
    let grad = Grad { block, input: grad_input.is_some() };
    let writes = std::iter::once(grad_weight?).chain(grad_bias).chain(grad_input).collect();
    let reads = vec![grad_pooled, pooled, argmax, input, weight];
    fusion.added.push((pool_grad_at, Node { op: Arc::new(grad), reads, writes }));
    fusion.removed.extend([pool_grad_at, activation_grad_at]);
    fusion.removed.extend(conv_grads);
    Some(fusion)
}

#[derive(Clone, Debug)]
struct ConvBlock {
    conv: Conv2d,
    activation: Monotone,
    pool: MaxPool2d,
    /// Whether `argmax` is written.
    places: bool,
    /// The plan of [`mod@super::spectral`], for kernels that are transformed in either direction.
    spectral: Option<Spectral>,
}

/// Kernels of fewer taps are faster summed directly than transformed, forwards.
const FORWARD_TAPS: usize = 8;

/// The same backwards, where two products share the transforms.
const BACKWARD_TAPS: usize = 4;

/// From this size of window on, winners are so few that their gradients are faster summed one by one than transformed.
const DIRECT_WINDOW: usize = 8;

impl ConvBlock {
    fn new(conv: Conv2d, activation: Monotone, pool: MaxPool2d) -> Self {
        let Conv2d { c_in, h, w, c_out, k_h, k_w, .. } = conv;
        let (h_out, w_out) = conv.out();
        let plan = || Spectral::new([c_in, h, w], [c_out, h_out, w_out], (k_h, k_w), conv.pad());
        let spectral = (k_h * k_w >= FORWARD_TAPS.min(BACKWARD_TAPS)).then(plan);
        ConvBlock { conv, activation, pool, places: true, spectral }
    }

    /// The transforms' plan, if they are faster forwards.
    fn transforms_forward(&self) -> Option<&Spectral> {
        self.spectral.as_ref().filter(|_| self.conv.k_h * self.conv.k_w >= FORWARD_TAPS)
    }

    /// The transforms' plan, if they are faster backwards.
    fn transforms_backward(&self) -> Option<&Spectral> {
        let many = self.conv.k_h * self.conv.k_w >= BACKWARD_TAPS;
        self.spectral.as_ref().filter(|_| many && self.pool.k_h * self.pool.k_w < DIRECT_WINDOW)
    }

    fn pooled(&self) -> Shape {
        self.pool.output()
    }

    /// Elements of a pooled plane.
    fn windows(&self) -> usize {
        self.pool.out().0 * self.pool.out().1
    }

    /// Elements of the convolution's whole map, which only the reference ever makes.
    fn map_len(&self) -> usize {
        let (h, w) = self.conv.out();
        self.conv.n * self.conv.c_out * h * w
    }

    /// What the forward kernels bind: the bias, if there is one, last. They always write places: those that nobody wants
    /// into scratch memory.
    fn binds(&self) -> impl Iterator<Item = Bind> {
        let bias = self.conv.bias.then_some(Bind::Read(2));
        let places = if self.places { Bind::Write(1) } else { Bind::Scratch(0) };
        [Bind::Read(0), Bind::Read(1), Bind::Write(0), places].into_iter().chain(bias)
    }

    fn dispatch(&self, entry: &'static str, threads: usize) -> Dispatch {
        let Conv2d { n, c_in, h, w, c_out, k_h, k_w, .. } = self.conv;
        let ((top, left), (h_out, w_out)) = (self.conv.pad(), self.conv.out());
        let (pool_h, pool_w) = (self.pool.k_h, self.pool.k_w);
        let names = ["n", "c_in", "h", "w", "c_out", "k_h", "k_w", "top", "left", "h_out", "w_out", "pool_h", "pool_w"];
        let sizes = [n, c_in, h, w, c_out, k_h, k_w, top, left, h_out, w_out, pool_h, pool_w];
        let sizes = names.into_iter().zip(sizes.map(|size| size as f64));
        let constants = sizes.chain(self.activation.constants()).collect();
        Dispatch::linear(shader!("conv_block.wgsl"), entry, constants, threads)
    }
}

impl Op for ConvBlock {
    fn name(&self) -> &'static str {
        "conv_block"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let mut expected = vec![self.conv.input(), self.conv.weight()];
        if self.conv.bias {
            expected.push(("bias", [self.conv.c_out].into()));
        }
        expect(self.name(), inputs, &expected)?;
        Ok(vec![self.pooled(); if self.places { 2 } else { 1 }])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        let mut map = vec![0.0; self.map_len()];
        self.conv.reference(read, &mut [&mut map], step);
        match write {
            [pooled] => self.pool.reference(&[&map], &mut [pooled, &mut vec![0.0; self.pooled().len()]], step),
            _ => self.pool.reference(&[&map], write, step),
        }
        write[0].iter_mut().for_each(|y| *y = self.activation.apply_f64(*y));
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let bias = self.conv.bias.then(|| read[2]);
        match write {
            [pooled, argmax] => self.forward(read[0], read[1], bias, (pooled, &mut argmax[..])),
            // Of no size: nothing is allocated.
            [pooled] => {
                let argmax = &mut vec![(); pooled.len()][..];
                self.forward(read[0], read[1], bias, (pooled, argmax));
            }
            _ => unreachable!("one output or two"),
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let entry = if self.conv.bias { "block_bias" } else { "block" };
        let window = (self.pool.k_h, self.pool.k_w);
        let sizes = self.conv.forward();
        let tiled = conv_tiled::correlation(entry, &sizes, self.conv.n, window, self.activation.constants());
        tiled.map_or_else(|| self.gpu_naive(), |dispatch| vec![dispatch.binding(self.binds())])
    }

    fn scratch(&self) -> Vec<usize> {
        if self.places { Vec::new() } else { vec![self.pooled().len()] }
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        let entry = if self.conv.bias { "forward_bias" } else { "forward" };
        vec![self.dispatch(entry, self.pooled().len()).binding(self.binds())]
    }

    fn flops(&self) -> u64 {
        self.conv.operations()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

/// What is kept of the winners' places: numbers, or nothing.
trait Places: Sized + Send {
    fn numbers(places: &mut [Self]) -> Option<&mut [f32]>;
}

impl Places for f32 {
    fn numbers(places: &mut [f32]) -> Option<&mut [f32]> {
        Some(places)
    }
}

impl Places for () {
    fn numbers(_: &mut [()]) -> Option<&mut [f32]> {
        None
    }
}

impl ConvBlock {
    /// `out` is `pooled` and `argmax`.
    fn forward<T: Places>(&self, input: &[f32], weight: &[f32], bias: Option<&[f32]>, out: (&mut [f32], &mut [T])) {
        let Some(plan) = self.transforms_forward() else {
            return self.forward_direct(input, weight, bias, out);
        };
        plan.forward(input, weight, out, self.windows(), |first, pooled, argmax: &mut [T], rows| {
            let argmax = T::numbers(argmax);
            scratch::lanes(pool::kept(&self.pool, argmax.is_some()), |kept| {
                let finish = self.finish(bias, first);
                let mut pool = Pool::new(&self.pool, kept, pooled, argmax, finish);
                rows(&mut |h: usize, row: &mut [Lanes]| pool.row(h, bytemuck::cast_slice(row)));
            });
        });
    }

    /// What makes values of winners: adds the bias of the channels from `first` on, and activates.
    fn finish(&self, bias: Option<&[f32]>, first: usize) -> impl Fn(&mut [[f32; LANES]]) {
        let mut lanes = [0.0; LANES];
        bias.into_iter().for_each(|bias| lanes.iter_mut().zip(&bias[first..]).for_each(|(lane, b)| *lane = *b));
        let activation = self.activation;
        move |row| run(Finish { activation, bias: lanes, row })
    }

    /// Images in parallel, and in each of them blocks of sixteen channels.
    fn forward_direct<T: Places>(
        &self,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        (pooled, argmax): (&mut [f32], &mut [T]),
    ) {
        let (conv, taps, windows) = (self.conv.forward(), self.conv.taps(), self.windows());
        scratch::with(conv.blocks() * taps * LANES, |packed| {
            let packed = packed.as_chunks_mut::<LANES>().0;
            conv.pack(packed, |channel, tap| weight[channel * taps + tap]);
            let packed = &*packed;
            let image = conv.c_out * windows;
            let images = pooled.par_chunks_mut(image).zip(argmax.par_chunks_mut(image));
            images.zip(input.par_chunks(conv.c_in * conv.h * conv.w)).for_each(|((pooled, argmax), image)| {
                scratch::with(conv.widened_len(), |widened| {
                    conv.widen(image, widened);
                    let widened = &*widened;
                    let blocks =
                        pooled.par_chunks_mut(LANES * windows).zip(argmax.par_chunks_mut(LANES * windows)).enumerate();
                    blocks.for_each(|(block, (pooled, argmax))| {
                        let finish = self.finish(bias, block * LANES);
                        let weight = &packed[block * taps..][..taps];
                        let (rows, columns) = pool::used(&self.pool);
                        let argmax = T::numbers(argmax);
                        scratch::lanes(columns + pool::kept(&self.pool, argmax.is_some()), |lanes| {
                            let (row, kept) = lanes.split_at_mut(columns);
                            let row: &mut [[f32; LANES]] = bytemuck::cast_slice_mut(row);
                            let mut pool = Pool::new(&self.pool, kept, pooled, argmax, finish);
                            for i in 0..rows {
                                conv.row(i, weight, widened, row);
                                pool.row(i, row);
                            }
                        });
                    });
                });
            });
        });
    }
}

impl ConvBlock {
    /// The rows of the gradient at the convolution's map, for sixteen channels of an image, in order: zero but at
    /// winners.
    fn grad_rows<'a>(&'a self, read: &[&'a [f32]], image: usize, first: usize) -> impl FnMut(usize, &mut [Lanes]) + 'a {
        let &[grad_pooled, pooled, argmax, ..] = read else { unreachable!("five inputs") };
        let (windows, (h_p, w_p), w_out) = (self.windows(), self.pool.out(), self.conv.out().1);
        let (k_h, k_w) = (self.pool.k_h, self.pool.k_w);
        let channels = LANES.min(self.conv.c_out - first);
        // Channels last: gradients, places, values. All windows at once: then every plane is read from end to end, which
        // the machine foresees.
        let mut kept = scratch::take(3 * windows);
        let (grads, rest) = kept.split_at_mut(windows);
        let (places, values) = rest.split_at_mut(windows);
        let start = (image * self.conv.c_out + first) * windows;
        simd::interleave(&grad_pooled[start..], windows, channels, grads);
        simd::interleave(&argmax[start..], windows, channels, places);
        simd::interleave(&pooled[start..], windows, channels, values);
        run(TimesSlope { activation: self.activation, grads, values });
        move |h: usize, line: &mut [Lanes]| {
            let i = h / k_h;
            if i < h_p {
                let (grads, places) = (&kept[i * w_p..][..w_p], &kept[windows + i * w_p..][..w_p]);
                run(Spread { grads, places, first: h * w_out, k_w, line });
            }
        }
    }

    fn grad_bias(&self, grad_pooled: &[f32], pooled: &[f32], out: &mut [f32]) {
        let windows = self.windows();
        out.par_iter_mut().enumerate().for_each(|(o, out)| {
            let mut sum = 0.0;
            for n in 0..self.conv.n {
                let start = (n * self.conv.c_out + o) * windows;
                let (grads, values) = (&grad_pooled[start..][..windows], &pooled[start..][..windows]);
                run(SumSlopes { activation: self.activation, grads, values, sum: &mut sum });
            }
            *out = sum as f32;
        });
    }
}

/// `row = activation(row + bias)`
struct Finish<'a> {
    activation: Monotone,
    bias: [f32; LANES],
    row: &'a mut [[f32; LANES]],
}

impl Kernel for Finish<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for part in (0..LANES).step_by(V::LANES) {
            let bias = V::load(&self.bias[part..]);
            match self.activation {
                Monotone::LeakyRelu(slope) => {
                    let (slope, zero) = (V::splat(slope), V::splat(0.0));
                    for x in &mut *self.row {
                        let sum = V::load(&x[part..]).add(bias);
                        sum.if_greater(zero, sum, slope.mul(sum)).store(&mut x[part..]);
                    }
                }
                Monotone::Tanh => {
                    for x in &mut *self.row {
                        V::load(&x[part..]).add(bias).store(&mut x[part..]);
                        x[part..part + V::LANES].iter_mut().for_each(|x| *x = x.tanh());
                    }
                }
            }
        }
    }
}

impl Monotone {
    /// `grad` times the derivative where the activation is `y`.
    #[inline(always)]
    fn times_slope<V: Vector>(self, grad: V, y: V) -> V {
        match self {
            Monotone::LeakyRelu(slope) => grad.mul(y.if_greater(V::splat(0.0), V::splat(1.0), V::splat(slope))),
            Monotone::Tanh => grad.mul(y.mul_sub_from(y, V::splat(1.0))),
        }
    }
}

/// `grads *= slope(values)`
struct TimesSlope<'a> {
    activation: Monotone,
    grads: &'a mut [Lanes],
    values: &'a [Lanes],
}

impl Kernel for TimesSlope<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for (grad, value) in self.grads.iter_mut().zip(self.values) {
            for part in (0..LANES).step_by(V::LANES) {
                let (g, y) = (V::load(&grad.0[part..]), V::load(&value.0[part..]));
                self.activation.times_slope(g, y).store(&mut grad.0[part..]);
            }
        }
    }
}

/// Vectors that [`SumSlopes`] adds up before it goes on in f64.
const SHORT_SUM: usize = 8;

/// Adds up `grad * slope(value)` of a plane. In f64 but for the first few: thousands of terms that largely cancel.
struct SumSlopes<'a> {
    activation: Monotone,
    grads: &'a [f32],
    values: &'a [f32],
    sum: &'a mut f64,
}

impl Kernel for SumSlopes<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (grads, grads_left) = self.grads.as_chunks::<LANES>();
        let (values, values_left) = self.values.as_chunks::<LANES>();
        for (grads, values) in grads.chunks(SHORT_SUM).zip(values.chunks(SHORT_SUM)) {
            for part in (0..LANES).step_by(V::LANES) {
                let (mut lanes, mut sum) = ([0.0; LANES], V::splat(0.0));
                for (grad, value) in grads.iter().zip(values) {
                    sum = sum.add(self.activation.times_slope(V::load(&grad[part..]), V::load(&value[part..])));
                }
                sum.store(&mut lanes);
                lanes[..V::LANES].iter().for_each(|x| *self.sum += f64::from(*x));
            }
        }
        for (g, &y) in grads_left.iter().zip(values_left) {
            *self.sum += f64::from(g * self.activation.slope(y));
        }
    }
}

/// One row of a map from a row of windows: each gradient at its place, zeros elsewhere.
struct Spread<'a> {
    grads: &'a [Lanes],
    places: &'a [Lanes],
    /// The row's first place.
    first: usize,
    k_w: usize,
    line: &'a mut [Lanes],
}

impl Kernel for Spread<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut here = self.first as f32;
        let windows = self.grads.iter().zip(self.places);
        for (line, (grad, place)) in self.line.chunks_exact_mut(self.k_w).zip(windows) {
            for line in line {
                for part in (0..LANES).step_by(V::LANES) {
                    let (grad, place) = (V::load(&grad.0[part..]), V::load(&place.0[part..]));
                    place.if_equal(V::splat(here), grad, V::splat(0.0)).store(&mut line.0[part..]);
                }
                here += 1.0;
            }
        }
    }
}

/// The gradients of a [`ConvBlock`]; that of the input only if `input`.
#[derive(Clone, Debug)]
struct Grad {
    block: ConvBlock,
    input: bool,
}

impl Op for Grad {
    fn name(&self) -> &'static str {
        "conv_block.grad"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let conv = &self.block.conv;
        let named = ["grad_pooled", "pooled", "argmax"].map(|name| (name, self.block.pooled()));
        expect(self.name(), inputs, &[&named[..], &[conv.input(), conv.weight()]].concat())?;
        let mut written = vec![conv.weight().1];
        if conv.bias {
            written.push([conv.c_out].into());
        }
        if self.input {
            written.push(conv.input().1);
        }
        Ok(written)
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        let ConvBlock { conv, activation, pool, .. } = &self.block;
        let &[grad_pooled, pooled, argmax, input, weight] = read else { unreachable!("five inputs") };
        let grad: Vec<f64> = grad_pooled.iter().zip(pooled).map(|(g, &y)| g * activation.slope_f64(y)).collect();
        let mut map = vec![0.0; self.block.map_len()];
        max_pool2d::GradInput(pool.clone()).reference(&[&grad, argmax], &mut [&mut map], step);
        let (grad_weight, grad_bias, grad_input) = self.parts(write);
        conv2d::GradWeight(conv.clone()).reference(&[&map, input], &mut [grad_weight], step);
        if let Some(grad_bias) = grad_bias {
            conv2d::GradBias(conv.clone()).reference(&[&map], &mut [grad_bias], step);
        }
        if let Some(grad_input) = grad_input {
            conv2d::GradInput(conv.clone()).reference(&[&map, weight], &mut [grad_input], step);
        }
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let &[grad_pooled, pooled, argmax, input, weight] = read else { unreachable!("five inputs") };
        let (grad_weight, grad_bias, grad_input) = self.parts(write);
        if let Some(plan) = self.block.transforms_backward() {
            let rows = |image: usize, first: usize| self.block.grad_rows(read, image, first);
            plan.backward(input, weight, rows, grad_weight, grad_input);
            if let Some(grad_bias) = grad_bias {
                self.block.grad_bias(grad_pooled, pooled, grad_bias);
            }
            return;
        }
        Winners::new(&self.block).find(grad_pooled, pooled, argmax, |found| {
            found.grad_weight(input, grad_weight);
            if let Some(grad_bias) = grad_bias {
                found.grad_bias(grad_bias);
            }
            if let Some(grad_input) = grad_input {
                found.grad_input(weight, grad_input);
            }
        });
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let (block, conv) = (&self.block, &self.block.conv);
        let reads = [3, 0, 1, 2].map(Bind::Read);
        let gradient = self.tiled();
        let mut dispatches = gradient.weight("winners", &reads, 0).to_vec();
        if conv.bias {
            dispatches.push(gradient.bias("bias_winners", &reads[1..3], 1));
        }
        if self.input {
            let written = 1 + usize::from(conv.bias);
            let (k_h, k_w) = (block.pool.k_h as f64, block.pool.k_w as f64);
            let mut more = block.activation.constants();
            more.extend([("turned", 1.0), ("window_h", k_h), ("window_w", k_w)]);
            let Some(tiled) = conv_tiled::correlation("block_grad_input", &conv.transposed(), conv.n, (1, 1), more)
            else {
                return self.gpu_naive();
            };
            let [grad, weight, pooled, argmax] = [0, 4, 1, 2].map(Bind::Read);
            dispatches.push(tiled.binding([grad, weight, Bind::Write(written), pooled, argmax]));
        }
        dispatches
    }

    fn scratch(&self) -> Vec<usize> {
        vec![self.tiled().scratch()]
    }

    fn gpu_naive(&self) -> Vec<Dispatch> {
        let (block, conv) = (&self.block, &self.block.conv);
        let mut kernels = vec![("grad_weight", conv.weight().1.len())];
        kernels.extend(conv.bias.then_some(("grad_bias", conv.c_out)));
        kernels.extend(self.input.then(|| ("grad_input", conv.input().1.len())));
        let reads = (0..5).map(Bind::Read);
        let dispatch = |(written, (entry, threads))| {
            block.dispatch(entry, threads).binding(reads.clone().chain([Bind::Write(written)]))
        };
        kernels.into_iter().enumerate().map(dispatch).collect()
    }

    fn flops(&self) -> u64 {
        let products = (self.block.pooled().len() * self.block.conv.taps()) as u64;
        2 * products * if self.input { 2 } else { 1 }
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        once(self.name())
    }
}

impl Grad {
    /// How the gradients of weight and bias are cut for the GPU.
    fn tiled(&self) -> WeightGradient {
        WeightGradient::new(&self.block.conv, self.block.windows(), self.block.activation.constants())
    }

    /// What is written: the gradients of weight, bias and input.
    fn parts<'w, T>(&self, write: &'w mut [&mut [T]]) -> (&'w mut [T], Option<&'w mut [T]>, Option<&'w mut [T]>) {
        let mut parts = write.iter_mut().map(|part| &mut **part);
        let weight = parts.next().unwrap_or_default();
        let bias = if self.block.conv.bias { parts.next() } else { None };
        (weight, bias, parts.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Padding;

    /// Kernel 1x2 with weights 1 and 10: the map is 1 20 -28 7, -10 9 -39 -4, and a row that no window covers.
    #[test]
    fn by_hand_with_a_negative_winner_and_a_row_left_over() {
        let conv = Conv2d { n: 1, c_in: 1, h: 3, w: 5, c_out: 1, k_h: 1, k_w: 2, padding: Padding::Valid, bias: true };
        let pool = MaxPool2d { n: 1, c: 1, h: 3, w: 4, k_h: 2, k_w: 2 };
        let block = ConvBlock::new(conv, Monotone::LeakyRelu(0.5), pool);
        let step = Step::new(1, 0, 0.0);
        let x = [1.0, 0.0, 2.0, -3.0, 1.0, 0.0, -1.0, 1.0, -4.0, 0.0, 9.0, 9.0, 9.0, 9.0, 9.0];
        let weight = [1.0, 10.0];
        let (mut y, mut argmax) = ([f32::NAN; 2], [f32::NAN; 2]);
        block.cpu(&[&x, &weight, &[-10.0]], &mut [&mut y, &mut argmax], &step);
        assert_eq!((y, argmax), ([10.0, -1.5], [1.0, 3.0]));

        // Slopes 1 and 1/2: the winners' gradients are 2 and 3.
        let (mut dw, mut db, mut dx) = ([f32::NAN; 2], [f32::NAN; 1], [f32::NAN; 15]);
        let grad = Grad { block, input: true };
        grad.cpu(&[&[2.0, 6.0], &y, &argmax, &x, &weight], &mut [&mut dw, &mut db, &mut dx], &step);
        assert_eq!((dw, db), ([-9.0, 7.0], [5.0]));
        assert_eq!(dx, [0.0, 2.0, 20.0, 3.0, 30.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn slopes_follow_from_values() {
        for activation in [Monotone::LeakyRelu(0.0), Monotone::LeakyRelu(0.3), Monotone::Tanh] {
            for x in [-2.0, -0.5, 0.25, 1.5] {
                let difference = (activation.apply_f64(x + 1e-6) - activation.apply_f64(x - 1e-6)) / 2e-6;
                let y = activation.apply_f64(x);
                assert!((activation.slope_f64(y) - difference).abs() < 1e-8, "{activation:?} at {x}");
                let (mut row, mut grads) = ([[x as f32 - 1.0; LANES]], [Lanes([2.0; LANES])]);
                run(Finish { activation, bias: [1.0; LANES], row: &mut row });
                run(TimesSlope { activation, grads: &mut grads, values: &row.map(Lanes) });
                for (y_lane, grad) in row[0].iter().zip(grads[0].0) {
                    assert!((f64::from(*y_lane) - y).abs() < 1e-6);
                    assert!((f64::from(grad) - 2.0 * difference).abs() < 2e-6);
                }
                assert!((f64::from(activation.slope(y as f32)) - difference).abs() < 1e-6);
            }
        }
    }
}
