//! Devices behind routers that translate addresses: instances on them call each other by the addresses of their service,
//! whatever the routers do, and NetManager tells by which way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Bench,
    calls::{close, ended, one_each, open, own_address, round_robin},
    traffic::Traffic,
    world::{RUNS_WITHIN, World, until},
};
use crate::lab::{
    layout::BIN,
    router::Translation::{self, KeepsPorts, Random},
    tool,
};

/// From the moment both instances run: by the relay if by nothing else.
const CALLED_WITHIN: f64 = 5.0;
/// Two registrations without an answer, and a handshake that is repeated.
const CALLED_BY_ROOT_WITHIN: f64 = 30.0;
/// A handshake that is repeated after five seconds, and some probes.
const WAY_WITHIN: Duration = Duration::from_secs(15);
/// Long enough for calls to meet each instance.
const A_WHILE: Duration = Duration::from_secs(1);
/// Where a relay is that has no address of its own.
const RELAY_PORT: u16 = 50105;
const RELAY_PORT_OF_ROOT: u16 = 50106;
/// On the host of a cluster: nothing comes to its relay.
const BLOCK: &str =
    "table ip block { chain it { type filter hook input priority -10; udp dport 50105 drop; }; }";

use Way::{ByCluster, ByRoot, Direct, HolePunched};

const HOSTS: [&str; 2] = ["c1w1", "c1w2"];

/// What is between each of the two hosts and the others, and by which way packets get from each to the other.
struct Case {
    what: &'static str,
    routers: [Option<Translation>; 2],
    ways: [Way; 2],
    within: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    HolePunched,
    ByCluster,
    /// What is sent to the relay of the cluster does not arrive.
    ByRoot,
}

const CASES: [Case; 4] = [
    Case {
        what: "called, one behind translation",
        routers: [Some(KeepsPorts), None],
        ways: [Direct, HolePunched],
        within: CALLED_WITHIN,
    },
    Case {
        what: "called, both behind translation",
        routers: [Some(KeepsPorts), Some(KeepsPorts)],
        ways: [HolePunched, HolePunched],
        within: CALLED_WITHIN,
    },
    Case {
        what: "called, both behind routers that choose ports by chance",
        routers: [Some(Random), Some(Random)],
        ways: [ByCluster, ByCluster],
        within: CALLED_WITHIN,
    },
    Case {
        what: "called, the same and the relay of the cluster out of reach",
        routers: [Some(Random), Some(Random)],
        ways: [ByRoot, ByRoot],
        within: CALLED_BY_ROOT_WITHIN,
    },
];

pub(super) async fn nat(bench: &mut Bench) -> Result<()> {
    for case in CASES {
        let blocks = case.ways.contains(&ByRoot);
        if blocks {
            rules(&bench.world, "c1", BLOCK)?;
        }
        let called = try_case(&mut bench.world, &case).await.context(case.what);
        if blocks {
            rules(&bench.world, "c1", "delete table ip block")?;
        }
        bench.took(case.what, called?, case.within);
    }
    Ok(())
}

fn rules(world: &World, host: &str, rules: &str) -> Result<()> {
    let words = ["nft", rules].map(str::to_owned);
    tool::run(&mut world.lab.command_on(host, &words)?).map(drop)
}

async fn try_case(world: &mut World, case: &Case) -> Result<Duration> {
    for (host, router) in HOSTS.into_iter().zip(case.routers) {
        if world.is_on(host)? {
            world.lab.power_off(host)?;
        }
        world.lab.translate(host, router)?;
        world.lab.power_on(host)?;
    }
    until("all workers live", RUNS_WITHIN, async || world.all_live().await.map(Some)).await?;
    let service = world.service(json!({})).await?;
    let others: Vec<String> =
        world.all_workers().into_iter().filter(|host| !HOSTS.contains(&host.as_str())).collect();
    close(world, &others).await?;
    for _ in HOSTS {
        world.deploy(&service).await?;
    }
    world.running(&service, HOSTS.len(), RUNS_WITHIN).await?;
    let begun = Instant::now();
    open(world, &others).await?;
    let mut addresses = round_robin(world, &service).await?.to_vec();
    for number in [0, 1] {
        addresses.extend(own_address(world, &service, number).await?);
    }
    let copies = world.copies(&service).await?;
    ensure!(HOSTS.iter().all(|host| copies.iter().any(|copy| copy.host == *host)), "there are {copies:?}");
    // Each address by itself, from each host.
    let all = || -> Result<Vec<Traffic>> {
        let [one, two] = HOSTS.map(|host| one_each(world, host, &addresses));
        Ok(one?.into_iter().chain(two?).collect())
    };
    until("all calls are answered", RUNS_WITHIN, async || {
        let traffic = all()?;
        sleep(Duration::from_millis(200)).await;
        ended(traffic)?;
        Ok(Some(()))
    })
    .await?;
    let called = begun.elapsed();
    let traffic = all()?;
    until("packets go the best way there is", WAY_WITHIN, async || {
        for (host, way) in HOSTS.into_iter().zip(case.ways) {
            let told = status(world, host)?;
            let way = match way {
                Direct => "direct".to_owned(),
                HolePunched => "hole-punched".to_owned(),
                ByCluster => format!("relayed by  {}", world.address_of("c1", RELAY_PORT)?),
                ByRoot => format!("relayed by  {}", world.address_of("root", RELAY_PORT_OF_ROOT)?),
            };
            ensure!(told.contains(&way), "{host} says: {told}");
        }
        Ok(Some(()))
    })
    .await?;
    sleep(A_WHILE).await;
    ended(traffic)?;
    Ok(called)
}

/// What somebody would see who types `NetManager status` on a host.
fn status(world: &World, host: &str) -> Result<String> {
    let words = [format!("{BIN}/NetManager"), "status".to_owned()];
    tool::run(&mut world.lab.command_on(host, &words)?)
}
