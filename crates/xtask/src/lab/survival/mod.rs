//! `cargo xtask survival`: what docs/survival.md promises, tried on the hosts of a lab, with the times it takes.
//!
//! A trial begins with everything at rest, does something bad and looks at what comes of it: by the root's interface,
//! by requests to the services, and at every container engine. What is measured is printed as lines of JSON.

mod agents;
mod calls;
mod clusters;
mod connections;
mod containers;
pub(crate) mod engines;
mod first_packet;
mod garbage;
mod isolation;
mod orchestrators;
mod pings;
mod power_cuts;
pub(crate) mod traffic;
mod translation;
mod upkeep;
mod workers;
pub(crate) mod world;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::world::World;
use super::Lab;

/// `cargo xtask survival …`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to try; everything unless named.
    #[arg(value_enum)]
    trials: Vec<Trial>,
    /// How often each.
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// With outages of minutes and a hundred power cuts.
    #[arg(long)]
    slow: bool,
}

/// One thing that may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Trial {
    /// A container is killed.
    Crash,
    /// Containers end, again and again, or for good.
    Exit,
    /// NodeEngine and NetManager are killed.
    Agents,
    /// A service is called by its address, whatever happens meanwhile.
    Calls,
    /// Connections are open when their instance goes.
    Connections,
    /// The first instruction of a container calls a service.
    FirstPacket,
    /// Instances in one cluster are called from another, whatever happens meanwhile.
    Neighbours,
    /// Another application calls a service before, while and after that is allowed.
    Isolation,
    /// Devices behind routers that translate addresses call each other.
    Nat,
    /// A worker loses its power.
    WorkerLost,
    /// What `on_partition` says.
    OnPartition,
    /// A lost worker returns: what `on_rejoin` says.
    WorkerReturns,
    /// A worker boots and nobody is there.
    BootAlone,
    /// A cluster orchestrator is down for a while.
    ClusterDown,
    /// The root is down for a while.
    RootDown,
    /// A worker joins while the root is down.
    Enrol,
    /// All of a cluster loses its power, and returns.
    ClusterLost,
    /// Nobody has room, then somebody has.
    NoRoom,
    /// All daemons are killed at once, again and again, under load.
    PowerCuts,
    /// Garbage on every port, unknown containers.
    Garbage,
    /// Drain, cordon, rebalance.
    Drain,
}

/// What a trial has to work with.
#[derive(Debug)]
struct Bench {
    world: World,
    slow: bool,
    measured: Vec<Measured>,
}

/// One time that was measured, with its bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Measured {
    trial: &'static str,
    run: u32,
    figure: &'static str,
    seconds: f64,
    at_least: Option<f64>,
    at_most: Option<f64>,
    met: bool,
}

impl Bench {
    /// Notes a time that must not be longer.
    fn took(&mut self, figure: &'static str, time: Duration, at_most: f64) {
        self.note(figure, time.as_secs_f64(), None, Some(at_most));
    }

    /// Notes a time that must be neither shorter nor longer.
    fn took_between(&mut self, figure: &'static str, time: Duration, at_least: f64, at_most: f64) {
        self.note(figure, time.as_secs_f64(), Some(at_least), Some(at_most));
    }

    fn note(&mut self, figure: &'static str, seconds: f64, at_least: Option<f64>, at_most: Option<f64>) {
        let seconds = (seconds * 1000.0).round() / 1000.0;
        let met = at_least.is_none_or(|least| seconds >= least) && at_most.is_none_or(|most| seconds <= most);
        // Trial and run are known to whoever prints it.
        self.measured.push(Measured { trial: "", run: 0, figure, seconds, at_least, at_most, met });
    }

    async fn carry_out(&mut self, trial: Trial) -> Result<()> {
        match trial {
            Trial::Crash => containers::crash(self).await,
            Trial::Exit => containers::exit(self).await,
            Trial::Agents => agents::agents(self).await,
            Trial::Calls => calls::calls(self).await,
            Trial::Connections => connections::connections(self).await,
            Trial::FirstPacket => first_packet::first_packet(self).await,
            Trial::Neighbours => calls::neighbours(self).await,
            Trial::Isolation => isolation::isolation(self).await,
            Trial::Nat => translation::nat(self).await,
            Trial::WorkerLost => workers::lost(self).await,
            Trial::OnPartition => workers::on_partition(self).await,
            Trial::WorkerReturns => workers::returns(self).await,
            Trial::BootAlone => workers::boot_alone(self).await,
            Trial::ClusterDown => orchestrators::cluster_down(self).await,
            Trial::RootDown => orchestrators::root_down(self).await,
            Trial::Enrol => orchestrators::enrol(self).await,
            Trial::ClusterLost => clusters::lost(self).await,
            Trial::NoRoom => clusters::no_room(self).await,
            Trial::PowerCuts => power_cuts::power_cuts(self).await,
            Trial::Garbage => garbage::garbage(self).await,
            Trial::Drain => upkeep::drain(self).await,
        }
    }
}

/// Tries what was asked for, on the lab that is up.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let lab = Lab::of_this_machine()?;
    ensure!(
        lab.shape.clusters >= 2 && lab.shape.workers >= 3,
        "the trials need two clusters of three workers: `cargo xtask lab up --clusters 2 --workers 3`"
    );
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().context("start a runtime")?;
    runtime.block_on(try_all(World::of(lab), arguments))
}

async fn try_all(world: World, arguments: &Arguments) -> Result<ExitCode> {
    let all = if arguments.trials.is_empty() { Trial::value_variants() } else { &arguments.trials };
    let mut bench = Bench { world, slow: arguments.slow, measured: Vec::new() };
    let mut times: BTreeMap<(&str, &str), Vec<Measured>> = BTreeMap::new();
    let mut failures = Vec::new();
    for run in 1..=arguments.runs {
        for trial in all {
            let name = name_of(*trial);
            rest(&mut bench.world, &mut failures).await?;
            eprintln!("==> {name}, run {run}");
            let begun = Instant::now();
            if let Err(error) = bench.carry_out(*trial).await {
                eprintln!("    FAILED: {error:#}");
                failures.push(format!("{name}, run {run}: {error:#}"));
            }
            for mut measured in bench.measured.drain(..) {
                (measured.trial, measured.run) = (name, run);
                println!("{}", serde_json::to_string(&measured).context("write a figure as JSON")?);
                if !measured.met {
                    let Measured { figure, seconds, at_least, at_most, .. } = &measured;
                    let told = format!(
                        "{name}, run {run}: {figure} took {seconds} s, not {}",
                        bounds(*at_least, *at_most)
                    );
                    eprintln!("    FAILED: {told}");
                    failures.push(told);
                }
                times.entry((name, measured.figure)).or_default().push(measured);
            }
            eprintln!("    {:.1} s", begun.elapsed().as_secs_f64());
        }
    }
    rest(&mut bench.world, &mut failures).await?;
    eprintln!("\n{}", table(&times));
    for failure in &failures {
        eprintln!("FAILED: {failure}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What does not come to rest by itself is a failure of the trial before.
async fn rest(world: &mut World, failures: &mut Vec<String>) -> Result<()> {
    if let Err(error) = world.rest().await {
        eprintln!("    FAILED: it does not come to rest: {error:#}");
        failures.push(format!("it does not come to rest: {error:#}"));
        world.sweep().await?;
        world.rest().await.context("bring the lab to rest")?;
    }
    Ok(())
}

fn name_of(trial: Trial) -> &'static str {
    match trial {
        Trial::Crash => "crash",
        Trial::Exit => "exit",
        Trial::Agents => "agents",
        Trial::Calls => "calls",
        Trial::Connections => "connections",
        Trial::FirstPacket => "first-packet",
        Trial::Neighbours => "neighbours",
        Trial::Isolation => "isolation",
        Trial::Nat => "nat",
        Trial::WorkerLost => "worker-lost",
        Trial::OnPartition => "on-partition",
        Trial::WorkerReturns => "worker-returns",
        Trial::BootAlone => "boot-alone",
        Trial::ClusterDown => "cluster-down",
        Trial::RootDown => "root-down",
        Trial::Enrol => "enrol",
        Trial::ClusterLost => "cluster-lost",
        Trial::NoRoom => "no-room",
        Trial::PowerCuts => "power-cuts",
        Trial::Garbage => "garbage",
        Trial::Drain => "drain",
    }
}

/// A row for each figure, as docs/survival.md has them.
fn table(times: &BTreeMap<(&str, &str), Vec<Measured>>) -> String {
    let mut text = "| trial | figure | median | worst | bound | n |\n|---|---|---|---|---|---|\n".to_owned();
    for ((trial, figure), measured) in times {
        let mut seconds: Vec<f64> = measured.iter().map(|one| one.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let (Some(one), Some(worst)) = (measured.first(), seconds.last()) else { continue };
        let (median, bounds) = (seconds[seconds.len() / 2], bounds(one.at_least, one.at_most));
        text += &format!(
            "| {trial} | {figure} | {median:.2} s | {worst:.2} s | {bounds} | {} |\n",
            seconds.len()
        );
    }
    text
}

fn bounds(at_least: Option<f64>, at_most: Option<f64>) -> String {
    match (at_least, at_most) {
        (None, None) => String::new(),
        (None, Some(most)) => format!("<= {most} s"),
        (Some(least), None) => format!(">= {least} s"),
        (Some(least), Some(most)) => format!("{least} to {most} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_called_what_is_typed() {
        for trial in Trial::value_variants() {
            let typed = trial.to_possible_value().expect("none is hidden");
            assert_eq!(typed.get_name(), name_of(*trial));
        }
    }

    #[test]
    fn figures_are_told_with_median_worst_and_bounds() {
        let measured = |seconds| Measured {
            trial: "crash",
            run: 1,
            figure: "answers again",
            seconds,
            at_least: None,
            at_most: Some(1.0),
            met: true,
        };
        let times =
            BTreeMap::from([(("crash", "answers again"), vec![measured(0.3), measured(0.1), measured(0.2)])]);
        let row = "| crash | answers again | 0.20 s | 0.30 s | <= 1 s | 3 |\n";
        assert!(table(&times).ends_with(row), "{}", table(&times));
        assert_eq!(bounds(Some(2.0), Some(3.0)), "2 to 3 s");
    }
}
