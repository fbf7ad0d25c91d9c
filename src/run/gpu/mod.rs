//! The GPU executor: memory for every value, a pipeline and a bind group per dispatch, all made once. Steps are
//! recorded and handed over several at a time; nothing waits but [`Executor::read`], and a step that is too far ahead
//! of the device.
//!
//! Where values lie is planned in `layout.rs`, how a data set on the device feeds the steps stands in `feed.rs`, how
//! long each kernel takes in `profile.rs`.

mod feed;
mod layout;
mod profile;

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use wgpu::{BufferUsages, PollType};

use crate::device::gpu::Gpu;
use crate::error::{Error, Result};
use crate::tape::{Bind, Dispatch, Node, Step, Tape, Var};
use crate::tensor::Shape;

pub use feed::Feed;
use layout::{Bound, Layout};
pub use profile::Timing;

/// Hand-overs that may be queued before the host waits for the oldest: enough to keep the device busy, and few enough
/// that inputs waiting to be copied do not pile up.
const IN_FLIGHT: usize = 3;

/// Steps of one hand-over at most. Each costs some microseconds a kernel; a hand-over costs some fifty more.
const STEPS: usize = 16;

/// Steps are handed over one by one at first, and twice as many each time until the device takes longer than this for
/// them: some systems stop a program that keeps a GPU busy for seconds.
const PATIENCE: Duration = Duration::from_millis(50);

/// Bytes from one step's uniform to the next: WebGPU wants multiples of 256.
const STRIDE: u64 = 256;

/// The values of a tape in GPU memory, and its kernels ready to run.
#[derive(Debug)]
pub struct Executor {
    gpu: Arc<Gpu>,
    places: Vec<Place>,
    /// One [`Step`] for each that is handed over together.
    steps: wgpu::Buffer,
    step_group: wgpu::BindGroup,
    kernels: Vec<Kernel>,
    pending: Vec<Step>,
    /// What comes before the kernels in every pending step, if a data set feeds them.
    fed: Option<Arc<[Kernel]>>,
    /// Steps that are handed over together.
    together: usize,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    compile_seconds: f64,
}

/// Where a value lies.
#[derive(Clone, Debug)]
struct Place {
    buffer: wgpu::Buffer,
    offset: u64,
    size: u64,
}

impl Place {
    fn binding(&self) -> wgpu::BufferBinding<'_> {
        wgpu::BufferBinding { buffer: &self.buffer, offset: self.offset, size: std::num::NonZeroU64::new(self.size) }
    }
}

/// A [`Dispatch`] made ready.
#[derive(Clone, Debug)]
struct Kernel {
    /// The operation that it belongs to.
    op: &'static str,
    entry: &'static str,
    pipeline: wgpu::ComputePipeline,
    values: wgpu::BindGroup,
    groups: [u32; 3],
}

impl Kernel {
    /// Compiles `dispatch` of the operation `op`, which binds `bound`, those marked read-only.
    fn new(gpu: &Gpu, op: &'static str, dispatch: &Dispatch, bound: &[(&Place, bool)]) -> Result<Self> {
        let Dispatch { groups, entry, .. } = *dispatch;
        let most = gpu.limits().max_compute_workgroups_per_dimension;
        if groups.iter().any(|&count| count > most) {
            return Err(Error::Device(format!(
                "{op}: {groups:?} workgroups, but at most {most} a dimension are possible; use a smaller batch"
            )));
        }
        let access: Vec<bool> = bound.iter().map(|(_, read_only)| *read_only).collect();
        let pipeline = gpu.pipeline(dispatch, &access)?;
        let places: Vec<&Place> = bound.iter().map(|(place, _)| *place).collect();
        let values = group(gpu, op, &pipeline.get_bind_group_layout(0), &places)?;
        Ok(Kernel { op, entry, pipeline, values, groups })
    }

    fn record(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.values, &[]);
        pass.dispatch_workgroups(self.groups[0], self.groups[1], self.groups[2]);
    }
}

impl Executor {
    /// Allocates every value (zeros) and compiles every kernel of `tape`.
    ///
    /// # Errors
    /// [`Error::Device`] if a value does not fit, a shader does not compile, or the device was lost.
    pub fn new(tape: &Tape, gpu: &Arc<Gpu>) -> Result<Self> {
        gpu.check()?;
        for index in (0..tape.values().len()).filter(|&index| tape.is_live(Var(index))) {
            let value = &tape.values()[index];
            check_size(gpu, &value.name, &value.shape, bytes(value.shape.len()))?;
        }
        let most = gpu.info().max_binding_bytes / size_of::<f32>() as u64;
        let layout = Layout::new(tape, usize::try_from(most).unwrap_or(usize::MAX));
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let allocate = |name: &str, len: usize| -> Result<Place> {
            let size = bytes(len.max(1));
            Ok(Place { buffer: buffer(gpu, name, size, usage)?, offset: 0, size })
        };
        let buffers = layout.buffers.iter().map(|&len| allocate("values", len)).collect::<Result<Vec<_>>>()?;
        let places = layout.places.iter().zip(tape.values()).map(|(place, value)| {
            let Place { buffer, size, .. } = &buffers[place.buffer];
            let size = (*size).min(bytes(value.shape.len().max(1)));
            Place { buffer: buffer.clone(), offset: bytes(place.first), size }
        });
        let places: Vec<Place> = places.collect();

        let mut lens: Vec<usize> = Vec::new();
        for node in tape.nodes() {
            for (slot, len) in node.op.scratch().into_iter().enumerate() {
                lens.resize(lens.len().max(slot + 1), 1);
                lens[slot] = lens[slot].max(len);
                check_size(gpu, node.op.name(), &[len].into(), bytes(len))?;
            }
        }
        let scratch = lens.into_iter().map(|len| allocate("scratch", len)).collect::<Result<Vec<_>>>()?;

        let uniform = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let steps = buffer(gpu, "steps", STRIDE * STEPS as u64, uniform)?;
        let step = Place { buffer: steps.clone(), offset: 0, size: size_of::<Step>() as u64 };
        let step_group = group(gpu, "steps", gpu.step_layout(), &[&step])?;

        let started = Instant::now();
        let mut kernels = Vec::new();
        for (number, node) in tape.nodes().iter().enumerate() {
            let name = node.op.name();
            if let Some(group) = layout.groups.iter().find(|group| group.nodes.contains(&number)) {
                if group.nodes.last() == Some(&number) {
                    let bound = group.bound.iter().enumerate().map(|(slot, bound)| match bound {
                        Bound::One(var) => (&places[var.index()], slot < node.reads.len()),
                        Bound::Shared(number) => (&buffers[*number], slot < node.reads.len()),
                    });
                    kernels.push(Kernel::new(gpu, name, &group.dispatch, &bound.collect::<Vec<_>>())?);
                }
                continue;
            }
            assert!(
                node.writes.iter().all(|var| !node.reads.contains(var)),
                "{name}: a value is read and written; WebGPU binds it once, as an output"
            );
            let dispatches = if gpu.is_naive() { node.op.gpu_naive() } else { node.op.gpu() };
            for dispatch in dispatches {
                let bound = bindings(node, &dispatch, &places, &scratch);
                kernels.push(Kernel::new(gpu, name, &dispatch, &bound)?);
            }
        }
        let compile_seconds = started.elapsed().as_secs_f64();
        Ok(Executor {
            gpu: gpu.clone(),
            places,
            steps,
            step_group,
            kernels,
            pending: Vec::with_capacity(STEPS),
            fed: None,
            together: 1,
            in_flight: VecDeque::new(),
            compile_seconds,
        })
    }

    /// What translating the kernels took, seconds; kernels already known to the device cost nothing. Some drivers do
    /// the rest of the work at the first step.
    pub fn compile_seconds(&self) -> f64 {
        self.compile_seconds
    }

    /// Dispatches of a step.
    pub fn dispatches(&self) -> usize {
        self.kernels.len()
    }

    /// Overwrites a value; lengths were checked by the plan. The data is copied before the next step runs.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn write(&mut self, var: Var, data: &[f32]) -> Result<()> {
        self.hand_over()?;
        self.gpu.check()?;
        let place = &self.places[var.index()];
        self.gpu.queue().write_buffer(&place.buffer, place.offset, bytemuck::cast_slice(data));
        Ok(())
    }

    /// Runs every kernel once, in order, some time: steps are handed over together. WebGPU makes each kernel see what
    /// those before it wrote.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost, or if a kernel of this or an earlier step was refused.
    pub fn step(&mut self, step: &Step) -> Result<()> {
        if self.fed.is_some() {
            self.hand_over()?;
            self.fed = None;
        }
        self.queue(step)
    }

    fn queue(&mut self, step: &Step) -> Result<()> {
        if self.pending.is_empty() {
            self.gpu.check()?;
        }
        self.pending.push(*step);
        if self.pending.len() >= self.together { self.hand_over() } else { Ok(()) }
    }

    /// Submits the steps that wait.
    fn hand_over(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.record(&mut encoder);
        self.submit(encoder)
    }

    /// Records the steps that wait as one pass.
    fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for number in 0..self.pending.len() {
            pass.set_bind_group(1, &self.step_group, &[number as u32 * STRIDE as u32]);
            self.fed.iter().flat_map(|fed| fed.iter()).chain(&self.kernels).for_each(|kernel| kernel.record(&mut pass));
        }
    }

    /// Submits `encoder`, which runs the steps that wait, and waits itself if the device is far behind.
    fn submit(&mut self, encoder: wgpu::CommandEncoder) -> Result<()> {
        let mut uniforms = vec![0u8; STRIDE as usize * self.pending.len()];
        for (uniform, step) in uniforms.chunks_exact_mut(STRIDE as usize).zip(self.pending.drain(..)) {
            uniform[..size_of::<Step>()].copy_from_slice(bytemuck::bytes_of(&step));
        }
        // In the queue's order: after what was submitted before, and before what is now.
        self.gpu.queue().write_buffer(&self.steps, 0, &uniforms);
        self.in_flight.push_back(self.gpu.queue().submit([encoder.finish()]));
        if self.in_flight.len() <= IN_FLIGHT {
            return self.gpu.check();
        }
        let started = Instant::now();
        let submission_index = self.in_flight.pop_front();
        self.gpu.poll(PollType::Wait { submission_index, timeout: None })?;
        let slow = started.elapsed() > PATIENCE;
        self.together = if slow { (self.together / 2).max(1) } else { (2 * self.together).min(STEPS) };
        Ok(())
    }

    /// Waits for all steps.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn wait(&mut self) -> Result<()> {
        self.hand_over()?;
        self.in_flight.clear();
        self.gpu.poll(PollType::wait_indefinitely())
    }

    /// Waits for all steps and copies a value to the host, bit for bit.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost or has no memory for the copy.
    pub fn read(&mut self, var: Var) -> Result<Vec<f32>> {
        self.hand_over()?;
        let place = self.places[var.index()].clone();
        self.fetch(&place)
    }

    fn fetch<T: bytemuck::Pod>(&mut self, place: &Place) -> Result<Vec<T>> {
        self.gpu.check()?;
        let staging = buffer(&self.gpu, "read", place.size, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&place.buffer, place.offset, &staging, 0, place.size);
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

/// What `dispatch` of `node` binds, and whether it only reads it.
fn bindings<'p>(node: &Node, dispatch: &Dispatch, places: &'p [Place], scratch: &'p [Place]) -> Vec<(&'p Place, bool)> {
    let value = |var: Var| &places[var.index()];
    if dispatch.binds.is_empty() {
        let reads = node.reads.iter().map(|&var| (value(var), true));
        return reads.chain(node.writes.iter().map(|&var| (value(var), false))).collect();
    }
    let bound = |bind: &Bind| match *bind {
        Bind::Read(i) => (value(node.reads[i]), true),
        Bind::Write(i) => (value(node.writes[i]), false),
        Bind::Old(i) => (value(node.writes[i]), true),
        Bind::Scratch(i) => (&scratch[i], false),
        Bind::ScratchRead(i) => (&scratch[i], true),
    };
    dispatch.binds.iter().map(bound).collect()
}

fn bytes(len: usize) -> u64 {
    len as u64 * size_of::<f32>() as u64
}

/// Refuses a value that no shader could see whole; asked for all values before the first is allocated.
fn check_size(gpu: &Gpu, name: &str, shape: &Shape, needed: u64) -> Result<()> {
    const MIB: f64 = 1_048_576.0;
    let most = gpu.info().max_binding_bytes;
    if needed <= most {
        return Ok(());
    }
    Err(Error::Device(format!(
        "{name} of shape {shape} takes {:.1} MiB, but {} binds at most {:.1} MiB; use a smaller batch or --device cpu",
        needed as f64 / MIB,
        gpu.info().name,
        most as f64 / MIB
    )))
}

fn buffer(gpu: &Gpu, name: &str, size: u64, usage: BufferUsages) -> Result<wgpu::Buffer> {
    let wanted = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
    gpu.scoped(name, || gpu.device().create_buffer(&wanted))
}

/// Binds `places` to 0, 1, 2 and so on.
fn group(gpu: &Gpu, name: &str, layout: &wgpu::BindGroupLayout, places: &[&Place]) -> Result<wgpu::BindGroup> {
    let bound = (0u32..).zip(places);
    let entries: Vec<_> = bound
        .map(|(binding, place)| wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(place.binding()),
        })
        .collect();
    let wanted = wgpu::BindGroupDescriptor { label: Some(name), layout, entries: &entries };
    gpu.scoped(name, || gpu.device().create_bind_group(&wanted))
}
