//! The program as data: a flat list of operations on named values, recorded once and replayed for every batch.
//!
//! A [`Tape`] knows no operation and no device. Operations implement [`Op`] (see [`crate::ops`]);
//! [`crate::autodiff::backward`] appends the gradient's nodes to the same list; [`crate::run::Plan`] executes it.
//! Print a tape (`{tape}`) to read a training step as a table.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::dispatch::Dispatch;
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// The scalars that change from step to step.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Step {
    /// 1 for the first step.
    pub step: u32,
    /// Seed of the random choices inside the step.
    pub seed: u32,
    /// The learning rate.
    pub learning_rate: f32,
    /// Where the step's rows start in a list of rows, if a data set on the device feeds it.
    pub first: u32,
}

impl Step {
    /// Step number `step` (from 1).
    pub fn new(step: u32, seed: u32, learning_rate: f64) -> Self {
        Step { step, seed, learning_rate: learning_rate as f32, first: 0 }
    }
}

/// A value of a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(pub(crate) usize);

impl Var {
    /// Its index in [`Tape::values`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// What writes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The host, before each step.
    Input,
    /// A trainable parameter. The host sets it; at most one in-place node updates it per step.
    Param,
    /// Zero at first, then one in-place node per step (Adam's moments, running sums); the host may reset it.
    State,
    /// One node per step.
    Node,
}

/// A named array of the program.
#[derive(Clone, Debug)]
pub struct Value {
    /// `spectral.0.weight`, or the operation's name and number.
    pub name: String,
    /// Its sizes.
    pub shape: Shape,
    /// What writes it.
    pub source: Source,
}

/// One operation of the program.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is done.
    pub op: Arc<dyn Op>,
    /// What it reads.
    pub reads: Vec<Var>,
    /// What it writes.
    pub writes: Vec<Var>,
    /// The name of the rule that put it here, if it was not recorded.
    pub rule: Option<&'static str>,
}

impl Node {
    /// A node that reads `reads` and writes `writes`.
    pub fn new(op: Arc<dyn Op>, reads: Vec<Var>, writes: Vec<Var>) -> Self {
        Node { op, reads, writes, rule: None }
    }
}

/// An operation: its sizes (fields), three versions of its equation (naive f64, CPU, GPU), and its gradient.
///
/// Implementations live one to a file in [`crate::ops`]. `read` and `write` are contiguous row-major arrays whose
/// lengths were checked against [`Op::output_shapes`] when the tape was recorded.
pub trait Op: Any + fmt::Debug + Send + Sync {
    /// `conv2d`, `conv2d.grad_weight`.
    fn name(&self) -> &'static str;

    /// Checks the shapes read and gives the shapes written.
    ///
    /// # Errors
    /// [`Error::Shape`] saying what was expected and what came.
    fn output_shapes(&self, inputs: &[&Shape]) -> Result<Vec<Shape>>;

    /// The reference implementation, in f64. Both devices are tested against it.
    fn reference(&self, read: &[&[f64]], write: &mut [&mut [f64]], step: &Step);

    /// The CPU kernel. Writes every element of `write`; in-place operations find the old values there.
    fn cpu(&self, read: &[&[f32]], write: &mut [&mut [f32]], step: &Step);

    /// Checks numbers that the host writes to the value that is read as input `i`: [`crate::run::Plan`] asks before a
    /// step uses them.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the first number that the operation is not defined for.
    fn check_input(&self, i: usize, data: &[f32]) -> Result<()> {
        let _ = (i, data);
        Ok(())
    }

    /// The GPU kernels, run in order.
    fn gpu(&self) -> Vec<Dispatch>;

    /// Sizes of the scratch buffers that the GPU kernels need, in floats per net.
    /// [`Bind::Scratch`](crate::dispatch::Bind::Scratch) indexes this list. Nodes share the buffers, so their contents do not
    /// survive a node.
    fn scratch(&self) -> Vec<usize> {
        Vec::new()
    }

    /// True if element `i` of each output depends only on element `i` of inputs and outputs and on one-element values. Such
    /// nodes can share a dispatch if their constants differ only in `len`.
    fn elementwise(&self) -> bool {
        false
    }

    /// Appends the nodes that carry the gradient of output 0 to every input that needs one, or calls
    /// [`Gradient::stop`].
    ///
    /// # Errors
    /// Those of recording.
    fn backward(&self, gradient: &mut Gradient) -> Result<()>;

    /// True if `write` holds old values that are updated (Adam, running sums).
    fn in_place(&self) -> bool {
        false
    }

    /// Useful floating-point operations (a multiply-add counts two), for lower bounds and benches. 0 for memory-bound
    /// operations.
    fn flops(&self) -> u64 {
        0
    }
}

/// One change of a program: nodes to remove, and nodes to insert. All values stay; a value without a writer gets no
/// memory.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// Numbers of the nodes to remove.
    pub removed: Vec<usize>,
    /// Nodes to insert, each with the number of the removed node that it replaces.
    pub added: Vec<(usize, Node)>,
}

/// What an operation's [`Op::backward`] sees: its values, the gradients of its outputs, and the tape to append to.
#[derive(Debug)]
pub struct Gradient<'t> {
    /// The tape that grows.
    pub tape: &'t mut Tape,
    pub(crate) reads: Vec<Var>,
    pub(crate) writes: Vec<Var>,
    pub(crate) grad_output: Var,
    pub(crate) needed: Vec<bool>,
    pub(crate) grad_reads: Vec<Option<Var>>,
}

impl Gradient<'_> {
    /// Input `i` of the forward node.
    pub fn input(&self, i: usize) -> Var {
        self.reads[i]
    }

    /// Output `i` of the forward node.
    pub fn output(&self, i: usize) -> Var {
        self.writes[i]
    }

    /// The gradient of the loss with respect to output 0 (the walk skips nodes without one, and refuses a loss that
    /// depends on any other output).
    pub fn grad_output(&self) -> Var {
        self.grad_output
    }

    /// True if the gradient of input `i` is needed.
    pub fn needs(&self, i: usize) -> bool {
        self.needed.get(i).copied().unwrap_or(false)
    }

    /// Records a one-output node as the gradient of input `i`. Does nothing if that gradient is not needed.
    ///
    /// # Errors
    /// Those of recording.
    pub fn give(&mut self, i: usize, op: impl Op + 'static, reads: &[Var]) -> Result<()> {
        if self.needs(i) {
            let var = self.tape.one(op, reads)?;
            self.grad_reads[i] = Some(var);
        }
        Ok(())
    }

    /// Says that no gradient passes: the inputs need none.
    pub fn stop(&mut self) {
        self.needed.fill(false);
    }

    /// Makes an existing value the gradient of input `i`.
    pub fn pass(&mut self, i: usize, var: Var) {
        if self.needs(i) {
            self.grad_reads[i] = Some(var);
        }
    }
}

/// A recorded program.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    values: Vec<Value>,
    nodes: Vec<Node>,
    written: Vec<bool>,
}

impl Tape {
    /// An empty program.
    pub fn new() -> Self {
        Tape::default()
    }

    fn value(&mut self, name: String, shape: Shape, source: Source) -> Var {
        self.values.push(Value { name, shape, source });
        self.written.push(false);
        Var(self.values.len() - 1)
    }

    /// A value that the host writes before each step.
    pub fn input(&mut self, name: &str, shape: impl Into<Shape>) -> Var {
        self.value(name.to_string(), shape.into(), Source::Input)
    }

    /// Class labels `[n]`: class numbers as f32 (exact); a negative label masks its row.
    pub fn labels(&mut self, n: usize) -> Var {
        self.input("labels", [n])
    }

    /// A trainable parameter.
    ///
    /// # Errors
    /// [`Error::Shape`] if a parameter or a state of this name exists: weights and checkpoints are found by name.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>) -> Result<Var> {
        self.named("param", name, shape.into(), Source::Param)
    }

    /// A value that is zero at first and that one in-place node updates in every step.
    ///
    /// # Errors
    /// As [`Tape::param`].
    pub fn state(&mut self, name: &str, shape: impl Into<Shape>) -> Result<Var> {
        self.named("state", name, shape.into(), Source::State)
    }

    fn named(&mut self, kind: &'static str, name: &str, shape: Shape, source: Source) -> Result<Var> {
        let mut lasting = self.values.iter().filter(|value| matches!(value.source, Source::Param | Source::State));
        if let Some(other) = lasting.find(|value| value.name == name) {
            let message = format!("{name} of shape {shape} exists already, of shape {}; use another name", other.shape);
            return Err(Error::shape(kind, message));
        }
        Ok(self.value(name.to_string(), shape, source))
    }

    /// Records an operation; its outputs are new values.
    ///
    /// # Errors
    /// [`Error::Shape`] if the inputs do not fit the operation.
    pub fn push(&mut self, op: impl Op + 'static, reads: &[Var]) -> Result<Vec<Var>> {
        assert!(!op.in_place(), "{}: in-place operations are recorded with Tape::update", op.name());
        let shapes = self.check(&op, reads)?;
        let number = self.nodes.len();
        let writes: Vec<Var> = shapes
            .into_iter()
            .enumerate()
            .map(|(slot, shape)| {
                let suffix = if slot == 0 { String::new() } else { format!(".{slot}") };
                self.value(format!("{}#{number}{suffix}", op.name()), shape, Source::Node)
            })
            .collect();
        for var in &writes {
            self.written[var.0] = true;
        }
        self.nodes.push(Node::new(Arc::new(op), reads.to_vec(), writes.clone()));
        Ok(writes)
    }

    /// Records an operation and gives its first output.
    ///
    /// # Errors
    /// As [`Tape::push`].
    pub fn one(&mut self, op: impl Op + 'static, reads: &[Var]) -> Result<Var> {
        Ok(self.push(op, reads)?[0])
    }

    /// Records an in-place operation on existing parameters or states: each has at most one writer.
    ///
    /// # Errors
    /// [`Error::Shape`] if the values do not fit the operation.
    pub fn update(&mut self, op: impl Op + 'static, reads: &[Var], writes: &[Var]) -> Result<()> {
        assert!(op.in_place(), "{}: only in-place operations update", op.name());
        let shapes = self.check(&op, reads)?;
        assert_eq!(shapes.len(), writes.len(), "{}: number of updated values", op.name());
        for (shape, var) in shapes.iter().zip(writes) {
            let value = &self.values[var.0];
            assert!(
                matches!(value.source, Source::Param | Source::State),
                "{}: {} is not a state",
                op.name(),
                value.name
            );
            assert!(!self.written[var.0], "{}: {} already has a writer", op.name(), value.name);
            if *shape != value.shape {
                let message = format!("expected {} of shape {shape}, got {}", value.name, value.shape);
                return Err(Error::shape(op.name(), message));
            }
        }
        for var in writes {
            self.written[var.0] = true;
        }
        self.nodes.push(Node::new(Arc::new(op), reads.to_vec(), writes.to_vec()));
        Ok(())
    }

    fn check(&self, op: &impl Op, reads: &[Var]) -> Result<Vec<Shape>> {
        op.output_shapes(&reads.iter().map(|&var| self.shape(var)).collect::<Vec<_>>())
    }

    /// The sizes of a value.
    pub fn shape(&self, var: Var) -> &Shape {
        &self.values[var.0].shape
    }

    /// The four sizes `[N, C, H, W]` of a value.
    ///
    /// # Errors
    /// [`Error::Shape`] in the name of `op` if it has another rank.
    pub fn shape4(&self, op: &'static str, var: Var) -> Result<[usize; 4]> {
        let dims = self.shape(var).dims();
        dims.try_into().map_err(|_| Error::shape(op, format!("expected input [N, C, H, W], got {dims:?}")))
    }

    /// All values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// All nodes, in order of execution.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// True if the value exists when the program runs. A rewritten program has values that no node writes.
    pub fn is_live(&self, var: Var) -> bool {
        self.values[var.0].source != Source::Node || self.nodes.iter().any(|node| node.writes.contains(&var))
    }

    /// Carries out one rewrite.
    ///
    /// # Panics
    /// If a node reads a value that no node before it writes, or if a new node does not fit its values. Then the rule is
    /// wrong, whatever the program.
    pub fn rewrite(&mut self, rewrite: Rewrite) {
        let mut added = rewrite.added;
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for (number, node) in self.nodes.drain(..).enumerate() {
            while let Some(at) = added.iter().position(|(place, _)| *place == number) {
                nodes.push(added.remove(at).1);
            }
            if !rewrite.removed.contains(&number) {
                nodes.push(node);
            }
        }
        assert!(added.is_empty(), "an inserted node replaces a removed one");
        let mut written: Vec<bool> = self.values.iter().map(|value| value.source != Source::Node).collect();
        for node in &nodes {
            let name = node.op.name();
            for var in &node.reads {
                assert!(written[var.0], "{name} reads {}, which nothing writes before", self.values[var.0].name);
            }
            let reads: Vec<&Shape> = node.reads.iter().map(|var| &self.values[var.0].shape).collect();
            let shapes = node.op.output_shapes(&reads).unwrap_or_else(|error| panic!("{error}"));
            assert!(
                shapes.iter().eq(node.writes.iter().map(|var| &self.values[var.0].shape)),
                "{name}: shapes written"
            );
            node.writes.iter().for_each(|var| written[var.0] = true);
        }
        self.nodes = nodes;
    }

    /// The values of one kind, in order of recording.
    pub fn vars(&self, source: Source) -> impl Iterator<Item = Var> + '_ {
        self.values.iter().enumerate().filter(move |(_, v)| v.source == source).map(|(i, _)| Var(i))
    }

    /// The values of several kinds, in order of recording.
    pub fn vars_of(&self, sources: &[Source]) -> Vec<Var> {
        let wanted = |&i: &usize| sources.contains(&self.values[i].source);
        (0..self.values.len()).filter(wanted).map(Var).collect()
    }

    /// Useful floating-point operations of one step.
    pub fn flops(&self) -> u64 {
        self.nodes.iter().map(|node| node.op.flops()).sum()
    }
}

impl fmt::Display for Tape {
    /// One line per node: index, operation, output shape, inputs, the rule that made it, outputs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |vars: &[Var]| vars.iter().map(|v| self.values[v.0].name.as_str()).collect::<Vec<_>>().join(", ");
        writeln!(f, "{:>4}  {:<28} {:<18} {:<52} {:<13} writes", "node", "operation", "shape", "reads", "rule")?;
        for (number, node) in self.nodes.iter().enumerate() {
            let shape = self.shape(node.writes[0]);
            let (reads, writes) = (names(&node.reads), names(&node.writes));
            let (op, rule) = (node.op.name(), node.rule.unwrap_or("-"));
            writeln!(f, "{number:>4}  {op:<28} {shape:<18} {reads:<52} {rule:<13} {writes}")?;
        }
        Ok(())
    }
}
