//! The network of instances on the hosts of a lab, next to what else there is: Docker Swarm's overlay in the same lab, and
//! paths made by hand of the same parts. One cluster is a trusted site and has direct links, the other encrypted ones.

mod boringtun;
mod by_hand;
mod calls;
mod convergence;
mod crowd;
mod deploy;
mod dns;
mod forwarder;
mod ours;
mod overlay;
mod paths;
mod place;
mod plain;
mod probe;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use self::{by_hand::ByHand, ours::Ours, overlay::Overlay, paths::Paths, plain::PlainHosts};
use super::{
    figure::{self, Figure},
    recovery::{ROUNDS_VARIABLE, in_lab, number},
};
use crate::lab::{Shape, survival::world::World, tool};

const SHAPE: Shape = Shape { clusters: 2, workers: 2, bare: 3, trusted: 1 };
/// The cluster that is a trusted site.
const TRUSTED: &str = "c1";
const STRANGERS: &str = "c2";

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Each side is sampled twice a round.
    rounds: usize,
    /// For each throughput and each rate.
    seconds: u64,
    /// Small requests for each sample of latency.
    requests: usize,
    /// Rounds of deploying one instance.
    deploys: usize,
    /// Rounds of deploying many.
    bursts: usize,
}

const FULL: Extent = Extent { rounds: 3, seconds: 2, requests: 10_000, deploys: 8, bursts: 3 };
const QUICK: Extent = Extent { rounds: 1, seconds: 1, requests: 1_000, deploys: 1, bursts: 1 };

/// # Errors
/// The machine lacks something; the error says what to install.
pub(super) fn ensure_possible() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this benchmark needs root: it makes network namespaces and builds a lab"
    );
    let found = tool::run(&mut tool::command("iperf3", ["--version"]));
    found.context("this benchmark needs iperf3: `apt-get install iperf3`").map(drop)
}

/// Measures in a lab that is built for it and removed again.
pub(super) fn run(quick: bool) -> Result<Vec<Figure>> {
    ensure_possible()?;
    let usual = if quick { QUICK } else { FULL };
    let rounds = usize::try_from(number(ROUNDS_VARIABLE, u64::try_from(usual.rounds)?)?)?.max(1);
    let extent = Extent { rounds, ..usual };
    // Before the lab is up, as a build would keep it waiting.
    let (boringtun, crowd) = (boringtun::program()?, crowd::program()?);
    let mut figures = Vec::new();
    let measured = in_lab(SHAPE, async |world| measure(world, &boringtun, &extent, &mut figures).await);
    // It needs no lab.
    let measured = measured.and_then(|()| crowd::measure(&crowd, &extent).context("measure many services"));
    match measured {
        Ok(of_many) => {
            figures.extend(of_many);
            Ok(figures)
        }
        Err(error) => {
            // What was measured until then took a quarter of an hour.
            eprintln!("{}", figure::table(&figures));
            Err(error)
        }
    }
}

async fn measure(
    mut world: World,
    boringtun: &Path,
    extent: &Extent,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let by_hand = ByHand::new(boringtun).context("make paths by hand")?;
    let mut swarm = Overlay::new(&world).await.context("make a swarm with an overlay")?;
    let plain = PlainHosts::new(&world).context("make a VXLAN between plain hosts")?;
    let direct = Ours::new(&mut world, TRUSTED).await.context("deploy in the trusted site")?;
    let encrypted = Ours::new(&mut world, STRANGERS).await.context("deploy where links are encrypted")?;
    let paths =
        Paths { by_hand: &by_hand, plain: &plain, direct: &direct, encrypted: &encrypted, swarm: &swarm };
    figures.extend(paths::measure(&paths, extent).context("measure paths")?);
    figures.extend(convergence::measure(&mut world, &mut swarm).await.context("measure convergence")?);
    figures.extend(deploy::measure(&mut world, &mut swarm, extent).await.context("measure deploying")?);
    Ok(())
}
