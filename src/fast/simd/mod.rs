//! Kernels written once and compiled for AVX-512, for AVX2 with FMA, and portably. [`run`] picks one at run time.
//!
//! A kernel is a struct of what it works on, with a [`Kernel::run`] generic over the [`Vector`]. Everything that a kernel
//! calls must be `#[inline(always)]`, including functions that take its closures. Otherwise it is compiled for the baseline
//! instruction set.

#![allow(unsafe_code)]

mod columns;
mod prefetch;

pub use columns::{Columns, columns};
pub use prefetch::prefetch;

/// Channels that are interleaved in memory: one register of AVX-512, two of AVX.
pub const LANES: usize = 16;

/// Sixteen floats, on a cache line of their own.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Lanes(pub [f32; LANES]);

impl Lanes {
    /// Sixteen zeros.
    pub const ZERO: Lanes = Lanes([0.0; LANES]);
}

/// Some floats that are worked on at once. Every method must be inlined into a [`Kernel`] to be fast.
pub trait Vector: Copy {
    /// Number of floats.
    const LANES: usize;
    /// Number of vector registers.
    const REGISTERS: usize;

    /// `x` in every lane.
    fn splat(x: f32) -> Self;

    /// The first floats of `from`; panics if those are too few.
    fn load(from: &[f32]) -> Self;

    /// Overwrites the first floats of `to`; panics if those are too few.
    fn store(self, to: &mut [f32]);

    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn div(self, b: Self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;

    /// `self` where it is greater than `b`, `b` elsewhere.
    fn max(self, b: Self) -> Self;

    /// `self * b + c`, rounded once where the CPU has a fused multiply-add.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// `c - self * b`, likewise.
    fn mul_sub_from(self, b: Self, c: Self) -> Self;

    /// `size * sign(self)`, with `sign(0) = 0`.
    fn signs(self, size: Self) -> Self;

    /// `yes` in lanes where `self > than`, `no` in the others.
    fn if_greater(self, than: Self, yes: Self, no: Self) -> Self;

    /// `yes` in lanes where `self == to`, `no` in the others.
    fn if_equal(self, to: Self, yes: Self, no: Self) -> Self;

    /// Copies sixteen floats.
    #[inline(always)]
    fn copy(from: &[f32; LANES], to: &mut [f32; LANES]) {
        for part in (0..LANES).step_by(Self::LANES) {
            Self::load(&from[part..]).store(&mut to[part..]);
        }
    }

    /// Rows become columns.
    #[inline(always)]
    fn transpose<'a>(row: impl Fn(usize) -> &'a [f32; LANES], out: &mut Tile) {
        for i in 0..LANES {
            for (out, x) in out.iter_mut().zip(row(i)) {
                out.0[i] = *x;
            }
        }
    }
}

/// What stands in for a row that is not there.
pub const ZEROS: [f32; LANES] = [0.0; LANES];

/// Sixteen times sixteen floats.
pub type Tile = [Lanes; LANES];

/// A kernel written with [`Vector`]s. Everything that it calls must be `#[inline(always)]`: only then is it compiled for the
/// CPU's instruction set.
pub trait Kernel {
    /// The kernel.
    fn run<V: Vector>(self);
}

/// Runs `kernel` with the widest vectors of this CPU.
pub fn run(kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has AVX-512F, which is all that the function needs.
            return unsafe { x86::run_avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the CPU has AVX2 and FMA, which is all that the function needs.
            return unsafe { x86::run_avx2(kernel) };
        }
    }
    kernel.run::<PortableVector<4>>();
}

/// Floats of one vector of this CPU.
pub fn width() -> usize {
    struct Width<'a>(&'a mut usize);
    impl Kernel for Width<'_> {
        #[inline(always)]
        fn run<V: Vector>(self) {
            *self.0 = V::LANES;
        }
    }
    let mut width = 0;
    run(Width(&mut width));
    width
}

/// Prefetches every plane three tiles ahead of `from`. The hardware prefetcher cannot track this many streams.
#[inline(always)]
fn prefetch_tile(planes: &[f32], plane: usize, channels: usize, from: usize) {
    const AHEAD: usize = 3 * LANES;
    for lane in 0..channels {
        if let Some(x) = planes.get(lane * plane + from + AHEAD) {
            prefetch(x);
        }
    }
}

/// Interleaves channels (planar to channels-last): `out[j][lane] = planes[lane * plane + j]`, zero in lanes beyond the
/// `channels`.
///
/// # Panics
/// If a row of `out.len()` floats leaves `planes`, or there is no channel.
pub fn interleave(planes: &[f32], plane: usize, channels: usize, out: &mut [Lanes]) {
    assert!((channels - 1) * plane + out.len() <= planes.len(), "interleave: a row outside the planes");
    run(Interleave { planes, plane, channels, out });
}

struct Interleave<'a> {
    planes: &'a [f32],
    plane: usize,
    channels: usize,
    out: &'a mut [Lanes],
}

impl Kernel for Interleave<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut tile = [Lanes::ZERO; LANES];
        for (block, out) in self.out.chunks_mut(LANES).enumerate() {
            let from = block * LANES;
            prefetch_tile(self.planes, self.plane, self.channels, from);
            let row = |lane: usize| {
                let row = if lane < self.channels { self.planes.get(lane * self.plane + from..) } else { None };
                row.and_then(|row| row.first_chunk()).unwrap_or(&ZEROS)
            };
            let short = (self.channels - 1) * self.plane + from + LANES > self.planes.len();
            if let Ok(out) = out.try_into() {
                V::transpose(row, out);
            } else if short {
                for (j, out) in out.iter_mut().enumerate() {
                    *out = Lanes::ZERO;
                    for lane in 0..self.channels {
                        out.0[lane] = self.planes[lane * self.plane + from + j];
                    }
                }
            } else {
                // What was read beyond the row is left in the tile.
                V::transpose(row, &mut tile);
                for (out, tile) in out.iter_mut().zip(&tile) {
                    V::copy(&tile.0, &mut out.0);
                }
            }
        }
    }
}

/// Deinterleaves channels (channels-last to planar): `planes[lane * plane + j] = rows[j][lane]` for the first `channels`
/// lanes.
///
/// # Panics
/// If a row of `rows.len()` floats leaves `planes`.
pub fn deinterleave(rows: &[Lanes], plane: usize, channels: usize, planes: &mut [f32]) {
    run(Deinterleave { rows, plane, channels, planes });
}

struct Deinterleave<'a> {
    rows: &'a [Lanes],
    plane: usize,
    channels: usize,
    planes: &'a mut [f32],
}

impl Kernel for Deinterleave<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut tile = [Lanes::ZERO; LANES];
        for (block, lanes) in self.rows.chunks(LANES).enumerate() {
            prefetch_tile(self.planes, self.plane, self.channels, block * LANES);
            V::transpose(|i| lanes.get(i).map_or(&ZEROS, |lanes| &lanes.0), &mut tile);
            for (lane, tile) in tile[..self.channels].iter().enumerate() {
                let to = &mut self.planes[lane * self.plane + block * LANES..][..lanes.len()];
                match to.first_chunk_mut() {
                    Some(whole) => V::copy(&tile.0, whole),
                    None => copy_short(&tile.0, to),
                }
            }
        }
    }
}

/// Copies the first `to.len()` of sixteen floats, in pieces of fixed lengths: a copy of unknown length is a call.
#[inline(always)]
fn copy_short(from: &[f32; LANES], to: &mut [f32]) {
    let at = copy_piece::<8>(from, to, 0);
    let at = copy_piece::<4>(from, to, at);
    let at = copy_piece::<2>(from, to, at);
    copy_piece::<1>(from, to, at);
}

/// Copies `N` floats from index `at` on if the length contains such a piece. Returns the index after it.
#[inline(always)]
fn copy_piece<const N: usize>(from: &[f32; LANES], to: &mut [f32], at: usize) -> usize {
    if to.len() & N == 0 {
        return at;
    }
    if let (Some(to), Some(from)) = (to[at..].first_chunk_mut::<N>(), from[at..].first_chunk::<N>()) {
        *to = *from;
    }
    at + N
}

/// Portable vectors of `L` floats. With one lane: the rest at the end of an array.
#[derive(Clone, Copy)]
pub struct PortableVector<const L: usize>([f32; L]);

impl<const L: usize> PortableVector<L> {
    #[inline(always)]
    fn zip(mut self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        for (a, b) in self.0.iter_mut().zip(b.0) {
            *a = f(*a, b);
        }
        self
    }
}

impl<const L: usize> Vector for PortableVector<L> {
    const LANES: usize = L;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        PortableVector([x; L])
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let mut lanes = [0.0; L];
        lanes.copy_from_slice(&from[..L]);
        PortableVector(lanes)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..L].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.zip(self, |a, _| a.sqrt())
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.zip(self, |a, _| a.abs())
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.mul(b).add(c)
    }

    #[inline(always)]
    fn mul_sub_from(self, b: Self, c: Self) -> Self {
        c.sub(self.mul(b))
    }

    #[inline(always)]
    fn signs(self, size: Self) -> Self {
        self.zip(size, |a, size| if a == 0.0 { 0.0 } else { f32::from_bits(size.to_bits() ^ (a.to_bits() & 1 << 31)) })
    }

    #[inline(always)]
    fn if_greater(self, than: Self, mut yes: Self, no: Self) -> Self {
        for (i, yes) in yes.0.iter_mut().enumerate() {
            *yes = if self.0[i] > than.0[i] { *yes } else { no.0[i] };
        }
        yes
    }

    #[inline(always)]
    fn if_equal(self, to: Self, mut yes: Self, no: Self) -> Self {
        for (i, yes) in yes.0.iter_mut().enumerate() {
            *yes = if self.0[i] == to.0[i] { *yes } else { no.0[i] };
        }
        yes
    }
}

/// The vectors of x86. The types are private: they are reached only through [`run`], which has checked the CPU.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, LANES, Tile, Vector};

    #[target_feature(enable = "avx512f")]
    pub fn run_avx512(kernel: impl Kernel) {
        kernel.run::<Avx512>();
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn run_avx2(kernel: impl Kernel) {
        kernel.run::<Avx2>();
    }

    macro_rules! vector {
        ($name:ident($register:ty), $lanes:literal, $registers:literal, $set1:ident, $loadu:ident, $storeu:ident,
            $add:ident, $sub:ident, $mul:ident, $div:ident, $max:ident, $sqrt:ident, $fmadd:ident, $fnmadd:ident,
            abs($x:ident) $abs:block, signs($a:ident, $size:ident) $signs:block,
            select($x1:ident, $x2:ident, $yes:ident, $no:ident) $greater:block $equal:block $(, $more:item)?) => {
            #[derive(Clone, Copy)]
            struct $name($register);

            // SAFETY of every call below: the type is named in its run function only, so the CPU has its
            // instructions; none but the load and the store touches memory, and those get whole arrays.
            impl Vector for $name {
                const LANES: usize = $lanes;
                const REGISTERS: usize = $registers;

                #[inline(always)]
                fn splat(x: f32) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($set1(x)) }
                }

                #[inline(always)]
                fn load(from: &[f32]) -> Self {
                    let from = &from[..$lanes];
                    // SAFETY: see above; `from` has as many floats as are read.
                    unsafe { $name($loadu(from.as_ptr())) }
                }

                #[inline(always)]
                fn store(self, to: &mut [f32]) {
                    let to = &mut to[..$lanes];
                    // SAFETY: see above; `to` has as many floats as are written.
                    unsafe { $storeu(to.as_mut_ptr(), self.0) }
                }

                #[inline(always)]
                fn add(self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($add(self.0, b.0)) }
                }

                #[inline(always)]
                fn sub(self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($sub(self.0, b.0)) }
                }

                #[inline(always)]
                fn mul(self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($mul(self.0, b.0)) }
                }

                #[inline(always)]
                fn div(self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($div(self.0, b.0)) }
                }

                #[inline(always)]
                fn max(self, b: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($max(self.0, b.0)) }
                }

                #[inline(always)]
                fn sqrt(self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($sqrt(self.0)) }
                }

                #[inline(always)]
                fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($fmadd(self.0, b.0, c.0)) }
                }

                #[inline(always)]
                fn mul_sub_from(self, b: Self, c: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { $name($fnmadd(self.0, b.0, c.0)) }
                }

                #[inline(always)]
                fn abs(self) -> Self {
                    let $x = self.0;
                    // SAFETY: see above.
                    unsafe { $name($abs) }
                }

                #[inline(always)]
                fn signs(self, size: Self) -> Self {
                    let ($a, $size) = (self.0, size.0);
                    // SAFETY: see above.
                    unsafe { $name($signs) }
                }

                #[inline(always)]
                fn if_greater(self, than: Self, yes: Self, no: Self) -> Self {
                    let ($x1, $x2, $yes, $no) = (self.0, than.0, yes.0, no.0);
                    // SAFETY: see above.
                    unsafe { $name($greater) }
                }

                #[inline(always)]
                fn if_equal(self, to: Self, yes: Self, no: Self) -> Self {
                    let ($x1, $x2, $yes, $no) = (self.0, to.0, yes.0, no.0);
                    // SAFETY: see above.
                    unsafe { $name($equal) }
                }

                $($more)?
            }
        };
    }

    vector!(
        Avx512(__m512), 16, 32, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps,
        _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_div_ps, _mm512_max_ps, _mm512_sqrt_ps,
        _mm512_fmadd_ps, _mm512_fnmadd_ps,
        abs(x) { _mm512_abs_ps(x) },
        signs(a, size) {
            let sign = _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(i32::MIN));
            let signed = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(size), sign));
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(a, _mm512_setzero_ps()), signed)
        },
        select(a, b, yes, no)
            { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes) }
            { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), no, yes) },
        #[inline(always)]
        fn transpose<'a>(row: impl Fn(usize) -> &'a [f32; LANES], out: &mut Tile) {
            let load = |i: usize| Self::load(row(i)).0;
            // SAFETY: see above; registers only.
            unsafe {
                // quads[g][c]: of rows 4 g .. 4 g + 4 the columns c, 4 + c, 8 + c, 12 + c, a quarter of a register each.
                let mut quads = [[_mm512_setzero_pd(); 4]; 4];
                for (g, quads) in quads.iter_mut().enumerate() {
                    let (a, b, c, d) = (load(4 * g), load(4 * g + 1), load(4 * g + 2), load(4 * g + 3));
                    let ab = [_mm512_castps_pd(_mm512_unpacklo_ps(a, b)), _mm512_castps_pd(_mm512_unpackhi_ps(a, b))];
                    let cd = [_mm512_castps_pd(_mm512_unpacklo_ps(c, d)), _mm512_castps_pd(_mm512_unpackhi_ps(c, d))];
                    for half in 0..2 {
                        quads[2 * half] = _mm512_unpacklo_pd(ab[half], cd[half]);
                        quads[2 * half + 1] = _mm512_unpackhi_pd(ab[half], cd[half]);
                    }
                }
                for c in 0..4 {
                    let [a, b, d, e] = quads.map(|quads| _mm512_castpd_ps(quads[c]));
                    let low = [_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0x44>(d, e)];
                    let high = [_mm512_shuffle_f32x4::<0xee>(a, b), _mm512_shuffle_f32x4::<0xee>(d, e)];
                    Avx512(_mm512_shuffle_f32x4::<0x88>(low[0], low[1])).store(&mut out[c].0);
                    Avx512(_mm512_shuffle_f32x4::<0xdd>(low[0], low[1])).store(&mut out[4 + c].0);
                    Avx512(_mm512_shuffle_f32x4::<0x88>(high[0], high[1])).store(&mut out[8 + c].0);
                    Avx512(_mm512_shuffle_f32x4::<0xdd>(high[0], high[1])).store(&mut out[12 + c].0);
                }
            }
        }
    );

    vector!(
        Avx2(__m256), 8, 16, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps,
        _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_div_ps, _mm256_max_ps, _mm256_sqrt_ps,
        _mm256_fmadd_ps, _mm256_fnmadd_ps,
        abs(x) { _mm256_andnot_ps(_mm256_set1_ps(-0.0), x) },
        signs(a, size) {
            let signed = _mm256_xor_ps(size, _mm256_and_ps(a, _mm256_set1_ps(-0.0)));
            _mm256_and_ps(signed, _mm256_cmp_ps::<_CMP_NEQ_UQ>(a, _mm256_setzero_ps()))
        },
        select(a, b, yes, no)
            { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
            { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b)) }
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method of a vector on numbers with exact results; the last lane of each is kept.
    struct Methods<'a>(&'a [f32], &'a mut Vec<(usize, Vec<f32>)>);

    impl Kernel for Methods<'_> {
        #[inline(always)]
        fn run<V: Vector>(self) {
            let (a, b) = (V::load(self.0), V::splat(-4.0));
            let results = [
                a,
                b,
                a.add(b),
                a.sub(b),
                a.mul(b),
                a.div(b),
                a.abs(),
                a.max(b),
                V::splat(f32::NAN).max(a),
                a.abs().sqrt(),
                a.mul_add(b, V::splat(1.0)),
                a.mul_sub_from(b, V::splat(1.0)),
                a.signs(b),
                a.signs(V::splat(0.5)),
                a.if_greater(V::splat(0.0), b, V::splat(2.0)),
                a.if_equal(V::splat(9.0), V::splat(3.0), a),
            ];
            for result in results {
                let mut lanes = vec![f32::NAN; V::LANES + 1];
                result.store(&mut lanes);
                assert!(lanes.pop().is_some_and(f32::is_nan), "one float too many");
                self.1.push((V::LANES, lanes));
            }
        }
    }

    #[test]
    fn every_vector_computes_by_hand() {
        // Sixteen lanes at most: 9, -9, 0, -0, and again.
        let input: Vec<f32> = (0..16).map(|i| [9.0, -9.0, 0.0, -0.0][i % 4]).collect();
        let mut found = Vec::new();
        run(Methods(&input, &mut found));
        Methods(&input, &mut found).run::<PortableVector<1>>();
        Methods(&input, &mut found).run::<PortableVector<4>>();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the CPU has what the function needs.
            unsafe { x86::run_avx2(Methods(&input, &mut found)) };
        }
        let expected: [[f32; 4]; 16] = [
            [9.0, -9.0, 0.0, 0.0],
            [-4.0; 4],
            [5.0, -13.0, -4.0, -4.0],
            [13.0, -5.0, 4.0, 4.0],
            [-36.0, 36.0, 0.0, 0.0],
            [-2.25, 2.25, 0.0, 0.0],
            [9.0, 9.0, 0.0, 0.0],
            [9.0, -4.0, 0.0, 0.0],
            [9.0, -9.0, 0.0, 0.0],
            [3.0, 3.0, 0.0, 0.0],
            [-35.0, 37.0, 1.0, 1.0],
            [37.0, -35.0, 1.0, 1.0],
            [-4.0, 4.0, 0.0, 0.0],
            [0.5, -0.5, 0.0, 0.0],
            [-4.0, 2.0, 2.0, 2.0],
            [3.0, -9.0, 0.0, 0.0],
        ];
        assert!(found.len() >= 48);
        for (number, (lanes, found)) in found.iter().enumerate() {
            let expected: Vec<f32> = (0..*lanes).map(|lane| expected[number % 16][lane % 4]).collect();
            assert_eq!(*found, expected, "result {} of {lanes} lanes", number % 16);
        }
    }

    #[test]
    fn channels_are_interleaved_and_deinterleaved() {
        for (channels, width, plane) in [(16, 40, 43), (3, 5, 5), (15, 16, 100), (16, 16, 16)] {
            let planes: Vec<f32> = (0..channels * plane).map(|i| i as f32 + 1.0).collect();
            let mut rows = vec![Lanes([f32::NAN; LANES]); width];
            interleave(&planes, plane, channels, &mut rows);
            for (j, row) in rows.iter().enumerate() {
                for (lane, x) in row.0.iter().enumerate() {
                    let expected = if lane < channels { planes[lane * plane + j] } else { 0.0 };
                    assert_eq!(*x, expected, "{channels} {width}: {j} {lane}");
                }
            }
            let mut back = vec![0.0; planes.len()];
            deinterleave(&rows, plane, channels, &mut back);
            for (i, x) in back.iter().enumerate() {
                assert_eq!(*x, if i % plane < width { planes[i] } else { 0.0 }, "{channels} {width}: {i}");
            }
        }
    }
}
