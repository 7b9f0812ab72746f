//! `swarmgate completions` and `swarmgate man`: what a shell and a manual need, made from the command tree itself.
//!
//! Owns: writing both.
//! Never: describes a command by hand.
//! Holds: what `--help` says, the pages say.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use super::{CliError, Exit};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  swarmgate completions bash > /etc/bash_completion.d/swarmgate
  swarmgate completions zsh > ~/.zfunc/_swarmgate")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Print the manual page, or write one a command into a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  swarmgate man | man -l -
  swarmgate man --dir /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write every page here.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints a completion script.
pub fn completions(args: &CompletionsArgs, command: &mut clap::Command) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "swarmgate", &mut script);
    io::stdout().write_all(&script).map_err(|fault| CliError::output(&fault))?;
    Ok(Exit::Done)
}

/// Prints or writes manual pages.
pub fn man(args: &ManArgs, command: clap::Command) -> Result<Exit, CliError> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(|fault| CliError::output(&fault))?;
        io::stdout().write_all(&page).map_err(|fault| CliError::output(&fault))?;
        return Ok(Exit::Done);
    };
    fs::create_dir_all(dir).map_err(|fault| CliError::file(dir, &fault))?;
    clap_mangen::generate_to(command, dir).map_err(|fault| CliError::file(dir, &fault))?;
    Ok(Exit::Done)
}
