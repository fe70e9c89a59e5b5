//! Pings that never stop, a thousand a second: whoever sends as many notices each packet that is lost, where a connection
//! would only be slower.

use std::{
    fs::{self, File},
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, connect, ipproto, recv, send, socket};

use super::traffic::enter;
use crate::lab::Lab;

const EVERY: Duration = Duration::from_millis(1);
/// For the last answers; they take far less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(1);
/// Too few say nothing.
const FEWEST: u64 = 500;

/// Pings some addresses, each once in a round, until it is stopped.
#[derive(Debug)]
pub(crate) struct Pings {
    stop: Arc<AtomicBool>,
    client: JoinHandle<Result<Vec<Line>>>,
}

/// What goes to one address and comes back.
#[derive(Debug)]
struct Line {
    to: IpAddr,
    socket: OwnedFd,
    sent: u64,
    answered: u64,
}

impl Pings {
    /// From a host of the lab.
    ///
    /// # Errors
    /// The host is off.
    pub(crate) fn on(lab: &Lab, host: &str, addresses: Vec<IpAddr>) -> Result<Self> {
        let network = lab.network_of(host)?;
        let stop = Arc::new(AtomicBool::new(false));
        let client = thread::spawn({
            let stop = Arc::clone(&stop);
            move || ping_until(&stop, &network, addresses)
        });
        Ok(Self { stop, client })
    }

    /// How many there were, all of which were answered.
    ///
    /// # Errors
    /// One was lost, or there were too few to say anything.
    pub(crate) fn end_without_loss(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let lines = self.client.join().map_err(|_| anyhow!("the client panicked"))??;
        for Line { to, sent, answered, .. } in &lines {
            ensure!(sent == answered, "{} of {sent} pings to {to} were lost", sent - answered);
            ensure!(*sent >= FEWEST, "only {sent} pings were sent to {to}");
        }
        Ok(lines.iter().map(|line| line.sent).sum())
    }
}

fn ping_until(stop: &AtomicBool, network: &File, addresses: Vec<IpAddr>) -> Result<Vec<Line>> {
    enter(network)?;
    // As in containers: whoever is in this group may ping.
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").context("allow pings")?;
    let mut lines = addresses.into_iter().map(Line::open).collect::<Result<Vec<_>>>()?;
    while !stop.load(Ordering::Relaxed) {
        for line in &mut lines {
            line.ask()?;
            line.hear()?;
        }
        sleep(EVERY);
    }
    let deadline = Instant::now() + PATIENCE;
    while lines.iter().any(|line| line.answered < line.sent) && Instant::now() < deadline {
        lines.iter_mut().try_for_each(Line::hear)?;
        sleep(EVERY);
    }
    Ok(lines)
}

impl Line {
    fn open(to: IpAddr) -> Result<Self> {
        let (family, protocol) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let socket = socket(family, SocketType::DGRAM, Some(protocol)).context("open a socket for pings")?;
        connect(&socket, &SocketAddr::new(to, 0)).with_context(|| format!("find a way to {to}"))?;
        Ok(Self { to, socket, sent: 0, answered: 0 })
    }

    fn ask(&mut self) -> Result<()> {
        let echo_request = if self.to.is_ipv4() { 8 } else { 128 };
        // The kernel puts in the rest.
        let [high, low] = u16::try_from(self.sent % 0x1_0000)?.to_be_bytes();
        send(&self.socket, &[echo_request, 0, 0, 0, 0, 0, high, low], SendFlags::empty())
            .with_context(|| format!("ping {}", self.to))?;
        self.sent += 1;
        Ok(())
    }

    /// Takes all answers there are.
    fn hear(&mut self) -> Result<()> {
        loop {
            match recv(&self.socket, &mut [0; 64], RecvFlags::DONTWAIT) {
                Ok(_) => self.answered += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).with_context(|| format!("hear of {}", self.to)),
            }
        }
    }
}
