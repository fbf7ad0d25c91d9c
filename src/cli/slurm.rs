//! The job script of `genregrad reproduce --slurm`.

use std::path::Path;

use crate::error::{Error, Result};
use crate::experiments::grid::Grid;

use super::args::DeviceArgs;

/// What a job asks a cluster for, where it does not follow from the study.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Studies that take long")]
pub struct SlurmArgs {
    /// --slurm: time limit of a task. A task that reaches it saves, and is queued again
    #[arg(long, value_name = "D-HH:MM:SS", default_value = "12:00:00", requires = "slurm", value_parser = word)]
    slurm_time: String,
    /// --slurm: memory of a task. A task's log says after its first epoch how much it needs
    #[arg(long, value_name = "SIZE", default_value = "4G", requires = "slurm", value_parser = word)]
    slurm_mem: String,
    /// --slurm: the partition [default: the cluster's]
    #[arg(long, value_name = "NAME", requires = "slurm", value_parser = word)]
    slurm_partition: Option<String>,
}

/// A value that fits into an `#SBATCH` line as it is.
fn word(text: &str) -> std::result::Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:,+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_string()),
        false => Err("expected letters, digits and -_.:,+".to_string()),
    }
}

/// The CPUs of a task if --threads says nothing.
const CPUS: u16 = 2;

/// What the shell does with a task, after its settings. The signals are explained in the script itself.
const BODY: &str = r#"
if [ "$SLURM_ARRAY_TASK_ID" = "${SLURM_ARRAY_TASK_MIN:-0}" ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
    # The first start of the first task submits the job that writes the tables. It waits for all tasks, however they end.
    sbatch --job-name=genregrad-tables --dependency="afterany:${SLURM_ARRAY_JOB_ID:-}" --time=1:00:00 --mem="$memory" \
        --open-mode=append --output=genregrad-tables-%j.log \
        ${SLURM_JOB_PARTITION:+--partition="$SLURM_JOB_PARTITION"} ${SLURM_JOB_ACCOUNT:+--account="$SLURM_JOB_ACCOUNT"} \
        --wrap "$collect" || echo "the tables' job could not be submitted; run when all tasks have ended: $collect" >&2
fi

train &
task=$!
trap 'kill -TERM "$task" 2>/dev/null' TERM
wait "$task"
code=$?
# A signal ends the first wait, not the task.
while kill -0 "$task" 2>/dev/null; do
    wait "$task"
    code=$?
done
if [ "$code" = 130 ]; then
    # Stopped, and saved. After scancel nothing goes on, and after a preemption the cluster has queued the task already.
    case "$(scontrol show job "${SLURM_JOB_ID:-}" 2>/dev/null)" in
    *JobState=CANCELLED* | *JobState=PENDING*) ;;
    *) scontrol requeue "${SLURM_JOB_ID:-}" ;;
    esac
fi
exit "$code"
"#;

/// A Slurm array job that trains every cell of `grid` in `out`: this very command line, with --cell for --slurm.
///
/// # Errors
/// [`Error::Config`] if the command line holds what no shell can take.
pub fn script(grid: &Grid, out: &Path, device: &DeviceArgs, asked: &SlurmArgs) -> Result<String> {
    let quoted = |words: &[String]| {
        shlex::try_join(words.iter().map(String::as_str))
            .map_err(|error| Error::Config(format!("the command line cannot be written as a script: {error}")))
    };
    let program = std::env::current_exe().map_err(Error::io("cannot find", "the program itself"))?;
    let program = quoted(&[program.to_string_lossy().into_owned()])?;
    let words = quoted(&without_ours(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())))?;
    let out = quoted(&[out.to_string_lossy().into_owned()])?;
    let collect = quoted(&[format!("{program} reproduce --collect {out}")])?;
    let SlurmArgs { slurm_time: time, slurm_mem: memory, slurm_partition } = asked;
    let threads = device.threads.asked();
    let (last, grid) = (grid.cells.len().saturating_sub(1), grid.digest()?);
    let mut more = String::new();
    if let Some(partition) = slurm_partition {
        more += &format!("#SBATCH --partition={partition}\n");
    }
    if device.needs_gpu() {
        more += "#SBATCH --gres=gpu:1\n";
    }
    Ok(format!(
        r#"#!/bin/bash
# Every training of a study as a task of its own, then its tables. Submit it once, with sbatch; options of sbatch replace
# the lines below. A task that is stopped saves everything. The cluster queues it again after a preemption, and the script
# does after the time limit: two minutes earlier the shell gets a signal, and passes it on.
#SBATCH --job-name=genregrad
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory}
#SBATCH --time={time}
{more}#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=genregrad-%A_%a.log

memory={memory}
collect={collect}
train() {{
    exec {program} {words} --cell "$SLURM_ARRAY_TASK_ID" --grid {grid}{threads}
}}
{BODY}"#,
        cpus = threads.unwrap_or(CPUS),
        threads = match threads {
            Some(threads) => format!(" --threads {threads}"),
            None => r#" --threads "${SLURM_CPUS_PER_TASK:-0}""#.to_string(),
        },
    ))
}

/// The command line's words without --slurm, its companions, and --threads, which the script sets itself.
fn without_ours(words: impl Iterator<Item = String>) -> Vec<String> {
    let (mut kept, mut value) = (Vec::new(), false);
    for word in words {
        let (name, joined) = word.split_once('=').map_or((word.as_str(), false), |(name, _)| (name, true));
        if std::mem::take(&mut value) || name == "--slurm" {
            continue;
        }
        if name == "--threads" || name.starts_with("--slurm-") {
            value = !joined;
            continue;
        }
        kept.push(word);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_own_flags_are_left_out() {
        let kept = |line: &str| without_ours(line.split(' ').map(String::from)).join(" ");
        assert_eq!(
            kept("reproduce --slurm --threads 3 --out a --slurm-time 1:00:00 --slurm-mem=2G"),
            "reproduce --out a"
        );
        assert_eq!(kept("reproduce --threads=0 --slurm-partition x --quiet"), "reproduce --quiet");
    }

    #[test]
    fn only_words_get_into_the_script() {
        assert_eq!(word("1-12:00:00").unwrap(), "1-12:00:00");
        for text in ["", "1 2", "a\n#SBATCH", "$(x)"] {
            assert!(word(text).is_err(), "{text}");
        }
    }
}
