//! Callers that never stop: HTTP requests at an even pace from one place, and who answered each.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use super::place::Place;

/// The port of `hello` in its container.
pub(super) const HELLO: u16 = 8080;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
const GREETING: &str = "Hello from ";
/// Callers at a time, so that one that waits for an answer does not hold up the next call.
const CALLERS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(1);

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    /// The name of who answered, or why nobody did.
    pub(super) answer: Result<String, String>,
}

/// Calls until it is stopped.
#[derive(Debug)]
pub(super) struct Calls {
    made: Arc<Mutex<Vec<Call>>>,
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Result<()>>>,
}

impl Calls {
    /// Calls from `place` once in `every`; `find` gives the address for each call and is asked there too.
    pub(super) fn start(
        place: &Place,
        every: Duration,
        find: impl Fn() -> Result<IpAddr> + Send + Sync + 'static,
    ) -> Result<Self> {
        let (made, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (find, begin) = (Arc::new(find), Instant::now());
        let mut callers = Vec::new();
        for number in 0..CALLERS {
            let (made, stop, find) = (Arc::clone(&made), Arc::clone(&stop), Arc::clone(&find));
            callers.push(place.spawn(move || {
                let mut next = begin + every * number;
                while !stop.load(Ordering::Relaxed) {
                    sleep(next.saturating_duration_since(Instant::now()));
                    let begun = Instant::now();
                    let answer = find().and_then(call).map_err(|error| format!("{error:#}"));
                    let call = Call { begun, ended: Instant::now(), answer };
                    lock(&made).push(call);
                    next = (next + every * CALLERS).max(Instant::now());
                }
                Ok(())
            })?);
        }
        Ok(Self { made, stop, callers })
    }

    /// When each of those who answered did so first.
    pub(super) fn first_answers(&self) -> BTreeMap<String, Instant> {
        first_answers(&lock(&self.made))
    }

    /// All calls, when no more are under way.
    pub(super) fn end(self) -> Result<Vec<Call>> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().map_err(|_| anyhow!("a caller panicked"))??;
        }
        Ok(std::mem::take(&mut *lock(&self.made)))
    }
}

fn lock(made: &Mutex<Vec<Call>>) -> std::sync::MutexGuard<'_, Vec<Call>> {
    made.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When each of those who answered did so first.
pub(super) fn first_answers(calls: &[Call]) -> BTreeMap<String, Instant> {
    let mut first = BTreeMap::new();
    for call in calls {
        if let Ok(who) = &call.answer {
            let when = first.entry(who.clone()).or_insert(call.ended);
            *when = call.ended.min(*when);
        }
    }
    first
}

/// Calls that nobody answered.
pub(super) fn failures(calls: &[Call]) -> impl Iterator<Item = &Call> {
    calls.iter().filter(|call| call.answer.is_err())
}

fn call(address: IpAddr) -> Result<String> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::new(address, HELLO), PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST).context("ask")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    who(&answer).with_context(|| format!("the answer is `{answer}`"))
}

/// `hello` says the name of its host.
fn who(answer: &str) -> Option<String> {
    let (_, said) = answer.starts_with("HTTP/1.1 200").then(|| answer.split_once(GREETING))??;
    Some(said.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_is_known_by_its_host_name() {
        let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHello from 0123456789ab\n";
        assert_eq!(who(answer).as_deref(), Some("0123456789ab"));
        assert_eq!(who("HTTP/1.1 500 No\r\n\r\nHello from me\n"), None);
        assert_eq!(who(""), None);
    }

    #[test]
    fn the_first_answer_of_each_counts_and_failures_do_not() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let call = |ended, answer: Result<&str, &str>| Call {
            begun: start,
            ended: at(ended),
            answer: answer.map(str::to_owned).map_err(str::to_owned),
        };
        let calls = [call(9, Ok("1")), call(3, Ok("1")), call(1, Err("refused")), call(5, Ok("2"))];
        let expected = BTreeMap::from([("1".to_owned(), at(3)), ("2".to_owned(), at(5))]);
        assert_eq!(first_answers(&calls), expected);
        assert_eq!(failures(&calls).count(), 1);
    }
}
