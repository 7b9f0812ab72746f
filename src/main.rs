//! The `swarmgate` binary: calls the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    swarmgate::interface::cli::main()
}
