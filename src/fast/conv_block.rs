//! Convolution, bias, activation and max-pooling as one operation; recorded by its rule only ([`super::rules::CONV_BLOCK`]).
//!
//! The activations (LeakyReLU with a slope of 0 or more, tanh) are monotone, so max-pooling comes first and only the
//! maxima are activated:
//!
//! ```text
//! y[n, o, p, q] = activation(bias[o] + max over window (p, q) of (weight * x)[n, o, i, j])
//! ```
//!
//! # Shapes
//! `input [N, C_in, H, W]`, `weight [C_out, C_in, K_h, K_w]`, `bias [C_out]` (or none) to `pooled [N, C_out, H_p,
//! W_p]` and `argmax` of that shape: the index `i W_out + j` of the maximum in its plane of the convolution, as in
//! [`mod@crate::ops::max_pool2d`]. A forward pass alone needs no `argmax`, and writes none.
//!
//! # Gradient
//! Only the maxima have a gradient, and the activation's slope there is a function of y: `g = grad_pooled * slope(y)`.
//! With (i, j) the argmax of window (p, q):
//! ```text
//! grad_weight[o, c, r, s] = sum_{n, p, q} g[n, o, p, q] x[n, c, i + r - top, j + s - left]
//! grad_input[n, c, h, w]  = sum_{o, p, q} g[n, o, p, q] weight[o, c, h + top - i, w + left - j]
//! grad_bias[o]            = sum_{n, p, q} g[n, o, p, q]
//! ```
//! One node writes all three (`grad_input` only if it is needed).
//!
//! # CPU
//! Forward, each row of sixteen channels goes through a `Pool` while it is in the cache. The whole map never exists.
//! Backward, large windows have few argmax positions, and their gradients are summed one by one (`winners.rs`). With
//! small windows `fourier_conv.rs` transforms maps that are mostly zero, which is faster.

mod sizes;
mod sums;
mod winners;

use std::sync::Arc;

use rayon::prelude::*;

use super::fourier_conv::FourierConv;
use super::pool::{self, Pool};
use super::scratch;
use super::simd::{self, Kernel, LANES, Lanes, Vector, run};
use super::tiles::{Correlation, Tiles, WeightGradient};
use super::view::View;
use crate::dispatch::{Bind, Dispatch};
use crate::error::Result;
use crate::ops::common::{expect_shapes, no_second_gradient};
use crate::ops::conv2d::{self, Conv2d};
use crate::ops::max_pool2d::{self, MaxPool2d};
use crate::tape::{Gradient, Node, Op, Rewrite, Step, Var};
use crate::tensor::Shape;

use sizes::{BlockSizes, MonotoneActivation};
use winners::Winners;

/// Replaces a pool and the convolution before it, if nothing else reads the values between them. In a training step the
/// gradients of the three become one node too:
///
/// ```text
/// conv2d, activation, max_pool2d                              ->  conv_block, in the place of max_pool2d
/// max_pool2d.grad, activation.grad, conv2d.grad (all of them)  ->  conv_block.grad, in the place of max_pool2d.grad
/// ```
pub(super) fn rewrite(view: &View, pool_at: usize) -> Option<Rewrite> {
    let pool = view.op::<MaxPool2d>(pool_at)?;
    let node = view.node(pool_at);
    let [activated, pooled, argmax] = [node.reads[0], node.writes[0], node.writes[1]];
    let activation_at = view.writer(activated)?;
    let activation = MonotoneActivation::of(view, activation_at)?;
    let map = view.node(activation_at).reads[0];
    let conv_at = view.writer(map)?;
    let mut block = ConvBlock::new(view.op::<Conv2d>(conv_at)?.clone(), activation, pool.clone())?;
    let reads = view.node(conv_at).reads.clone();
    let (input, weight) = (reads[0], reads[1]);

    let mut removed = vec![conv_at, activation_at, pool_at];
    let read_by = |var, readers: &[usize]| view.readers(var) == readers;
    let Some(&pool_grad_at) = view.readers(argmax).first() else {
        block.argmax = false;
        let added = vec![(pool_at, Node::new(Arc::new(block), reads, vec![pooled]))];
        let alone = read_by(activated, &[pool_at]) && read_by(map, &[activation_at]);
        return alone.then_some(Rewrite { removed, added });
    };
    view.op::<max_pool2d::GradInput>(pool_grad_at)?;
    let (grad_pooled, grad_activated) = (view.node(pool_grad_at).reads[0], view.node(pool_grad_at).writes[0]);
    let &[activation_grad_at] = view.readers(grad_activated).as_slice() else { return None };
    let activation_grad = view.node(activation_grad_at);
    // LeakyReLU's gradient reads its input, tanh's its output.
    let (slope_of, map_readers, activated_readers) = match activation {
        MonotoneActivation::LeakyRelu(_) => (map, vec![activation_at, activation_grad_at], vec![pool_at]),
        MonotoneActivation::Tanh => (activated, vec![activation_at], vec![pool_at, activation_grad_at]),
    };
    let exact = view.node(pool_grad_at).reads[1] == argmax
        && activation.has_gradient(view, activation_grad_at)
        && activation_grad.reads == [slope_of, grad_activated]
        && read_by(argmax, &[pool_grad_at])
        && read_by(map, &map_readers)
        && read_by(activated, &activated_readers);
    if !exact {
        return None;
    }
    let grad_map = activation_grad.writes[0];
    let conv_grads = view.readers(grad_map);
    let grads = ConvGradients::find(view, &conv_grads, [grad_map, input, weight])?;
    if grads.bias.is_some() != block.sizes.conv.bias {
        return None;
    }
    let grad = Grad::new(block.clone(), grads.input.is_some())?;
    let writes = std::iter::once(grads.weight).chain(grads.bias).chain(grads.input).collect();
    let grad_reads = vec![grad_pooled, pooled, argmax, input, weight];
    let added = vec![
        (pool_at, Node::new(Arc::new(block), reads, vec![pooled, argmax])),
        (pool_grad_at, Node::new(Arc::new(grad), grad_reads, writes)),
    ];
    removed.extend([pool_grad_at, activation_grad_at]);
    removed.extend(conv_grads);
    Some(Rewrite { removed, added })
}

/// The gradients of a convolution.
struct ConvGradients {
    weight: Var,
    bias: Option<Var>,
    input: Option<Var>,
}

impl ConvGradients {
    /// What `nodes` write, if they are the gradients of one convolution, each once.
    fn find(view: &View, nodes: &[usize], [grad_map, input, weight]: [Var; 3]) -> Option<Self> {
        let (mut grad_weight, mut grad_bias, mut grad_input) = (None, None, None);
        for &number in nodes {
            let node = view.node(number);
            let (slot, expected) = if view.op::<conv2d::GradWeight>(number).is_some() {
                (&mut grad_weight, vec![grad_map, input])
            } else if view.op::<conv2d::GradInput>(number).is_some() {
                (&mut grad_input, vec![grad_map, weight])
            } else {
                view.op::<conv2d::GradBias>(number)?;
                (&mut grad_bias, vec![grad_map])
            };
            if node.reads != expected || slot.replace(node.writes[0]).is_some() {
                return None;
            }
        }
        Some(ConvGradients { weight: grad_weight?, bias: grad_bias, input: grad_input })
    }
}

#[derive(Clone, Debug)]
struct ConvBlock {
    sizes: BlockSizes,
    /// Whether `argmax` is written.
    argmax: bool,
    plan: FourierConv,
    /// The forward pass on a GPU.
    tiles: Tiles,
}

/// A kernel of fewer taps is no faster by transforms. Such a convolution stays in the textbook.
const FEWEST_TAPS: usize = 8;

/// From this size of window on, argmax positions are so few that their gradients are summed one by one.
const LARGE_WINDOW: usize = 8;

impl ConvBlock {
    /// `None` for sizes that this block was not written for.
    fn new(conv: Conv2d, activation: MonotoneActivation, pool: MaxPool2d) -> Option<Self> {
        let Conv2d { c_in, h, w, c_out, k_h, k_w, .. } = conv;
        if k_h * k_w < FEWEST_TAPS {
            return None;
        }
        let (h_out, w_out) = conv.out();
        let plan = FourierConv::new([c_in, h, w], [c_out, h_out, w_out], (k_h, k_w), conv.pad());
        let tiles = Tiles::new(Correlation::forward(&conv), (pool.k_h, pool.k_w))?;
        Some(ConvBlock { sizes: BlockSizes { conv, activation, pool }, argmax: true, plan, tiles })
    }

    /// Whether the gradients are summed position by position, rather than by transforms.
    fn sums_by_position(&self) -> bool {
        self.sizes.pool.k_h * self.sizes.pool.k_w >= LARGE_WINDOW
    }

    fn pooled(&self) -> Shape {
        self.sizes.pool.output()
    }

    /// Elements of the convolution's whole map, which only the reference ever makes.
    fn map_len(&self) -> usize {
        let (h, w) = self.sizes.conv.out();
        self.sizes.conv.n * self.sizes.conv.c_out * h * w
    }

    /// The bindings of the forward kernel, with the bias last if there is one. The kernel always writes `argmax`: to
    /// scratch memory if it is not wanted.
    fn binds(&self) -> impl Iterator<Item = Bind> {
        let bias = self.sizes.conv.bias.then_some(Bind::Read(2));
        let argmax = if self.argmax { Bind::Write(1) } else { Bind::Scratch(0) };
        [Bind::Read(0), Bind::Read(1), Bind::Write(0), argmax].into_iter().chain(bias)
    }
}

impl Op for ConvBlock {
    fn name(&self) -> &'static str {
        "conv_block"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let mut expected = vec![self.sizes.conv.input(), self.sizes.conv.weight()];
        if self.sizes.conv.bias {
            expected.push(("bias", [self.sizes.conv.c_out].into()));
        }
        expect_shapes(self.name(), inputs, &expected)?;
        Ok(vec![self.pooled(); if self.argmax { 2 } else { 1 }])
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        let mut map = vec![0.0; self.map_len()];
        self.sizes.conv.reference(read, &mut [&mut map], step);
        match write {
            [pooled] => self.sizes.pool.reference(&[&map], &mut [pooled, &mut vec![0.0; self.pooled().len()]], step),
            _ => self.sizes.pool.reference(&[&map], write, step),
        }
        write[0].iter_mut().for_each(|y| *y = self.sizes.activation.apply_f64(*y));
    }

    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], _: &Step) {
        let bias = self.sizes.conv.bias.then(|| read[2]);
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
        let entry = if self.sizes.conv.bias { "block_bias" } else { "block" };
        vec![self.tiles.dispatch(entry, self.sizes.activation.constants()).binding(self.binds())]
    }

    fn scratch(&self) -> Vec<usize> {
        if self.argmax { Vec::new() } else { vec![self.pooled().len()] }
    }

    fn flops(&self) -> u64 {
        self.sizes.conv.operations()
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

/// What is stored for an argmax: a number, or nothing.
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
        self.plan.forward(input, weight, out, self.sizes.windows(), |first, pooled, argmax: &mut [T], rows| {
            let argmax = T::numbers(argmax);
            scratch::lanes(pool::scratch_len(&self.sizes.pool, argmax.is_some()), |kept| {
                let finish = self.finish(bias, first);
                let mut pool = Pool::new(&self.sizes.pool, kept, pooled, argmax, finish);
                rows(&mut |h: usize, row: &mut [Lanes]| pool.row(h, bytemuck::cast_slice(row)));
            });
        });
    }

    /// Returns the function that finishes the maxima: adds the bias of the channels from `first` on, and activates.
    fn finish(&self, bias: Option<&[f32]>, first: usize) -> impl Fn(&mut [[f32; LANES]]) {
        let mut lanes = [0.0; LANES];
        bias.into_iter().for_each(|bias| lanes.iter_mut().zip(&bias[first..]).for_each(|(lane, b)| *lane = *b));
        let activation = self.sizes.activation;
        move |row| run(Finish { activation, bias: lanes, row })
    }
}

impl ConvBlock {
    /// The rows of the gradient of the convolution's map, for sixteen channels of an image, in order: zero except at the
    /// argmax positions.
    fn grad_rows<'a>(&'a self, read: &[&'a [f32]], image: usize, first: usize) -> impl FnMut(usize, &mut [Lanes]) + 'a {
        let &[grad_pooled, pooled, argmax, ..] = read else { unreachable!("five inputs") };
        let (windows, (h_p, w_p), w_out) = (self.sizes.windows(), self.sizes.pool.out(), self.sizes.conv.out().1);
        let (k_h, k_w) = (self.sizes.pool.k_h, self.sizes.pool.k_w);
        let channels = LANES.min(self.sizes.conv.c_out - first);
        // Channels-last: gradients, argmaxes, values. All windows at once: each plane is read sequentially, which the
        // hardware prefetcher follows.
        let mut kept = scratch::take(3 * windows);
        let (grads, rest) = kept.split_at_mut(windows);
        let (places, values) = rest.split_at_mut(windows);
        let start = (image * self.sizes.conv.c_out + first) * windows;
        simd::interleave(&grad_pooled[start..], windows, channels, grads);
        simd::interleave(&argmax[start..], windows, channels, places);
        simd::interleave(&pooled[start..], windows, channels, values);
        run(TimesSlope { activation: self.sizes.activation, grads, values });
        move |h: usize, line: &mut [Lanes]| {
            let i = h / k_h;
            if i < h_p {
                let (grads, places) = (&kept[i * w_p..][..w_p], &kept[windows + i * w_p..][..w_p]);
                run(Spread { grads, places, first: h * w_out, k_w, line });
            }
        }
    }

    fn grad_bias(&self, grad_pooled: &[f32], pooled: &[f32], out: &mut [f32]) {
        let windows = self.sizes.windows();
        out.par_iter_mut().enumerate().for_each(|(o, out)| {
            let mut sum = 0.0;
            for n in 0..self.sizes.conv.n {
                let start = (n * self.sizes.conv.c_out + o) * windows;
                let (grads, values) = (&grad_pooled[start..][..windows], &pooled[start..][..windows]);
                run(SumSlopes { activation: self.sizes.activation, grads, values, sum: &mut sum });
            }
            *out = sum as f32;
        });
    }
}

/// `row = activation(row + bias)`
struct Finish<'a> {
    activation: MonotoneActivation,
    bias: [f32; LANES],
    row: &'a mut [[f32; LANES]],
}

impl Kernel for Finish<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for part in (0..LANES).step_by(V::LANES) {
            let bias = V::load(&self.bias[part..]);
            match self.activation {
                MonotoneActivation::LeakyRelu(slope) => {
                    let (slope, zero) = (V::splat(slope), V::splat(0.0));
                    for x in &mut *self.row {
                        let sum = V::load(&x[part..]).add(bias);
                        sum.if_greater(zero, sum, slope.mul(sum)).store(&mut x[part..]);
                    }
                }
                MonotoneActivation::Tanh => {
                    for x in &mut *self.row {
                        V::load(&x[part..]).add(bias).store(&mut x[part..]);
                        x[part..part + V::LANES].iter_mut().for_each(|x| *x = x.tanh());
                    }
                }
            }
        }
    }
}

/// `grads *= slope(values)`
struct TimesSlope<'a> {
    activation: MonotoneActivation,
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

/// Sums `grad * slope(value)` over a plane. Adds `SHORT_SUM` vectors in f32, then accumulates in f64: thousands of terms
/// largely cancel.
struct SumSlopes<'a> {
    activation: MonotoneActivation,
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

/// One row of a map from a row of windows: each gradient at its argmax, zeros elsewhere.
struct Spread<'a> {
    grads: &'a [Lanes],
    places: &'a [Lanes],
    /// Index of the row's first element.
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

/// The gradients of a [`ConvBlock`].
#[derive(Clone, Debug)]
struct Grad {
    block: ConvBlock,
    /// The gradient of the input on a GPU, if it is wanted.
    input: Option<Tiles>,
}

impl Op for Grad {
    fn name(&self) -> &'static str {
        "conv_block.grad"
    }

    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>> {
        let conv = &self.block.sizes.conv;
        let named = ["grad_pooled", "pooled", "argmax"].map(|name| (name, self.block.pooled()));
        expect_shapes(self.name(), inputs, &[&named[..], &[conv.input(), conv.weight()]].concat())?;
        let mut written = vec![conv.weight().1];
        if conv.bias {
            written.push([conv.c_out].into());
        }
        if self.input.is_some() {
            written.push(conv.input().1);
        }
        Ok(written)
    }

    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step) {
        let BlockSizes { conv, activation, pool } = &self.block.sizes;
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
        if self.block.sums_by_position() {
            return Winners::new(&self.block.sizes).find(grad_pooled, pooled, argmax, |found| {
                found.grad_weight(input, grad_weight);
                if let Some(grad_bias) = grad_bias {
                    found.grad_bias(grad_bias);
                }
            });
        }
        let rows = |image: usize, first: usize| self.block.grad_rows(read, image, first);
        self.block.plan.backward(input, weight, rows, grad_weight, grad_input);
        if let Some(grad_bias) = grad_bias {
            self.block.grad_bias(grad_pooled, pooled, grad_bias);
        }
    }

    fn gpu(&self) -> Vec<Dispatch> {
        let (block, conv) = (&self.block, &self.block.sizes.conv);
        let reads = [3, 0, 1, 2].map(Bind::Read);
        let gradient = self.tiled();
        let mut dispatches = gradient.weight("winners", &reads, 0).to_vec();
        if conv.bias {
            dispatches.push(gradient.bias("bias_winners", &reads[1..3], 1));
        }
        if let Some(tiles) = &self.input {
            let written = 1 + usize::from(conv.bias);
            let (k_h, k_w) = (block.sizes.pool.k_h as f64, block.sizes.pool.k_w as f64);
            let mut more = block.sizes.activation.constants();
            more.extend([("turned", 1.0), ("window_h", k_h), ("window_w", k_w)]);
            let [grad, weight, pooled, argmax] = [0, 4, 1, 2].map(Bind::Read);
            let dispatch = tiles.dispatch("block_grad_input", more);
            dispatches.push(dispatch.binding([grad, weight, Bind::Write(written), pooled, argmax]));
        }
        dispatches
    }

    fn scratch(&self) -> Vec<usize> {
        vec![self.tiled().scratch()]
    }

    fn flops(&self) -> u64 {
        let products = (self.block.pooled().len() * self.block.sizes.conv.taps()) as u64;
        2 * products * if self.input.is_some() { 2 } else { 1 }
    }

    fn backward(&self, _: &mut Gradient) -> Result<()> {
        no_second_gradient(self.name())
    }
}

impl Grad {
    /// `None` for sizes that no kernel was written for.
    fn new(block: ConvBlock, input: bool) -> Option<Self> {
        if input && block.sums_by_position() {
            return None;
        }
        let input = if input { Some(Tiles::new(Correlation::transposed(&block.sizes.conv), (1, 1))?) } else { None };
        Some(Grad { block, input })
    }

    /// How the gradients of weight and bias are cut for the GPU.
    fn tiled(&self) -> WeightGradient {
        WeightGradient::new(&self.block.sizes.conv, self.block.sizes.windows(), self.block.sizes.activation.constants())
    }

    /// The outputs: the gradients of weight, bias and input.
    fn parts<'w, T>(&self, write: &'w mut [&mut [T]]) -> (&'w mut [T], Option<&'w mut [T]>, Option<&'w mut [T]>) {
        let mut parts = write.iter_mut().map(|part| &mut **part);
        let weight = parts.next().unwrap_or_default();
        let bias = if self.block.sizes.conv.bias { parts.next() } else { None };
        (weight, bias, parts.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Padding;

    /// Kernel 2x4 with weights 1 and 10 and zeros elsewhere. The map is 1 20 -28 7, -10 9 -39 -4, and a row that no
    /// window covers.
    #[test]
    fn by_hand_with_a_negative_maximum_and_a_row_left_over() {
        let conv = Conv2d { n: 1, c_in: 1, h: 4, w: 7, c_out: 1, k_h: 2, k_w: 4, padding: Padding::Valid, bias: true };
        let pool = MaxPool2d { n: 1, c: 1, h: 3, w: 4, k_h: 2, k_w: 2 };
        let block = ConvBlock::new(conv, MonotoneActivation::LeakyRelu(0.5), pool).unwrap();
        let step = Step::new(1, 0, 0.0);
        let mut x = [0.0; 28];
        x[..5].copy_from_slice(&[1.0, 0.0, 2.0, -3.0, 1.0]);
        x[7..12].copy_from_slice(&[0.0, -1.0, 1.0, -4.0, 0.0]);
        x[14..19].fill(9.0);
        let weight = [1.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let near = |found: &[f32], expected: &[f32]| {
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(found.len() == expected.len() && worst < 1e-4, "{found:?} {expected:?}");
        };
        let (mut y, mut argmax) = ([f32::NAN; 2], [f32::NAN; 2]);
        block.cpu(&[&x, &weight, &[-10.0]], &mut [&mut y, &mut argmax], &step);
        near(&y, &[10.0, -1.5]);
        assert_eq!(argmax, [1.0, 3.0]);

        // Slopes 1 and 1/2: the gradients at the maxima are 2 and 3.
        let (mut dw, mut db, mut dx) = ([f32::NAN; 8], [f32::NAN; 1], [f32::NAN; 28]);
        let grad = Grad::new(block, true).unwrap();
        grad.cpu(&[&[2.0, 6.0], &y, &argmax, &x, &weight], &mut [&mut dw, &mut db, &mut dx], &step);
        near(&dw, &[-9.0, 7.0, -6.0, 2.0, -14.0, 2.0, -8.0, 0.0]);
        near(&db, &[5.0]);
        let mut expected = [0.0; 28];
        expected[1..5].copy_from_slice(&[2.0, 20.0, 3.0, 30.0]);
        near(&dx, &expected);
    }

    #[test]
    fn sizes_that_no_kernel_is_for_are_declined() {
        let block = |k_w, pool_w| {
            let padding = Padding::Same;
            let conv = Conv2d { n: 1, c_in: 1, h: 4, w: 80, c_out: 1, k_h: 1, k_w, padding, bias: false };
            ConvBlock::new(conv, MonotoneActivation::Tanh, MaxPool2d { n: 1, c: 1, h: 4, w: 80, k_h: 1, k_w: pool_w })
        };
        assert!(block(7, 2).is_none(), "too few taps");
        assert!(block(8, 80).is_none(), "a window that no workgroup covers");
        assert!(Grad::new(block(8, 8).unwrap(), true).is_none(), "the input's gradient behind a large window");
        assert!(Grad::new(block(8, 8).unwrap(), false).is_some() && Grad::new(block(8, 7).unwrap(), true).is_some());
    }

    #[test]
    fn slopes_follow_from_values() {
        for activation in
            [MonotoneActivation::LeakyRelu(0.0), MonotoneActivation::LeakyRelu(0.3), MonotoneActivation::Tanh]
        {
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
