//! The GPU executor: one net's part in an engine, which runs one net, or several side by side.
//!
//! A net of the study is too small to fill a large GPU. Several nets of one program share every dispatch: the grid's z
//! dimension counts them (see [`crate::dispatch::Dispatch`]). Each has a thread of its own on the host, which feeds, steps and
//! reads it as if it were alone; the engine takes a step when every net has asked for one. What a net computes does not
//! depend on its neighbours.
//!
//! What the engine is made of stands in `engine.rs`, where values lie is planned in `layout.rs`, how a data set on the
//! device feeds the steps stands in `feed.rs`, how long each kernel takes in `profile.rs`.

mod engine;
mod feed;
mod layout;
mod profile;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, LockResult, Mutex, MutexGuard};

use crate::device::gpu::{Gpu, NETS};
use crate::error::{Error, Result};
use crate::tape::{Step, Tape, Var};

use engine::Engine;
pub use feed::Feed;

/// Steps that a net may be ahead of the slowest: enough that nobody waits for a thread to be woken.
const AHEAD: usize = 64;

/// One net's values in GPU memory, and its part in the engine's steps.
#[derive(Debug)]
pub struct Executor {
    shared: Arc<Shared>,
    net: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Steps were taken, a net left, or the engine failed.
    news: Condvar,
}

#[derive(Debug)]
struct State {
    engine: Engine,
    /// The steps that each net has asked for and the engine has not taken; `None` if the net has left.
    asked: Vec<Option<VecDeque<Step>>>,
    /// What the engine said when it failed: it is of no more use to anybody.
    failed: Option<String>,
}

impl State {
    /// Takes the steps that every net has asked for. One that has left takes them idly.
    fn advance(&mut self, news: &Condvar) -> Result<()> {
        let ready = self.asked.iter().flatten().map(VecDeque::len).min().unwrap_or(0);
        for _ in 0..ready {
            let idle = Step::new(1, 0, 0.0);
            let next =
                |steps: &mut Option<VecDeque<Step>>| steps.as_mut().and_then(VecDeque::pop_front).unwrap_or(idle);
            let taken = self.engine.step(self.asked.iter_mut().map(next));
            self.kept(taken, news)?;
        }
        if ready > 0 {
            news.notify_all();
        }
        Ok(())
    }

    /// Remembers the engine's failure, and tells the others.
    fn kept<T>(&mut self, result: Result<T>, news: &Condvar) -> Result<T> {
        if let Err(error) = &result {
            self.failed = Some(match error {
                Error::Device(message) => message.clone(),
                other => other.to_string(),
            });
            news.notify_all();
        }
        result
    }
}

impl Executor {
    /// Allocates every value (zeros) and compiles every kernel of `tape`.
    ///
    /// # Errors
    /// [`Error::Device`] if a value does not fit, a shader does not compile, or the device was lost.
    pub fn new(tape: &Tape, gpu: &Arc<Gpu>) -> Result<Self> {
        Ok(Executor::several(tape, gpu, 1)?.remove(0))
    }

    /// The same for `nets` nets that run side by side. Each is to have a thread of its own, or all to be stepped in
    /// turn: a net that wants to see its results waits until the others have asked for as many steps, or were dropped.
    ///
    /// # Errors
    /// As [`Executor::new`]; [`Error::Device`] for more than [`NETS`] nets.
    pub fn several(tape: &Tape, gpu: &Arc<Gpu>, nets: usize) -> Result<Vec<Self>> {
        if nets > NETS {
            return Err(Error::Device(format!("{nets} nets side by side; at most {NETS} are possible")));
        }
        let engine = Engine::new(tape, gpu, nets)?;
        let state = State { engine, asked: vec![Some(VecDeque::new()); nets], failed: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), news: Condvar::new() });
        Ok((0..nets).map(|net| Executor { shared: shared.clone(), net }).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        recovered(self.shared.state.lock())
    }

    /// Waits until the engine has taken all steps but `ahead` that this net has asked for.
    fn caught_up(&self, ahead: usize) -> Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        loop {
            if let Some(message) = &state.failed {
                return Err(Error::Device(message.clone()));
            }
            state.advance(&self.shared.news)?;
            if state.asked[self.net].as_ref().map_or(0, VecDeque::len) <= ahead {
                return Ok(state);
            }
            state = recovered(self.shared.news.wait(state));
        }
    }

    /// What translating the kernels took, seconds; kernels already known to the device cost nothing. Some drivers do
    /// the rest of the work at the first step.
    pub fn compile_seconds(&self) -> f64 {
        self.lock().engine.compile_seconds
    }

    /// Dispatches of a step.
    pub fn dispatches(&self) -> usize {
        self.lock().engine.kernels.len()
    }

    /// Overwrites a value; lengths were checked by the plan. The data is copied before the next step runs.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn write(&mut self, var: Var, data: &[f32]) -> Result<()> {
        self.caught_up(0)?.engine.write(self.net, var, data)
    }

    /// Asks for a step: every kernel once, in order, some time.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost, or if a kernel of this or an earlier step was refused.
    pub fn step(&mut self, step: &Step) -> Result<()> {
        self.ask(None, *step)
    }

    /// As [`Executor::step`], on the rows from place `first` of the list on.
    ///
    /// # Errors
    /// As [`Executor::step`].
    pub fn step_from(&mut self, feed: &Feed, first: usize, step: &Step) -> Result<()> {
        self.ask(Some(feed), Step { first: first as u32, ..*step })
    }

    fn ask(&mut self, feed: Option<&Feed>, step: Step) -> Result<()> {
        let mut state = self.caught_up(AHEAD)?;
        let kernels = feed.map(|feed| &feed.kernels);
        if !state.engine.is_fed_by(self.net, kernels) {
            drop(state);
            state = self.caught_up(0)?;
            state.engine.feed_by(self.net, kernels)?;
        }
        if let Some(asked) = &mut state.asked[self.net] {
            asked.push_back(step);
        }
        state.advance(&self.shared.news)
    }

    /// Uploads tables, each with the input `[batch, ...]` that its rows fill and the number that fills rows beyond the
    /// data. A table that no shader could see whole is split. A list has at most `rows` entries.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no memory for it, or the device was lost.
    pub fn feed(&mut self, tables: &[(Var, &[f32], f32)], batch: usize, rows: usize) -> Result<Feed> {
        self.caught_up(0)?.engine.feed(self.net, tables, batch, rows)
    }

    /// Replaces the list of rows.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn order(&mut self, feed: &Feed, rows: &[u32]) -> Result<()> {
        self.caught_up(0)?.engine.order(feed, rows)
    }

    /// Runs the program of a single net on every row of the list, batch by batch, and gives the rows `[rows, ...]` of
    /// `var`, a value `[batch, ...]` that each run computes. Waits once, at the end.
    ///
    /// # Errors
    /// As [`Executor::read`].
    pub fn over(&mut self, feed: &Feed, rows: usize, var: Var, step: &Step) -> Result<Vec<f32>> {
        self.caught_up(0)?.engine.over(feed, rows, var, step)
    }

    /// Waits for all steps.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn wait(&mut self) -> Result<()> {
        self.caught_up(0)?.engine.wait()
    }

    /// Waits for all steps and copies a value to the host, bit for bit.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost or has no memory for the copy.
    pub fn read(&mut self, var: Var) -> Result<Vec<f32>> {
        self.caught_up(0)?.engine.read(self.net, var)
    }

    /// Runs `step`, for all nets, every kernel in a pass of its own, and gives the time of each.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has no timestamps or was lost.
    pub fn profile(&mut self, step: &Step) -> Result<Vec<super::timing::KernelTiming>> {
        self.caught_up(0)?.engine.profile(step)
    }
}

impl Drop for Executor {
    /// The others go on.
    fn drop(&mut self) {
        let mut state = self.lock();
        state.asked[self.net] = None;
        state.engine.forget_feed(self.net);
        self.shared.news.notify_all();
    }
}

/// The state, also if a thread panicked while it had it: then nobody knows which steps the engine took.
fn recovered(locked: LockResult<MutexGuard<'_, State>>) -> MutexGuard<'_, State> {
    locked.unwrap_or_else(|poisoned| {
        let mut state = poisoned.into_inner();
        state.failed.get_or_insert_with(|| "a net next to this one panicked".to_string());
        state
    })
}
