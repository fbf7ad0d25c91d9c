//! Discrete Fourier transforms of sixteen sequences at once: element `t` of all sixteen stands in one [`Lanes`].
//!
//! ```text
//! forward: X[k] = sum_t x[t] e^(-2 pi i k t / n)        inverse: x[t] = sum_k X[k] e^(+2 pi i k t / n)      (no 1/n)
//! ```
//!
//! For lengths whose prime factors are 2, 3 and 5. The forward transform leaves the frequencies in the order
//! that its stages produce (frequency `k` at [`Fft::place`]`(k)`), and the inverse starts from that order: a
//! convolution multiplies spectra element by element, so the order does not matter.
//!
//! # Source
//! Cooley and Tukey 1965; decimation in frequency forward, its mirror image inverse.

use super::simd::{self, Kernel, LANES, Lanes, Vector, ZEROS};

/// Sixteen complex numbers: their real parts and their imaginary parts.
pub type Pair = [Lanes; 2];

/// A complex vector.
type Complex<V> = (V, V);

/// What a transform reads: elements beyond the end are zeros.
pub trait Source {
    /// Real and imaginary parts of element `i`.
    fn get(&self, i: usize) -> [&[f32; LANES]; 2];
}

/// Where a transform back writes: elements beyond the end are dropped.
pub trait Sink {
    /// The place of element `i`.
    fn get(&mut self, i: usize) -> Option<[&mut [f32; LANES]; 2]>;
}

/// Real and imaginary parts apart, each as long as it is.
pub struct Rows<T>(pub T, pub T);

impl Source for &[Pair] {
    #[inline(always)]
    fn get(&self, i: usize) -> [&[f32; LANES]; 2] {
        <[Pair]>::get(self, i).map_or([&ZEROS; 2], |[re, im]| [&re.0, &im.0])
    }
}

impl Source for Rows<&[Lanes]> {
    #[inline(always)]
    fn get(&self, i: usize) -> [&[f32; LANES]; 2] {
        [self.0.get(i).map_or(&ZEROS, |re| &re.0), self.1.get(i).map_or(&ZEROS, |im| &im.0)]
    }
}

impl Sink for &mut [Pair] {
    #[inline(always)]
    fn get(&mut self, i: usize) -> Option<[&mut [f32; LANES]; 2]> {
        <[Pair]>::get_mut(self, i).map(|[re, im]| [&mut re.0, &mut im.0])
    }
}

impl Sink for Rows<&mut [Lanes]> {
    #[inline(always)]
    fn get(&mut self, i: usize) -> Option<[&mut [f32; LANES]; 2]> {
        let (re, im) = (self.0.get_mut(i)?, self.1.get_mut(i)?);
        Some([&mut re.0, &mut im.0])
    }
}

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

    /// Where it leaves frequencies k and -k, for k from 0 to half the length.
    pub fn pairs(&self) -> Vec<[usize; 2]> {
        (0..=self.n / 2).map(|k| [self.place(k), self.place((self.n - k) % self.n)]).collect()
    }

    /// The transform of a one at place `t` of the circle, at frequencies k from 0 to half the length.
    pub fn roots(&self, t: isize) -> impl Iterator<Item = [f32; 2]> {
        let n = self.n as isize;
        (0..=n / 2).map(move |k| {
            let (s, c) = (-std::f64::consts::TAU * (k * t).rem_euclid(n) as f64 / n as f64).sin_cos();
            [c as f32, s as f32]
        })
    }

    /// Transforms what `source` has, filled up with zeros, to `out`, which has the plan's length.
    pub fn forward(&self, source: impl Source, out: &mut [Pair]) {
        simd::run(Forward { stages: &self.stages, source, out: &mut out[..self.n] });
    }

    /// The way back, from the order that [`Fft::forward`] leaves; overwrites `data`.
    pub fn inverse(&self, data: &mut [Pair], sink: impl Sink) {
        simd::run(Inverse { stages: &self.stages, data: &mut data[..self.n], sink });
    }
}

/// Calls a method of a stage for its radix.
macro_rules! by_radix {
    ($stage:ident.$method:ident($($argument:expr),*)) => {
        match $stage.radix {
            2 => $stage.$method::<V, 2>($($argument),*),
            3 => $stage.$method::<V, 3>($($argument),*),
            4 => $stage.$method::<V, 4>($($argument),*),
            5 => $stage.$method::<V, 5>($($argument),*),
            6 => $stage.$method::<V, 6>($($argument),*),
            _ => $stage.$method::<V, 8>($($argument),*),
        }
    };
}

struct Forward<'a, S> {
    stages: &'a [Stage],
    source: S,
    out: &'a mut [Pair],
}

impl<S: Source> Kernel for Forward<'_, S> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Some((first, rest)) = self.stages.split_first() else { return };
        for part in (0..LANES).step_by(V::LANES) {
            by_radix!(first.first(&self.source, self.out, part));
            for stage in rest {
                by_radix!(stage.forward(self.out, part));
            }
        }
    }
}

struct Inverse<'a, S> {
    stages: &'a [Stage],
    data: &'a mut [Pair],
    sink: S,
}

impl<S: Sink> Kernel for Inverse<'_, S> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let Some((last, rest)) = self.stages.split_first() else { return };
        for part in (0..LANES).step_by(V::LANES) {
            for stage in rest.iter().rev() {
                by_radix!(stage.inverse(self.data, part));
            }
            by_radix!(last.last(self.data, &mut self.sink, part));
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
    /// The first pass forward, over the whole length.
    #[inline(always)]
    fn first<V: Vector, const R: usize>(&self, source: &impl Source, out: &mut [Pair], part: usize) {
        let m = self.m;
        for j in 0..m {
            let mut x = [(V::splat(0.0), V::splat(0.0)); R];
            for (q, x) in x.iter_mut().enumerate() {
                let [re, im] = source.get(j + q * m);
                *x = (V::load(&re[part..]), V::load(&im[part..]));
            }
            store_all(out, (j, m, part), self.turned::<V, R>(j, dft::<V, R>(x)));
        }
    }

    #[inline(always)]
    fn forward<V: Vector, const R: usize>(&self, data: &mut [Pair], part: usize) {
        let m = self.m;
        for data in data.chunks_exact_mut(R * m) {
            for j in 0..m {
                let y = dft::<V, R>(load_all::<V, R>(data, (j, m, part)));
                store_all(data, (j, m, part), self.turned::<V, R>(j, y));
            }
        }
    }

    /// `y` times the twiddles of place `j`.
    #[inline(always)]
    fn turned<V: Vector, const R: usize>(&self, j: usize, mut y: [Complex<V>; R]) -> [Complex<V>; R] {
        if self.m > 1 {
            for (y, &(c, s)) in y[1..].iter_mut().zip(&self.twiddles[j * (R - 1)..][..R - 1]) {
                let (c, s) = (V::splat(c), V::splat(s));
                *y = (s.mul_sub_from(y.1, c.mul(y.0)), s.mul_add(y.0, c.mul(y.1)));
            }
        }
        y
    }

    #[inline(always)]
    fn inverse<V: Vector, const R: usize>(&self, data: &mut [Pair], part: usize) {
        let m = self.m;
        for data in data.chunks_exact_mut(R * m) {
            for j in 0..m {
                let y = self.back::<V, R>(data, j, part);
                store_all(data, (j, m, part), y);
            }
        }
    }

    /// The last pass back, over the whole length.
    #[inline(always)]
    fn last<V: Vector, const R: usize>(&self, data: &[Pair], sink: &mut impl Sink, part: usize) {
        for j in 0..self.m {
            let y = self.back::<V, R>(data, j, part);
            for (p, y) in y.into_iter().enumerate() {
                if let Some([re, im]) = sink.get(j + p * self.m) {
                    y.0.store(&mut re[part..]);
                    y.1.store(&mut im[part..]);
                }
            }
        }
    }

    /// Elements `j, j + m, ...` of the pass back.
    #[inline(always)]
    fn back<V: Vector, const R: usize>(&self, data: &[Pair], j: usize, part: usize) -> [Complex<V>; R] {
        let mut x = load_all::<V, R>(data, (j, self.m, part));
        if self.m > 1 {
            for (x, &(c, s)) in x[1..].iter_mut().zip(&self.twiddles[j * (R - 1)..][..R - 1]) {
                let (c, s) = (V::splat(c), V::splat(s));
                *x = (s.mul_add(x.1, c.mul(x.0)), s.mul_sub_from(x.0, c.mul(x.1)));
            }
        }
        // The inverse of a small transform is the transform with its outputs p and R - p exchanged.
        let mut y = dft::<V, R>(x);
        y[1..].reverse();
        y
    }
}

// No `std::array::from_fn` here: it is not inlined, and would be compiled for the baseline instruction set.
#[inline(always)]
fn load_all<V: Vector, const R: usize>(data: &[Pair], (j, m, part): (usize, usize, usize)) -> [Complex<V>; R] {
    let mut x = [(V::splat(0.0), V::splat(0.0)); R];
    for (q, x) in x.iter_mut().enumerate() {
        let [re, im] = &data[j + q * m];
        *x = (V::load(&re.0[part..]), V::load(&im.0[part..]));
    }
    x
}

#[inline(always)]
fn store_all<V: Vector, const R: usize>(data: &mut [Pair], (j, m, part): (usize, usize, usize), y: [Complex<V>; R]) {
    for (p, y) in y.into_iter().enumerate() {
        let [re, im] = &mut data[j + p * m];
        y.0.store(&mut re.0[part..]);
        y.1.store(&mut im.0[part..]);
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
            let mut data = vec![[Lanes([f32::NAN; LANES]); 2]; n];
            fft.forward(Rows(&x[..], &y[..]), &mut data);
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
                    assert!((f64::from(data[at][0].0[lane]) - real).abs() < 1e-6 * scale, "{n} {k} {lane}");
                    assert!((f64::from(data[at][1].0[lane]) - imaginary).abs() < 1e-6 * scale, "{n} {k} {lane}");
                }
            }
            let spectrum = data.clone();
            let mut back = vec![[Lanes([f32::NAN; LANES]); 2]; n];
            fft.inverse(&mut data, &mut back[..]);
            for t in 0..n {
                for lane in 0..LANES {
                    assert!((back[t][0].0[lane] / n as f32 - x[t].0[lane]).abs() < 1e-5, "{n} {t}");
                    assert!((back[t][1].0[lane] / n as f32 - y[t].0[lane]).abs() < 1e-5, "{n} {t}");
                }
            }
            // Fewer elements are those with zeros behind them, and the first of those that come back.
            let few = n.div_ceil(2);
            let short: Vec<Pair> = x.iter().zip(&y).map(|(x, y)| [*x, *y]).take(few).collect();
            let (mut whole, mut data) = (short.clone(), vec![[Lanes::ZERO; 2]; n]);
            whole.resize(n, [Lanes::ZERO; 2]);
            fft.forward(&short[..], &mut data);
            let mut expected = vec![[Lanes::ZERO; 2]; n];
            fft.forward(&whole[..], &mut expected);
            assert_eq!(data, expected);
            let (mut re, mut im) = (vec![Lanes::ZERO; few], vec![Lanes::ZERO; few]);
            fft.inverse(&mut spectrum.clone(), Rows(&mut re[..], &mut im[..]));
            for t in 0..few {
                assert_eq!([re[t], im[t]], back[t], "{n} {t}");
            }
        }
    }

    #[test]
    #[ignore = "a measurement: cargo test --release --lib fft::tests::speed -- --ignored --nocapture"]
    fn speed() {
        for n in [12, 24, 45, 48, 90, 96] {
            let fft = Fft::new(n);
            let mut data = vec![[Lanes::ZERO; 2]; n];
            let mut other = data.clone();
            let started = std::time::Instant::now();
            let rounds = 200_000;
            for _ in 0..rounds / 2 {
                fft.forward(&other[..], &mut data);
                fft.inverse(&mut data, &mut other[..]);
            }
            let ns = started.elapsed().as_secs_f64() * 1e9 / rounds as f64;
            let flops = 5.0 * n as f64 * (n as f64).log2() * 16.0;
            println!("{n}: {:?} {ns:.0} ns, {:.0} GFLOP/s", cheapest(n), flops / ns);
        }
    }
}
