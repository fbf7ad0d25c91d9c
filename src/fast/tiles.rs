//! How convolutions are cut into tiles on the GPU: the sizes that `shaders/fast/conv_tiled.wgsl` and
//! `shaders/fast/conv_grad_weight_tiled.wgsl` are compiled with.
//!
//! Not here: the equations (see [`mod@crate::ops::conv2d`] and [`super::conv_block`]).

use crate::dispatch::{Bind, Dispatch};
use crate::ops::conv2d::Conv2d;
use crate::shader;

/// Channel groups of a workgroup, four channels each.
const GROUPS: usize = 4;
/// Places of a thread, below each other.
const PLACES: usize = 4;
/// Threads of a workgroup: what WebGPU guarantees.
const THREADS: usize = 256;
/// Vectors of workgroup memory for kernels, and floats for patches: `KERNEL` and `PATCH` of the shader, together the
/// 16 KiB that WebGPU guarantees.
const KERNEL: usize = 512;
const PATCH: usize = 2048;
/// Threads of a warp, or of what a device has instead, about: a workgroup takes whole ones.
const WARP: usize = 32;
/// Workgroups a dimension: what WebGPU guarantees.
const MOST_GROUPS: usize = 65_535;

/// Constants of a dispatch.
pub(super) type Constants = Vec<(&'static str, f64)>;

/// Sizes of one correlation of an image `[c_in, h, w]` to `[c_out, h_out, w_out]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Correlation {
    n: usize,
    c_in: usize,
    h: usize,
    w: usize,
    c_out: usize,
    k_h: usize,
    k_w: usize,
    top: usize,
    left: usize,
    h_out: usize,
    w_out: usize,
}

impl Correlation {
    /// The forward pass of `conv`.
    pub fn forward(conv: &Conv2d) -> Self {
        let ((top, left), (h_out, w_out)) = (conv.pad(), conv.out());
        let Conv2d { n, c_in, h, w, c_out, k_h, k_w, .. } = *conv;
        Correlation { n, c_in, h, w, c_out, k_h, k_w, top, left, h_out, w_out }
    }

    /// The gradient of the input of `conv`: the output's gradient, correlated with the weight rotated by 180°, its
    /// channels swapped.
    pub fn transposed(conv: &Conv2d) -> Self {
        let ((top, left), (h, w)) = (conv.pad(), conv.out());
        let Conv2d { n, c_in, c_out, k_h, k_w, .. } = *conv;
        let (top, left) = (k_h - 1 - top, k_w - 1 - left);
        Correlation { n, c_in: c_out, h, w, c_out: c_in, k_h, k_w, top, left, h_out: conv.h, w_out: conv.w }
    }

    fn taps(&self) -> usize {
        self.c_in * self.k_h * self.k_w
    }
}

/// One way to cut a correlation followed by a pool.
#[derive(Clone, Debug, PartialEq)]
struct Tiling {
    tile_h: usize,
    tile_w: usize,
    channels: usize,
    kernel_rows: usize,
}

impl Tiling {
    /// Threads of a workgroup.
    fn threads(&self) -> usize {
        GROUPS * self.tile_h.div_ceil(PLACES) * self.tile_w
    }

    /// The tile with its stages as large as workgroup memory allows; `None` if not even one kernel row fits.
    fn staged(sizes: &Correlation, tile_h: usize, tile_w: usize) -> Option<Self> {
        let (rows, width) = (tile_h.div_ceil(PLACES) * PLACES, tile_w + sizes.k_w - 1);
        let fits = |r: usize| (r * sizes.k_w * GROUPS <= KERNEL) && (rows + r - 1) * width <= PATCH;
        let most = (1..=sizes.k_h).rev().find(|&r| fits(r))?;
        // As even as they can be.
        let kernel_rows = sizes.k_h.div_ceil(sizes.k_h.div_ceil(most));
        let mut channels = 1;
        if kernel_rows == sizes.k_h {
            let kernel = KERNEL / (kernel_rows * sizes.k_w * GROUPS);
            channels = kernel.min(PATCH / ((rows + kernel_rows - 1) * width)).min(sizes.c_in).max(1);
        }
        Some(Tiling { tile_h, tile_w, channels, kernel_rows })
    }

    /// What the tile costs in instructions, about: a place counts its lanes' multiply-adds, whether they are wanted or
    /// not, and what is copied to workgroup memory.
    fn cost(&self, sizes: &Correlation, used: (usize, usize)) -> usize {
        let Tiling { tile_h, tile_w, channels, kernel_rows } = *self;
        let tiles = used.0.div_ceil(tile_h) * used.1.div_ceil(tile_w);
        let stages = sizes.c_in.div_ceil(channels) * sizes.k_h.div_ceil(kernel_rows);
        let patch = channels * (tile_h.div_ceil(PLACES) * PLACES + kernel_rows - 1) * (tile_w + sizes.k_w - 1);
        let kernel = channels * kernel_rows * sizes.k_w * GROUPS;
        // A number of a patch costs some dozen instructions, a vector of a kernel some thirty.
        let copies = stages * (12 * patch + 30 * kernel);
        tiles * (self.threads().next_multiple_of(WARP) * sizes.taps() * PLACES * 4 + copies)
    }

    /// The cheapest way to cut a correlation whose map goes through windows of `pool`; `None` if no tile of whole
    /// windows fits a workgroup.
    fn best(sizes: &Correlation, pool: (usize, usize)) -> Option<Self> {
        let used = (sizes.h_out / pool.0 * pool.0, sizes.w_out / pool.1 * pool.1);
        let strips = THREADS / GROUPS;
        let heights = (pool.0..=used.0.min(strips * PLACES)).step_by(pool.0);
        let tiles = heights.flat_map(|tile_h| {
            let widest = used.1.min(strips / tile_h.div_ceil(PLACES));
            (pool.1..=widest).step_by(pool.1).map(move |tile_w| (tile_h, tile_w))
        });
        let tilings = tiles.filter_map(|(tile_h, tile_w)| Tiling::staged(sizes, tile_h, tile_w));
        tilings.min_by_key(|tiling| tiling.cost(sizes, used))
    }
}

/// A kernel of `conv_tiled.wgsl`: correlates, then pools.
#[derive(Clone, Debug)]
pub(super) struct Tiles {
    sizes: Correlation,
    pool: (usize, usize),
    tiling: Tiling,
    groups: [usize; 2],
}

impl Tiles {
    /// Cuts a correlation whose map goes through windows of `pool`. `None` if no tile of whole windows fits a
    /// workgroup, or if there are more tiles than a grid has workgroups.
    pub fn new(sizes: Correlation, pool: (usize, usize)) -> Option<Self> {
        let tiling = Tiling::best(&sizes, pool)?;
        let used = (sizes.h_out / pool.0 * pool.0, sizes.w_out / pool.1 * pool.1);
        let tiles = used.0.div_ceil(tiling.tile_h) * used.1.div_ceil(tiling.tile_w);
        let groups = [tiles, sizes.n * sizes.c_out.div_ceil(4 * GROUPS)];
        groups.iter().all(|&count| count <= MOST_GROUPS).then_some(Tiles { sizes, pool, tiling, groups })
    }

    /// The dispatch. `more` are the other constants of the entry point.
    pub fn dispatch(&self, entry: &'static str, more: Constants) -> Dispatch {
        let Correlation { n, c_in, h, w, c_out, k_h, k_w, top, left, h_out, w_out } = self.sizes;
        let Tiling { tile_h, tile_w, channels, kernel_rows } = self.tiling;
        let sizes = [
            ("n", n),
            ("c_in", c_in),
            ("h", h),
            ("w", w),
            ("c_out", c_out),
            ("k_h", k_h),
            ("k_w", k_w),
            ("top", top),
            ("left", left),
            ("h_out", h_out),
            ("w_out", w_out),
            ("pool_h", self.pool.0),
            ("pool_w", self.pool.1),
            ("tile_h", tile_h),
            ("tile_w", tile_w),
            ("channels", channels),
            ("kernel_rows", kernel_rows),
            ("threads", self.tiling.threads()),
        ];
        let constants = sizes.into_iter().map(|(name, size)| (name, size as f64)).chain(more).collect();
        Dispatch::grid(shader!("fast/conv_tiled.wgsl"), entry, constants, self.groups)
    }
}

/// Slices of a sum at most: what is written for each is read again.
const SLICES: usize = 64;
/// Gradients of a slice at least.
const SLICE: usize = 64;
/// Workgroups that fill a large device.
const WORKGROUPS: usize = 2048;

/// The sizes of a weight gradient in `conv_grad_weight_tiled.wgsl`: sums over `windows` gradients of every channel of
/// every image.
#[derive(Debug)]
pub(super) struct WeightGradient {
    constants: Constants,
    elements: usize,
    channels: usize,
    slices: usize,
    blocks: usize,
}

impl WeightGradient {
    /// Cuts the sums for `conv`; `more` are the constants of the activation.
    pub fn new(conv: &Conv2d, windows: usize, more: Constants) -> Self {
        let Conv2d { n, c_in, h, w, c_out, k_h, k_w, .. } = *conv;
        let (top, left) = conv.pad();
        let by_channel = c_in >= 4;
        let units = if by_channel { c_in.div_ceil(4) * k_h * k_w } else { c_in * k_h.div_ceil(4) * k_w };
        let blocks = units.div_ceil(THREADS);
        let threads = units.div_ceil(blocks).next_multiple_of(WARP);
        let wanted = WORKGROUPS.div_ceil(c_out * blocks).min(SLICES).min((n * windows).div_ceil(SLICE)).max(1);
        let slice = (n * windows).div_ceil(wanted);
        let slices = (n * windows).div_ceil(slice);
        let sizes = [
            ("n", n),
            ("c_in", c_in),
            ("h", h),
            ("w", w),
            ("c_out", c_out),
            ("k_h", k_h),
            ("k_w", k_w),
            ("top", top),
            ("left", left),
            ("w_out", conv.out().1),
            ("windows", windows),
            ("by_channel", usize::from(by_channel)),
            ("slice", slice),
            ("slices", slices),
            ("blocks", blocks),
            ("threads", threads),
        ];
        let constants = sizes.into_iter().map(|(name, size)| (name, size as f64)).chain(more).collect();
        WeightGradient { constants, elements: c_out * conv.taps(), channels: c_out, slices, blocks }
    }

    /// Floats that the slices take.
    pub fn scratch(&self) -> usize {
        self.slices * self.elements
    }

    fn grid(&self, entry: &'static str, groups: [usize; 2]) -> Dispatch {
        Dispatch::grid(shader!("fast/conv_grad_weight_tiled.wgsl"), entry, self.constants.clone(), groups)
    }

    /// The two stages: `entry` reads `reads`, and the sums go to the node's output `write`.
    pub fn weight(&self, entry: &'static str, reads: &[Bind], write: usize) -> [Dispatch; 2] {
        let shader = shader!("fast/conv_grad_weight_tiled.wgsl");
        let total = Dispatch::linear(shader, "total", self.constants.clone(), self.elements);
        [
            self.grid(entry, [self.channels, self.slices * self.blocks])
                .binding(reads.iter().copied().chain([Bind::Scratch(0)])),
            total.binding([Bind::ScratchRead(0), Bind::Write(write)]),
        ]
    }

    /// The bias's gradient: `entry` writes the node's output `write` and reads `reads`.
    pub fn bias(&self, entry: &'static str, reads: &[Bind], write: usize) -> Dispatch {
        let binds = [Bind::Write(write)].into_iter().chain(reads.iter().copied());
        self.grid(entry, [self.channels, 1]).binding(binds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ops::Padding;

    fn conv(c_in: usize, size: usize, c_out: usize, (k_h, k_w): (usize, usize)) -> Conv2d {
        let padding = Padding::Same;
        Conv2d { n: 15, c_in, h: size, w: size, c_out, k_h, k_w, padding, bias: false }
    }

    /// The layers of both nets, and their pools.
    fn layers() -> Vec<(Conv2d, (usize, usize))> {
        vec![
            (conv(1, 80, 16, (10, 23)), (1, 20)),
            (conv(1, 80, 16, (21, 20)), (20, 1)),
            (conv(1, 80, 16, (10, 23)), (2, 2)),
            (conv(1, 80, 16, (21, 10)), (2, 2)),
            (conv(16, 40, 32, (5, 11)), (2, 2)),
            (conv(16, 40, 32, (10, 5)), (2, 2)),
            (conv(32, 20, 64, (3, 5)), (2, 2)),
            (conv(32, 20, 64, (5, 3)), (2, 2)),
            (conv(64, 10, 128, (2, 4)), (1, 5)),
            (conv(64, 10, 128, (4, 2)), (5, 1)),
        ]
    }

    #[test]
    fn every_layer_has_tiles_of_whole_windows_that_fit() {
        for (conv, pool) in layers() {
            let sizes = Correlation::forward(&conv);
            let tiling = Tiling::best(&sizes, pool).unwrap();
            let Tiling { tile_h, tile_w, channels, kernel_rows } = tiling;
            assert!(tile_h.is_multiple_of(pool.0) && tile_w.is_multiple_of(pool.1), "{tiling:?}");
            assert!(tiling.threads() <= THREADS && tiling.threads() >= 2 * WARP, "{tiling:?}");
            assert!(channels * kernel_rows * sizes.k_w * GROUPS <= KERNEL, "{tiling:?}");
            let rows = tile_h.div_ceil(PLACES) * PLACES + kernel_rows - 1;
            assert!(channels * rows * (tile_w + sizes.k_w - 1) <= PATCH, "{tiling:?}");
            assert!(channels == 1 || kernel_rows == sizes.k_h, "{tiling:?}");
            // The map of one channel a group lies where the patch was.
            assert!(GROUPS * tile_h * tile_w <= PATCH, "{tiling:?}");
            // The threads of whole warps have at most three in ten places more than are wanted.
            let wanted = (sizes.h_out / pool.0 * pool.0) * (sizes.w_out / pool.1 * pool.1);
            let tiles = sizes.h_out.div_ceil(tile_h) * sizes.w_out.div_ceil(tile_w);
            let places = tiles * tiling.threads().next_multiple_of(WARP) * PLACES / GROUPS;
            assert!(places * 10 <= wanted * 13, "{tiling:?}: {places} places for {wanted}");
        }
    }

    #[test]
    fn what_does_not_fit_has_no_tiles() {
        // A window of the whole plane needs more threads than there are, a kernel row of 129 taps more memory.
        assert_eq!(Tiling::best(&Correlation::forward(&conv(1, 80, 16, (3, 3))), (80, 80)), None);
        assert_eq!(Tiling::best(&Correlation::forward(&conv(1, 200, 16, (1, 129))), (1, 1)), None);
        assert!(Tiling::best(&Correlation::forward(&conv(1, 200, 16, (1, 128))), (1, 1)).is_some());
        let many = Conv2d { n: 70_000, ..conv(1, 4, 1, (1, 1)) };
        assert!(Tiles::new(Correlation::forward(&many), (1, 1)).is_none());
    }

    #[test]
    fn slices_cover_every_gradient_once() {
        for (conv, pool) in layers() {
            let (h, w) = conv.out();
            let windows = (h / pool.0) * (w / pool.1);
            let sizes = WeightGradient::new(&conv, windows, vec![]);
            let constant = |wanted| sizes.constants.iter().find(|(name, _)| *name == wanted).unwrap().1 as usize;
            let (slice, threads) = (constant("slice"), constant("threads"));
            assert!(sizes.slices * slice >= conv.n * windows && (sizes.slices - 1) * slice < conv.n * windows);
            assert!(threads <= THREADS && threads.is_multiple_of(WARP));
            assert!(sizes.slices <= SLICES && sizes.scratch() == sizes.slices * conv.c_out * conv.taps());
        }
    }
}
