//! Sixteen floats at a time, on whatever the machine has: the same kernel text is compiled for AVX-512, for AVX2 with
//! FMA and for any machine, and [`best`] picks one at run time.
//!
//! A kernel is a struct of what it needs and a [`Kernel::run`] generic over the [`Vector`]; everything that it calls must be
//! `#[inline(always)]`, or it is compiled without the instructions.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Floats of a vector.
pub const LANES: usize = 16;

/// Sixteen floats in memory, aligned as AVX-512 likes them.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Lanes(pub [f32; LANES]);

impl Lanes {
    /// Sixteen zeros.
    pub const ZERO: Lanes = Lanes([0.0; LANES]);
}

/// Sixteen floats in registers.
pub trait Vector: Copy {
    /// Vectors that the machine's registers hold.
    const REGISTERS: usize;
    /// From memory.
    fn load(from: &[f32; LANES]) -> Self;
    /// To memory.
    fn store(self, to: &mut [f32; LANES]);
    /// The same number sixteen times.
    fn splat(x: f32) -> Self;
    /// `self + b`
    fn add(self, b: Self) -> Self;
    /// `self - b`
    fn sub(self, b: Self) -> Self;
    /// `self b`
    fn mul(self, b: Self) -> Self;
    /// `self b + c`
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `c - self b`
    fn mul_sub_from(self, b: Self, c: Self) -> Self;
}

/// A computation that can be compiled for any [`Vector`].
pub trait Kernel {
    /// What it gives.
    type Output;
    /// Does it. Must be `#[inline(always)]`.
    fn run<V: Vector>(self) -> Self::Output;
}

/// Runs `kernel` with the best instructions that this machine has.
pub fn best<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the machine has AVX-512F and VL, which is all that the function asks for.
            return unsafe { with_avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has AVX2 and FMA, which is all that the function asks for.
            return unsafe { with_avx2(kernel) };
        }
    }
    kernel.run::<Portable>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

/// For any machine; the compiler vectorises it as far as the target allows.
#[derive(Clone, Copy)]
struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

impl Vector for Portable {
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Portable(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Portable([x; LANES])
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
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.mul(b).add(c)
    }
    #[inline(always)]
    fn mul_sub_from(self, b: Self, c: Self) -> Self {
        c.sub(self.mul(b))
    }
}

// The two types below are made only inside `with_avx512` and `with_avx2`, which run only where the instructions exist:
// that is what every SAFETY note below relies on. Nothing outside this file can name them.

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx512(__m512);

#[cfg(target_arch = "x86_64")]
impl Vector for Avx512 {
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        // SAFETY: sixteen floats lie behind the reference, and the load asks for no alignment.
        Avx512(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        // SAFETY: as in `load`.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: registers only.
        Avx512(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: registers only.
        Avx512(unsafe { _mm512_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: registers only.
        Avx512(unsafe { _mm512_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: registers only.
        Avx512(unsafe { _mm512_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: registers only.
        Avx512(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn mul_sub_from(self, b: Self, c: Self) -> Self {
        // SAFETY: registers only.
        Avx512(unsafe { _mm512_fnmadd_ps(self.0, b.0, c.0) })
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx2([__m256; 2]);

#[cfg(target_arch = "x86_64")]
impl Vector for Avx2 {
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        // SAFETY: sixteen floats lie behind the reference, and the loads ask for no alignment.
        Avx2(unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from[8..].as_ptr())] })
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        // SAFETY: as in `load`.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), self.0[0]);
            _mm256_storeu_ps(to[8..].as_mut_ptr(), self.0[1]);
        }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: registers only.
        Avx2(unsafe { [_mm256_set1_ps(x); 2] })
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: registers only.
        Avx2(unsafe { [_mm256_add_ps(self.0[0], b.0[0]), _mm256_add_ps(self.0[1], b.0[1])] })
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: registers only.
        Avx2(unsafe { [_mm256_sub_ps(self.0[0], b.0[0]), _mm256_sub_ps(self.0[1], b.0[1])] })
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: registers only.
        Avx2(unsafe { [_mm256_mul_ps(self.0[0], b.0[0]), _mm256_mul_ps(self.0[1], b.0[1])] })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: registers only.
        Avx2(unsafe { [_mm256_fmadd_ps(self.0[0], b.0[0], c.0[0]), _mm256_fmadd_ps(self.0[1], b.0[1], c.0[1])] })
    }
    #[inline(always)]
    fn mul_sub_from(self, b: Self, c: Self) -> Self {
        // SAFETY: registers only.
        Avx2(unsafe { [_mm256_fnmadd_ps(self.0[0], b.0[0], c.0[0]), _mm256_fnmadd_ps(self.0[1], b.0[1], c.0[1])] })
    }
}
