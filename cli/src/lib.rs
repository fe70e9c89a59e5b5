//! What the command `mangrove` does, as a client of the root's REST API.
//!
//! ```text
//!   args ──► commands::* ──► client ──► root        config: the saved login
//!                │  └─► resolve (names ─► objects)  objects: what the root says, as far as it is used here
//!                └─► output, progress
//! ```
//!
//! Data goes to stdout, everything said about it to stderr.

pub mod args;
mod change;
mod client;
mod commands;
mod config;
mod error;
mod objects;
mod output;
mod progress;
mod resolve;
mod rollout;
mod sla;
mod sse;
mod terminal;
mod tls;

use std::{process::ExitCode, sync::Arc};

use args::{Arguments, Command};
use client::Client;
use config::ConfigFile;
use error::Error;
use output::Output;

/// Does what the arguments ask for, tells the user of a failure and answers with the exit code of the process.
pub async fn run(arguments: Arguments) -> ExitCode {
    let output = Output::of_this_process();
    match dispatch(arguments, &output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.failure(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

async fn dispatch(arguments: Arguments, output: &Output) -> Result<(), Error> {
    let Arguments { root, command } = arguments;
    let connect = || Client::of_saved_login(root.as_deref(), ConfigFile::of_this_user()?);
    match command {
        Command::Login(login) => {
            commands::login::login(root.as_deref(), ConfigFile::of_this_user()?, output, login).await
        }
        Command::Logout => commands::login::logout(ConfigFile::of_this_user()?, output).await,
        Command::Password(password) => commands::auth::password(&connect()?, output, password).await,
        Command::Auth { what } => commands::auth::run(&connect()?, output, what).await,
        Command::Kubeconfig(kubeconfig) => commands::kubeconfig::run(&connect()?, output, kubeconfig).await,
        Command::User { what } => commands::people::users(&connect()?, output, what).await,
        Command::Organization { what } => commands::people::organizations(&connect()?, output, what).await,
        Command::Deploy(deploy) => commands::deploy::run(&Arc::new(connect()?), output, deploy).await,
        Command::Scale(scale) => commands::change::scale(&Arc::new(connect()?), output, scale).await,
        Command::Update(update) => commands::change::update(&Arc::new(connect()?), output, update).await,
        Command::Rollback(rollback) => {
            commands::change::roll_back(&Arc::new(connect()?), output, rollback).await
        }
        Command::History(history) => commands::change::history(&connect()?, output, history).await,
        Command::Drain(drain) => commands::workers::drain(&connect()?, output, drain).await,
        Command::Cordon(target) => {
            commands::workers::schedule(&connect()?, output, &target.worker, false).await
        }
        Command::Uncordon(target) => {
            commands::workers::schedule(&connect()?, output, &target.worker, true).await
        }
        Command::Rebalance { cluster } => commands::workers::rebalance(&connect()?, output, &cluster).await,
        Command::Forget(forget) => commands::workers::forget(&connect()?, output, forget).await,
        Command::Get { what } => commands::get::run(&connect()?, output, what).await,
        Command::Logs(logs) => commands::logs::run(&Arc::new(connect()?), output, logs).await,
        Command::Delete { what } => commands::delete::run(&connect()?, output, what).await,
        Command::Token { what } => commands::token::run(&connect()?, output, what).await,
        Command::Secret { what } => commands::secret::run(&connect()?, output, what).await,
        Command::Hook { what } => commands::hook::run(&connect()?, output, what).await,
        Command::Run { what } => commands::workflow::run(&Arc::new(connect()?), output, what).await,
        Command::Ignitor { what } => commands::workflow::ignitor(&connect()?, output, what).await,
        Command::Certs(certs) => commands::certs::run(&connect()?, output, certs).await,
        Command::Audit { what } => commands::audit::run(connect, output, what).await,
        Command::Completions { shell } => commands::completions(output, shell),
        Command::Version => output.data(&format!("mangrove {}", env!("CARGO_PKG_VERSION"))),
    }
}
