//! How long each kernel takes, from timestamps that the device writes around it.

use wgpu::BufferUsages;

use super::engine::{Engine, Kernel, Place, buffer};
use crate::error::{Error, Result};
use crate::run::KernelTiming;
use crate::tape::Step;

/// Kernels whose times are taken at once: WebGPU's query sets hold 4,096, and each kernel needs two.
const AT_ONCE: usize = 2048;

impl Engine {
    /// Runs `step` for every net, every kernel in a pass of its own, and gives the time of each.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has no timestamps or was lost.
    pub fn profile(&mut self, step: &Step) -> Result<Vec<KernelTiming>> {
        self.hand_over()?;
        if !self.gpu.has_timestamps() {
            return Err(Error::Device(format!("{} has no timestamps to profile with", self.gpu.info().name)));
        }
        self.pending = vec![*step; self.nets];
        self.write_steps();
        let mut timings = Vec::with_capacity(self.kernels.len());
        for first in (0..self.kernels.len()).step_by(AT_ONCE) {
            let last = (first + AT_ONCE).min(self.kernels.len());
            timings.extend(self.profile_some(first..last)?);
        }
        Ok(timings)
    }

    fn profile_some(&mut self, kernels: std::ops::Range<usize>) -> Result<Vec<KernelTiming>> {
        let count = 2 * kernels.len() as u32;
        let wanted = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count };
        let queries = self.gpu.scoped("profile", || self.gpu.device().create_query_set(&wanted))?;
        let size = u64::from(count) * size_of::<u64>() as u64;
        let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let times = Place { buffer: buffer(&self.gpu, "profile", size, usage)?, offset: 0, size };
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        for (number, kernel) in self.kernels[kernels.clone()].iter().enumerate() {
            let begin = 2 * number as u32;
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some(kernel.op),
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(begin),
                    end_of_pass_write_index: Some(begin + 1),
                }),
            });
            pass.set_bind_group(1, &self.step_group, &[0]);
            kernel.record(&mut pass);
        }
        encoder.resolve_query_set(&queries, 0..count, &times.buffer, 0);
        self.gpu.queue().submit([encoder.finish()]);
        let ticks: Vec<u64> = self.fetch(&times)?;
        let period = f64::from(self.gpu.queue().get_timestamp_period()) * 1e-9;
        let timed = self.kernels[kernels].iter().zip(ticks.chunks_exact(2));
        let timing = |(kernel, ticks): (&Kernel, &[u64])| KernelTiming {
            op: kernel.op,
            kernel: kernel.entry.to_string(),
            seconds: ticks[1].saturating_sub(ticks[0]) as f64 * period,
        };
        Ok(timed.map(timing).collect())
    }
}
