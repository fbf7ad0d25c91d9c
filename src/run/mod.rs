//! A plan: a tape made ready for one device, then replayed for every batch.
//!
//! `match device` stands here and nowhere else. Read [`cpu`] first (a page), then [`gpu`];
//! [`mod@reference`] runs the same tape naively in f64.

pub mod cpu;
mod fuse;
pub mod gpu;
pub mod reference;

pub use fuse::fuse;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::tape::{Source, Step, Tape, Value, Var};
use crate::tensor::{Params, Tensor};

/// A tape with its buffers on one device.
#[derive(Debug)]
pub struct Plan {
    tape: Tape,
    executor: Executor,
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
        let executor = match device {
            Device::Cpu => Executor::Cpu(cpu::Executor::new(tape)),
            Device::Gpu(gpu) => Executor::Gpu(gpu::Executor::new(tape, gpu)?),
        };
        let mut plan = Plan { tape: tape.clone(), executor };
        plan.set_params(params)?;
        Ok(plan)
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
    /// [`Error::Shape`] if `data` does not fill the value; [`Error::Device`] if the device was lost.
    pub fn write(&mut self, var: Var, data: &[f32]) -> Result<()> {
        let value = &self.tape.values()[var.index()];
        assert!(value.source != Source::Node, "{} is computed, not written", value.name);
        if data.len() != value.shape.len() {
            let message = format!("expected {} of shape {}, got {} values", value.name, value.shape, data.len());
            return Err(Error::shape("plan", message));
        }
        match &mut self.executor {
            Executor::Cpu(executor) => executor.write(var, data),
            Executor::Gpu(executor) => executor.write(var, data)?,
        }
        Ok(())
    }

    /// Writes the inputs and replays the tape once. On a GPU this submits and returns; nothing waits.
    ///
    /// # Errors
    /// As [`Plan::write`].
    pub fn step(&mut self, inputs: &[(Var, &[f32])], step: &Step) -> Result<()> {
        for (var, data) in inputs {
            self.write(*var, data)?;
        }
        match &mut self.executor {
            Executor::Cpu(executor) => executor.step(&self.tape, step),
            Executor::Gpu(executor) => executor.step(step)?,
        }
        Ok(())
    }

    /// Copies a value to the host. On a GPU this is the only call that waits.
    ///
    /// # Panics
    /// If fusion left the value out.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn read(&mut self, var: Var) -> Result<Vec<f32>> {
        assert!(self.tape.is_live(var), "{}: left out by fusion", self.tape.values()[var.index()].name);
        match &mut self.executor {
            Executor::Cpu(executor) => Ok(executor.read(var).to_vec()),
            Executor::Gpu(executor) => executor.read(var),
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

    /// The program.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }
}
