//! `cargo xtask lab`: what people type.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::{
    Lab as Built, Process, Shape, Then, clock, down,
    programs::{Profile, Programs},
};

/// `cargo xtask lab …`
#[derive(Debug, Args)]
pub(crate) struct Lab {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds a lab, or tells of the one that is up.
    Up {
        /// How many clusters; 2 unless only plain hosts are asked for.
        #[arg(long)]
        clusters: Option<u8>,
        /// How many workers in each cluster.
        #[arg(long, default_value_t = 2)]
        workers: u8,
        /// How many hosts with a container engine and nothing else.
        #[arg(long, default_value_t = 0)]
        bare: u8,
        /// How many of the clusters, from the first on, are trusted sites: their links between workers are direct.
        #[arg(long, default_value_t = 0)]
        trusted: u8,
        /// How programs are built.
        #[arg(long, value_enum, default_value_t)]
        profile: Profile,
        /// Takes the programs of a folder instead of building them.
        #[arg(long, value_name = "FOLDER", conflicts_with = "profile")]
        programs: Option<PathBuf>,
    },
    /// Tells hosts, links, processes and containers.
    Status,
    /// Pulls a host's cable.
    Cut { host: String },
    /// Plugs a host's cable in again.
    Heal { host: String },
    /// Loses so many percent of a host's packets, in each direction; 0 loses none.
    Lossy {
        host: String,
        #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
    },
    /// Kills a process with SIGKILL; it is started again after 0.1 s, unless told otherwise.
    Kill {
        host: String,
        #[arg(value_enum)]
        process: Process,
        /// For how long it stays down.
        #[arg(long = "for", value_name = "SECONDS", value_parser = seconds, conflicts_with = "no_restart")]
        down_for: Option<Duration>,
        /// It stays down until `start`.
        #[arg(long)]
        no_restart: bool,
    },
    /// Starts a process that was killed.
    Start {
        host: String,
        #[arg(value_enum)]
        process: Process,
    },
    /// Ends everything on a host at one instant; its disk stays.
    PowerOff { host: String },
    /// Lets a host boot.
    PowerOn { host: String },
    /// Runs a command on a host.
    Exec {
        host: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Ends and removes everything.
    Down,
}

/// Does what was typed.
pub(crate) fn run(lab: Lab) -> Result<ExitCode> {
    match lab.command {
        Command::Up { clusters, workers, bare, trusted, profile, programs } => {
            let clusters = clusters.unwrap_or(if bare > 0 { 0 } else { 2 });
            up(Shape { clusters, workers, bare, trusted }, profile, programs)?;
        }
        Command::Status => {
            let lab = Built::of_this_machine()?;
            tell(&format!("{}\n{}", lab.describe()?, lab.directions()));
        }
        Command::Cut { host } => {
            Built::of_this_machine()?.cut(&host)?;
            say(&format!("{host} is cut"));
        }
        Command::Heal { host } => {
            Built::of_this_machine()?.heal(&host)?;
            say(&format!("{host} is plugged in"));
        }
        Command::Lossy { host, percent } => {
            Built::of_this_machine()?.lossy(&host, percent)?;
            say(&format!("{host} loses {percent} % of its packets"));
        }
        Command::Kill { host, process, down_for, no_restart } => {
            Built::of_this_machine()?.kill(&host, process, then(down_for, no_restart))?;
            say(&format!("{process} of {host} is killed"));
        }
        Command::Start { host, process } => {
            Built::of_this_machine()?.start(&host, process)?;
            say(&format!("{process} of {host} is started"));
        }
        Command::PowerOff { host } => {
            Built::of_this_machine()?.power_off(&host)?;
            say(&format!("{host} is off"));
        }
        Command::PowerOn { host } => {
            Built::of_this_machine()?.power_on(&host)?;
            say(&format!("{host} boots"));
        }
        Command::Exec { host, words } => {
            let error = Built::of_this_machine()?.command_on(&host, &words)?.exec();
            return Err(error).context("start `nsenter`, which is part of util-linux");
        }
        Command::Down => {
            let begun = Instant::now();
            if down()? {
                say(&format!("the lab is gone; it took {:.1} s", begun.elapsed().as_secs_f64()));
            } else {
                say("there is no lab");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(shape: Shape, profile: Profile, programs: Option<PathBuf>) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().context("start a runtime")?;
    let mut begun = Instant::now();
    let (lab, is_new) = runtime.block_on(Built::up(shape, || {
        let found = match programs {
            Some(folder) => Programs::in_folder(&folder),
            None => Programs::build(profile),
        };
        // What cargo does is no work of the lab.
        begun = Instant::now();
        found
    }))?;
    if is_new {
        say(&format!("a lab of {shape} is up; it took {:.1} s", begun.elapsed().as_secs_f64()));
    } else {
        say("the lab is up already, with the programs it was built with");
    }
    tell(&format!("\n{}", lab.directions()));
    Ok(())
}

fn then(down_for: Option<Duration>, no_restart: bool) -> Then {
    match down_for {
        _ if no_restart => Then::Nothing,
        None => Then::Restart,
        Some(time) => {
            Then::RestartAfter { milliseconds: u64::try_from(time.as_millis()).unwrap_or(u64::MAX) }
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected a number of seconds such as 30 or 0.5".to_owned())
}

fn say(what: &str) {
    tell(&format!("{} {what}\n", clock::now()));
}

fn tell(text: &str) {
    // Whoever reads the first lines only, as `head` does, misses nothing by it.
    drop(io::stdout().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        lab: Lab,
    }

    fn parse(line: &str) -> Result<Command, String> {
        let parsed = Line::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        Ok(parsed.lab.command)
    }

    #[test]
    fn a_process_stays_down_for_as_long_as_it_is_told_to() {
        let asked = |line: &str| {
            let Ok(Command::Kill { down_for, no_restart, .. }) = parse(line) else {
                panic!("`{line}` is a command");
            };
            then(down_for, no_restart)
        };
        assert_eq!(asked("lab kill c1 cluster"), Then::Restart);
        assert_eq!(asked("lab kill c1w1 node-engine --for 2.5"), Then::RestartAfter { milliseconds: 2500 });
        assert_eq!(asked("lab kill root root --no-restart"), Then::Nothing);
        assert!(parse("lab kill c1 cluster --for 1 --no-restart").is_err());
        assert!(parse("lab kill c1 cluster --for -1").is_err());
    }

    #[test]
    fn what_is_run_on_a_host_keeps_its_own_flags() {
        let Ok(Command::Exec { host, words }) = parse("lab exec c1w1 -- ip -br address") else {
            panic!("it is a command");
        };
        assert_eq!((host.as_str(), words), ("c1w1", ["ip", "-br", "address"].map(str::to_owned).to_vec()));
        assert!(parse("lab lossy c1 101").is_err());
    }
}
