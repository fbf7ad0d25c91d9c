//! Discrete Fourier transforms of sixteen sequences at once: element `t` of all sixteen stands in one [`Lanes`].
//!
//! ```text
//! forward: X[k] = sum_t x[t] e^(-2 pi i k t / n)        inverse: x[t] = sum_k X[k] e^(+2 pi i k t / n)      (no 1/n)
//! ```
//!
//! In place, for lengths whose prime factors are 2, 3 and 5. The forward transform leaves the frequencies in the order
//! that its stages produce (frequency `k` at [`Fft::place`]`(k)`), and the inverse starts from that order: a
//! convolution multiplies spectra element by element, so nobody needs them sorted.
//!
//! # Source
//! Cooley and Tukey 1965; decimation in frequency forward, its mirror image inverse.

use super::kernels::simd::{self, Kernel, LANES, Lanes, Vector};

/// A complex vector.
type Complex<V> = (V, V);

/// A transform of one length, planned.
#[derive(Clone, Debug)]
pub struct Fft {
    n: usize,
    stages: Vec<Stage>,
}

/// One pass: blocks of `radix * m` elements become `radix` blocks of `m`.
#[derive(Clone, Debug)]
struct Stage {
    radix: usize,
    m: usize,
    /// `e^(-2 pi i j p / (radix m))` for j in `0..m`, p in `1..radix`.
    twiddles: Vec<(f32, f32)>,
}

impl Fft {
    /// The length from `n` on whose plan is the cheapest, counting also what else is done with every element.
    pub fn good_length(n: usize) -> usize {
        const ELSEWHERE: f64 = 2.0;
        let cost = |n: usize| Some((n, (cheapest(n)?.0 + ELSEWHERE) * n as f64));
        let (length, _) =
            (n.max(2)..2 * n.max(2)).filter_map(cost).min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
        length
    }

    /// A plan for length `n`.
    ///
    /// # Panics
    /// If `n` has prime factors other than 2, 3 and 5.
    pub fn new(n: usize) -> Self {
        let Some((_, radices)) = cheapest(n) else { panic!("no transform of length {n}") };
        let mut m = n;
        let stages = radices.into_iter().map(|radix| {
            let l = m;
            m /= radix;
            let angle = |j: usize, p: usize| -std::f64::consts::TAU * (j * p) as f64 / l as f64;
            let factor = |j: usize, p: usize| (angle(j, p).cos() as f32, angle(j, p).sin() as f32);
            let twiddles = (0..m).flat_map(|j| (1..radix).map(move |p| factor(j, p))).collect();
            Stage { radix, m, twiddles }
        });
        Fft { n, stages: stages.collect() }
    }

    /// Its length.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Where the forward transform leaves frequency `k`.
    pub fn place(&self, k: usize) -> usize {
        let mut k = k;
        let mut place = 0;
        for stage in &self.stages {
            place += k % stage.radix * stage.m;
            k /= stage.radix;
        }
        place
    }

    /// The transform of a one at place `t` of the circle, in the order of [`Fft::forward`].
    pub fn roots(&self, t: isize) -> Vec<[f32; 2]> {
        let mut roots = vec![[0.0; 2]; self.n];
        for k in 0..self.n {
            let turns = (k as isize * t).rem_euclid(self.n as isize) as f64 / self.n as f64;
            let (s, c) = (-std::f64::consts::TAU * turns).sin_cos();
            roots[self.place(k)] = [c as f32, s as f32];
        }
        roots
    }

    /// Transforms real parts and imaginary parts, each of the plan's length.
    pub fn forward(&self, re: &mut [Lanes], im: &mut [Lanes]) {
        simd::run(Transform { stages: &self.stages, re, im, inverse: false });
    }

    /// The way back, from the order that [`Fft::forward`] leaves.
    pub fn inverse(&self, re: &mut [Lanes], im: &mut [Lanes]) {
        simd::run(Transform { stages: &self.stages, re, im, inverse: true });
    }
}

struct Transform<'a> {
    stages: &'a [Stage],
    re: &'a mut [Lanes],
    im: &'a mut [Lanes],
    inverse: bool,
}

impl Kernel for Transform<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { stages, re, im, inverse } = self;
        for part in (0..LANES).step_by(V::LANES) {
            for i in 0..stages.len() {
                let stage = &stages[if inverse { stages.len() - 1 - i } else { i }];
                match (stage.radix, inverse) {
                    (2, false) => stage.forward::<V, 2>(re, im, part),
                    (3, false) => stage.forward::<V, 3>(re, im, part),
                    (4, false) => stage.forward::<V, 4>(re, im, part),
                    (5, false) => stage.forward::<V, 5>(re, im, part),
                    (6, false) => stage.forward::<V, 6>(re, im, part),
                    (_, false) => stage.forward::<V, 8>(re, im, part),
                    (2, true) => stage.inverse::<V, 2>(re, im, part),
                    (3, true) => stage.inverse::<V, 3>(re, im, part),
                    (4, true) => stage.inverse::<V, 4>(re, im, part),
                    (5, true) => stage.inverse::<V, 5>(re, im, part),
                    (6, true) => stage.inverse::<V, 6>(re, im, part),
                    (_, true) => stage.inverse::<V, 8>(re, im, part),
                }
            }
        }
    }
}

/// What a pass of each radix costs for an element, by its operations and its trip through memory, in no unit.
const COSTS: [(usize, f64); 6] = [(2, 1.0), (3, 1.2), (4, 1.3), (5, 1.8), (6, 1.7), (8, 1.8)];

/// The cheapest stages of length `n` with their cost for an element.
fn cheapest(n: usize) -> Option<(f64, Vec<usize>)> {
    if n == 1 {
        return Some((0.0, Vec::new()));
    }
    let choices = COSTS.into_iter().filter(|(radix, _)| n.is_multiple_of(*radix)).filter_map(|(radix, cost)| {
        let (rest, mut radices) = cheapest(n / radix)?;
        radices.push(radix);
        radices.sort_unstable(); // the largest last: it needs no twiddles
        Some((cost + rest, radices))
    });
    choices.min_by(|a, b| a.0.total_cmp(&b.0))
}

impl Stage {
    #[inline(always)]
    fn forward<V: Vector, const R: usize>(&self, re: &mut [Lanes], im: &mut [Lanes], part: usize) {
        let m = self.m;
        for (re, im) in re.chunks_exact_mut(R * m).zip(im.chunks_exact_mut(R * m)) {
            if m == 1 {
                let x = load_all::<V, R>(re, im, (0, 1, part));
                store_all(re, im, (0, 1, part), dft::<V, R>(x));
                continue;
            }
            for j in 0..m {
                let x = load_all::<V, R>(re, im, (j, m, part));
                let mut y = dft::<V, R>(x);
                for (y, &(c, s)) in y[1..].iter_mut().zip(&self.twiddles[j * (R - 1)..][..R - 1]) {
                    let (c, s) = (V::splat(c), V::splat(s));
                    *y = (s.mul_sub_from(y.1, c.mul(y.0)), s.mul_add(y.0, c.mul(y.1)));
                }
                store_all(re, im, (j, m, part), y);
            }
        }
    }

    #[inline(always)]
    fn inverse<V: Vector, const R: usize>(&self, re: &mut [Lanes], im: &mut [Lanes], part: usize) {
        let m = self.m;
        for (re, im) in re.chunks_exact_mut(R * m).zip(im.chunks_exact_mut(R * m)) {
            for j in 0..m {
                let mut x = load_all::<V, R>(re, im, (j, m, part));
                if m > 1 {
                    for (x, &(c, s)) in x[1..].iter_mut().zip(&self.twiddles[j * (R - 1)..][..R - 1]) {
                        let (c, s) = (V::splat(c), V::splat(s));
                        *x = (s.mul_add(x.1, c.mul(x.0)), s.mul_sub_from(x.0, c.mul(x.1)));
                    }
                }
                // The inverse of a small transform is the transform with its outputs p and R - p exchanged.
                let mut y = dft::<V, R>(x);
                y[1..].reverse();
                store_all(re, im, (j, m, part), y);
            }
        }
    }
}

// No `std::array::from_fn` here: it is not inlined, and then compiled without the machine's instructions.
#[inline(always)]
fn load_all<V: Vector, const R: usize>(
    re: &[Lanes],
    im: &[Lanes],
    (j, m, part): (usize, usize, usize),
) -> [Complex<V>; R] {
    let mut x = [(V::splat(0.0), V::splat(0.0)); R];
    for (q, x) in x.iter_mut().enumerate() {
        *x = (V::load(&re[j + q * m].0[part..]), V::load(&im[j + q * m].0[part..]));
    }
    x
}

#[inline(always)]
fn store_all<V: Vector, const R: usize>(
    re: &mut [Lanes],
    im: &mut [Lanes],
    (j, m, part): (usize, usize, usize),
    y: [Complex<V>; R],
) {
    for (p, y) in y.into_iter().enumerate() {
        y.0.store(&mut re[j + p * m].0[part..]);
        y.1.store(&mut im[j + p * m].0[part..]);
    }
}

#[inline(always)]
fn add<V: Vector>(a: Complex<V>, b: Complex<V>) -> Complex<V> {
    (a.0.add(b.0), a.1.add(b.1))
}

#[inline(always)]
fn sub<V: Vector>(a: Complex<V>, b: Complex<V>) -> Complex<V> {
    (a.0.sub(b.0), a.1.sub(b.1))
}

/// `(a - i b, a + i b)`
#[inline(always)]
fn rotate<V: Vector>(a: Complex<V>, b: Complex<V>) -> [Complex<V>; 2] {
    [(a.0.add(b.1), a.1.sub(b.0)), (a.0.sub(b.1), a.1.add(b.0))]
}

#[inline(always)]
fn scale_add<V: Vector>(a: f32, x: Complex<V>, b: Complex<V>) -> Complex<V> {
    let a = V::splat(a);
    (a.mul_add(x.0, b.0), a.mul_add(x.1, b.1))
}

#[inline(always)]
fn scale<V: Vector>(a: f32, x: Complex<V>) -> Complex<V> {
    let a = V::splat(a);
    (a.mul(x.0), a.mul(x.1))
}

/// The forward transform of length `R` in registers.
#[inline(always)]
fn dft<V: Vector, const R: usize>(x: [Complex<V>; R]) -> [Complex<V>; R] {
    let mut y = x;
    match R {
        2 => (y[0], y[1]) = (add(x[0], x[1]), sub(x[0], x[1])),
        3 => [y[0], y[1], y[2]] = dft3([x[0], x[1], x[2]]),
        4 => [y[0], y[1], y[2], y[3]] = dft4([x[0], x[1], x[2], x[3]]),
        5 => [y[0], y[1], y[2], y[3], y[4]] = dft5([x[0], x[1], x[2], x[3], x[4]]),
        6 => {
            // Good's prime factor algorithm: t = 3 a + 2 b, k = 3 c + 4 d (mod 6) need no twiddles.
            let even = dft3([x[0], x[2], x[4]]);
            let odd = dft3([x[3], x[5], x[1]]);
            for (d, k) in [0, 4, 2].into_iter().enumerate() {
                y[k] = add(even[d], odd[d]);
                y[(k + 3) % 6] = sub(even[d], odd[d]);
            }
        }
        8 => {
            let even = dft4([x[0], x[2], x[4], x[6]]);
            let odd = dft4([x[1], x[3], x[5], x[7]]);
            const HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
            let [right, _] = rotate(odd[1], odd[1]);
            let [_, back] = rotate(odd[3], odd[3]);
            (y[0], y[4]) = (add(even[0], odd[0]), sub(even[0], odd[0]));
            (y[1], y[5]) = (scale_add(HALF, right, even[1]), scale_add(-HALF, right, even[1]));
            [y[2], y[6]] = rotate(even[2], odd[2]);
            (y[3], y[7]) = (scale_add(-HALF, back, even[3]), scale_add(HALF, back, even[3]));
        }
        _ => unreachable!("a radix without a transform"),
    }
    y
}

#[inline(always)]
fn dft3<V: Vector>([a, b, c]: [Complex<V>; 3]) -> [Complex<V>; 3] {
    const SIN: f32 = 0.866_025_4;
    let sum = add(b, c);
    let middle = scale_add(-0.5, sum, a);
    let [y1, y2] = rotate(middle, scale(SIN, sub(b, c)));
    [add(a, sum), y1, y2]
}

#[inline(always)]
fn dft4<V: Vector>([a, b, c, d]: [Complex<V>; 4]) -> [Complex<V>; 4] {
    let (ac, bd) = (add(a, c), add(b, d));
    let [y1, y3] = rotate(sub(a, c), sub(b, d));
    [add(ac, bd), y1, sub(ac, bd), y3]
}

#[inline(always)]
fn dft5<V: Vector>([a, b, c, d, e]: [Complex<V>; 5]) -> [Complex<V>; 5] {
    const COS: [f32; 2] = [0.309_017, -0.809_017];
    const SIN: [f32; 2] = [0.951_056_5, 0.587_785_25];
    let (be, cd) = (add(b, e), add(c, d));
    let (eb, dc) = (sub(b, e), sub(c, d));
    let near = scale_add(COS[1], cd, scale_add(COS[0], be, a));
    let far = scale_add(COS[0], cd, scale_add(COS[1], be, a));
    let [y1, y4] = rotate(near, scale_add(SIN[1], dc, scale(SIN[0], eb)));
    let [y2, y3] = rotate(far, scale_add(-SIN[0], dc, scale(SIN[1], eb)));
    [add(a, add(be, cd)), y1, y2, y3, y4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_the_naive_sum_and_comes_back() {
        for n in (2..=100).filter(|&n| cheapest(n).is_some()) {
            let fft = Fft::new(n);
            let value = |t: usize, lane: usize| ((t * 7 + lane * 3) % 11) as f32 - 5.0 + lane as f32 / 16.0;
            let x: Vec<Lanes> = (0..n).map(|t| Lanes(std::array::from_fn(|lane| value(t, lane)))).collect();
            let y: Vec<Lanes> = (0..n).map(|t| Lanes(std::array::from_fn(|lane| value(t + 3, lane) * 0.5))).collect();
            let (mut re, mut im) = (x.clone(), y.clone());
            fft.forward(&mut re, &mut im);
            let scale = (n as f64).sqrt() * 5.0;
            for lane in [0, 1, LANES - 1] {
                for k in 0..n {
                    let (mut real, mut imaginary) = (0.0f64, 0.0f64);
                    for t in 0..n {
                        let (s, c) = (-std::f64::consts::TAU * (k * t % n) as f64 / n as f64).sin_cos();
                        let (a, b) = (f64::from(x[t].0[lane]), f64::from(y[t].0[lane]));
                        real += a * c - b * s;
                        imaginary += a * s + b * c;
                    }
                    let at = fft.place(k);
                    assert!((f64::from(re[at].0[lane]) - real).abs() < 1e-6 * scale, "{n} {k} {lane}");
                    assert!((f64::from(im[at].0[lane]) - imaginary).abs() < 1e-6 * scale, "{n} {k} {lane}");
                }
            }
            fft.inverse(&mut re, &mut im);
            for t in 0..n {
                for lane in 0..LANES {
                    assert!((re[t].0[lane] / n as f32 - x[t].0[lane]).abs() < 1e-5, "{n} {t}");
                    assert!((im[t].0[lane] / n as f32 - y[t].0[lane]).abs() < 1e-5, "{n} {t}");
                }
            }
        }
    }

    #[test]
    #[ignore = "a measurement: cargo test --release --lib fft::tests::speed -- --ignored --nocapture"]
    fn speed() {
        for n in [12, 24, 45, 48, 90, 96] {
            let fft = Fft::new(n);
            let (mut re, mut im) = (vec![Lanes::ZERO; n], vec![Lanes::ZERO; n]);
            let started = std::time::Instant::now();
            let rounds = 200_000;
            for _ in 0..rounds / 2 {
                fft.forward(&mut re, &mut im);
                fft.inverse(&mut re, &mut im);
            }
            let ns = started.elapsed().as_secs_f64() * 1e9 / rounds as f64;
            let flops = 5.0 * n as f64 * (n as f64).log2() * 16.0;
            println!("{n}: {:?} {ns:.0} ns, {:.0} GFLOP/s", cheapest(n), flops / ns);
        }
    }
}
