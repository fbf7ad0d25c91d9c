//! How long a kernel takes.

/// The time of one kernel of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTiming {
    /// The operation that it belongs to.
    pub op: &'static str,
    /// On a GPU its entry point; on the CPU, where an operation is one kernel, the parameter that it reads or writes,
    /// or the shape that it writes.
    pub kernel: String,
    /// What it took.
    pub seconds: f64,
}
