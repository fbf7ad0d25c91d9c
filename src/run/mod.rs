//! A plan: a tape made ready for one device, then replayed for every batch.
//!
//! Which device a tape runs on is decided here and nowhere else. Read [`cpu`] first (a page), then [`gpu`];
//! [`mod@reference`] runs the same tape naively in f64.

pub mod cpu;
pub mod gpu;
pub mod reference;
mod timing;

use crate::device::{Device, memory};
use crate::error::{Error, Result};
use crate::tape::{Source, Step, Tape, Value, Var};
use crate::tensor::{Params, Tensor};

pub use timing::KernelTiming;

/// A tape with its buffers on one device.
#[derive(Debug)]
pub struct Plan {
    tape: Tape,
    executor: Executor,
    /// Inputs that a node reads and that nothing has filled yet.
    missing: Vec<Var>,
}

/// A data set's part in a program: rows that fill an input.
#[derive(Clone, Copy, Debug)]
pub struct Table<'d> {
    /// The input `[batch, ...]`.
    pub input: Var,
    /// Rows of `...`, end to end.
    pub data: &'d [f32],
    /// What stands in a batch's rows beyond the data: for labels a negative number, which masks them.
    pub filled: f32,
}

/// A data set that feeds a plan ([`Plan::feed`]).
#[derive(Debug)]
pub struct Feed<'d> {
    tables: Vec<Table<'d>>,
    batch: usize,
    /// Rows of each table.
    held: usize,
    /// Entries of the longest list of rows.
    longest: usize,
    order: Vec<u32>,
    device: Option<gpu::Feed>,
}

#[derive(Debug)]
enum Executor {
    Cpu(cpu::Executor),
    Gpu(gpu::Executor),
}

impl Plan {
    /// Allocates every value of `tape` on `device`, compiles its kernels, and uploads `params`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a parameter of the tape is missing from `params` or has another shape;
    /// [`Error::Device`] if the device cannot hold or compile the program.
    pub fn new(tape: &Tape, device: &Device, params: &Params) -> Result<Self> {
        Ok(Plan::several(tape, device, std::slice::from_ref(params))?.remove(0))
    }

    /// Plans of `tape` for several nets, one for each of `params`. On a GPU they run side by side, and each is to have a
    /// thread of its own: one that reads waits until the others have asked for as many steps, or were dropped.
    ///
    /// # Errors
    /// As [`Plan::new`]; [`Error::Device`] for more nets than [`NETS`](crate::device::gpu::NETS) on a GPU.
    pub fn several(tape: &Tape, device: &Device, params: &[Params]) -> Result<Vec<Self>> {
        let executors: Vec<Executor> = match device {
            Device::Cpu => {
                memory::check("the program", Plan::bytes(tape, device).saturating_mul(params.len() as u64))?;
                params.iter().map(|_| Executor::Cpu(cpu::Executor::new(tape))).collect()
            }
            Device::Gpu(gpu) => {
                gpu::Executor::several(tape, gpu, params.len())?.into_iter().map(Executor::Gpu).collect()
            }
        };
        let plans = executors.into_iter().zip(params).map(|(executor, params)| {
            let read = |var: &Var| tape.nodes().iter().any(|node| node.reads.contains(var));
            let missing = tape.vars(Source::Input).filter(read).collect();
            let mut plan = Plan { tape: tape.clone(), executor, missing };
            plan.set_params(params)?;
            Ok(plan)
        });
        plans.collect()
    }

    /// Bytes of the computer's memory that a plan of `tape` takes on `device`: every value on the CPU, none on a GPU,
    /// which has its own.
    pub fn bytes(tape: &Tape, device: &Device) -> u64 {
        let live = (0..tape.values().len()).map(Var).filter(|&var| tape.is_live(var));
        match device {
            Device::Cpu => live.map(|var| tape.shape(var).len() as u64 * size_of::<f32>() as u64).sum(),
            Device::Gpu(_) => 0,
        }
    }

    /// Replaces every parameter.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn set_params(&mut self, params: &Params) -> Result<()> {
        self.replaced(&[Source::Param], params)
    }

    fn replaced(&mut self, sources: &[Source], values: &Params) -> Result<()> {
        for var in self.tape.vars_of(sources) {
            let value = &self.tape.values()[var.index()];
            let tensor =
                values.get(&value.name).ok_or_else(|| Error::shape("plan", format!("no value {}", value.name)))?;
            if *tensor.shape() != value.shape {
                let message = format!("expected {} of shape {}, got {}", value.name, value.shape, tensor.shape());
                return Err(Error::shape("plan", message));
            }
            self.write(var, tensor.data())?;
        }
        Ok(())
    }

    /// Overwrites an input, a parameter or a state.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` does not fill the value, or if an operation that reads an input is not defined for a
    /// number of it (a label that is no class); [`Error::Device`] if the device was lost.
    pub fn write(&mut self, var: Var, data: &[f32]) -> Result<()> {
        let value = &self.tape.values()[var.index()];
        assert!(value.source != Source::Node, "{} is computed, not written", value.name);
        if data.len() != value.shape.len() {
            let message = format!("expected {} of shape {}, got {} values", value.name, value.shape, data.len());
            return Err(Error::shape("plan", message));
        }
        self.check_input(var, data)?;
        match &mut self.executor {
            Executor::Cpu(executor) => executor.write(var, data),
            Executor::Gpu(executor) => executor.write(var, data)?,
        }
        self.missing.retain(|&missing| missing != var);
        Ok(())
    }

    /// Asks the operations that read an input whether they are defined for `data`.
    fn check_input(&self, var: Var, data: &[f32]) -> Result<()> {
        if self.tape.values()[var.index()].source != Source::Input {
            return Ok(());
        }
        for node in self.tape.nodes() {
            for i in (0..node.reads.len()).filter(|&i| node.reads[i] == var) {
                node.op.check_input(i, data)?;
            }
        }
        Ok(())
    }

    /// Refuses a step while an input was never filled.
    fn check_filled(&self, fed: &[Table]) -> Result<()> {
        match self.missing.iter().find(|&&var| fed.iter().all(|table| table.input != var)) {
            Some(var) => {
                let message =
                    format!("the input {} was never filled; write it or feed it", self.tape.values()[var.0].name);
                Err(Error::shape("plan", message))
            }
            None => Ok(()),
        }
    }

    /// Writes the inputs and replays the tape once. On a GPU this is done some time later, and nothing waits
    /// but for nets side by side that are far behind.
    ///
    /// # Errors
    /// As [`Plan::write`]; [`Error::Shape`] if an input was never filled.
    pub fn step(&mut self, inputs: &[(Var, &[f32])], step: &Step) -> Result<()> {
        for (var, data) in inputs {
            self.write(*var, data)?;
        }
        self.check_filled(&[])?;
        match &mut self.executor {
            Executor::Cpu(executor) => executor.step(&self.tape, step),
            Executor::Gpu(executor) => executor.step(step)?,
        }
        Ok(())
    }

    /// Makes a data set the source of the inputs: each table with the input `[batch, ...]` that its rows fill, and the
    /// number that fills the rows of a batch beyond the data. A GPU keeps a copy; the CPU reads it where it is. A list of
    /// rows ([`Plan::order`]) has at most `rows` entries.
    ///
    /// # Errors
    /// [`Error::Shape`] if a table is no whole number of rows, if the tables differ in their number of rows, or if an
    /// operation is not defined for a number of a table (a label that is no class); [`Error::Device`] if the device has
    /// no memory for it.
    pub fn feed<'d>(&mut self, tables: &[Table<'d>], rows: usize) -> Result<Feed<'d>> {
        let batch =
            tables.first().and_then(|table| self.tape.shape(table.input).dims().first().copied()).unwrap_or(1).max(1);
        for table in tables {
            let shape = self.tape.shape(table.input);
            if shape.dims().first() != Some(&batch) || !table.data.len().is_multiple_of((shape.len() / batch).max(1)) {
                let message = format!("expected rows of an input {shape}, got {} values", table.data.len());
                return Err(Error::shape("feed", message));
            }
            self.check_input(table.input, table.data)?;
            self.check_input(table.input, &[table.filled])?;
        }
        let lengths = tables.iter().map(|table| table.data.len() / (self.tape.shape(table.input).len() / batch).max(1));
        let lengths: Vec<usize> = lengths.collect();
        if let Some(other) = (1..tables.len()).find(|&number| lengths[number] != lengths[0]) {
            let name = |number: usize| &self.tape.values()[tables[number].input.0].name;
            let (first, other_rows) = (lengths[0], lengths[other]);
            let message = format!("{} has {first} rows, but {} has {other_rows}", name(0), name(other));
            return Err(Error::shape("feed", message));
        }
        let device = match &mut self.executor {
            Executor::Cpu(_) => None,
            Executor::Gpu(executor) => {
                let tables: Vec<_> = tables.iter().map(|table| (table.input, table.data, table.filled)).collect();
                Some(executor.feed(&tables, batch, rows)?)
            }
        };
        let held = lengths.first().copied().unwrap_or(0);
        Ok(Feed { tables: tables.to_vec(), batch, held, longest: rows, order: Vec::new(), device })
    }

    /// Replaces the list of rows that steps take, batch by batch.
    ///
    /// # Errors
    /// [`Error::Shape`] if the list is longer than [`Plan::feed`] was told or names a row that the tables do not have;
    /// [`Error::Device`] if the device was lost.
    pub fn order(&mut self, feed: &mut Feed, rows: &[u32]) -> Result<()> {
        if rows.len() > feed.longest {
            let message = format!("a list of {} rows; the feed was made for {} at most", rows.len(), feed.longest);
            return Err(Error::shape("order", message));
        }
        if let Some(row) = rows.iter().find(|&&row| row as usize >= feed.held) {
            return Err(Error::shape("order", format!("row {row} of tables of {} rows", feed.held)));
        }
        feed.order = rows.to_vec();
        match (&mut self.executor, &feed.device) {
            (Executor::Gpu(executor), Some(device)) => executor.order(device, rows),
            _ => Ok(()),
        }
    }

    /// Replays the tape once on the batch that starts at place `first` of the list; rows beyond the list are filled.
    ///
    /// # Errors
    /// As [`Plan::step`].
    pub fn step_from(&mut self, feed: &Feed, first: usize, step: &Step) -> Result<()> {
        self.check_filled(&feed.tables)?;
        match (&mut self.executor, &feed.device) {
            (Executor::Gpu(executor), Some(device)) => executor.step_from(device, first, step),
            (Executor::Cpu(executor), _) => {
                let rows = &feed.order[first.min(feed.order.len())..];
                for table in &feed.tables {
                    let input = executor.value_mut(table.input);
                    let length = input.len() / feed.batch;
                    input[rows.len().min(feed.batch) * length..].fill(table.filled);
                    for (slot, &row) in input.chunks_exact_mut(length).zip(rows) {
                        slot.copy_from_slice(&table.data[row as usize * length..][..length]);
                    }
                }
                executor.step(&self.tape, step);
                Ok(())
            }
            (Executor::Gpu(_), None) => unreachable!("a feed belongs to the plan that made it"),
        }
    }

    /// Replays the tape over the whole list, batch by batch, and gives the rows of `var [batch, ...]` for all of it.
    /// On a GPU this waits once.
    ///
    /// # Errors
    /// As [`Plan::read`].
    pub fn over(&mut self, feed: &Feed, var: Var, step: &Step) -> Result<Vec<f32>> {
        self.check_filled(&feed.tables)?;
        let rows = feed.order.len();
        if let (Executor::Gpu(executor), Some(device)) = (&mut self.executor, &feed.device) {
            return executor.over(device, rows, var, step);
        }
        let length = self.tape.shape(var).len() / feed.batch;
        let mut values = Vec::with_capacity(rows.next_multiple_of(feed.batch) * length);
        for first in (0..rows).step_by(feed.batch) {
            self.step_from(feed, first, step)?;
            values.extend_from_slice(&self.read(var)?);
        }
        values.truncate(rows * length);
        Ok(values)
    }

    /// Copies a value to the host. On a GPU this waits for the steps asked for; side by side, so
    /// does whatever the host writes.
    ///
    /// # Errors
    /// [`Error::Shape`] if fusion left the value out; [`Error::Device`] if the device was lost.
    pub fn read(&mut self, var: Var) -> Result<Vec<f32>> {
        if !self.tape.is_live(var) {
            let name = &self.tape.values()[var.index()].name;
            return Err(Error::shape(
                "plan",
                format!("{name} is left out by fusion; read it from the program as recorded"),
            ));
        }
        match &mut self.executor {
            Executor::Cpu(executor) => Ok(executor.read(var).to_vec()),
            Executor::Gpu(executor) => executor.read(var),
        }
    }

    /// Waits until every step is done.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn wait(&mut self) -> Result<()> {
        match &mut self.executor {
            Executor::Cpu(_) => Ok(()),
            Executor::Gpu(executor) => executor.wait(),
        }
    }

    /// Copies every parameter to the host.
    ///
    /// # Errors
    /// As [`Plan::read`].
    pub fn params(&mut self) -> Result<Params> {
        self.copied(&[Source::Param])
    }

    /// Copies all that a step leaves to the next one to the host: parameters and states.
    ///
    /// # Errors
    /// As [`Plan::read`].
    pub fn lasting(&mut self) -> Result<Params> {
        self.copied(&[Source::Param, Source::State])
    }

    /// Replaces parameters and states by those of [`Plan::lasting`]; inputs and computed values stay.
    ///
    /// # Errors
    /// As [`Plan::set_params`].
    pub fn set_lasting(&mut self, values: &Params) -> Result<()> {
        self.replaced(&[Source::Param, Source::State], values)
    }

    fn copied(&mut self, sources: &[Source]) -> Result<Params> {
        let mut values = Params::default();
        for var in self.tape.vars_of(sources) {
            let data = self.read(var)?;
            let value = &self.tape.values()[var.index()];
            values.push(value.name.clone(), Tensor::new(value.shape.clone(), data)?);
        }
        Ok(values)
    }

    /// Fills every computed value with NaN, so that a kernel that leaves an element unwritten is seen.
    ///
    /// # Errors
    /// As [`Plan::write`].
    pub fn poison(&mut self) -> Result<()> {
        for var in self.tape.vars(Source::Node).filter(|&var| self.tape.is_live(var)).collect::<Vec<_>>() {
            let nan = vec![f32::NAN; self.tape.shape(var).len()];
            match &mut self.executor {
                Executor::Cpu(executor) => executor.write(var, &nan),
                Executor::Gpu(executor) => executor.write(var, &nan)?,
            }
        }
        Ok(())
    }

    /// Shows every value written by a node, in order of execution, here and in `other` (a plan of the same tape), to
    /// `differs`; gives the first one that it calls different.
    ///
    /// # Errors
    /// As [`Plan::read`].
    pub fn compare(
        &mut self,
        other: &mut Plan,
        mut differs: impl FnMut(&Value, &[f32], &[f32]) -> bool,
    ) -> Result<Option<Var>> {
        let written: Vec<Var> = self.tape.nodes().iter().flat_map(|node| node.writes.clone()).collect();
        for var in written {
            let (here, there) = (self.read(var)?, other.read(var)?);
            if differs(&self.tape.values()[var.index()], &here, &there) {
                return Ok(Some(var));
            }
        }
        Ok(None)
    }

    /// Runs `step`, one kernel after the other, and gives the time of each.
    ///
    /// # Errors
    /// [`Error::Shape`] if an input was never filled; [`Error::Device`] if the device has no timestamps or was lost.
    pub fn profile(&mut self, step: &Step) -> Result<Vec<KernelTiming>> {
        self.check_filled(&[])?;
        match &mut self.executor {
            Executor::Cpu(executor) => Ok(executor.profile(&self.tape, step)),
            Executor::Gpu(executor) => executor.profile(step),
        }
    }

    /// On a GPU: how long the kernels took to compile, seconds, and how many dispatches a step has.
    pub fn compiled(&self) -> Option<(f64, usize)> {
        match &self.executor {
            Executor::Cpu(_) => None,
            Executor::Gpu(executor) => Some((executor.compile_seconds(), executor.dispatches())),
        }
    }

    /// The program.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }
}
