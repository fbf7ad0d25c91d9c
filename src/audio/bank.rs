//! A bank of filters sampled at the hop: the engine under the constant-Q and the wavelet front end.
//!
//! Every filter is symmetric about a point half a sample after its frame's sample `c = t hop_length`, so that the samples
//! left and right of that point come in pairs:
//!
//! `|C[t]|^2 = (sum_n even[n] (x[c - n] + x[c + 1 + n]))^2 + (sum_n odd[n] (x[c - n] - x[c + 1 + n]))^2`
//!
//! Done as it stands, this costs the study's constant-Q 16 million multiply-adds a segment. But a filter for a low note
//! hardly changes from one sample to the next: over a block of samples it is a polynomial of a degree far below the
//! block's length. So the samples are replaced, block by block, by their moments (their products with orthonormal
//! polynomials), once for all filters and frames that meet the block, and a filter is a short list of coefficients on
//! moments. Blocks are as long as the hop near a low filter's middle and shorter towards its end, where the last few
//! samples are taken one by one; a filter for a high note takes all of its samples one by one. What that leaves out is
//! at most [`TOLERANCE`] of a filter, whatever the sound: 160 dB below a loud tone the sums are still those of the
//! definition. The study's constant-Q comes down to some 2.5 million multiply-adds.
//!
//! The usual short cut, spectral kernels without their small values (Brown and Puckette 1992), costs about as much here
//! and is exact for noise, but a pure tone stands in every other bin through the very side lobes that it drops.
//!
//! Read [`Bank::new`] (what is planned), then [`Bank::run`].

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};

use super::log::{FLOOR, ln};

/// How much of a filter the polynomials may miss, relative to its energy's square root.
const TOLERANCE: f64 = 1e-10;

/// Filters that share one pass over their terms.
const GROUP: usize = 4;

/// Columns come in multiples of this: the widest vector's lanes.
const COLUMNS: usize = 8;

/// Samples of the frames that are done in one go: the study's 80 frames and a little more.
const TILE_SAMPLES: usize = 24_576;

/// Polynomials of a higher degree would save nothing.
const MAX_TERMS: usize = 32;

/// The shortest block worth its moments.
const MIN_BLOCK: usize = 8;

/// The longest block: whoever asks for a longer hop has few frames.
const MAX_BLOCK: usize = 4_096;

/// One filter by its right half: `even[n]` and `odd[n]` belong to the samples `n + 1/2` before and after its middle.
pub(super) struct Half {
    /// For sums of the two samples.
    pub even: Vec<f64>,
    /// For differences, the earlier minus the later.
    pub odd: Vec<f64>,
}

/// Blocks of one length, and how their moments come from samples.
struct Level {
    /// Samples of a block; divides the hop.
    block: usize,
    /// Moments of a block.
    terms: usize,
    /// The first row of its moments: moment `l` of the blocks `p` (in a hop) is row `first + p * terms + l`.
    first: usize,
    /// `[terms, block]`: orthonormal polynomials on the block's samples.
    polynomials: Vec<f64>,
}

/// Two places in the table, at frame 0: `left + right` or `left - right` is what a coefficient is for.
type Pair = [usize; 2];

/// A sum over pairs for [`GROUP`] pairs of accumulators.
#[derive(Default)]
struct Sum {
    /// First sums to a, differences to b (even polynomials, and samples) ...
    straight: (Vec<Pair>, Vec<[f64; 2 * GROUP]>),
    /// ... then differences to a, sums to b (odd polynomials).
    crossed: (Vec<Pair>, Vec<[f64; 2 * GROUP]>),
}

/// What is left of one filter beyond its group's sum.
#[derive(Default)]
struct Tail {
    straight: (Vec<Pair>, Vec<[f64; 2]>),
    crossed: (Vec<Pair>, Vec<[f64; 2]>),
}

/// Up to [`GROUP`] neighbouring filters.
struct Group {
    sum: Sum,
    tails: Vec<Tail>,
}

/// Moments of one level and one place in the hop.
struct Moments {
    sum: Sum,
    /// Rows that the accumulators a (even) and b (odd) end in.
    rows: [Vec<usize>; 2],
}

/// A planned bank.
pub(super) struct Bank {
    hop: usize,
    filters: usize,
    /// Frames of a tile.
    tile: usize,
    /// Columns before frame 0 and after the last.
    pad: usize,
    /// Columns of a row: a column is a hop.
    stride: usize,
    /// Rows: the hop's samples, then the levels' moments.
    rows: usize,
    moments: Vec<Moments>,
    groups: Vec<Group>,
}

/// What one thread works in.
#[derive(Default)]
struct Scratch {
    /// The tile's samples with what lies around them.
    line: Vec<f32>,
    /// `[rows, stride]`.
    table: Vec<f64>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Level {
    fn new(block: usize) -> Self {
        let terms = MAX_TERMS.min(block / 2);
        Level { block, terms, first: 0, polynomials: polynomials(block, terms) }
    }

    /// The coefficients `[count, terms]` of the first `count` blocks of `taps`.
    fn project(&self, taps: &[f64], count: usize) -> Vec<f64> {
        let blocks = taps.chunks_exact(self.block).take(count);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        blocks.flat_map(|taps| self.polynomials.chunks_exact(self.block).map(move |p| dot(p, taps))).collect()
    }

    /// How many polynomials a filter needs on the whole blocks of `half`, if they are enough.
    fn needed(&self, half: &Half) -> Option<usize> {
        let energy = |taps: &[f64]| taps.iter().map(|x| x * x).sum::<f64>();
        let count = half.even.len() / self.block;
        let allowed = TOLERANCE * TOLERANCE * (energy(&half.even) + energy(&half.odd));
        let coefficients = [self.project(&half.even, count), self.project(&half.odd, count)];
        // what the first n polynomials leave, summed up by itself: a difference of energies would be all rounding
        let mut left: Vec<f64> =
            [&half.even, &half.odd].iter().flat_map(|taps| taps[..count * self.block].to_vec()).collect();
        let coefficients: Vec<f64> = coefficients.concat();
        for n in 0..=self.terms {
            if energy(&left) <= allowed {
                return Some(n.max(1));
            }
            let Some(polynomial) = self.polynomials.chunks_exact(self.block).nth(n) else { break };
            for (left, coefficients) in left.chunks_exact_mut(self.block).zip(coefficients.chunks_exact(self.terms)) {
                left.iter_mut().zip(polynomial).for_each(|(x, p)| *x -= coefficients[n] * p);
            }
        }
        None
    }
}

/// `[terms, block]`: polynomials of degree 0, 1, ... that are orthonormal on `block` equidistant points.
///
/// Forsythe's three-term recurrence, orthogonalised once more against rounding.
fn polynomials(block: usize, terms: usize) -> Vec<f64> {
    let place = |i: usize| (2 * i + 1) as f64 / block as f64 - 1.0;
    let mut rows: Vec<f64> = Vec::with_capacity(block * terms);
    for l in 0..terms {
        let mut next: Vec<f64> = match l.checked_sub(1) {
            None => vec![1.0; block],
            Some(last) => (0..block).map(|i| place(i) * rows[last * block + i]).collect(),
        };
        for _ in 0..2 {
            for row in rows.chunks_exact(block) {
                let along: f64 = row.iter().zip(&next).map(|(a, b)| a * b).sum();
                next.iter_mut().zip(row).for_each(|(x, r)| *x -= along * r);
            }
        }
        let length = next.iter().map(|x| x * x).sum::<f64>().sqrt();
        rows.extend(next.iter().map(|x| x / length));
    }
    rows
}

/// Block lengths to choose from, longest first: divisors of the hop, each at most a third of the one before.
fn block_lengths(hop: usize) -> Vec<usize> {
    let mut lengths: Vec<usize> = Vec::new();
    for block in (MIN_BLOCK..=hop.min(MAX_BLOCK)).rev().filter(|block| hop % block == 0) {
        if lengths.last().is_none_or(|last| block <= last / 3) {
            lengths.push(block);
        }
    }
    lengths
}

impl Bank {
    /// Plans the bank: which filter takes its samples in which blocks, and its coefficients there.
    pub fn new(hop: usize, halves: &[Half]) -> Self {
        let longest = halves.iter().map(|half| half.even.len()).max().unwrap_or(0);
        let mut levels: Vec<Level> =
            block_lengths(hop).into_iter().filter(|&block| block <= longest).map(Level::new).collect();
        let needed: Vec<Vec<Option<usize>>> =
            halves.iter().map(|half| levels.iter().map(|level| level.needed(half)).collect()).collect();
        // a level holds as many moments as its neediest user needs: found first, because rows follow from it
        let mains: Vec<Option<usize>> =
            halves.chunks(GROUP).zip(needed.chunks(GROUP)).map(|(h, n)| main_level(&levels, h, n)).collect();
        let mut terms = vec![0; levels.len()];
        for (index, (half, needed)) in halves.iter().zip(&needed).enumerate() {
            let Some(main) = mains[index / GROUP] else { continue };
            for (level, _) in tiling(&levels, half, needed, main) {
                terms[level] = terms[level].max(needed[level].unwrap_or(0));
            }
        }
        let mut rows = hop;
        for (level, &terms) in levels.iter_mut().zip(&terms) {
            level.polynomials.truncate(terms * level.block);
            level.terms = terms;
            level.first = rows;
            rows += hop / level.block * terms;
        }

        let pad = longest.div_ceil(hop) + 1;
        let tile = (TILE_SAMPLES / hop).max(2 * pad).next_multiple_of(COLUMNS);
        let stride = (tile + 2 * pad).next_multiple_of(COLUMNS);
        let mut bank =
            Bank { hop, filters: halves.len(), tile, pad, stride, rows, moments: Vec::new(), groups: Vec::new() };
        for level in levels.iter().filter(|level| level.terms > 0) {
            (0..hop / level.block).for_each(|p| bank.plan_moments(level, p));
        }
        for ((halves, needed), main) in halves.chunks(GROUP).zip(needed.chunks(GROUP)).zip(mains) {
            let group = bank.plan_group(&levels, halves, needed, main);
            bank.groups.push(group);
        }
        bank
    }

    /// Where block `index` (negative: before the middle) of `block` samples lies at frame 0: place in the hop, place in
    /// the table's row.
    fn place(&self, block: usize, index: isize) -> (usize, usize) {
        let blocks = (self.hop / block) as isize;
        (index.rem_euclid(blocks) as usize, (index.div_euclid(blocks) + self.pad as isize) as usize)
    }

    /// The pair of blocks `j` left and right of the middle, moment `l`.
    fn blocks(&self, level: &Level, j: usize, l: usize) -> Pair {
        [-(j as isize) - 1, j as isize].map(|index| {
            let (p, column) = self.place(level.block, index);
            (level.first + p * level.terms + l) * self.stride + column
        })
    }

    /// The pair of samples `n` left and right of the middle.
    fn samples(&self, n: usize) -> Pair {
        [-(n as isize) - 1, n as isize].map(|index| {
            let (row, column) = self.place(1, index);
            row * self.stride + column
        })
    }

    fn plan_moments(&mut self, level: &Level, p: usize) {
        let Level { block, terms, first, .. } = *level;
        for base in (0..terms).step_by(2 * GROUP) {
            let count = (terms - base).min(2 * GROUP);
            // polynomials of even degree are even functions: they need sums, the others differences
            let mut moments = Moments { sum: Sum::default(), rows: [Vec::new(), Vec::new()] };
            (0..count).for_each(|k| moments.rows[k % 2].push(first + p * terms + base + k));
            for i in 0..block.div_ceil(2) {
                let [left, right] = [i, block - 1 - i].map(|i| (p * block + i) * self.stride);
                let mut coefficients = [0.0; 2 * GROUP];
                for k in 0..count {
                    let half = if left == right { 0.5 } else { 1.0 };
                    coefficients[k % 2 * GROUP + k / 2] = half * level.polynomials[(base + k) * block + i];
                }
                moments.sum.straight.0.push([left, right]);
                moments.sum.straight.1.push(coefficients);
            }
            self.moments.push(moments);
        }
    }

    fn plan_group(
        &self,
        levels: &[Level],
        halves: &[Half],
        needed: &[Vec<Option<usize>>],
        main: Option<usize>,
    ) -> Group {
        let mut sum = Sum::default();
        let mut tails: Vec<Tail> = halves.iter().map(|_| Tail::default()).collect();
        let Some(main) = main else {
            let longest = halves.iter().map(|half| half.even.len()).max().unwrap_or(0);
            for n in 0..longest {
                let mut coefficients = [0.0; 2 * GROUP];
                for (k, half) in halves.iter().enumerate().filter(|(_, half)| n < half.even.len()) {
                    (coefficients[k], coefficients[GROUP + k]) = (half.even[n], half.odd[n]);
                }
                sum.straight.0.push(self.samples(n));
                sum.straight.1.push(coefficients);
            }
            return Group { sum, tails };
        };
        let level = &levels[main];
        let count = |half: &Half| half.even.len() / level.block;
        let projected: Vec<[Vec<f64>; 2]> =
            halves.iter().map(|half| [&half.even, &half.odd].map(|taps| level.project(taps, count(half)))).collect();
        let blocks = halves.iter().map(count).max().unwrap_or(0);
        let terms = needed.iter().filter_map(|needed| needed[main]).max().unwrap_or(0);
        for j in 0..blocks {
            for l in 0..terms {
                let sign = sign(l);
                let mut coefficients = [0.0; 2 * GROUP];
                for (k, [even, odd]) in projected.iter().enumerate() {
                    let index = j * level.terms + l;
                    if let (Some(even), Some(odd)) = (even.get(index), odd.get(index)) {
                        (coefficients[k], coefficients[GROUP + k]) = (sign * even, sign * odd);
                    }
                }
                let list = if l % 2 == 0 { &mut sum.straight } else { &mut sum.crossed };
                list.0.push(self.blocks(level, j, l));
                list.1.push(coefficients);
            }
        }
        for ((half, needed), tail) in halves.iter().zip(needed).zip(&mut tails) {
            let mut n = count(half) * level.block;
            for (index, range) in tiling(levels, half, needed, main).into_iter().filter(|(index, _)| *index != main) {
                let level = &levels[index];
                n = range.end * level.block;
                for j in range {
                    let [even, odd] = [&half.even, &half.odd].map(|taps| level.project(&taps[j * level.block..], 1));
                    for l in 0..needed[index].unwrap_or(0) {
                        let list = if l % 2 == 0 { &mut tail.straight } else { &mut tail.crossed };
                        list.0.push(self.blocks(level, j, l));
                        list.1.push([sign(l) * even[l], sign(l) * odd[l]]);
                    }
                }
            }
            for n in n..half.even.len() {
                tail.straight.0.push(self.samples(n));
                tail.straight.1.push([half.even[n], half.odd[n]]);
            }
        }
        Group { sum, tails }
    }

    /// Writes `ln(|C| + 1e-6)`, `[filters, frames]`, of the first `frames` frames of `samples` to `out`.
    ///
    /// Any number of frames takes the memory of one tile.
    pub fn run(&self, samples: &[f32], frames: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.filters * frames, "the output must be [{}, {frames}]", self.filters);
        SCRATCH.with_borrow_mut(|scratch| {
            let arch = Arch::new();
            for first in (0..frames).step_by(self.tile) {
                let count = (frames - first).min(self.tile);
                arch.dispatch(Tile { bank: self, samples, first, count, frames, scratch, out });
            }
        });
    }
}

/// Left of the middle a block runs backwards: its odd moments change their sign, sums and differences their places.
fn sign(l: usize) -> f64 {
    if l % 2 == 0 { 1.0 } else { -1.0 }
}

/// The level of the blocks that a group takes first, or none if single samples are cheaper.
fn main_level(levels: &[Level], halves: &[Half], needed: &[Vec<Option<usize>>]) -> Option<usize> {
    let longest = halves.iter().map(|half| half.even.len()).max().unwrap_or(0);
    let cost = |index: usize| {
        let terms = needed.iter().map(|needed| needed[index]).try_fold(0, |most, terms| terms.map(|n| most.max(n)))?;
        let blocks = longest / levels[index].block;
        // the tails are done filter by filter: some five times the work of a term in the common sum
        (blocks > 0).then_some(blocks * terms + TAIL_COST)
    };
    (0..levels.len())
        .filter_map(|index| Some((cost(index)?, index)))
        .min()
        .filter(|&(cost, _)| cost < longest)
        .map(|(_, i)| i)
}

/// What the tails of a group cost, in terms of its common sum.
const TAIL_COST: usize = 60;

/// How the half of a filter is covered from its middle on: whole blocks of `main`, then of the shorter levels; each
/// with its blocks' numbers.
fn tiling(
    levels: &[Level],
    half: &Half,
    needed: &[Option<usize>],
    main: usize,
) -> Vec<(usize, std::ops::Range<usize>)> {
    let (mut covered, mut parts) = (0, Vec::new());
    for (index, level) in levels.iter().enumerate().skip(main) {
        let range = covered / level.block..half.even.len() / level.block;
        // a block of a shorter level must start where the last one ended
        if needed[index].is_some() && covered % level.block == 0 && !range.is_empty() {
            covered = range.end * level.block;
            parts.push((index, range));
        }
    }
    parts
}

/// One tile on its way through the bank.
struct Tile<'a> {
    bank: &'a Bank,
    samples: &'a [f32],
    /// Its first frame.
    first: usize,
    /// Its number of frames.
    count: usize,
    /// All frames, the rows' length in `out`.
    frames: usize,
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Tile { bank, samples, first, count, frames, scratch, out } = self;
        let Bank { hop, tile, pad, stride, rows, .. } = *bank;
        let Scratch { line, table } = scratch;
        let columns = (count + 2 * pad).next_multiple_of(COLUMNS).min(stride);
        if table.len() < rows * stride {
            table.resize(rows * stride, 0.0);
        }
        line.clear();
        line.resize(stride * hop, 0.0);

        // sample 1 of hop `first - pad` opens the line: the right half of a frame starts after its own sample
        let before = (pad * hop).saturating_sub(first * hop + 1);
        let from = (first * hop + 1).saturating_sub(pad * hop).min(samples.len());
        let present = (samples.len() - from).min(columns * hop - before);
        line[before..before + present].copy_from_slice(&samples[from..from + present]);
        transpose(line, hop, columns, stride, table);

        // columns without samples have no moments
        let filled = before / hop / COLUMNS * COLUMNS..(before + present).div_ceil(hop).next_multiple_of(COLUMNS);
        for moments in &bank.moments {
            for &row in moments.rows.iter().flatten() {
                table[row * stride..][..filled.start].fill(0.0);
                table[row * stride + filled.end.min(columns)..][..columns.saturating_sub(filled.end)].fill(0.0);
            }
            for column in (filled.start..filled.end.min(columns)).step_by(S::F64_LANES) {
                let sums = common(simd, table, &moments.sum, column);
                for (sums, rows) in sums.iter().zip(&moments.rows) {
                    for (&sum, row) in sums.iter().zip(rows) {
                        store::<S>(&mut table[row * stride + column..], sum);
                    }
                }
            }
        }

        debug_assert!(count <= tile);
        for (group, out) in bank.groups.iter().zip(out.chunks_mut(GROUP * frames)) {
            for column in (0..count).step_by(S::F64_LANES) {
                let [mut a, mut b] = common(simd, table, &group.sum, column);
                for (k, tail) in group.tails.iter().enumerate() {
                    rest(simd, table, tail, column, (&mut a[k], &mut b[k]));
                    let squares = madd(simd, a[k], a[k], simd.mul_f64s(b[k], b[k]));
                    let amplitude = simd.sqrt_f64s(squares);
                    let amplitude: &[f64] = bytemuck::cast_slice(std::slice::from_ref(&amplitude));
                    let row = &mut out[k * frames + first..][column..count.min(column + S::F64_LANES)];
                    row.iter_mut().zip(amplitude).for_each(|(y, &x)| *y = x as f32 + FLOOR);
                }
            }
        }
        for row in out.chunks_exact_mut(frames) {
            row[first..first + count].iter_mut().for_each(|x| *x = ln(*x));
        }
    }
}

/// `table[p, q] = line[q * hop + p]`.
#[inline(always)]
fn transpose(line: &[f32], hop: usize, columns: usize, stride: usize, table: &mut [f64]) {
    for q in (0..columns).step_by(COLUMNS) {
        let lines: [&[f32]; COLUMNS] = std::array::from_fn(|k| &line[(q + k) * hop..(q + k + 1) * hop]);
        for (p, row) in table.chunks_exact_mut(stride).take(hop).enumerate() {
            let row = &mut row[q..q + COLUMNS];
            for k in 0..COLUMNS {
                row[k] = f64::from(lines[k][p]);
            }
        }
    }
}

#[inline(always)]
fn load<S: Simd>(table: &[f64], at: usize) -> S::f64s {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(&table[at..at + S::F64_LANES]))
}

#[inline(always)]
fn store<S: Simd>(table: &mut [f64], values: S::f64s) {
    table[..S::F64_LANES].copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(&values)));
}

/// `a b + c`, fused where the machine can.
#[inline(always)]
fn madd<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
    if S::IS_SCALAR { simd.add_f64s(simd.mul_f64s(a, b), c) } else { simd.mul_add_f64s(a, b, c) }
}

/// The sums over a group's common pairs at one vector of frames.
#[inline(always)]
fn common<S: Simd>(simd: S, table: &[f64], sum: &Sum, column: usize) -> [[S::f64s; GROUP]; 2] {
    let (mut a, mut b) = ([simd.splat_f64s(0.0); GROUP], [simd.splat_f64s(0.0); GROUP]);
    for (&[left, right], coefficients) in sum.straight.0.iter().zip(&sum.straight.1) {
        let (left, right) = (load::<S>(table, left + column), load::<S>(table, right + column));
        let (plus, minus) = (simd.add_f64s(left, right), simd.sub_f64s(left, right));
        for k in 0..GROUP {
            a[k] = madd(simd, simd.splat_f64s(coefficients[k]), plus, a[k]);
            b[k] = madd(simd, simd.splat_f64s(coefficients[GROUP + k]), minus, b[k]);
        }
    }
    for (&[left, right], coefficients) in sum.crossed.0.iter().zip(&sum.crossed.1) {
        let (left, right) = (load::<S>(table, left + column), load::<S>(table, right + column));
        let (plus, minus) = (simd.add_f64s(left, right), simd.sub_f64s(left, right));
        for k in 0..GROUP {
            a[k] = madd(simd, simd.splat_f64s(coefficients[k]), minus, a[k]);
            b[k] = madd(simd, simd.splat_f64s(coefficients[GROUP + k]), plus, b[k]);
        }
    }
    [a, b]
}

/// Adds one filter's own pairs.
#[inline(always)]
fn rest<S: Simd>(simd: S, table: &[f64], tail: &Tail, column: usize, (a, b): (&mut S::f64s, &mut S::f64s)) {
    for (&[left, right], &[even, odd]) in tail.straight.0.iter().zip(&tail.straight.1) {
        let (left, right) = (load::<S>(table, left + column), load::<S>(table, right + column));
        *a = madd(simd, simd.splat_f64s(even), simd.add_f64s(left, right), *a);
        *b = madd(simd, simd.splat_f64s(odd), simd.sub_f64s(left, right), *b);
    }
    for (&[left, right], &[even, odd]) in tail.crossed.0.iter().zip(&tail.crossed.1) {
        let (left, right) = (load::<S>(table, left + column), load::<S>(table, right + column));
        *a = madd(simd, simd.splat_f64s(even), simd.sub_f64s(left, right), *a);
        *b = madd(simd, simd.splat_f64s(odd), simd.add_f64s(left, right), *b);
    }
}
