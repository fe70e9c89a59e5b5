//! A device with a caller, a server beside it, and as many services of another device as it is told to have: for
//! measuring what many cost (`cargo xtask bench network`). Runs in the network namespace that is to be the device,
//! until its standard input ends.
//!
//! `crowd CALLER SERVER`: paths of the network namespaces of the two instances. For each line of standard input, a number of
//! services, it says in a line of JSON how long it took until the kernel led to all of them. The server is called at
//! 10.30.0.1.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::{self, BufRead, Write},
    net::Ipv4Addr,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use model::{
    AddressKind, CallableInstance, CallableService, Generation, InstanceId, NetworkLease, NetworkNews, Peer,
    ServiceId, ServiceNames, Way, Weight, WorkerId,
};
use net_core::{AttachRequest, Command, Element, Namespace, NetworkState, ObservedKernel, reconcile};
use net_manager::datapath::{Datapath, KernelDatapath};

const KINDS: [AddressKind; 4] =
    [AddressKind::RoundRobin, AddressKind::Closest, AddressKind::LeastUsed, AddressKind::Affinity];
/// Services have the addresses below it, instances those from it on: 10.30.0.0 and so many.
const FIRST_INSTANCE: u32 = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [caller, server] = &arguments[..] else { return Err("see the head of this example".into()) };
    let mut device = Device { datapath: KernelDatapath::open().await?, state: NetworkState::default() };
    device.accept(Command::UseLease(lease("10.18.0.0/26", "fc00::/120")?))?;
    for (number, path) in (0..).zip([caller, server]) {
        let namespace = Namespace { path: path.clone(), inode: fs::metadata(path)?.ino() };
        device.accept(Command::Attach(AttachRequest {
            id: InstanceId { service: service(0), number },
            generation: Generation(1),
            namespace,
            ports: Vec::new(),
            address: Some(instance_address(number)),
        }))?;
    }
    let mut kernel = device.datapath.observe().await?;
    for line in io::stdin().lock().lines() {
        let services: u32 = line?.trim().parse()?;
        device.state.hear(news(services)?);
        let begun = Instant::now();
        device.settle(&kernel).await?;
        let loaded = begun.elapsed();
        let (whole, read) = device.observe().await?;
        kernel = whole;
        let leads = |element: &&Element| matches!(element, Element::Single { .. } | Element::Spread { .. });
        let entries = kernel.elements.iter().filter(leads).count();
        let told = serde_json::json!({
            "entries": entries,
            "loaded_ms": loaded.as_secs_f64() * 1e3,
            "read_ms": read.as_secs_f64() * 1e3,
        });
        writeln!(io::stdout(), "{told}")?;
    }
    Ok(())
}

struct Device {
    datapath: KernelDatapath,
    state: NetworkState,
}

impl Device {
    fn accept(&mut self, command: Command) -> Result<(), Box<dyn Error>> {
        for change in self.state.accept(command).map_err(|rejection| format!("{rejection:?}"))? {
            self.state.apply(change);
        }
        Ok(())
    }

    /// All there is in the kernel, and how long it took to read that.
    async fn observe(&mut self) -> Result<(ObservedKernel, Duration), Box<dyn Error>> {
        let since = Instant::now();
        loop {
            let begun = Instant::now();
            let kernel = self.datapath.observe().await?;
            let read = begun.elapsed();
            let left = reconcile(&self.state.desired(), &kernel);
            if left.is_empty() {
                return Ok((kernel, read));
            }
            if since.elapsed() > READ_ANEW_FOR {
                return Err(format!("something is left to do: {left:?}").into());
            }
        }
    }

    /// Brings the kernel from where it was seen to where it should be.
    async fn settle(&mut self, seen: &ObservedKernel) -> Result<(), Box<dyn Error>> {
        for effect in reconcile(&self.state.desired(), seen) {
            self.datapath.apply(&effect).await.map_err(|error| daemon::chain(&error).to_string())?;
        }
        Ok(())
    }
}

/// A set that has just got thousands of entries is still put in order by the kernel, and whoever reads it meanwhile may meet some
/// entries twice and others not at all. NetManager knows what it did and does not read then.
const READ_ANEW_FOR: Duration = Duration::from_secs(2);

/// The first service is the one that is called; of the others there is one instance each, on another device.
fn news(services: u32) -> Result<NetworkNews, Box<dyn Error>> {
    let (own, other) = (worker(1), worker(2));
    let mut all = BTreeMap::new();
    for number in 0..services {
        let instances = match number {
            0 => vec![instance(0, own, false), instance(1, own, true)],
            // 0 and 1 are those of the first.
            _ => vec![instance(number + 1, other, true)],
        };
        let addresses: BTreeMap<AddressKind, Ipv4Addr> =
            (1..).zip(KINDS).map(|(place, kind)| (kind, address(4 * number + place))).collect();
        let names = ServiceNames {
            application: "crowd".to_owned(),
            application_namespace: "bench".to_owned(),
            service: format!("service{number}"),
            service_namespace: "bench".to_owned(),
        };
        let callable = CallableService {
            names: names.into(),
            addresses: addresses.into(),
            allowed_callers: Default::default(),
            instances,
        };
        all.insert(service(number), Some(callable.into()));
    }
    let peer = Peer {
        way: Way::Direct { underlay: "192.0.2.2".parse()? },
        lease: lease("10.18.0.64/26", "fc00::100/120")?,
    };
    Ok(NetworkNews {
        whole: true,
        services: all,
        peers: BTreeMap::from([(other, Some(peer.into()))]),
        ..NetworkNews::default()
    })
}

fn instance(number: u32, worker: WorkerId, ready: bool) -> CallableInstance {
    CallableInstance { number, address: instance_address(number), worker, ready, weight: Weight::default() }
}

fn instance_address(number: u32) -> Ipv4Addr {
    address(FIRST_INSTANCE + number)
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 30, 0, 0)) + number)
}

fn service(number: u32) -> ServiceId {
    let mut bytes = [0; 12];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    ServiceId::from_bytes(bytes)
}

fn worker(number: u8) -> WorkerId {
    WorkerId::new(uuid::Uuid::from_bytes([number; 16]))
}

fn lease(v4: &str, v6: &str) -> Result<NetworkLease, Box<dyn Error>> {
    Ok(NetworkLease { v4: vec![v4.parse()?], v6: vec![v6.parse()?] })
}
