//! What is known of an adapter before it is opened.

use serde::Serialize;

/// An adapter, as `genregrad devices` lists it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterSummary {
    /// Its place in the list, from 0: `--device 1` tells two adapters of one name apart.
    pub number: usize,
    /// The adapter's own name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `other` or `software`.
    pub kind: &'static str,
    /// The driver's name and version.
    pub driver: String,
    /// True if the "GPU" is a program on the CPU.
    pub software: bool,
    /// True for the adapter that `auto` takes.
    pub taken_by_auto: bool,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Largest part of a buffer that a shader sees, bytes: the limit on one value.
    pub max_binding_bytes: u64,
    /// Storage buffers that one shader can bind; 8 are needed.
    pub max_storage_buffers: u32,
    /// Workgroup memory, bytes; 16 KiB are needed.
    pub max_workgroup_bytes: u32,
}

impl AdapterSummary {
    /// `NVIDIA H200 (vulkan, discrete)`.
    pub fn describe(&self) -> String {
        format!("{} ({}, {})", self.name, self.backend, self.kind)
    }

    /// The same, with the number if another of `infos` has the same description: `NVIDIA H200 (vulkan, discrete), number 1`.
    pub(super) fn describe_among(&self, infos: &[AdapterSummary]) -> String {
        let own = self.describe();
        let alike = infos.iter().filter(|info| info.describe() == own).count();
        if alike > 1 { format!("{own}, number {}", self.number) } else { own }
    }
}
