//! The binary `NetManager`.

use std::{fmt::Display, io::Write, net::Ipv4Addr, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use daemon::Threads;
use net_manager::{Arguments, Subcommand};
use tokio::net::TcpListener;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command.unwrap_or(Subcommand::Run) {
        Subcommand::Run => daemon::run_keeping("NetManager", Threads::One, async move |shutdown, log| {
            let address = (Ipv4Addr::LOCALHOST, arguments.port);
            let listener = TcpListener::bind(address).await.with_context(|| {
                format!(
                    "port {} of 127.0.0.1 is taken; stop the program that has it or pass --port",
                    address.1
                )
            })?;
            net_manager::run(arguments.into_config(log)?, listener, shutdown).await
        }),
        Subcommand::Tunnel { tunnel_port } => {
            daemon::run("NetManager tunnel", Threads::One, async move |shutdown| {
                net_manager::secure::serve(&arguments.state_dir, tunnel_port, shutdown).await
            })
        }
        Subcommand::Status => print(net_manager::describe_status(arguments.port, &arguments.local_key)),
        Subcommand::Logs { follow } => {
            let stdout = &mut std::io::stdout();
            match net_manager::show_logs(arguments.port, &arguments.local_key, follow, stdout) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => print(Err::<&str, _>(error)),
            }
        }
        Subcommand::Version => print(Ok(concat!("NetManager ", env!("CARGO_PKG_VERSION")))),
        Subcommand::Purge => print(net_manager::purge(&arguments.state_dir)),
    }
}

fn print(outcome: anyhow::Result<impl Display>) -> ExitCode {
    let (written, code) = match outcome {
        Ok(text) => (writeln!(std::io::stdout(), "{text}"), ExitCode::SUCCESS),
        Err(error) => (writeln!(std::io::stderr(), "error: {error:#}"), ExitCode::FAILURE),
    };
    if written.is_ok() { code } else { ExitCode::FAILURE }
}
