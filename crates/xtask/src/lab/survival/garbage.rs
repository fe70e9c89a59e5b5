//! Garbage on every port, ids that nobody knows, a container of an instance that nobody wants: nothing is deleted,
//! nothing crashes.
//!
//! Clocks are not set here: all hosts share the machine's. The simulation sets them.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Bench,
    world::{RUNS_WITHIN, Service, World},
};
use crate::{
    bench::http::{Body, Method},
    lab::{IMAGE, Process, host::Host},
};

/// What [`World::rest`] removes.
pub(super) const MADE_BY_A_TRIAL: &str = "mangrove.trial=garbage";
const WORKER: &str = "c1w1";
const ROUNDS: usize = 50;

pub(super) async fn garbage(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let service = world.server(8080, json!({})).await?;
    world.deploy_on(&service, WORKER).await?;
    let copy = world.one_copy(&service, RUNS_WITHIN).await?;
    let started = world.started(&copy).await?;
    let starts = all_starts(world)?;
    let stranger = start_stranger(world)?;

    let mut noise = fs::File::open("/dev/urandom").context("open a source of noise")?;
    let mut bytes = vec![0; 4096];
    let [root, cluster, worker] =
        [Host::Root, Host::Cluster(1), WORKER.parse()?].map(|host: Host| host.address());
    for _ in 0..ROUNDS {
        noise.read_exact(&mut bytes).context("read noise")?;
        for (host, port) in [(root, 10000), (root, 50052), (cluster, 10100)] {
            throw(host, port, &bytes);
        }
        // A beat has 20 bytes.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a port")?;
        for length in [0, 1, 19, 20, 21, 1400] {
            socket.send_to(&bytes[..length], (cluster, 10100)).context("send a datagram")?;
        }
        // Registrations with the relay have 43; messages of encrypted links begin with a number and zeros.
        for (host, port) in [(cluster, 50105), (worker, 50103), (worker, 50104)] {
            for beginning in [&b""[..], b"R", b"F", b"S", b"G\x04\0\0\0", b"\x01\0\0\0", b"\x04\0\0\0"] {
                for length in [0, 28, 42, 144, 1400] {
                    let datagram = [beginning, &bytes[..length]].concat();
                    socket.send_to(&datagram, (host, port)).context("send a datagram")?;
                }
            }
        }
    }
    on_the_worker(world)?;
    refusals(world, &service).await?;

    // Far longer than anybody needs to act on it.
    sleep(Duration::from_secs(5)).await;
    ensure!(all_starts(world)? == starts, "a daemon has ended: {:?}, not {starts:?}", all_starts(world)?);
    let after = world.one_copy(&service, RUNS_WITHIN).await?;
    ensure!(after == copy && world.started(&after).await? == started, "the instance was started again");
    world.answers(&service, &[WORKER.to_owned()], RUNS_WITHIN).await?;
    let shown = world.lab.docker(WORKER, &["inspect", "--format", "{{.State.Running}}", &stranger])?;
    ensure!(shown.trim() == "true", "a container that nobody knows was stopped");
    let another = world.server(8081, json!({})).await?;
    world.deploy(&another).await?;
    world.running(&another, 1, RUNS_WITHIN).await?;
    Ok(())
}

/// A container with labels like ours, of a service that never was.
fn start_stranger(world: &World) -> Result<String> {
    let instance = format!("mangrove.instance={}/7", "ab".repeat(12));
    let labels = [&*instance, "mangrove.generation=1", "mangrove.service=a.b.c.d", MADE_BY_A_TRIAL];
    let mut words = vec!["run", "--detach"];
    for label in &labels {
        words.extend(["--label", label]);
    }
    words.push(IMAGE);
    Ok(world.lab.docker(WORKER, &words)?.trim().to_owned())
}

fn all_starts(world: &World) -> Result<BTreeMap<String, BTreeMap<Process, u32>>> {
    let hosts = world.lab.shape.hosts().into_iter().map(|host| host.to_string());
    hosts.map(|host| Ok((host.clone(), world.starts(&host)?))).collect()
}

/// The other side may close whenever it likes.
fn throw(host: Ipv4Addr, port: u16, bytes: &[u8]) {
    let address = SocketAddr::from((host, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return };
    drop(stream.set_write_timeout(Some(Duration::from_millis(100))));
    drop(stream.write_all(bytes));
}

/// NetManager listens where only its own device reaches it.
fn on_the_worker(world: &World) -> Result<()> {
    let script = "for round in 1 2 3 4 5; do head -c 4096 /dev/urandom >/dev/tcp/127.0.0.1/6000; done; \
                  for path in / /instances/x/0 /instances/aa/0 /register /certificate; do \
                  for method in GET PUT POST DELETE; do \
                  curl --silent --max-time 2 --output /dev/null --request $method --data '{\"a\":[' \
                  http://127.0.0.1:6000$path; done; done; true";
    let words = ["bash", "-c", script].map(str::to_owned);
    let output = world.lab.command_on(WORKER, &words)?.output().context("start `nsenter`")?;
    ensure!(output.status.success(), "garbage cannot be sent to NetManager: {output:?}");
    Ok(())
}

/// Each must be refused; what they name stays.
async fn refusals(world: &mut World, service: &Service) -> Result<()> {
    let unknown = "0123456789abcdef01234567";
    let requests = [
        (Method::DELETE, format!("/api/application/{unknown}")),
        (Method::DELETE, format!("/api/service/{unknown}")),
        (Method::DELETE, format!("/api/service/{}/instance/4711", service.id)),
        (Method::DELETE, format!("/api/service/{}/instance/x", service.id)),
        (Method::DELETE, "/api/application/%00".to_owned()),
        (Method::DELETE, "/api/cluster/c1/worker/nobody".to_owned()),
        (Method::POST, "/api/cluster/nowhere/worker/c1w1/drain".to_owned()),
        (Method::POST, "/api/application".to_owned()),
        (Method::PUT, format!("/api/service/{}", service.id)),
        (Method::GET, "/api/service/x".to_owned()),
    ];
    for (method, path) in requests {
        for body in [json!(null), json!([[]]), json!({"applications": 7}), json!("\u{0}\u{ffff}")] {
            let answer = world.ask(method.clone(), &path, Body::Json(body.clone())).await;
            let error = answer.err().with_context(|| format!("{method} {path} with {body} is accepted"))?;
            let told = format!("{error:#}");
            ensure!(told.contains(": 4"), "{method} {path} with {body} should be refused, but: {told}");
        }
    }
    Ok(())
}
