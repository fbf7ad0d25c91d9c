//! The gradients of weight and bias, summed over the argmax positions. Images are stored channels-last with their zero
//! padding. The input patch of one position is then `K_h` runs of `K_w C_in` consecutive numbers, and the weight's
//! gradient is a sum of such runs.

use std::ops::Range;

use rayon::prelude::*;

use super::sizes::{BlockSizes, MonotoneActivation};
use super::sums::{Spot, sum_runs};

use crate::fast::scratch;
use crate::fast::simd::{Kernel, LANES, Vector, run, width};
use crate::ops::conv2d::Conv2d;

/// Sizes of the backward pass through the argmax positions.
pub struct Winners<'b> {
    block: &'b BlockSizes,
    /// Rows of windows whose positions form one list. Enough to be worth starting a tile, and few enough that the image
    /// rows below them stay in the cache.
    strip: usize,
    /// Floats from row to row of an image with its zeros, channels last.
    stride: usize,
    /// Floats of such an image, and of a register that may be read or added to beyond its end.
    padded: usize,
    /// Floats of a kernel row, in whole registers.
    run: usize,
}

/// Positions per list, about.
const LIST: usize = 64;

/// Channels whose weight gradients one task sums: they share the image rows in the cache.
const GROUP: usize = 8;

/// Tasks of the weight gradient, if there are images enough: for sixteen threads, two each.
const TASKS: usize = 32;

impl<'b> Winners<'b> {
    pub fn new(block: &'b BlockSizes) -> Self {
        let (conv, (h_p, w_p)) = (&block.conv, block.pool.out());
        let (h_out, w_out) = conv.out();
        let stride = (w_out + conv.k_w - 1) * conv.c_in;
        Winners {
            block,
            strip: LIST.div_ceil(w_p).min(h_p),
            stride,
            padded: (h_out + conv.k_h - 1) * stride + width(),
            run: (conv.k_w * conv.c_in).next_multiple_of(width()),
        }
    }

    /// Lists of one plane.
    fn strips(&self) -> usize {
        self.block.pool.out().0.div_ceil(self.strip)
    }

    /// Lists of all planes.
    fn lists(&self) -> usize {
        self.block.pool.planes() * self.strips()
    }

    /// Calls `then` with the argmax positions whose gradient is not zero.
    pub fn find(&self, grad_pooled: &[f32], pooled: &[f32], argmax: &[f32], then: impl FnOnce(Found)) {
        scratch::with(2 * pooled.len() + self.lists(), |memory| {
            let (spots, counts) = memory.split_at_mut(2 * pooled.len());
            let (spots, counts) = (bytemuck::cast_slice_mut(spots), bytemuck::cast_slice_mut(counts));
            self.collect(grad_pooled, pooled, argmax, spots, counts);
            then(Found { winners: self, spots, counts });
        });
    }

    /// Lists the argmax positions whose gradient is not zero: list `s` of a plane starts at `spots[s * strip * W_p]` of the
    /// plane's and has `counts[s]` entries.
    fn collect(&self, grad: &[f32], pooled: &[f32], argmax: &[f32], spots: &mut [Spot], counts: &mut [u32]) {
        let windows = self.block.windows();
        let list = self.strip * self.block.pool.out().1;
        let (w_out, k_w, c_in) = (self.block.conv.out().1, self.block.conv.k_w, self.block.conv.c_in);
        let planes = spots.par_chunks_mut(windows).zip(counts.par_chunks_mut(self.strips()));
        let read = grad.par_chunks(windows).zip(pooled.par_chunks(windows)).zip(argmax.par_chunks(windows));
        planes.zip(read).for_each(|((spots, counts), ((grad, pooled), argmax))| {
            let lists = spots.chunks_mut(list).zip(counts);
            let read = grad.chunks(list).zip(pooled.chunks(list)).zip(argmax.chunks(list));
            for ((spots, count), ((grad, pooled), argmax)) in lists.zip(read) {
                let sizes = (w_out as f32, k_w as u32 - 1, c_in as u32);
                let activation = self.block.activation;
                run(Collect { activation, sizes, grad, pooled, argmax, spots, count });
            }
        });
    }

    /// Copies an image `[c_in, h, w]` between its zeros, channels last.
    fn pad(&self, image: &[f32], padded: &mut [f32]) {
        let Conv2d { c_in, h, w, .. } = self.block.conv;
        let (top, left) = self.block.conv.pad();
        padded.fill(0.0);
        for (c, plane) in image.chunks_exact(h * w).enumerate() {
            for (y, row) in plane.chunks_exact(w).enumerate() {
                let out = &mut padded[(y + top) * self.stride + left * c_in + c..];
                for (out, x) in out.iter_mut().step_by(c_in).zip(row) {
                    *out = *x;
                }
            }
        }
    }

    /// Index in `[k_h, run]`, channels last, of tap `[c, r, s]`.
    fn place(&self, tap: usize) -> usize {
        let Conv2d { c_in, k_h, k_w, .. } = self.block.conv;
        let (c, r, s) = (tap / (k_h * k_w), tap / k_w % k_h, tap % k_w);
        r * self.run + s * c_in + c
    }
}

/// The argmax positions of a list whose gradient is not zero.
struct Collect<'a> {
    activation: MonotoneActivation,
    /// Columns of the map, columns that a padded row has more, and channels of the image.
    sizes: (f32, u32, u32),
    grad: &'a [f32],
    pooled: &'a [f32],
    argmax: &'a [f32],
    spots: &'a mut [Spot],
    count: &'a mut u32,
}

impl Kernel for Collect<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { activation, sizes: (w_out, more, c_in), spots, .. } = self;
        let mut len = 0;
        let winners = self.grad.chunks(LANES).zip(self.pooled.chunks(LANES)).zip(self.argmax.chunks(LANES));
        for ((grad, pooled), argmax) in winners {
            let (mut factors, mut starts) = ([0.0; LANES], [0; LANES]);
            for ((factor, g), &y) in factors.iter_mut().zip(grad).zip(pooled) {
                *factor = g * activation.slope(y);
            }
            for (start, &place) in starts.iter_mut().zip(argmax) {
                // Exact: both are whole and below 2^24, so the quotient cannot round up to the next whole number.
                let row = (place / w_out) as i32 as u32;
                *start = (place as i32 as u32 + row * more) * c_in;
            }
            for (&start, &factor) in starts.iter().zip(&factors).take(grad.len()) {
                spots[len] = Spot { start, factor };
                len += usize::from(factor != 0.0);
            }
        }
        *self.count = len as u32;
    }
}

/// The argmax positions with a gradient.
pub struct Found<'w> {
    winners: &'w Winners<'w>,
    spots: &'w [Spot],
    counts: &'w [u32],
}

impl Found<'_> {
    /// List `strip` of channel `o` of an image.
    fn list(&self, image: usize, o: usize, strip: usize) -> &[Spot] {
        let Winners { block, strip: rows, .. } = self.winners;
        let plane = image * block.conv.c_out + o;
        let start = plane * block.windows() + strip * rows * block.pool.out().1;
        &self.spots[start..][..self.counts[plane * self.winners.strips() + strip] as usize]
    }

    /// Tasks are groups of channels times parts of the batch. A part has sums of its own; the parts are added in order.
    pub fn grad_weight(&self, input: &[f32], out: &mut [f32]) {
        let Winners { block, stride, padded, run, .. } = *self.winners;
        let Conv2d { n, c_in, h, w, c_out, k_h, .. } = block.conv;
        let (sums, taps) = (k_h * run, block.conv.taps());
        let part = n.div_ceil(TASKS.div_ceil(c_out.div_ceil(GROUP)));
        let parts = n.div_ceil(part);
        scratch::with(n * padded, |images| {
            images.par_chunks_mut(padded).zip(input.par_chunks(c_in * h * w)).for_each(|(padded, image)| {
                self.winners.pad(image, padded);
            });
            let images = &*images;
            scratch::with(parts * c_out * sums, |partial| {
                partial.par_chunks_mut(c_out * sums).enumerate().for_each(|(number, partial)| {
                    let own = number * part..n.min((number + 1) * part);
                    partial.par_chunks_mut(GROUP * sums).enumerate().for_each(|(group, partial)| {
                        partial.fill(0.0);
                        self.share(own.clone(), group * GROUP, images, stride, partial);
                    });
                });
                let (total, others) = partial.split_at_mut(c_out * sums);
                let channels = total.par_chunks_mut(sums).zip(out.par_chunks_mut(taps)).enumerate();
                channels.for_each(|(o, (total, out))| {
                    for other in others.chunks_exact(c_out * sums) {
                        for (total, x) in total.iter_mut().zip(&other[o * sums..]) {
                            *total += x;
                        }
                    }
                    for (tap, out) in out.iter_mut().enumerate() {
                        *out = total[self.winners.place(tap)];
                    }
                });
            });
        });
    }

    /// Adds what some images give the channels from `first` on.
    fn share(&self, own: Range<usize>, first: usize, images: &[f32], stride: usize, partial: &mut [f32]) {
        let Winners { block, padded, run, .. } = *self.winners;
        for number in own {
            let image = &images[number * padded..][..padded];
            for strip in 0..self.winners.strips() {
                for (o, sums) in partial.chunks_exact_mut(block.conv.k_h * run).enumerate() {
                    sum_runs(self.list(number, first + o, strip), image, stride, sums, run);
                }
            }
        }
    }

    pub fn grad_bias(&self, out: &mut [f32]) {
        let conv = &self.winners.block.conv;
        out.par_iter_mut().enumerate().for_each(|(o, out)| {
            // In f64: thousands of terms that largely cancel.
            let lists = (0..conv.n).flat_map(|n| (0..self.winners.strips()).map(move |strip| self.list(n, o, strip)));
            *out = lists.flatten().map(|spot| f64::from(spot.factor)).sum::<f64>() as f32;
        });
    }
}
