//! The GPU executor: a buffer per value, a pipeline and a bind group per dispatch, all made once. A step records one
//! compute pass and submits it; nothing waits but [`Executor::read`], and a step that is too far ahead of the device.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use wgpu::{BufferUsages, PollType};

use crate::device::gpu::Gpu;
use crate::error::{Error, Result};
use crate::tape::{Step, Tape, Value, Var};

/// Steps that may be queued before the host waits for the oldest: enough to keep the device busy, and few enough
/// that inputs waiting to be copied do not pile up.
const IN_FLIGHT: usize = 3;

/// The values of a tape in GPU memory, and its kernels ready to run.
#[derive(Debug)]
pub struct Executor {
    gpu: Arc<Gpu>,
    values: Vec<wgpu::Buffer>,
    step: wgpu::Buffer,
    step_group: wgpu::BindGroup,
    kernels: Vec<Kernel>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    compile_seconds: f64,
}

/// A [`crate::tape::Dispatch`] made ready.
#[derive(Debug)]
struct Kernel {
    pipeline: wgpu::ComputePipeline,
    values: wgpu::BindGroup,
    groups: [u32; 2],
}

impl Executor {
    /// Allocates every value (zeros) and compiles every kernel of `tape`.
    ///
    /// # Errors
    /// [`Error::Device`] if a value does not fit, a shader does not compile, or the device was lost.
    pub fn new(tape: &Tape, gpu: &Arc<Gpu>) -> Result<Self> {
        gpu.check()?;
        // A value that fusion left out has no elements, and a buffer has at least one.
        let size = |index: usize| if tape.is_live(Var(index)) { bytes(&tape.values()[index]) } else { 4 };
        for (index, value) in tape.values().iter().enumerate() {
            check_size(gpu, value, size(index))?;
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let values = (0..).zip(tape.values()).map(|(index, value)| buffer(gpu, &value.name, size(index), usage));
        let values = values.collect::<Result<Vec<_>>>()?;
        let uniform = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let step = buffer(gpu, "step", size_of::<Step>() as u64, uniform)?;
        let step_group = group(gpu, "step", gpu.step_layout(), &[&step])?;

        let started = Instant::now();
        let mut kernels = Vec::new();
        for node in tape.nodes() {
            let bound: Vec<_> = node.reads.iter().chain(&node.writes).map(|var| &values[var.index()]).collect();
            let name = node.op.name();
            assert!(
                node.writes.iter().all(|var| !node.reads.contains(var)),
                "{name}: a value is read and written; WebGPU binds it once, as an output"
            );
            for dispatch in node.op.gpu() {
                let most = gpu.limits().max_compute_workgroups_per_dimension;
                if dispatch.groups.iter().any(|&count| count > most) {
                    let groups = dispatch.groups;
                    return Err(Error::Device(format!(
                        "{name}: {groups:?} workgroups, but at most {most} a dimension are possible; use a smaller batch"
                    )));
                }
                let pipeline = gpu.pipeline(&dispatch, node.reads.len(), node.writes.len())?;
                let values = group(gpu, name, &pipeline.get_bind_group_layout(0), &bound)?;
                kernels.push(Kernel { pipeline, values, groups: dispatch.groups });
            }
        }
        let compile_seconds = started.elapsed().as_secs_f64();
        Ok(Executor {
            gpu: gpu.clone(),
            values,
            step,
            step_group,
            kernels,
            in_flight: VecDeque::new(),
            compile_seconds,
        })
    }

    /// What translating the kernels took, seconds; kernels already known to the device cost nothing. Some drivers do
    /// the rest of the work at the first step.
    pub fn compile_seconds(&self) -> f64 {
        self.compile_seconds
    }

    /// Overwrites a value; lengths were checked by the plan. The data is copied before the next step runs.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn write(&mut self, var: Var, data: &[f32]) -> Result<()> {
        self.gpu.check()?;
        self.gpu.queue().write_buffer(&self.values[var.index()], 0, bytemuck::cast_slice(data));
        Ok(())
    }

    /// Submits every kernel once, in order. WebGPU makes each see what those before it wrote.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost, or if a kernel of this or an earlier step was refused.
    pub fn step(&mut self, step: &Step) -> Result<()> {
        self.gpu.queue().write_buffer(&self.step, 0, bytemuck::bytes_of(step));
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_bind_group(1, &self.step_group, &[]);
        for kernel in &self.kernels {
            pass.set_pipeline(&kernel.pipeline);
            pass.set_bind_group(0, &kernel.values, &[]);
            pass.dispatch_workgroups(kernel.groups[0], kernel.groups[1], 1);
        }
        drop(pass);
        self.in_flight.push_back(self.gpu.queue().submit([encoder.finish()]));
        if self.in_flight.len() > IN_FLIGHT {
            let submission_index = self.in_flight.pop_front();
            return self.gpu.poll(PollType::Wait { submission_index, timeout: None });
        }
        self.gpu.check()
    }

    /// Waits for all steps submitted and copies a value to the host, bit for bit.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost or has no memory for the copy.
    pub fn read(&mut self, var: Var) -> Result<Vec<f32>> {
        self.gpu.check()?;
        let value = &self.values[var.index()];
        let staging = buffer(&self.gpu, "read", value.size(), BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(value, 0, &staging, 0, value.size());
        self.gpu.queue().submit([encoder.finish()]);
        let (sender, receiver) = mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver outlives the wait below; if the wait failed, nobody asks for the result.
            let _ = sender.send(result);
        });
        self.gpu.poll(PollType::wait_indefinitely())?;
        self.in_flight.clear();
        let refused = |error: &dyn std::fmt::Display| Error::Device(format!("lost: a value cannot be read: {error}"));
        // Another thread's wait may have collected our callback and be about to call it.
        receiver.recv().map_err(|error| refused(&error))?.map_err(|error| refused(&error))?;
        let mapped = staging.get_mapped_range(..).map_err(|error| refused(&error))?;
        Ok(bytemuck::pod_collect_to_vec(&mapped))
    }
}

fn bytes(value: &Value) -> u64 {
    value.shape.len() as u64 * size_of::<f32>() as u64
}

/// Refuses a value that no shader could see whole; asked for all values before the first is allocated.
fn check_size(gpu: &Gpu, value: &Value, needed: u64) -> Result<()> {
    const MIB: f64 = 1_048_576.0;
    let most = gpu.info().max_binding_bytes;
    if needed <= most {
        return Ok(());
    }
    Err(Error::Device(format!(
        "{} of shape {} takes {:.1} MiB, but {} binds at most {:.1} MiB; use a smaller batch or --device cpu",
        value.name,
        value.shape,
        needed as f64 / MIB,
        gpu.info().name,
        most as f64 / MIB
    )))
}

fn buffer(gpu: &Gpu, name: &str, size: u64, usage: BufferUsages) -> Result<wgpu::Buffer> {
    let wanted = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
    gpu.scoped(name, || gpu.device().create_buffer(&wanted))
}

/// Binds `buffers` to 0, 1, 2 and so on.
fn group(gpu: &Gpu, name: &str, layout: &wgpu::BindGroupLayout, buffers: &[&wgpu::Buffer]) -> Result<wgpu::BindGroup> {
    let bound = (0u32..).zip(buffers);
    let entries: Vec<_> =
        bound.map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }).collect();
    let wanted = wgpu::BindGroupDescriptor { label: Some(name), layout, entries: &entries };
    gpu.scoped(name, || gpu.device().create_bind_group(&wanted))
}
