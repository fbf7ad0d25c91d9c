//! The program: everything is in the library's [`cli`](genregrad::cli).

use std::process::ExitCode;

fn main() -> ExitCode {
    genregrad::cli::main()
}
