//! The program as people meet it: one file per subcommand, each of which parses, calls one function and prints.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 for success, 1 if something failed,
//! 2 if what was asked for makes no sense, 130 if it was interrupted.

mod args;
mod bench;
mod devices;
mod evaluate;
mod features;
mod gradcheck;
mod inspect;
mod interrupt;
mod output;
mod prepare;
mod program;
mod progress;
mod reproduce;
mod slurm;
mod threads;
mod train;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Result, is_obeyed, printable};

/// A from-scratch tensor and autodiff engine, and the music-genre study built on it.
#[derive(Debug, Parser)]
#[command(
    name = "genregrad",
    version,
    max_term_width = 110,
    long_about = "A from-scratch tensor and autodiff engine (WGSL compute shaders and a CPU path), and the study built \
        on it: the parallel-pipeline CNNs of Schindler, Lidy and Rauber (2016), which tell a track's genre from its \
        log-mel spectrogram, as reproduced by Wyborn, Butt and Klas.\n\nWithout data of yours, a built-in corpus of ten \
        synthetic genres is used: start with `genregrad reproduce`.",
    after_help = "Examples:\n  genregrad reproduce                          the study, on the built-in corpus\n  \
        genregrad reproduce --data genres            the same on your tracks, one sub-folder a genre\n  \
        genregrad train --model deep --preset paper  one net\n  genregrad <COMMAND> --help                   more about \
        one command, with examples"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Reproduce(reproduce::Args),
    Train(train::Args),
    Evaluate(evaluate::Args),
    Inspect(inspect::Args),
    Prepare(prepare::Args),
    Features(features::Args),
    Gradcheck(gradcheck::Args),
    Program(program::Args),
    Bench(bench::Args),
    Devices(devices::Args),
}

/// Runs the program with the process's arguments; errors go to standard error, one line each.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => {
            // help and version come this way too; a reader that has gone is no reason to complain
            let plain = refusal.render().to_string();
            let _ = match plain.contains(is_obeyed) {
                true => write!(std::io::stderr(), "{}", printable(&plain)),
                false => refusal.print(),
            };
            return if refusal.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    // where not even a thread can be made, work is done without
    let _ = interrupt::listen();
    cli.run().unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "genregrad: error: {}", error.one_line());
        ExitCode::from(match error {
            Error::Config(_) => 2,
            Error::Interrupted(_) => interrupt::EXIT_CODE,
            _ => 1,
        })
    })
}

impl Cli {
    fn run(self) -> Result<ExitCode> {
        threads::start(self.command.threads())?;
        match self.command {
            Command::Reproduce(args) => args.run(),
            Command::Train(args) => args.run(),
            Command::Evaluate(args) => args.run(),
            Command::Inspect(args) => args.run(),
            Command::Prepare(args) => args.run(),
            Command::Features(args) => args.run(),
            Command::Gradcheck(args) => args.run(),
            Command::Program(args) => args.run(),
            Command::Bench(args) => args.run(),
            Command::Devices(args) => args.run(),
        }
    }
}

impl Command {
    /// The number of threads asked for; 0 is one per core.
    fn threads(&self) -> u16 {
        match self {
            Command::Reproduce(args) => args.device.threads.count,
            Command::Train(args) => args.device.threads.count,
            Command::Evaluate(args) => args.device.threads.count,
            Command::Bench(args) => args.device.threads.count,
            Command::Prepare(args) => args.threads.count,
            Command::Gradcheck(args) => args.threads.count,
            Command::Inspect(_) | Command::Features(_) | Command::Program(_) | Command::Devices(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_teaches() {
        for command in super::Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some() && command.get_long_about().is_some(), "{name}: about");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:") && help.contains(&format!("genregrad {name}")), "{name}: examples");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {} has no help", argument.get_id());
            }
        }
    }
}
