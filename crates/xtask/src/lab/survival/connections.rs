//! Connections that are open when their instance goes: with `drain` they may end, and are ended when their time is over;
//! new ones go elsewhere meanwhile.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Bench,
    calls::{one_each, own_address, round_robin, without_failures},
    world::{RUNS_WITHIN, Seen, Service, World},
};
use crate::lab::Lab;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
const SUCCESS: &[u8] = b"HTTP/1.1 200";
/// Longer than a connection is open here by far, shorter than nobody would wait for.
const LONG: &str = "5m";
/// Long enough for many calls; `hello` itself ends what says nothing after five seconds.
const A_WHILE: Duration = Duration::from_secs(1);
/// From the end of the last connection until the instance is gone: half a second until it is seen, and an engine's time to
/// remove a container.
const GONE_WITHIN: f64 = 3.0;

pub(super) async fn connections(bench: &mut Bench) -> Result<()> {
    for (drain, hangs_up) in [(LONG, true), ("3s", false)] {
        let world = &mut bench.world;
        let constraints = json!([{"type": "direct", "cluster": "c1"}]);
        let service = world.service(json!({"constraints": constraints, "drain": drain})).await?;
        let going = world.deploy(&service).await?;
        world.running(&service, 1, RUNS_WITHIN).await?;
        let home = world.copies(&service).await?[0].host.clone();
        world.deploy(&service).await?;
        world.running(&service, 2, RUNS_WITHIN).await?;
        // A device without an instance of the application would be refused.
        let mut hosts = world.copies(&service).await?.into_iter().map(|copy| copy.host);
        let caller = hosts.find(|host| *host != home).context("both instances are on one device")?;

        let [own, _] = own_address(world, &service, going).await?;
        let others = round_robin(world, &service).await?;
        let mut held = connect(&world.lab, &caller, own)?;
        world.delete(&format!("/api/service/{}/instance/{going}", service.id)).await?;
        let begun = Instant::now();
        world.seen_until(&service, "the connection is waited for", RUNS_WITHIN, waits).await?;
        let traffic = one_each(world, &caller, &others)?;
        sleep(A_WHILE).await;
        without_failures(traffic).context("new connections go to the other instance")?;
        let still = world.seen(&service).await?;
        ensure!(waits(&still), "it goes with its connection open: {still:?}");

        let since = if hangs_up {
            held.write_all(REQUEST)?;
            let mut answer = Vec::new();
            held.read_to_end(&mut answer).context("read the answer of the one that goes")?;
            ensure!(answer.starts_with(SUCCESS), "an answer of {} bytes is no success", answer.len());
            drop(held);
            Instant::now()
        } else {
            held.set_read_timeout(Some(RUNS_WITHIN))?;
            let ended = held.read(&mut [0; 1]);
            ensure!(!matches!(ended, Ok(1..)), "it says something unasked");
            begun
        };
        gone(world, &service).await?;
        let time = since.elapsed();
        if hangs_up {
            bench.took("an instance goes when its last connection has ended", time, GONE_WITHIN);
        } else {
            bench.took_between(
                "an instance goes with a connection open, drain 3 s",
                time,
                3.0,
                3.0 + GONE_WITHIN,
            );
        }
    }
    Ok(())
}

fn waits(seen: &[Seen]) -> bool {
    seen.iter()
        .any(|one| one.phase == "undeploying" && one.detail.starts_with("waiting for 1 connection to end"))
}

async fn gone(world: &mut World, service: &Service) -> Result<()> {
    world.running(service, 1, RUNS_WITHIN).await.map(drop)
}

/// A connection from a host of the lab.
pub(super) fn connect(lab: &Lab, host: &str, to: SocketAddr) -> Result<TcpStream> {
    let network = lab.network_of(host)?;
    // The thread's own; it ends there.
    let connecting = thread::spawn(move || -> Result<TcpStream> {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))?)
    });
    connecting.join().map_err(|_| anyhow!("the thread panicked"))?.context("connect to the instance")
}
