//! A GPU kernel call as data: which shader, with which constants, on which bindings, by how many workgroups.
//!
//! Operations describe their kernels with it ([`Op::gpu`](crate::tape::Op::gpu)); [`crate::run::gpu`] compiles and runs them.

/// A WGSL file: its name for messages, its text for the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// File name below `shaders/`.
    pub file: &'static str,
    /// Its text.
    pub source: &'static str,
}

/// Names a file below `shaders/`.
#[macro_export]
macro_rules! shader {
    ($file:literal) => {
        $crate::dispatch::Shader {
            file: $file,
            source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file)),
        }
    };
}

/// One binding of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// The node's `i`-th input: `var<storage, read>`.
    Read(usize),
    /// The node's `i`-th output: `var<storage, read_write>`.
    Write(usize),
    /// An updated value, bound read-only to get its value before the update: `var<storage, read>`.
    Old(usize),
    /// A scratch buffer ([`Op::scratch`](crate::tape::Op::scratch)) that this dispatch writes: `var<storage, read_write>`.
    Scratch(usize),
    /// A scratch buffer that an earlier dispatch of the node wrote: `var<storage, read>`.
    ScratchRead(usize),
}

impl Bind {
    /// True if it is only read.
    pub fn is_read_only(self) -> bool {
        matches!(self, Bind::Read(_) | Bind::Old(_) | Bind::ScratchRead(_))
    }
}

/// One GPU dispatch, as data. Bind group 0 holds the bindings in order. Bind group 1 holds one
/// [`Step`](crate::tape::Step) per net.
///
/// One dispatch can serve several nets. The grid's z index is the net. Each binding holds the nets' arrays, concatenated.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// The file.
    pub shader: Shader,
    /// Its entry point.
    pub entry: &'static str,
    /// Values of the file's `override` constants. The others keep their defaults.
    pub constants: Vec<(&'static str, f64)>,
    /// The bindings. If empty: the node's reads, then its writes.
    pub binds: Vec<Bind>,
    /// Workgroups along x and y, per net.
    pub groups: [u32; 2],
}

impl Dispatch {
    /// Threads per workgroup of a linear kernel.
    pub const WORKGROUP: usize = 64;
    /// Groups along x before y is used; 65,535 a dimension is WebGPU's limit.
    const ROW: usize = 32_768;

    /// A kernel of so many workgroups along x and y.
    pub fn grid(shader: Shader, entry: &'static str, constants: Vec<(&'static str, f64)>, groups: [usize; 2]) -> Self {
        // More than u32 holds is more than any device takes: the executor says so.
        let groups = groups.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        Dispatch { shader, entry, constants, binds: Vec::new(), groups }
    }

    /// A kernel with one thread for each of `threads` elements; the grid's y dimension is folded in by the shader.
    pub fn linear(shader: Shader, entry: &'static str, constants: Vec<(&'static str, f64)>, threads: usize) -> Self {
        let groups = threads.div_ceil(Self::WORKGROUP).max(1);
        let x = groups.min(Self::ROW);
        Dispatch::grid(shader, entry, constants, [x, groups.div_ceil(x)])
    }

    /// A kernel of one workgroup, for reductions to a few numbers.
    pub fn single(shader: Shader, entry: &'static str, constants: Vec<(&'static str, f64)>) -> Self {
        Dispatch::grid(shader, entry, constants, [1, 1])
    }

    /// The bindings, in order, for a node with so many reads and writes.
    pub fn bindings(&self, reads: usize, writes: usize) -> Vec<Bind> {
        if self.binds.is_empty() {
            return (0..reads).map(Bind::Read).chain((0..writes).map(Bind::Write)).collect();
        }
        self.binds.clone()
    }

    /// Replaces the bindings.
    pub fn binding(mut self, binds: impl IntoIterator<Item = Bind>) -> Self {
        self.binds = binds.into_iter().collect();
        self
    }
}
