//! The binary: calls the command line and nothing else.

use std::process::ExitCode;

/// Messages are made on one thread and dropped on another; glibc's allocator pays for each, and
/// musl's is slow.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    swarmgate::interface::cli::main()
}
