//! An open GPU: device, queue, compiled pipelines, and the first error that it reported.
//!
//! wgpu panics on errors unless told otherwise; here every one of them becomes an [`Error::Device`]. Only what WebGPU
//! guarantees everywhere is used; of the limits, only the sizes of buffers are raised to what the adapter offers.

use std::collections::HashMap;
use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pollster::block_on;
use wgpu::{ErrorFilter, PollType};

use super::adapter::AdapterSummary;
use super::quiet::quietly;
use crate::dispatch::{Dispatch, Shader};
use crate::error::{Error, Result};

/// An open device with its queue.
#[derive(Debug)]
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: AdapterSummary,
    limits: wgpu::Limits,
    fault: Fault,
    step_layout: wgpu::BindGroupLayout,
    timestamps: bool,
    modules: Mutex<HashMap<Shader, wgpu::ShaderModule>>,
    pipelines: Mutex<HashMap<Key, wgpu::ComputePipeline>>,
}

/// Nets that can run side by side: so many steps the shaders' uniform holds.
pub const NETS: usize = 16;

/// What makes a pipeline: the text, its entry point, its constants (bits), and which of its bindings are only read.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    shader: Shader,
    entry: &'static str,
    constants: Vec<(&'static str, u64)>,
    read_only: Vec<bool>,
}

/// The first error that wgpu reported outside of a call that could return it; the loss of the device explains all others.
#[derive(Clone, Debug, Default)]
struct Fault(Arc<Mutex<Option<String>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// wgpu's messages are trees of lines; ours are one.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why, on one line, without wgpu's two outer levels: the kind of error, and which of its functions was called.
fn explain(error: &wgpu::Error) -> String {
    let mut cause = error.source().and_then(|call| call.source());
    let mut reasons = Vec::new();
    while let Some(error) = cause {
        reasons.push(one_line(&error.to_string()));
        cause = error.source();
    }
    if reasons.is_empty() { one_line(&error.to_string()) } else { reasons.join(": ") }
}

/// Every adapter with its description, best first. The driver is asked once. The environment can narrow the search
/// ([`narrowed`]).
pub(super) fn adapters() -> &'static [(AdapterSummary, wgpu::Adapter)] {
    static ADAPTERS: OnceLock<Vec<(AdapterSummary, wgpu::Adapter)>> = OnceLock::new();
    ADAPTERS.get_or_init(|| quietly(|| adapters_within(None)))
}

/// The environment's variables that hide adapters, with their values: `WGPU_BACKEND="gl"`.
pub(super) fn narrowed() -> Option<String> {
    const NAMES: [&str; 5] = [
        "WGPU_BACKEND",
        "VK_DRIVER_FILES",
        "VK_ICD_FILENAMES",
        "VK_LOADER_DRIVERS_SELECT",
        "VK_LOADER_DRIVERS_DISABLE",
    ];
    let set = NAMES.iter().filter_map(|name| Some(format!("{name}={:?}", std::env::var_os(name)?)));
    let set: Vec<String> = set.collect();
    (!set.is_empty()).then(|| set.join(", "))
}

/// The same, whose devices take so many percent of the memory that the driver offers, where it says what it offers.
fn adapters_within(percent: Option<u8>) -> Vec<(AdapterSummary, wgpu::Adapter)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        memory_budget_thresholds: wgpu::MemoryBudgetThresholds {
            for_resource_creation: percent,
            for_device_loss: None,
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle_from_env()
    });
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    rank(adapters.into_iter().map(|adapter| (describe(&adapter), adapter)).collect())
}

fn describe(adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let name = info.name.to_lowercase();
    let kind = match info.device_type {
        _ if ["llvmpipe", "lavapipe", "swiftshader", "basic render"].iter().any(|known| name.contains(known)) => {
            "software"
        }
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Other => "other",
    };
    AdapterSummary {
        number: 0, // until it is ranked
        name: info.name,
        backend: info.backend.to_string(),
        kind,
        driver: one_line(&format!("{} {}", info.driver, info.driver_info)),
        software: kind == "software",
        taken_by_auto: false,
        max_buffer_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
    }
}

/// Best first: discrete, integrated, others, software; marks the one that `auto` takes.
pub(super) fn rank<A>(mut adapters: Vec<(AdapterSummary, A)>) -> Vec<(AdapterSummary, A)> {
    const ORDER: [&str; 5] = ["discrete", "integrated", "virtual", "other", "software"];
    adapters.sort_by_key(|(info, _)| ORDER.iter().position(|&kind| kind == info.kind));
    for (number, (info, _)) in adapters.iter_mut().enumerate() {
        info.number = number;
        info.taken_by_auto = number == 0 && !info.software;
    }
    adapters
}

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses, or offers less than WebGPU guarantees.
    pub(super) fn open(adapter: &wgpu::Adapter, info: AdapterSummary) -> Result<Self> {
        let limits = wgpu::Limits {
            max_buffer_size: adapter.limits().max_buffer_size,
            max_storage_buffer_binding_size: adapter.limits().max_storage_buffer_binding_size,
            ..wgpu::Limits::default()
        };
        let features = adapter.features() & wgpu::Features::TIMESTAMP_QUERY;
        let wanted = wgpu::DeviceDescriptor {
            required_limits: limits.clone(),
            required_features: features,
            ..Default::default()
        };
        let (device, queue) = block_on(adapter.request_device(&wanted)).map_err(|error| {
            Error::Device(format!("{} cannot be opened: {}", info.name, one_line(&error.to_string())))
        })?;

        let fault = Fault::default();
        let Fault(slot) = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&slot).get_or_insert_with(|| explain(&error));
        }));
        let Fault(slot) = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            *lock(&slot) = Some(one_line(&format!("lost: {reason:?}: {message}; run again, or use --device cpu")));
        });
        let step_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("step"),
            entries: &[wgpu::BindGroupLayoutEntry {
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    // Several steps are submitted together, each with its own.
                    has_dynamic_offset: true,
                    min_binding_size: None,
                },
                ..entry(0, true)
            }],
        });
        Ok(Gpu {
            device,
            queue,
            info,
            limits,
            fault,
            step_layout,
            timestamps: !features.is_empty(),
            modules: Mutex::default(),
            pipelines: Mutex::default(),
        })
    }

    /// What the adapter is called and what it offers.
    pub fn info(&self) -> &AdapterSummary {
        &self.info
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    pub(crate) fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    pub(crate) fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    /// True if the device can say how long a kernel takes.
    pub fn has_timestamps(&self) -> bool {
        self.timestamps
    }

    /// The layout of group 1: the uniform [`crate::tape::Step`].
    pub(crate) fn step_layout(&self) -> &wgpu::BindGroupLayout {
        &self.step_layout
    }

    /// Learns without waiting whether the device still works.
    ///
    /// # Errors
    /// [`Error::Device`] with the first error that was reported.
    pub(crate) fn check(&self) -> Result<()> {
        self.poll(PollType::Poll)
    }

    /// Lets wgpu do its housekeeping, and waits if told to.
    ///
    /// # Errors
    /// As [`Gpu::check`].
    pub(crate) fn poll(&self, what: PollType) -> Result<()> {
        // wgpu 30 panics here when the driver reports the device lost; the callback has stored the reason by then.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device.poll(what)));
        if let Some(message) = &*lock(&self.fault.0) {
            return Err(Error::Device(message.clone()));
        }
        match polled {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Error::Device(one_line(&error.to_string()))),
            Err(_) => Err(Error::Device("lost: the driver failed while waiting".to_string())),
        }
    }

    /// Makes a wgpu object; what goes wrong meanwhile is returned, in the name of `what`.
    pub(crate) fn scoped<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        let filters = [ErrorFilter::OutOfMemory, ErrorFilter::Internal, ErrorFilter::Validation];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let made = make();
        // Scopes are a stack: the last one pushed is popped first, and all of them are.
        let errors: Vec<wgpu::Error> = scopes.into_iter().rev().filter_map(|scope| block_on(scope.pop())).collect();
        match errors.first() {
            None => Ok(made),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(Error::Device(format!(
                "{what}: out of GPU memory; use a smaller batch, fewer nets at once or --device cpu"
            ))),
            Some(error) => Err(Error::Device(format!("{what}: {}", explain(error)))),
        }
    }

    /// The compiled form of `dispatch`, whose bindings are only read where `read_only` says so; compiled once.
    ///
    /// # Errors
    /// [`Error::Device`] with the file's name if it does not compile.
    pub(crate) fn pipeline(&self, dispatch: &Dispatch, read_only: &[bool]) -> Result<wgpu::ComputePipeline> {
        let constants = dispatch.constants.iter().map(|(name, value)| (*name, value.to_bits())).collect();
        let read_only = read_only.to_vec();
        let key = Key { shader: dispatch.shader, entry: dispatch.entry, constants, read_only };
        let mut pipelines = lock(&self.pipelines);
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let module = self.module(dispatch.shader)?;
        let pipeline = self.scoped(&format!("shaders/{}: {}", dispatch.shader.file, dispatch.entry), || {
            let entries: Vec<_> = (0..).zip(&key.read_only).map(|(i, &read_only)| entry(i, read_only)).collect();
            let label = Some(dispatch.entry);
            let layout = wgpu::BindGroupLayoutDescriptor { label, entries: &entries };
            let layout = self.device.create_bind_group_layout(&layout);
            let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label,
                bind_group_layouts: &[Some(&layout), Some(&self.step_layout)],
                immediate_size: 0,
            });
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label,
                layout: Some(&layout),
                module: &module,
                entry_point: Some(dispatch.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &dispatch.constants,
                    ..Default::default()
                },
                cache: None,
            })
        })?;
        pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// A shader's text, parsed and checked once however many pipelines use it.
    fn module(&self, shader: Shader) -> Result<wgpu::ShaderModule> {
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(&shader) {
            return Ok(module.clone());
        }
        let module = self.scoped(&format!("shaders/{}", shader.file), || {
            let source = wgpu::ShaderSource::Wgsl(shader.source.into());
            self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(shader.file), source })
        })?;
        modules.insert(shader, module.clone());
        Ok(module)
    }
}

fn entry(binding: u32, read_only: bool) -> wgpu::BindGroupLayoutEntry {
    let ty = wgpu::BufferBindingType::Storage { read_only };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that may take none of the driver's memory cannot even be opened.
    #[test]
    fn out_of_memory_is_an_error() {
        let required = std::env::var("GENREGRAD_REQUIRE_GPU").as_deref() == Ok("1");
        let Some((info, adapter)) = quietly(|| adapters_within(Some(0))).pop() else {
            return assert!(!required, "no adapter");
        };
        match Gpu::open(&adapter, info) {
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("cannot be opened: Not enough memory"), "{message}");
            }
            Ok(_) => assert!(!required, "the driver does not say what memory it has"),
        }
    }
}
