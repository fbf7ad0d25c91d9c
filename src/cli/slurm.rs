//! The job script of `genregrad reproduce --slurm`.

use std::path::Path;

use crate::error::{Error, Result};
use crate::experiments::grid::Grid;

/// A Slurm array job that trains every cell of `grid` in `out`: this very command line, with --cell for --slurm.
///
/// # Errors
/// [`Error::Config`] if the command line holds what no shell can take.
pub fn script(grid: &Grid, out: &Path) -> Result<String> {
    let quoted = |words: &[String]| {
        shlex::try_join(words.iter().map(String::as_str))
            .map_err(|error| Error::Config(format!("the command line cannot be written as a script: {error}")))
    };
    let program = std::env::current_exe().map_err(Error::io("cannot find", "the program itself"))?;
    let program = quoted(&[program.to_string_lossy().into_owned()])?;
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .filter(|word| word != "--slurm")
        .collect();
    // given twice it would be refused
    let threads = match words.iter().any(|word| word == "--threads" || word.starts_with("--threads=")) {
        true => "",
        false => r#" --threads "${SLURM_CPUS_PER_TASK:-0}""#,
    };
    let (words, out) = (quoted(&words)?, quoted(&[out.to_string_lossy().into_owned()])?);
    let last = grid.cells.len().saturating_sub(1);
    Ok(format!(
        r#"#!/bin/bash
# Every training of a study as a task of its own, then its tables. Submit both with
#   tasks=$(sbatch --parsable study.slurm)
#   sbatch --dependency=afterok:$tasks --wrap {collect}
# A task that is stopped (time limit, preemption) saves everything; submitted again, it goes on where it was.
#SBATCH --job-name=genregrad
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=genregrad-%A_%a.log
exec {program} {words} --cell "$SLURM_ARRAY_TASK_ID"{threads}
"#,
        collect = quoted(&[format!("{program} reproduce --collect {out}")])?,
    ))
}
