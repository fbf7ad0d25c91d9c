//! Memory for every value of one or several nets, a pipeline and a bind group per dispatch, all made once. Steps are
//! recorded and handed over several at a time; a step waits only if it is too far ahead of the device.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use wgpu::{BufferUsages, PollType};

use crate::device::gpu::{Gpu, NETS};
use crate::dispatch::{Bind, Dispatch};
use crate::error::{Error, Result};
use crate::tape::{Step, Tape, Var};
use crate::tensor::Shape;

use super::layout::{Bound, Layout};

/// Hand-overs that may be queued before the host waits for the oldest: enough to keep the device busy, and few enough
/// that inputs waiting to be copied do not pile up.
const IN_FLIGHT: usize = 3;

/// Steps of one hand-over at most. Each costs some microseconds a kernel; a hand-over costs some fifty more.
const STEPS: usize = 16;

/// Steps are handed over one by one at first, and twice as many each time until the device takes longer than this for
/// them: some systems stop a program that keeps a GPU busy for seconds.
const PATIENCE: Duration = Duration::from_millis(50);

/// Bytes from one step's uniform to the next: a [`Step`] for each net. WebGPU wants multiples of 256.
const STRIDE: u64 = (NETS * size_of::<Step>()) as u64;
const _: () = assert!(STRIDE.is_multiple_of(256));

/// The values of a tape in GPU memory, for each net, and its kernels ready to run.
#[derive(Debug)]
pub(super) struct Engine {
    pub gpu: Arc<Gpu>,
    pub nets: usize,
    /// Of every value, all nets' end to end.
    pub places: Vec<Place>,
    /// Of every step that is handed over together, each net's [`Step`].
    steps: wgpu::Buffer,
    pub step_group: wgpu::BindGroup,
    pub kernels: Vec<Kernel>,
    /// A step of every net, for each that waits to be handed over.
    pub pending: Vec<Step>,
    /// What comes before the kernels in every pending step, for each net that a data set feeds.
    fed: Vec<Option<Arc<[Kernel]>>>,
    /// Steps that are handed over together.
    together: usize,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    /// What translating the kernels took.
    pub compile_seconds: f64,
}

/// Where a value lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    pub size: u64,
}

impl Place {
    /// The part of net `net` of `nets`.
    pub fn of(&self, net: usize, nets: usize) -> Place {
        let size = self.size / nets as u64;
        Place { buffer: self.buffer.clone(), offset: self.offset + net as u64 * size, size }
    }

    fn binding(&self) -> wgpu::BufferBinding<'_> {
        wgpu::BufferBinding { buffer: &self.buffer, offset: self.offset, size: std::num::NonZeroU64::new(self.size) }
    }
}

/// A [`Dispatch`] made ready.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// The operation that it belongs to.
    pub op: &'static str,
    pub entry: &'static str,
    pipeline: wgpu::ComputePipeline,
    values: wgpu::BindGroup,
    groups: [u32; 3],
}

impl Kernel {
    /// Compiles `dispatch` of the operation `op` for `nets` nets; it binds `bound`, those marked read-only.
    pub fn new(
        gpu: &Gpu,
        op: &'static str,
        nets: usize,
        dispatch: &Dispatch,
        bound: &[(&Place, bool)],
    ) -> Result<Self> {
        let Dispatch { groups: [x, y], entry, .. } = *dispatch;
        let groups = [x, y, nets as u32];
        let most = gpu.limits().max_compute_workgroups_per_dimension;
        if groups.iter().any(|&count| count > most) {
            return Err(Error::Device(format!(
                "{op}: {x} x {y} workgroups, but at most {most} a dimension are possible; use a smaller batch"
            )));
        }
        let access: Vec<bool> = bound.iter().map(|(_, read_only)| *read_only).collect();
        let pipeline = gpu.pipeline(dispatch, &access)?;
        let places: Vec<&Place> = bound.iter().map(|(place, _)| *place).collect();
        let values = group(gpu, op, &pipeline.get_bind_group_layout(0), &places)?;
        Ok(Kernel { op, entry, pipeline, values, groups })
    }

    pub fn record(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.values, &[]);
        pass.dispatch_workgroups(self.groups[0], self.groups[1], self.groups[2]);
    }
}

impl Engine {
    /// Allocates every value (zeros) of `nets` nets of one program and compiles every kernel of `tape`.
    ///
    /// # Errors
    /// [`Error::Device`] if a value does not fit, a shader does not compile, or the device was lost.
    pub fn new(tape: &Tape, gpu: &Arc<Gpu>, nets: usize) -> Result<Self> {
        gpu.check()?;
        for index in (0..tape.values().len()).filter(|&index| tape.is_live(Var(index))) {
            let value = &tape.values()[index];
            check_size(gpu, &value.name, &value.shape, nets)?;
        }
        let most = gpu.info().max_binding_bytes / size_of::<f32>() as u64;
        let layout = Layout::new(tape, nets, usize::try_from(most).unwrap_or(usize::MAX));
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let allocate = |name: &str, len: usize| -> Result<Place> {
            let size = bytes(len.max(1) * nets);
            Ok(Place { buffer: buffer(gpu, name, size, usage)?, offset: 0, size })
        };
        let buffers = layout.buffers.iter().map(|&len| allocate("values", len)).collect::<Result<Vec<_>>>()?;
        let places = layout.places.iter().zip(tape.values()).map(|(place, value)| {
            let Place { buffer, size, .. } = &buffers[place.buffer];
            let size = (*size).min(bytes(value.shape.len().max(1) * nets));
            Place { buffer: buffer.clone(), offset: bytes(place.first), size }
        });
        let places: Vec<Place> = places.collect();

        let dispatches: Vec<Vec<Dispatch>> = tape.nodes().iter().map(|node| node.op.gpu()).collect();
        let mut lens: Vec<usize> = Vec::new();
        for (node, dispatches) in tape.nodes().iter().zip(&dispatches) {
            let wanted = node.op.scratch();
            for slot in dispatches.iter().flat_map(scratch_slots) {
                lens.resize(lens.len().max(slot + 1), 1);
                lens[slot] = lens[slot].max(wanted[slot]);
                check_size(gpu, node.op.name(), &[wanted[slot]].into(), nets)?;
            }
        }
        let scratch = lens.into_iter().map(|len| allocate("scratch", len)).collect::<Result<Vec<_>>>()?;

        let uniform = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let steps = buffer(gpu, "steps", STRIDE * STEPS as u64, uniform)?;
        let step = Place { buffer: steps.clone(), offset: 0, size: STRIDE };
        let step_group = group(gpu, "steps", gpu.step_layout(), &[&step])?;

        let started = Instant::now();
        let mut kernels = Vec::new();
        for (number, node) in tape.nodes().iter().enumerate() {
            let name = node.op.name();
            if let Some(group) = layout.groups.iter().find(|group| group.nodes.contains(&number)) {
                if group.nodes.last() == Some(&number) {
                    let bound = group.bound.iter().map(|&(bound, read_only)| match bound {
                        Bound::One(var) => (&places[var.index()], read_only),
                        Bound::Shared(number) => (&buffers[number], read_only),
                    });
                    kernels.push(Kernel::new(gpu, name, nets, &group.dispatch, &bound.collect::<Vec<_>>())?);
                }
                continue;
            }
            assert!(
                node.writes.iter().all(|var| !node.reads.contains(var)),
                "{name}: a value is read and written; WebGPU binds it once, as an output"
            );
            for dispatch in &dispatches[number] {
                let place = |bind: Bind| match bind {
                    Bind::Scratch(i) | Bind::ScratchRead(i) => (&scratch[i], bind.is_read_only()),
                    Bind::Read(i) => (&places[node.reads[i].index()], true),
                    Bind::Write(i) | Bind::Old(i) => (&places[node.writes[i].index()], bind.is_read_only()),
                };
                let bound: Vec<_> =
                    dispatch.bindings(node.reads.len(), node.writes.len()).into_iter().map(place).collect();
                kernels.push(Kernel::new(gpu, name, nets, dispatch, &bound)?);
            }
        }
        let compile_seconds = started.elapsed().as_secs_f64();
        Ok(Engine {
            gpu: gpu.clone(),
            nets,
            places,
            steps,
            step_group,
            kernels,
            pending: Vec::with_capacity(STEPS * nets),
            fed: vec![None; nets],
            together: 1,
            in_flight: VecDeque::new(),
            compile_seconds,
        })
    }

    /// Overwrites a net's value; lengths were checked by the plan. The data is copied before the next step runs.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn write(&mut self, net: usize, var: Var, data: &[f32]) -> Result<()> {
        self.hand_over()?;
        self.gpu.check()?;
        let place = self.places[var.index()].of(net, self.nets);
        self.gpu.queue().write_buffer(&place.buffer, place.offset, bytemuck::cast_slice(data));
        Ok(())
    }

    /// Runs every kernel once, in order, some time: steps are handed over together. `steps` has one for each net.
    /// WebGPU makes each kernel see what those before it wrote.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost, or if a kernel of this or an earlier step was refused.
    pub fn step(&mut self, steps: impl Iterator<Item = Step>) -> Result<()> {
        if self.pending.is_empty() {
            self.gpu.check()?;
        }
        self.pending.extend(steps);
        if self.pending.len() >= self.together * self.nets { self.hand_over() } else { Ok(()) }
    }

    /// Whether `kernels` fill a net's inputs before each of its steps.
    pub fn is_fed_by(&self, net: usize, kernels: Option<&Arc<[Kernel]>>) -> bool {
        match (&self.fed[net], kernels) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        }
    }

    /// Makes them do so from now on.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn feed_by(&mut self, net: usize, kernels: Option<&Arc<[Kernel]>>) -> Result<()> {
        self.hand_over()?;
        self.fed[net] = kernels.cloned();
        Ok(())
    }

    /// Lets go of what fills a net's inputs: nobody will read its steps.
    pub fn forget_feed(&mut self, net: usize) {
        self.fed[net] = None;
    }

    /// Submits the steps that wait.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn hand_over(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.record(&mut encoder);
        self.submit(encoder)
    }

    /// Records the steps that wait as one pass.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for number in 0..self.pending.len() / self.nets {
            pass.set_bind_group(1, &self.step_group, &[number as u32 * STRIDE as u32]);
            let fed = self.fed.iter().flatten().flat_map(|fed| fed.iter());
            fed.chain(&self.kernels).for_each(|kernel| kernel.record(&mut pass));
        }
    }

    /// Fills the uniforms with the steps that wait, in the queue's order: after what was submitted before, and before
    /// what is next.
    pub fn write_steps(&mut self) {
        let mut uniforms = vec![0u8; STRIDE as usize * self.pending.len() / self.nets];
        for (uniform, steps) in uniforms.chunks_exact_mut(STRIDE as usize).zip(self.pending.chunks_exact(self.nets)) {
            uniform[..size_of_val(steps)].copy_from_slice(bytemuck::cast_slice(steps));
        }
        self.pending.clear();
        self.gpu.queue().write_buffer(&self.steps, 0, &uniforms);
    }

    /// Submits `encoder`, which runs the steps that wait, and waits itself if the device is far behind.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn submit(&mut self, encoder: wgpu::CommandEncoder) -> Result<()> {
        self.write_steps();
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

    /// Waits for all steps and copies a net's value to the host, bit for bit.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost or has no memory for the copy.
    pub fn read(&mut self, net: usize, var: Var) -> Result<Vec<f32>> {
        self.hand_over()?;
        let place = self.places[var.index()].of(net, self.nets);
        self.fetch(&place)
    }

    pub fn fetch<T: bytemuck::Pod>(&mut self, place: &Place) -> Result<Vec<T>> {
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

/// The scratch memory that `dispatch` uses.
fn scratch_slots(dispatch: &Dispatch) -> impl Iterator<Item = usize> {
    dispatch.binds.iter().filter_map(|bind| match *bind {
        Bind::Scratch(i) | Bind::ScratchRead(i) => Some(i),
        _ => None,
    })
}

pub(super) fn bytes(len: usize) -> u64 {
    len as u64 * size_of::<f32>() as u64
}

/// Refuses a value that no shader could see whole; asked for all values before the first is allocated.
fn check_size(gpu: &Gpu, name: &str, shape: &Shape, nets: usize) -> Result<()> {
    const MIB: f64 = 1_048_576.0;
    let most = gpu.info().max_binding_bytes;
    let needed = bytes(shape.len() * nets);
    if needed <= most {
        return Ok(());
    }
    let (side_by_side, fewer) = match nets {
        1 => (String::new(), ""),
        nets => (format!(" for {nets} nets"), "fewer nets at once, "),
    };
    Err(Error::Device(format!(
        "{name} of shape {shape}{side_by_side} takes {:.1} MiB, but {} binds at most {:.1} MiB; use {fewer}a smaller \
         batch or --device cpu",
        needed as f64 / MIB,
        gpu.info().name,
        most as f64 / MIB
    )))
}

pub(super) fn buffer(gpu: &Gpu, name: &str, size: u64, usage: BufferUsages) -> Result<wgpu::Buffer> {
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
