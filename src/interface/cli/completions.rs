//! `swarmgate completions`: scripts for shells.
//!
//! Owns: nothing but the printing; the tree says what there is to complete.
//! Never: installs anything.
//! Holds: what is printed is for this very release.

use super::{CliError, Exit, Globals, Out, tree};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  For this session of bash:
    source <(swarmgate completions bash)
  For good, in fish:
    swarmgate completions fish > ~/.config/fish/completions/swarmgate.fish")]
pub struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Prints the script.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &Args, _globals: &Globals) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tree(), "swarmgate", &mut script);
    Out::new().text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
