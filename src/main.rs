//! The binary: calls the command line and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    swarmgate::interface::cli::main()
}
