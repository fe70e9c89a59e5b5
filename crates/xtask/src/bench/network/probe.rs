//! What is asked of a path: how much TCP carries, how long small requests take, how many connections a second it makes.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;

use super::place::Place;
use crate::lab::tool;

/// Where [`Echo`] listens.
const ECHO: u16 = 7007;
/// Where `iperf3` listens.
const IPERF: u16 = 5201;
/// A small request and its answer.
const REQUEST: usize = 64;
/// Requests before those that count: both ends know the way then.
const WARM_UP: usize = 200;
/// Connections under way at a time: more than there are processors, so that none of them waits for the network.
const CALLERS: usize = 4;
/// Threads that accept connections.
const ACCEPTING: usize = 2;
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A child process that is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Ended(Child);

impl Ended {
    pub(super) fn of(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Answers every request of 64 bytes with the same bytes, on every connection.
#[derive(Debug)]
struct Echo {
    listener: TcpListener,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// What a place must run to be measured.
#[derive(Debug)]
pub(super) struct Server {
    _echo: Echo,
    _iperf: Ended,
    /// A program that starts looks for it some time later.
    _place: Place,
}

impl Server {
    pub(super) fn start(place: &Place) -> Result<Self> {
        let place = place.share()?;
        let mut iperf = place.command("iperf3");
        iperf.args(["--server", "--port", &IPERF.to_string()]);
        let iperf = iperf.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("start iperf3")?;
        Ok(Self { _echo: Echo::start(&place)?, _iperf: Ended::of(iperf), _place: place })
    }
}

impl Echo {
    fn start(place: &Place) -> Result<Self> {
        let listener = place
            .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, ECHO)).context("listen for small requests"))?;
        let mut threads = Vec::new();
        for _ in 0..ACCEPTING {
            let listener = listener.try_clone().context("share a listener")?;
            threads.push(place.spawn(move || {
                // Until the listener is shut down.
                while let Ok((stream, _)) = listener.accept() {
                    // The caller hangs up when it has had enough.
                    drop(echo(stream));
                }
                Ok(())
            })?);
        }
        Ok(Self { listener, threads })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It fails only for what is no socket.
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).ok();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST];
    loop {
        stream.read_exact(&mut request)?;
        stream.write_all(&request)?;
    }
}

/// Gbit/s that arrive, over so many TCP streams at once.
pub(super) fn throughput(caller: &Place, address: IpAddr, streams: u8, time: Duration) -> Result<f64> {
    // It does not listen yet, or is still busy with the measurement before.
    wait_for("iperf3 measures", || {
        let mut command = caller.command("iperf3");
        command.args(["--client", &address.to_string(), "--port", &IPERF.to_string(), "--json"]);
        command.args(["--parallel", &streams.to_string(), "--time", &time.as_secs().max(1).to_string()]);
        command.args(["--connect-timeout", "1000"]);
        received(&tool::run(&mut command)?)
    })
}

fn received(measured: &str) -> Result<f64> {
    let measured: Value = serde_json::from_str(measured).context("read what iperf3 prints")?;
    let bits = measured["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3 tells no throughput: {measured}"))? / 1e9)
}

/// Microseconds that each of so many small requests takes, one after another on one connection.
pub(super) fn latencies(caller: &Place, address: IpAddr, requests: usize) -> Result<Vec<f64>> {
    caller.run(|| {
        let mut stream = connect(address)?;
        let mut answer = [0; REQUEST];
        let mut times = Vec::with_capacity(requests);
        for number in 0..WARM_UP + requests {
            let begun = Instant::now();
            stream.write_all(&[7; REQUEST]).context("send a small request")?;
            stream.read_exact(&mut answer).context("read a small answer")?;
            if number >= WARM_UP {
                times.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
        Ok(times)
    })
}

/// How many connections a second are made, each with one small request.
pub(super) fn connections(caller: &Place, address: IpAddr, time: Duration) -> Result<f64> {
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = Vec::new();
    let begun = Instant::now();
    for _ in 0..CALLERS {
        let (stop, made) = (Arc::clone(&stop), Arc::clone(&made));
        callers.push(caller.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                one_connection(address)?;
                made.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })?);
    }
    sleep(time);
    let (count, took) = (made.load(Ordering::Relaxed), begun.elapsed());
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
    }
    ensure!(count > 0, "no connection to {address} was made");
    Ok(count as f64 / took.as_secs_f64())
}

fn one_connection(address: IpAddr) -> Result<()> {
    let mut stream = connect(address)?;
    // It is reset at its end: ports of the caller are free again at once, for as many connections as there may be.
    set_socket_linger(&stream, Some(Duration::ZERO)).context("set how a connection ends")?;
    stream.write_all(&[7; REQUEST]).context("send a small request")?;
    stream.read_exact(&mut [0; REQUEST]).context("read a small answer")
}

fn connect(address: IpAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, ECHO), PATIENCE);
    let stream = stream.with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Waits until something answers at all on this path.
pub(super) fn await_path(caller: &Place, address: IpAddr) -> Result<()> {
    wait_for(&format!("{address} answers"), || latencies(caller, address, 1)).map(drop)
}

/// Tries again until it succeeds.
///
/// # Errors
/// It does not in time: the error is the last one.
pub(super) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE * 2;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("waited in vain until {what}")));
            }
            Err(_) => sleep(LOOK_AGAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_counts() {
        let told = r#"{"end":{"sum_sent":{"bits_per_second":3e9},"sum_received":{"bits_per_second":2.5e9}}}"#;
        assert_eq!(received(told).expect("JSON"), 2.5);
        let error = received(r#"{"error":"unable to connect"}"#).expect_err("there is none").to_string();
        assert!(error.contains("unable to connect"), "{error}");
    }
}
