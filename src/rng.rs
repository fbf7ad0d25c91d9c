//! Randomness, reproducible on every machine and with any number of threads.
//!
//! Two kinds. [`stream`] is a named generator for the host: weights, shuffles, segments, splits. [`hash`] is a pure
//! function of counters for random choices inside a step (dropout): the same integer arithmetic stands in
//! `shaders/dropout.wgsl`, so masks are bit-identical on both devices.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

/// The host's generator.
pub type Rng = Xoshiro256PlusPlus;

/// The generator called `name` under `seed`: streams of different names or seeds are unrelated.
pub fn stream(seed: u64, name: &str) -> Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    Rng::from_seed(*hasher.finalize().as_bytes())
}

/// One round of PCG-RXS-M-XS 32/32 (Jarzynski and Olano 2020, "Hash functions for GPU rendering", listing `pcg`).
#[inline(always)]
pub fn pcg(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// 32 random bits of (seed, step, node, element): `pcg(element + prefix(seed, step, node))`.
pub fn hash(seed: u32, step: u32, node: u32, element: u32) -> u32 {
    pcg(element.wrapping_add(prefix(seed, step, node)))
}

/// What [`hash`] adds to the element.
pub fn prefix(seed: u32, step: u32, node: u32) -> u32 {
    pcg(node.wrapping_add(pcg(step.wrapping_add(pcg(seed)))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn streams_differ_by_name_and_by_seed_and_repeat() {
        let draw = |seed, name| stream(seed, name).random::<u64>();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }

    #[test]
    fn hash_is_the_published_pcg_and_is_uniform() {
        // pcg(0) by hand: state = 2891336453, word = ((state >> 14) ^ state) * 277803737 mod 2^32
        let state: u64 = 2_891_336_453;
        let word = ((state >> 14) ^ state).wrapping_mul(277_803_737) & 0xffff_ffff;
        assert_eq!(u64::from(pcg(0)), (word >> 22) ^ word);
        let mean = (0..100_000).map(|i| f64::from(hash(7, 3, 2, i))).sum::<f64>() / 100_000.0;
        assert!((mean / 2f64.powi(32) - 0.5).abs() < 0.005, "{mean}");
    }
}
