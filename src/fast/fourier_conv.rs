//! Convolution by Fourier transforms: a tenth of the direct arithmetic where kernels are large, half of it at 8 taps.
//!
//! With `g[d] = weight[top - d]`, the correlation `y[i] = sum_r weight[r] x[i + r - top]` is the convolution `y[i] =
//! sum_d g[d] x[i - d]`, and on a circle long enough that nothing wraps onto an output (`max(h + top, h_out + k_h - 1 -
//! top)` rows, likewise columns) a convolution is a product of spectra:
//!
//! ```text
//! Y[n, o] = sum_c X[n, c] G[o, c]      dX[n, c] = sum_o dY[n, o] conj(G[o, c])      dG[o, c] = sum_n dY[n, o] conj(X[n, c])
//! ```
//!
//! for every frequency. Sixteen channels are transformed at once (their lanes; for a single input channel
//! the images of a group), two real rows as one complex row, and of the row frequencies the half that is not redundant is kept.
//!
//! Work is cut so that every task owns what it writes, and what it needs fits the cache: rows image by image (phase
//! A), then for every row frequency the columns of all images, the products and the columns back (phase B), then rows
//! back image by image (phase C). Large batches are done in groups of images. In between lie, each number a vector of
//! [`LANES`] channels:
//!
//! | | layout | written |
//! |---|---|---|
//! | `weight_rows` | `[blocks of lanes][other channels][half][k_h]`: rows of the kernels | once for all groups |
//! | `image_rows` | `[images][in blocks][half][h]`; of a single channel `[half][h]`, its lanes the images | in phase A |
//! | `grads` (backwards) | `[images][out blocks][half][h_out]` | in phase A |
//! | `columns`, forwards `products` | `[half][images][blocks][rows]`: what phase C transforms back | in phase B |
//! | `kernels` (backwards) | `[half][c_in][out blocks][k_h]`: sums over all groups | in phase B |

mod products;

use rayon::prelude::*;

use self::products::{AT_ONCE, AddConjugate, Join, KernelColumns, KernelRows, Multiply, Outer, Product, Split, apart};
use super::fft::{Fft, Pair, Rows};
use super::scratch;
use super::simd::{self, LANES, Lanes};

/// Images that go through the three phases together: the study's batch, whose spectra fit the cache. One vector holds a
/// pixel of each, so that it is at most [`LANES`].
const GROUP: usize = 15;

/// Sizes of a correlation `[c_in, h, w]` to `[c_out, h_out, w_out]`, with the transforms' plans.
#[derive(Clone, Debug)]
pub struct FourierConv {
    /// Channels read.
    pub c_in: usize,
    /// Rows read.
    pub h: usize,
    /// Columns read.
    pub w: usize,
    /// Channels written.
    pub c_out: usize,
    /// Kernel rows.
    pub k_h: usize,
    /// Kernel columns.
    pub k_w: usize,
    /// Zero rows above the input and zero columns left of it.
    pub pad: (usize, usize),
    /// Rows written.
    pub h_out: usize,
    /// Columns written.
    pub w_out: usize,
    columns: Fft,
    rows: Fft,
    /// The indices at which the row transform leaves frequencies k and -k, for every stored k.
    places: Vec<[usize; 2]>,
    /// Likewise the column transform.
    pairs: Vec<[usize; 2]>,
    /// `[k_h][pairs]`: what kernel row r contributes to the column's frequencies k from 0 to half the length; at -k it
    /// is the conjugate.
    roots: Vec<[f32; 2]>,
}

/// Takes the rows of one image's sixteen channels, in order.
pub trait RowSink {
    /// Row `h`, one vector for every column.
    fn row(&mut self, h: usize, row: &mut [Lanes]);
}

impl<F: FnMut(usize, &mut [Lanes])> RowSink for F {
    fn row(&mut self, h: usize, row: &mut [Lanes]) {
        self(h, row);
    }
}

/// Called once per image and block of sixteen channels, with the first channel, the block's part of the two outputs, and
/// the transform. The callback creates the row sink (a pool) and passes it to the transform, which feeds it the rows in
/// order. The second output is of type `()`, which takes no memory, where it is not wanted.
pub trait Taker<T>: Fn(usize, &mut [f32], &mut [T], &mut dyn FnMut(&mut dyn RowSink)) + Sync {}

impl<T, F: Fn(usize, &mut [f32], &mut [T], &mut dyn FnMut(&mut dyn RowSink)) + Sync> Taker<T> for F {}

impl FourierConv {
    /// Plans a correlation; see the fields.
    pub fn new(
        [c_in, h, w]: [usize; 3],
        [c_out, h_out, w_out]: [usize; 3],
        (k_h, k_w): (usize, usize),
        pad: (usize, usize),
    ) -> Self {
        let (top, left) = pad;
        // the least length lets kernels' columns work on AT_ONCE frequencies at a time
        let length = |x: usize, y: usize, k: usize, before: usize| {
            Fft::good_length((x + before).max(y + k - 1 - before).max(2 * AT_ONCE))
        };
        let columns = Fft::new(length(h, h_out, k_h, top));
        let rows = Fft::new(length(w, w_out, k_w, left));
        let roots = (0..k_h).flat_map(|r| columns.roots(top as isize - r as isize)).collect();
        let (places, pairs) = (rows.pairs(), columns.pairs());
        FourierConv { c_in, h, w, c_out, k_h, k_w, pad, h_out, w_out, columns, rows, places, pairs, roots }
    }

    /// Number of stored row frequencies.
    fn half(&self) -> usize {
        self.places.len()
    }

    /// Blocks of sixteen channels.
    fn blocks(channels: usize) -> usize {
        channels.div_ceil(LANES)
    }

    /// Normalisation of a product of two spectra: undoes the unnormalised transforms and the factor 2 of each split row pair.
    fn scale(&self) -> f32 {
        1.0 / (4 * self.rows.len() * self.columns.len()) as f32
    }

    /// Transforms `count` real rows of `width` columns: `fill(row, line)` writes into zeros; `out` is `[half][count]`,
    /// twice the spectrum.
    fn rows_forward(
        &self,
        (count, width): (usize, usize),
        mut fill: impl FnMut(usize, &mut [Lanes]),
        out: &mut [Pair],
    ) {
        scratch::lanes(2 * width, |lines| {
            for row in (0..count).step_by(2) {
                lines.fill(Lanes::ZERO);
                let (re, im) = lines.split_at_mut(width);
                fill(row, re);
                if row + 1 < count {
                    fill(row + 1, im);
                }
                self.row_forward(Rows(re, im), row, count, out);
            }
        });
    }

    /// Transforms rows `row` and `row + 1` of `count`.
    fn row_forward(&self, lines: Rows<&[Lanes]>, row: usize, count: usize, out: &mut [Pair]) {
        scratch::pairs(self.rows.len(), |line| {
            self.rows.forward(lines, line);
            simd::run(Split { places: &self.places, line, row, count, out });
        });
    }

    /// The inverse: `spectrum(k)` is `[count]`. The sink gets the rows, with `width` columns each.
    fn rows_inverse<'s>(
        &self,
        (count, width): (usize, usize),
        spectrum: impl Fn(usize) -> &'s [Pair],
        sink: &mut dyn RowSink,
    ) {
        scratch::pairs(self.rows.len() + width, |buffer| {
            let (line, lines) = buffer.split_at_mut(self.rows.len());
            let (re, im) = lines.as_flattened_mut().split_at_mut(width);
            for row in (0..count).step_by(2) {
                simd::run(Join { places: &self.places, spectrum: &spectrum, row, line });
                self.rows.inverse(line, Rows(&mut *re, &mut *im));
                sink.row(row, re);
                if row + 1 < count {
                    sink.row(row + 1, im);
                }
            }
        });
    }

    /// The circular index of kernel column `s`, forward or mirrored.
    fn tap_column(&self, s: usize, mirrored: bool) -> usize {
        let n = self.rows.len();
        if mirrored { (n + s - self.pad.1) % n } else { (n + self.pad.1 - s) % n }
    }

    /// Row transforms of all kernels, `[lane blocks][scalar channels][half][k_h]`. Forward, lanes are output
    /// channels and scalars input channels; mirrored (for the input's gradient) the other way round.
    fn weight_rows(&self, weight: &[f32], mirrored: bool, out: &mut [Pair]) {
        let (scalars, vectors) = if mirrored { (self.c_out, self.c_in) } else { (self.c_in, self.c_out) };
        let (blocks, taps, scale) = (Self::blocks(vectors), self.k_h * self.k_w, self.scale());
        debug_assert_eq!(out.len(), scalars * blocks * self.half() * self.k_h);
        out.par_chunks_mut(self.half() * self.k_h).enumerate().for_each(|(task, out)| {
            let (scalar, first) = (task % scalars, task / scalars * LANES);
            let (o, c, apart) = if mirrored { (scalar, first, taps) } else { (first, scalar, self.c_in * taps) };
            scratch::lanes(taps, |kernel| {
                let planes = &weight[(o * self.c_in + c) * taps..];
                simd::interleave(planes, apart, LANES.min(vectors - first), kernel);
                let fill = |r: usize, line: &mut [Lanes]| {
                    for (s, w) in kernel[r * self.k_w..][..self.k_w].iter().enumerate() {
                        line[self.tap_column(s, mirrored)] = Lanes(w.0.map(|w| w * scale));
                    }
                };
                self.rows_forward((self.k_h, self.rows.len()), fill, out);
            });
        });
    }

    /// Row transforms of sixteen channels of images `[n, channels, h, w]`: `[n][blocks][half][h]`.
    fn image_rows(&self, images: &[f32], [channels, h, w]: [usize; 3], out: &mut [Pair]) {
        let blocks = Self::blocks(channels);
        out.par_chunks_mut(self.half() * h).enumerate().for_each(|(task, out)| {
            let (n, first) = (task / blocks, task % blocks * LANES);
            let planes = &images[(n * channels + first) * h * w..];
            // All rows at once: each plane is read sequentially, which the hardware prefetcher follows.
            scratch::lanes(h * w, |pixels| {
                simd::interleave(planes, h * w, LANES.min(channels - first), pixels);
                for (pair, pixels) in pixels.chunks(2 * w).enumerate() {
                    let (re, im) = pixels.split_at(w);
                    self.row_forward(Rows(re, im), 2 * pair, h, out);
                }
            });
        });
    }

    /// The correlation of images `[n, c_in, h, w]` with `weight [c_out, c_in, k_h, k_w]`: `take` gets the rows
    /// `[w_out]` of every image's every sixteen channels, with the part of each of the two outputs `[n, c_out, plane]`
    /// that is theirs.
    pub fn forward<T: Send>(
        &self,
        images: &[f32],
        weight: &[f32],
        outputs: (&mut [f32], &mut [T]),
        plane: usize,
        take: impl Taker<T>,
    ) {
        let blocks = Self::blocks(self.c_out);
        scratch::pairs(self.c_in * blocks * self.half() * self.k_h, |weight_rows| {
            self.weight_rows(weight, false, weight_rows);
            let (first, second) = outputs;
            let chunk = GROUP * self.c_out * plane;
            let images = images.chunks(GROUP * self.c_in * self.h * self.w);
            for ((images, first), second) in images.zip(first.chunks_mut(chunk)).zip(second.chunks_mut(chunk)) {
                let n = images.len() / (self.c_in * self.h * self.w);
                if self.c_in == 1 {
                    self.forward_group_of_single(n, images, weight_rows, (first, second), plane, &take);
                } else {
                    self.forward_group(n, images, weight_rows, (first, second), plane, &take);
                }
            }
        });
    }

    /// One group: the three phases.
    fn forward_group<T: Send>(
        &self,
        n: usize,
        images: &[f32],
        weight_rows: &[Pair],
        outputs: (&mut [f32], &mut [T]),
        plane: usize,
        take: &impl Taker<T>,
    ) {
        let (half, in_blocks, out_blocks) = (self.half(), Self::blocks(self.c_in), Self::blocks(self.c_out));
        let column = out_blocks * self.h_out;
        scratch::pairs(n * in_blocks * half * self.h, |image_rows| {
            self.image_rows(images, [self.c_in, self.h, self.w], image_rows);
            scratch::pairs(half * n * column, |products| {
                products.par_chunks_mut(n * column).enumerate().for_each(|(k, out)| {
                    self.columns(n, k, image_rows, weight_rows, out);
                });
                let products = &*products;
                self.take_rows(outputs, plane, take, |image, block, sink| {
                    let start = image * column + block * self.h_out;
                    let spectrum = |k: usize| &products[k * n * column + start..][..self.h_out];
                    self.rows_inverse((self.h_out, self.w_out), spectrum, sink);
                });
            });
        });
    }

    /// [`FourierConv::forward_group`] for a single input channel, whose images are the lanes. No sum joins channels, so
    /// that products, columns back and rows back are one task's, and stay in its cache.
    fn forward_group_of_single<T: Send>(
        &self,
        n: usize,
        images: &[f32],
        weight_rows: &[Pair],
        outputs: (&mut [f32], &mut [T]),
        plane: usize,
        take: &impl Taker<T>,
    ) {
        let (half, len, blocks) = (self.half(), self.columns.len(), Self::blocks(self.c_out));
        let share = (1 + blocks) * len;
        scratch::pairs(half * (self.h + share), |buffer| {
            let (image_rows, spectra) = buffer.split_at_mut(half * self.h);
            self.image_rows(images, [n, self.h, self.w], image_rows);
            let image_rows = &*image_rows;
            // For every row frequency: the column of the images, and the columns of the kernels.
            spectra.par_chunks_mut(share).enumerate().for_each(|(k, spectra)| {
                let (x, kernels) = spectra.split_at_mut(len);
                self.columns.forward(&image_rows[k * self.h..][..self.h], x);
                for (block, g) in kernels.chunks_exact_mut(len).enumerate() {
                    let rows = &weight_rows[(block * half + k) * self.k_h..][..self.k_h];
                    let (pairs, roots) = (&self.pairs, &self.roots);
                    simd::run(KernelColumns {
                        pairs,
                        roots,
                        mirrored: false,
                        tasks: 1,
                        rows,
                        stride: 0,
                        step: 1,
                        out: g,
                    });
                }
            });
            let spectra = &*spectra;
            self.take_rows(outputs, plane, take, |image, block, sink| {
                scratch::pairs(len + half * self.h_out, |buffer| {
                    let (y, products) = buffer.split_at_mut(len);
                    for (spectra, out) in spectra.chunks_exact(share).zip(products.chunks_exact_mut(self.h_out)) {
                        let (x, g) = (&spectra[..len], &spectra[(1 + block) * len..][..len]);
                        simd::run(Multiply { image, x, g, out: y });
                        self.columns.inverse(y, out);
                    }
                    let spectrum = |k: usize| &products[k * self.h_out..][..self.h_out];
                    self.rows_inverse((self.h_out, self.w_out), spectrum, sink);
                });
            });
        });
    }

    /// Runs `rows(image, block, sink)` for every image's every sixteen output channels, in parallel.
    fn take_rows<T: Send>(
        &self,
        (first, second): (&mut [f32], &mut [T]),
        plane: usize,
        take: &impl Taker<T>,
        rows: impl Fn(usize, usize, &mut dyn RowSink) + Sync,
    ) {
        let chunk = self.c_out * plane;
        let images = first.par_chunks_mut(chunk).zip(second.par_chunks_mut(chunk)).enumerate();
        let blocks = images.flat_map(|(image, (first, second))| {
            let blocks = first.par_chunks_mut(LANES * plane).zip(second.par_chunks_mut(LANES * plane));
            blocks.enumerate().map(move |(block, outputs)| (image, block, outputs))
        });
        blocks.for_each(|(image, block, (first, second))| {
            take(block * LANES, first, second, &mut |sink| rows(image, block, sink));
        });
    }

    /// The gradients of the weight and (if asked for) of the images. `grad_rows(image, first channel)` makes a source
    /// of `grad_output`'s rows, asked in order: it writes row `h` of sixteen channels into zeros.
    pub fn backward<F: FnMut(usize, &mut [Lanes])>(
        &self,
        images: &[f32],
        weight: &[f32],
        grad_rows: impl Fn(usize, usize) -> F + Sync,
        grad_weight: &mut [f32],
        grad_images: Option<&mut [f32]>,
    ) {
        let total = images.len() / (self.c_in * self.h * self.w);
        let (half, in_blocks, out_blocks) = (self.half(), Self::blocks(self.c_in), Self::blocks(self.c_out));
        let kernel = self.c_in * out_blocks * self.k_h;
        scratch::pairs(half * kernel, |kernels| {
            kernels.fill([Lanes::ZERO; 2]);
            let mirrored = if grad_images.is_some() { self.c_out * in_blocks * half * self.k_h } else { 0 };
            scratch::pairs(mirrored, |weight_rows| {
                if grad_images.is_some() {
                    self.weight_rows(weight, true, weight_rows);
                }
                let mut grad_images = grad_images;
                for first in (0..total).step_by(GROUP) {
                    let n = GROUP.min(total - first);
                    let size = self.c_in * self.h * self.w;
                    let images = &images[first * size..][..n * size];
                    let grad_rows = |image: usize, channel: usize| grad_rows(first + image, channel);
                    let grad =
                        grad_images.as_deref_mut().map(|grad| (&*weight_rows, &mut grad[first * size..][..n * size]));
                    self.backward_group(n, images, grad_rows, kernels, grad);
                }
            });
            self.kernels_from_rows(kernels, grad_weight);
        });
    }

    /// One group's share of the kernels' row spectra `[half][c_in][blocks][k_h]`, and its images' gradients.
    fn backward_group<F: FnMut(usize, &mut [Lanes])>(
        &self,
        n: usize,
        images: &[f32],
        grad_rows: impl Fn(usize, usize) -> F + Sync,
        kernels: &mut [Pair],
        grad_images: Option<(&[Pair], &mut [f32])>,
    ) {
        let (half, in_blocks, out_blocks) = (self.half(), Self::blocks(self.c_in), Self::blocks(self.c_out));
        let kernel = self.c_in * out_blocks * self.k_h;
        let column = if grad_images.is_some() { n * in_blocks * self.h } else { 0 };
        let (image_len, grad_len) = (n * in_blocks * half * self.h, n * out_blocks * half * self.h_out);
        scratch::pairs(image_len + grad_len + half * column, |buffer| {
            let (image_rows, rest) = buffer.split_at_mut(image_len);
            let (grads, columns) = rest.split_at_mut(grad_len);
            // Only tests ask for the gradient of a single channel. Then the lanes are channels after all.
            let single = self.c_in == 1 && grad_images.is_none();
            let channels = if single { n } else { self.c_in };
            let images_len = Self::blocks(channels) * if single { 1 } else { n } * half * self.h;
            self.image_rows(images, [channels, self.h, self.w], &mut image_rows[..images_len]);
            let image_rows = &*image_rows;
            grads.par_chunks_mut(half * self.h_out).enumerate().for_each(|(task, out)| {
                let fill = grad_rows(task / out_blocks, task % out_blocks * LANES);
                self.rows_forward((self.h_out, self.w_out), fill, out);
            });
            let grads = &*grads;
            let weight_rows = grad_images.as_ref().map(|(rows, _)| *rows);
            let task = |k: usize, kernels: &mut [Pair], columns: &mut [Pair]| match single {
                true => self.grad_columns_of_single(n, k, image_rows, grads, kernels),
                false => self.grad_columns(n, k, image_rows, grads, weight_rows, kernels, columns),
            };
            let Some((_, grad_images)) = grad_images else {
                kernels.par_chunks_mut(kernel).enumerate().for_each(|(k, kernels)| task(k, kernels, &mut []));
                return;
            };
            let tasks = kernels.par_chunks_mut(kernel).zip(columns.par_chunks_mut(column)).enumerate();
            tasks.for_each(|(k, (kernels, columns))| task(k, kernels, columns));
            let columns = &*columns;
            grad_images.par_chunks_mut(self.c_in * self.h * self.w).enumerate().for_each(|(image, grad)| {
                for (block, grad) in grad.chunks_mut(LANES * self.h * self.w).enumerate() {
                    let start = (image * in_blocks + block) * self.h;
                    let spectrum = |k: usize| &columns[k * column + start..][..self.h];
                    let plane = self.h * self.w;
                    let channels = grad.len() / plane;
                    let mut sink =
                        |h: usize, row: &mut [Lanes]| simd::deinterleave(row, plane, channels, &mut grad[h * self.w..]);
                    self.rows_inverse((self.h, self.w), spectrum, &mut sink);
                }
            });
        });
    }

    /// Rows back: `[half][c_in][blocks][k_h]` to `grad_weight [c_out, c_in, k_h, k_w]`.
    fn kernels_from_rows(&self, kernels: &[Pair], grad_weight: &mut [f32]) {
        let (blocks, taps, scale) = (Self::blocks(self.c_out), self.k_h * self.k_w, self.scale());
        let kernel = self.c_in * blocks * self.k_h;
        scratch::lanes(self.c_in * blocks * taps, |lanes| {
            lanes.par_chunks_mut(taps).enumerate().for_each(|(task, lanes)| {
                let spectrum = |k: usize| &kernels[k * kernel + task * self.k_h..][..self.k_h];
                let mut sink = |r: usize, row: &mut [Lanes]| {
                    for (s, out) in lanes[r * self.k_w..][..self.k_w].iter_mut().enumerate() {
                        *out = Lanes(row[self.tap_column(s, false)].0.map(|x| x * scale));
                    }
                };
                self.rows_inverse((self.k_h, self.rows.len()), spectrum, &mut sink);
            });
            let lanes = &*lanes;
            grad_weight.par_chunks_mut(self.c_in * taps).enumerate().for_each(|(o, out)| {
                for (i, out) in out.iter_mut().enumerate() {
                    let (c, tap) = (i / taps, i % taps);
                    *out = lanes[(c * blocks + o / LANES) * taps + tap].0[o % LANES];
                }
            });
        });
    }

    /// Row frequency `k` of a group: columns of images and kernels, their products, columns back to
    /// `out [n][out blocks][h_out]`.
    fn columns(&self, n: usize, k: usize, image_rows: &[Pair], weight_rows: &[Pair], out: &mut [Pair]) {
        let (len, in_blocks, out_blocks) = (self.columns.len(), Self::blocks(self.c_in), Self::blocks(self.c_out));
        let x_len = n * apart(in_blocks * len);
        scratch::pairs(x_len + n * apart(out_blocks * len), |buffer| {
            let (x, y) = buffer.split_at_mut(x_len);
            self.image_columns(k, (self.h, in_blocks), image_rows, x);
            self.filter(k, false, weight_rows, x, y);
            self.columns_back(y, out_blocks, out);
        });
    }

    /// [`FourierConv::grad_columns`] for a single input channel, whose images are the lanes.
    fn grad_columns_of_single(&self, n: usize, k: usize, image_rows: &[Pair], grads: &[Pair], kernels: &mut [Pair]) {
        let (size, blocks, count) = (self.columns.len(), Self::blocks(self.c_out), self.h_out);
        scratch::pairs(size * 3, |buffer| {
            let (x, rest) = buffer.split_at_mut(size);
            let (y, sums) = rest.split_at_mut(size);
            self.columns.forward(&image_rows[k * self.h..][..self.h], x);
            for (block, kernel) in kernels.chunks_exact_mut(self.k_h).enumerate() {
                sums.fill([Lanes::ZERO; 2]);
                for image in 0..n {
                    let rows = &grads[((image * blocks + block) * self.half() + k) * count..][..count];
                    self.columns.forward(rows, y);
                    simd::run(AddConjugate { image, x, y, sums });
                }
                simd::run(KernelRows { pairs: &self.pairs, roots: &self.roots, column: sums, kernel });
            }
        });
    }

    /// Row frequency `k` of a group, backwards: adds to `kernels [c_in][out blocks][k_h]` and, if the mirrored
    /// kernels are given, writes the images' gradients, `columns [n][in blocks][h]`.
    #[expect(clippy::too_many_arguments, reason = "what goes in and what comes out of one task")]
    fn grad_columns(
        &self,
        n: usize,
        k: usize,
        image_rows: &[Pair],
        grads: &[Pair],
        weight_rows: Option<&[Pair]>,
        kernels: &mut [Pair],
        columns: &mut [Pair],
    ) {
        let (len, in_blocks, out_blocks) = (self.columns.len(), Self::blocks(self.c_in), Self::blocks(self.c_out));
        let (x_len, g_len) = (n * apart(in_blocks * len), n * apart(out_blocks * len));
        scratch::pairs(x_len + g_len + LANES * apart(len), |buffer| {
            let (x, rest) = buffer.split_at_mut(x_len);
            let (g, sums) = rest.split_at_mut(g_len);
            self.image_columns(k, (self.h_out, out_blocks), grads, g);
            // `x` is first the place of dX, which leaves through `columns_back`; then the images' own spectra take it.
            if let Some(weight_rows) = weight_rows {
                self.filter(k, true, weight_rows, g, x);
                self.columns_back(x, in_blocks, columns);
            }
            self.image_columns(k, (self.h, in_blocks), image_rows, x);
            let (pairs, roots) = (&self.pairs, &self.roots);
            simd::run(Outer { len, x: (in_blocks, x), y: (out_blocks, g), pairs, roots, sums, kernels });
        });
    }

    /// Columns of row frequency `k` from row transforms `[images][blocks][half][count]`, to `[images][blocks][columns]`
    /// with images set [`apart`].
    fn image_columns(&self, k: usize, (count, blocks): (usize, usize), rows: &[Pair], out: &mut [Pair]) {
        let len = self.columns.len();
        for (image, out) in out.chunks_exact_mut(apart(blocks * len)).enumerate() {
            for (block, out) in out.chunks_exact_mut(len).enumerate() {
                let from = ((image * blocks + block) * self.half() + k) * count;
                self.columns.forward(&rows[from..][..count], out);
            }
        }
    }

    /// The way back from columns as [`FourierConv::image_columns`] leaves them, which are overwritten, to `out
    /// [images][blocks][rows]`.
    fn columns_back(&self, columns: &mut [Pair], blocks: usize, out: &mut [Pair]) {
        let len = self.columns.len();
        let images = columns.chunks_exact_mut(apart(blocks * len));
        let rows = out.len() / (images.len() * blocks);
        for (columns, out) in images.zip(out.chunks_exact_mut(blocks * rows)) {
            for (column, out) in columns.chunks_exact_mut(len).zip(out.chunks_exact_mut(rows)) {
                self.columns.inverse(column, out);
            }
        }
    }

    /// Columns `x` of images times those of the kernels at row frequency `k`, to `y`; both as
    /// [`FourierConv::image_columns`] leaves them. Block by block of the lanes, so that a block's kernels stay in the cache
    /// from their making to their use.
    fn filter(&self, k: usize, mirrored: bool, weight_rows: &[Pair], x: &[Pair], y: &mut [Pair]) {
        let (scalars, vectors) = if mirrored { (self.c_out, self.c_in) } else { (self.c_in, self.c_out) };
        let (len, x_blocks, y_blocks) = (self.columns.len(), Self::blocks(scalars), Self::blocks(vectors));
        let (pairs, roots, stride) = (&self.pairs, &self.roots, self.half() * self.k_h);
        let step = apart(x_blocks * LANES);
        scratch::pairs(len * step, |w| {
            // The scalar channels are filled up to whole blocks.
            w.chunks_exact_mut(step).for_each(|w| w[scalars..].fill([Lanes::ZERO; 2]));
            for block in 0..y_blocks {
                let rows = &weight_rows[block * scalars * stride + k * self.k_h..];
                simd::run(KernelColumns { pairs, roots, mirrored, tasks: scalars, rows, stride, step, out: w });
                simd::run(Product { len, x: (x_blocks, x), w, block, y: (y_blocks, y) });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize, salt: usize) -> f32 {
        let hash = (i as u64 * 0x9e37_79b9_7f4a_7c15 + salt as u64 * 77_777).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (hash >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn values(len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| value(i, salt)).collect()
    }

    /// Calls `f(output, weight, input)` for every product.
    fn products(p: &FourierConv, n: usize, mut f: impl FnMut(usize, usize, usize)) {
        for image in 0..n {
            for (o, c) in (0..p.c_out * p.c_in).map(|oc| (oc / p.c_in, oc % p.c_in)) {
                for (i, j) in (0..p.h_out * p.w_out).map(|ij| (ij / p.w_out, ij % p.w_out)) {
                    for (r, s) in (0..p.k_h * p.k_w).map(|rs| (rs / p.k_w, rs % p.k_w)) {
                        let (y, x) = ((i + r).wrapping_sub(p.pad.0), (j + s).wrapping_sub(p.pad.1));
                        if y < p.h && x < p.w {
                            f(
                                ((image * p.c_out + o) * p.h_out + i) * p.w_out + j,
                                ((o * p.c_in + c) * p.k_h + r) * p.k_w + s,
                                ((image * p.c_in + c) * p.h + y) * p.w + x,
                            );
                        }
                    }
                }
            }
        }
    }

    fn close(got: &[f32], truth: &[f64], what: &str) {
        let rms = (truth.iter().map(|x| x * x).sum::<f64>() / truth.len() as f64).sqrt();
        for (i, (got, truth)) in got.iter().zip(truth).enumerate() {
            assert!((f64::from(*got) - truth).abs() < 4e-6 * rms.max(1e-9), "{what} {i}: {got} {truth} (rms {rms})");
        }
    }

    #[test]
    fn forward_and_backward_are_the_naive_sums() {
        let cases = [
            (3, FourierConv::new([1, 12, 9], [16, 12, 9], (5, 4), (2, 1))),
            (17, FourierConv::new([1, 7, 8], [20, 5, 6], (3, 3), (0, 0))),
            (16, FourierConv::new([16, 6, 7], [32, 6, 7], (2, 5), (0, 2))),
            (4, FourierConv::new([5, 6, 5], [3, 6, 5], (3, 3), (1, 1))),
            (2, FourierConv::new([33, 4, 4], [48, 4, 4], (3, 2), (1, 0))),
        ];
        for (n, p) in cases {
            let images = values(n * p.c_in * p.h * p.w, 1);
            let weight = values(p.c_out * p.c_in * p.k_h * p.k_w, 2);
            let plane = p.h_out * p.w_out;
            let grad = values(n * p.c_out * plane, 3);
            let mut truth = [vec![0.0; grad.len()], vec![0.0; weight.len()], vec![0.0; images.len()]];
            products(&p, n, |y, w, x| {
                truth[0][y] += f64::from(weight[w]) * f64::from(images[x]);
                truth[1][w] += f64::from(grad[y]) * f64::from(images[x]);
                truth[2][x] += f64::from(grad[y]) * f64::from(weight[w]);
            });
            let (mut output, mut unused) = (vec![f32::NAN; grad.len()], vec![(); grad.len()]);
            p.forward(&images, &weight, (&mut output, &mut unused), plane, |_, out, _, run| {
                run(&mut |h: usize, row: &mut [Lanes]| {
                    for (lane, out) in out.chunks_exact_mut(plane).enumerate() {
                        for (j, x) in row.iter().enumerate() {
                            out[h * p.w_out + j] = x.0[lane];
                        }
                    }
                });
            });
            close(&output, &truth[0], "output");
            let grad_rows = |image: usize, first: usize| {
                let (grad, p) = (&grad, &p);
                move |h: usize, line: &mut [Lanes]| {
                    for lane in 0..LANES.min(p.c_out - first) {
                        let row = &grad[((image * p.c_out + first + lane) * p.h_out + h) * p.w_out..][..p.w_out];
                        row.iter().zip(line.iter_mut()).for_each(|(x, line)| line.0[lane] = *x);
                    }
                }
            };
            let mut grad_weight = vec![f32::NAN; weight.len()];
            let mut grad_images = vec![f32::NAN; images.len()];
            p.backward(&images, &weight, grad_rows, &mut grad_weight, Some(&mut grad_images));
            close(&grad_weight, &truth[1], "grad_weight");
            close(&grad_images, &truth[2], "grad_images");
            grad_weight.fill(f32::NAN);
            p.backward(&images, &weight, grad_rows, &mut grad_weight, None);
            close(&grad_weight, &truth[1], "grad_weight alone");
        }
    }

    #[test]
    #[ignore = "a measurement: cargo test --release --lib fourier_conv::tests::speed -- --ignored --nocapture"]
    fn speed() {
        let same = |c_in, c_out, size: usize, (k_h, k_w): (usize, usize)| {
            FourierConv::new([c_in, size, size], [c_out, size, size], (k_h, k_w), ((k_h - 1) / 2, (k_w - 1) / 2))
        };
        for p in [
            same(1, 16, 80, (10, 23)),
            same(1, 16, 80, (21, 20)),
            same(16, 32, 40, (5, 11)),
            same(32, 64, 20, (3, 5)),
            same(64, 128, 10, (2, 4)),
        ] {
            let n = 15;
            let images = values(n * p.c_in * p.h * p.w, 1);
            let weight = values(p.c_out * p.c_in * p.k_h * p.k_w, 2);
            let (mut out, mut unused) = (vec![0.0; n * p.c_out], vec![(); n * p.c_out]);
            let mut grad_weight = vec![0.0; weight.len()];
            let mut grad_images = vec![0.0; images.len()];
            let time = |f: &mut dyn FnMut()| {
                let mut best = f64::INFINITY;
                for _ in 0..30 {
                    let started = std::time::Instant::now();
                    f();
                    best = best.min(started.elapsed().as_secs_f64());
                }
                best * 1e3
            };
            let forward = time(&mut || {
                p.forward(&images, &weight, (&mut out, &mut unused), 1, |_, out, _, run| {
                    run(&mut |_: usize, row: &mut [Lanes]| out[0] += row[0].0[0]);
                });
            });
            let backward = time(&mut || {
                let wanted = (p.c_in > 1).then_some(&mut grad_images[..]);
                let fill = |_, _| |h: usize, line: &mut [Lanes]| line[h % 7] = Lanes([1.0; LANES]);
                p.backward(&images, &weight, fill, &mut grad_weight, wanted);
            });
            let flops = 2.0 * (n * p.c_out * p.h_out * p.w_out * p.c_in * p.k_h * p.k_w) as f64;
            println!(
                "{}x{}: {} {}, forward {forward:.2} ms ({:.0} MFLOP direct), backward {backward:.2} ms",
                p.k_h,
                p.k_w,
                p.columns.len(),
                p.rows.len(),
                flops / 1e6
            );
        }
    }
}
