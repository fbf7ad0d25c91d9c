//! A step of the rewritten program allocates nothing once its scratch arrays are warm: buffers belong to the plan, scratch
//! arrays to the threads. The textbook allocates the columns of its convolutions, and is not held to this.
#![allow(clippy::unwrap_used)]

use genregrad::device::Device;
use genregrad::models::Architecture;
use genregrad::nn;
use genregrad::run::Plan;
use genregrad::tape::Step;
use genregrad::train::config::{Config, Preset};
use genregrad::train::program::TrainProgram;

#[test]
fn a_warm_step_allocates_nothing() {
    // Counted on one thread, the pool's only one, so that every kernel is seen.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        for model in [Architecture::Shallow, Architecture::Deep] {
            let config = Config::preset(Preset::Paper, model);
            let program = TrainProgram::record(&config.net(4), [3, 40, 40], config.l1, config.adam()).unwrap();
            let params = nn::initialise(&program.tape, 1).unwrap();
            let spectrograms = vec![0.5; 3 * 40 * 40];
            let inputs = [(program.spectrograms, &spectrograms[..]), (program.labels, &[0.0, 1.0, -1.0][..])];
            let tape = program.clone().fused(true).tape;
            let mut plan = Plan::new(&tape, &Device::Cpu, &params).unwrap();
            let mut step = |number| plan.step(&inputs, &Step::new(number, 7, 5e-5)).unwrap();
            (1..=2).for_each(&mut step);
            let counted = allocation_counter::measure(|| (3..=5).for_each(&mut step));
            assert_eq!(counted.count_total, 0, "{model}: {counted:?}");
        }
    });
}
