//! What each verb does.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod certs;
pub(crate) mod change;
pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod get;
pub(crate) mod hook;
pub(crate) mod kubeconfig;
pub(crate) mod login;
pub(crate) mod logs;
mod passwords;
pub(crate) mod people;
pub(crate) mod secret;
pub(crate) mod token;
mod watch;
pub(crate) mod workers;
pub(crate) mod workflow;

use clap::CommandFactory as _;

use crate::{
    args::{Arguments, Shell},
    error::Error,
    objects::{Instance, Service},
    output::{Output, clean},
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

/// Where an instance is reached, as a line of data.
fn summary(service: &Service, instance: &Instance) -> String {
    let name = format!("{} {}/{}", service.application(), service.short_name(), instance.number);
    let published = instance.published().join(" ");
    let addresses = instance.addresses.join(" ");
    let parts = [name, instance.phase(), published, addresses].into_iter().filter(|part| !part.is_empty());
    clean(&parts.collect::<Vec<_>>().join("  "))
}
