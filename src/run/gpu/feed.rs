//! A data set on the device: each step takes its rows from there, by an index list that is uploaded once an epoch.

use std::sync::Arc;

use wgpu::BufferUsages;

use super::engine::{Engine, Kernel, Place, buffer, bytes};
use crate::dispatch::Dispatch;
use crate::error::Result;
use crate::shader;
use crate::tape::{Step, Var};

/// Bytes that are handed to the driver at a time: it keeps a copy until the device has taken them.
const PIECE: usize = 32 << 20;

/// Marks a place of the list that has no row: what stands there is masked.
const NO_ROW: u32 = u32::MAX;

/// Tables on the device and the kernels that copy their rows into a program's inputs.
#[derive(Debug)]
pub struct Feed {
    order: Place,
    batch: usize,
    pub(super) kernels: Arc<[Kernel]>,
}

impl Engine {
    /// Uploads tables for a net, each with the input `[batch, ...]` that its rows fill and the number that fills rows beyond
    /// the data. A table that no shader could see whole is split. A list has at most `rows` entries.
    ///
    /// # Errors
    /// [`crate::error::Error::Device`] if there is no memory for it, or the device was lost.
    pub fn feed(&mut self, net: usize, tables: &[(Var, &[f32], f32)], batch: usize, rows: usize) -> Result<Feed> {
        self.hand_over()?;
        let gpu = self.gpu.clone();
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let allocate = |name: &str, size: u64| -> Result<Place> {
            Ok(Place { buffer: buffer(&gpu, name, size, usage)?, offset: 0, size })
        };
        let order = allocate("order", bytes(rows.next_multiple_of(batch)))?;
        let most = usize::try_from(gpu.info().max_binding_bytes).unwrap_or(usize::MAX) / size_of::<f32>();
        let mut kernels = Vec::new();
        for &(var, table, fill) in tables {
            let out = &self.places[var.index()];
            let row = usize::try_from(out.size).unwrap_or(usize::MAX) / size_of::<f32>() / self.nets / batch;
            let rows_a_part = (most / row).max(1);
            for (number, part) in table.chunks(rows_a_part * row).enumerate() {
                let place = allocate("table", bytes(part.len()))?;
                for (piece, offset) in part.chunks(PIECE / size_of::<f32>()).zip((0..).step_by(PIECE)) {
                    gpu.queue().write_buffer(&place.buffer, offset, bytemuck::cast_slice(piece));
                    gpu.queue().submit([]);
                    gpu.poll(wgpu::PollType::wait_indefinitely())?;
                }
                let constants = vec![
                    ("first", (number * rows_a_part) as f64),
                    ("rows", (part.len() / row) as f64),
                    ("row_len", row as f64),
                    ("batch", batch as f64),
                    ("filled", f64::from(fill)),
                    ("net", net as f64),
                ];
                let dispatch = Dispatch::linear(shader!("gather.wgsl"), "gather", constants, batch * row);
                let bound = [(&place, true), (&order, true), (out, false)];
                kernels.push(Kernel::new(&gpu, "gather", 1, &dispatch, &bound)?);
            }
        }
        Ok(Feed { order, batch, kernels: kernels.into() })
    }

    /// Replaces the list of rows.
    ///
    /// # Errors
    /// [`crate::error::Error::Device`] if the device was lost.
    pub fn order(&mut self, feed: &Feed, rows: &[u32]) -> Result<()> {
        self.hand_over()?;
        let most = usize::try_from(feed.order.size).unwrap_or(usize::MAX) / size_of::<u32>();
        assert!(rows.len() <= most, "{} rows in a list of {most}", rows.len());
        let mut list = vec![NO_ROW; most];
        list[..rows.len()].copy_from_slice(rows);
        self.gpu.queue().write_buffer(&feed.order.buffer, 0, bytemuck::cast_slice(&list));
        self.gpu.check()
    }

    /// Runs the program of a single net on every row of the list, batch by batch, and gives the rows `[rows, ...]` of
    /// `var`, a value `[batch, ...]` that each run computes. Waits once, at the end.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn over(&mut self, feed: &Feed, rows: usize, var: Var, step: &Step) -> Result<Vec<f32>> {
        assert_eq!(self.nets, 1, "a plan of several nets is for training");
        self.hand_over()?;
        self.feed_by(0, Some(&feed.kernels))?;
        let value = self.places[var.index()].clone();
        let batches = rows.div_ceil(feed.batch);
        let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let size = value.size * batches.max(1) as u64;
        let all = Place { buffer: buffer(&self.gpu, "results", size, usage)?, offset: 0, size };
        for number in 0..batches {
            // One at a time: each result is copied before the next run overwrites it.
            self.pending.push(Step { first: (number * feed.batch) as u32, ..*step });
            let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
            self.record(&mut encoder);
            encoder.copy_buffer_to_buffer(
                &value.buffer,
                value.offset,
                &all.buffer,
                number as u64 * value.size,
                value.size,
            );
            self.submit(encoder)?;
        }
        let mut values: Vec<f32> = self.fetch(&all)?;
        values.truncate(rows * values.len() / (batches * feed.batch).max(1));
        Ok(values)
    }
}
