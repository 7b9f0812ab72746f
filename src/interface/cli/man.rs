//! `swarmgate man`: the manual, from the same tree as `--help`.
//!
//! Owns: printing the first page, or writing every page into a directory.
//! Never: writes outside that directory.
//! Holds: one page a subcommand.

use std::path::PathBuf;

use super::{CliError, Exit, Globals, Out, tree};

/// Print the manual page, or write every page into a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  Read it:
    swarmgate man | man -l -
  Write one page a subcommand:
    swarmgate man ~/.local/share/man/man1")]
pub struct Args {
    /// Where to write the pages; made when it is not there.
    #[arg(value_name = "DIR")]
    place: Option<PathBuf>,
    /// The same.
    #[arg(long, value_name = "DIR", conflicts_with = "place")]
    dir: Option<PathBuf>,
}

/// Prints or writes the pages.
///
/// # Errors
/// When stdout or the directory cannot be written.
pub fn run(args: &Args, _globals: &Globals) -> Result<Exit, CliError> {
    let Some(dir) = args.place.as_ref().or(args.dir.as_ref()) else {
        let mut page = Vec::new();
        clap_mangen::Man::new(tree()).render(&mut page).map_err(|fault| CliError::output(&fault))?;
        Out::new().text(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Done);
    };
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(tree(), dir))
        .map_err(|fault| CliError::file(dir, &fault))?;
    Ok(Exit::Done)
}
