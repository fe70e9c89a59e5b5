//! What each verb does.

pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod get;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod token;
mod watch;

use clap::CommandFactory as _;

use crate::{
    args::{Arguments, Shell},
    error::Error,
    output::Output,
};

/// `mangrove completions`.
pub(crate) fn completions(output: &Output, shell: Shell) -> Result<(), Error> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "mangrove", &mut script);
    output.bytes(&script)
}

/// `1 instance`, `2 instances`.
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
