//! A client that never stops asking: what is promised of traffic is seen by it. It has a thread of its own, so that
//! nothing else that a trial does holds it up.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{interval, timeout},
};

use crate::lab::Lab;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
const SUCCESS: &[u8] = b"HTTP/1.1 200";
/// What a person still takes for an answer; most come within a millisecond.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of many requests that are under way at a time.
const PATIENCE_OF_ONE: Duration = Duration::from_millis(100);
const EVERY: Duration = Duration::from_millis(10);
/// One of two addresses may be that of a host that is cut off, which takes all the patience there is.
const FEWEST: u32 = 10;

/// Requests one after another until it is stopped. Each is made to the next of some addresses, and to the others if
/// that fails, as a client with more than one address does.
#[derive(Debug)]
pub(crate) struct Traffic {
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    client: JoinHandle<Outcome>,
}

/// What became of the requests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) requests: u32,
    /// Those that none of the addresses answered, with the reasons.
    pub(crate) failures: Vec<String>,
    pub(crate) longest: Duration,
}

impl Traffic {
    pub(crate) fn to(addresses: Vec<SocketAddr>) -> Self {
        Self::from(None, addresses)
    }

    /// As [`Traffic::to`], from a host of the lab.
    ///
    /// # Errors
    /// The host is off.
    pub(crate) fn on(lab: &Lab, host: &str, addresses: Vec<SocketAddr>) -> Result<Self> {
        Ok(Self::within(Arc::new(lab.network_of(host)?), addresses))
    }

    /// As [`Traffic::to`], from a network namespace.
    pub(crate) fn within(network: Arc<File>, addresses: Vec<SocketAddr>) -> Self {
        Self::from(Some(network), addresses)
    }

    fn from(network: Option<Arc<File>>, addresses: Vec<SocketAddr>) -> Self {
        let addresses = Arc::new(Mutex::new(addresses));
        let stop = Arc::new(AtomicBool::new(false));
        let client = thread::spawn({
            let (addresses, stop) = (Arc::clone(&addresses), Arc::clone(&stop));
            move || {
                if let Err(error) = network.as_deref().map_or(Ok(()), enter) {
                    return Outcome { failures: vec![format!("{error:#}")], ..Outcome::default() };
                }
                ask_until(&stop, || addresses.lock().unwrap_or_else(PoisonError::into_inner).clone())
            }
        });
        Self { addresses, stop, client }
    }

    /// Asks there from now on.
    pub(crate) fn turn_to(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// # Errors
    /// A request has failed, or there were too few to say anything.
    pub(crate) fn end_without_failures(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.client.join().map_err(|_| anyhow!("the client panicked"))?;
        if let Some(first) = outcome.failures.first() {
            let (failed, all) = (outcome.failures.len(), outcome.requests);
            bail!("{failed} of {all} requests failed; the first: {first}");
        }
        ensure!(outcome.requests >= FEWEST, "only {} requests were made", outcome.requests);
        Ok(outcome)
    }
}

/// The thread that calls is in that network namespace until it ends.
pub(super) fn enter(network: &File) -> Result<()> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).context("enter a network")
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Answered,
    /// At once.
    Refused,
    /// Nobody said anything, or something else.
    Lost,
}

/// One request from a network namespace.
///
/// # Errors
/// The namespace cannot be entered.
pub(crate) async fn ask_within(network: Arc<File>, address: SocketAddr) -> Result<Asked> {
    let (told, hear) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let asked = enter(&network).map(|()| match ask(address) {
            Ok(()) => Asked::Answered,
            Err(error) => match error.downcast_ref::<io::Error>() {
                Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => Asked::Refused,
                Some(_) | None => Asked::Lost,
            },
        });
        // Whoever asked may have given up.
        drop(told.send(asked));
    });
    hear.await.context("the client panicked")?
}

fn ask_until(stop: &AtomicBool, addresses: impl Fn() -> Vec<SocketAddr>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut turn: usize = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut addresses = addresses();
        if !addresses.is_empty() {
            let first = turn % addresses.len();
            addresses.rotate_left(first);
        }
        let begun = Instant::now();
        if let Err(error) = ask_one_of(&addresses) {
            outcome.failures.push(format!("{error:#}, after {} requests", outcome.requests));
        }
        outcome.longest = outcome.longest.max(begun.elapsed());
        outcome.requests += 1;
        turn += 1;
        sleep(EVERY);
    }
    outcome
}

fn ask_one_of(addresses: &[SocketAddr]) -> Result<()> {
    let mut errors = Vec::new();
    for address in addresses {
        match ask(*address) {
            Ok(()) => return Ok(()),
            Err(error) => errors.push(format!("{address}: {error:#}")),
        }
    }
    bail!("{}", if errors.is_empty() { "nowhere to ask".to_owned() } else { errors.join("; ") })
}

fn ask(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST).context("ask")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read the answer")?;
    ensure!(answer.starts_with(SUCCESS), "an answer of {} bytes is no success", answer.len());
    Ok(())
}

/// Whether a service answers there now.
pub(crate) async fn answers(address: SocketAddr, within: Duration) -> bool {
    let asking = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        stream.write_all(REQUEST).await.ok()?;
        let mut start = [0; SUCCESS.len()];
        stream.read_exact(&mut start).await.ok()?;
        (start == SUCCESS).then_some(())
    };
    timeout(within, asking).await.ok().flatten().is_some()
}

/// Waits until one of these addresses answers; gives its place among them, and when. All are asked again and again
/// without waiting for what was asked before: a request that is lost does not hide that a later one is answered.
pub(crate) async fn first_answer(addresses: &[SocketAddr], within: Duration) -> Result<(usize, Instant)> {
    let deadline = Instant::now() + within;
    let mut asked = JoinSet::new();
    let mut rounds = interval(EVERY);
    loop {
        tokio::select! {
            _ = rounds.tick() => {
                ensure!(Instant::now() < deadline, "none of {addresses:?} answers within {} s", within.as_secs());
                for (place, address) in addresses.iter().copied().enumerate() {
                    asked.spawn(async move {
                        answers(address, PATIENCE_OF_ONE).await.then(|| (place, Instant::now()))
                    });
                }
            }
            Some(answered) = asked.join_next() => {
                if let Some(first) = answered.context("ask for an answer")? {
                    return Ok(first);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers so many requests and closes its port.
    fn server(requests: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it has one");
        thread::spawn(move || {
            for stream in listener.incoming().take(requests) {
                let mut stream = stream.expect("a connection");
                stream.read_exact(&mut [0; REQUEST.len()]).expect("a request");
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("an answer");
            }
        });
        address
    }

    #[test]
    fn a_client_with_two_addresses_does_not_notice_that_one_ends() {
        let traffic = Traffic::to(vec![server(20), server(1000)]);
        sleep(EVERY * 100);
        let outcome = traffic.end_without_failures().expect("the other one answers");
        assert!(outcome.requests > 50);
    }

    #[test]
    fn a_client_with_one_address_does() {
        let traffic = Traffic::to(vec![server(20)]);
        sleep(EVERY * 100);
        let error = traffic.end_without_failures().expect_err("it ended").to_string();
        assert!(error.contains("requests failed; the first: 127.0.0.1:"), "{error}");
    }
}
