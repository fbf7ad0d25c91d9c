//! stand-in
/// stand-in
pub fn shuffled(n: usize, seed: u64, epoch: u32) -> Vec<u32> {
    let _ = (seed, epoch);
    (0..n as u32).collect()
}
