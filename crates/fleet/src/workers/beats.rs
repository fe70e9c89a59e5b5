//! The beats of all simulated workers of one thread, over one socket: a machine has ports for 28,000 sockets, not for
//! 100,000. The datagrams are those of `crates/link/src/beat`, which describes them.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ring::hmac;
use tokio::{
    net::UdpSocket,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep_until},
};

const LENGTH: usize = 24;
const TAGGED: usize = 16;
/// Beats that fall due within this go out together, and asks are answered this late at most.
const STEP: Duration = Duration::from_millis(10);

/// What one worker wants.
#[derive(Debug)]
enum Wish {
    Beat { session: u64, key: [u8; 32], interval: Duration, parent: SocketAddr },
    End { session: u64 },
}

/// Orders beats of the thread's sender. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Beats {
    wishes: UnboundedSender<Wish>,
}

/// The beats of one connection. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Beating {
    session: u64,
    beats: Beats,
}

impl Beats {
    /// Starts the sender on this runtime.
    pub(super) async fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        // Until the runtime has heard of it, sending at once is refused, and the first beats would be lost.
        socket.writable().await?;
        let (wishes, wanted) = unbounded_channel();
        tokio::spawn(send_all(Arc::new(socket), wanted));
        Ok(Self { wishes })
    }

    /// Beats for a session from now on, the first at once; of a session that beats already the interval changes.
    pub(super) fn order(
        &self,
        session: u64,
        key: [u8; 32],
        interval: Duration,
        parent: SocketAddr,
    ) -> Beating {
        // The sender ends with the runtime, and so does whoever asks.
        drop(self.wishes.send(Wish::Beat { session, key, interval, parent }));
        Beating { session, beats: self.clone() }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        drop(self.beats.wishes.send(Wish::End { session: self.session }));
    }
}

struct Session {
    key: hmac::Key,
    parent: SocketAddr,
    interval: Duration,
    next_number: u32,
    /// How many orders are not ended: one that follows another of the same session overlaps with it.
    orders: u32,
    due: Instant,
}

#[derive(Default)]
struct Sender {
    sessions: HashMap<u64, Session>,
    schedule: BTreeMap<(Instant, u64), ()>,
}

async fn send_all(socket: Arc<UdpSocket>, mut wanted: UnboundedReceiver<Wish>) {
    let mut sender = Sender::default();
    let mut next = Instant::now();
    loop {
        while let Ok(wish) = wanted.try_recv() {
            sender.take(wish);
        }
        if wanted.is_closed() {
            return;
        }
        sender.answer(&socket);
        sender.send_due(&socket, Instant::now());
        next = (next + STEP).max(Instant::now());
        sleep_until(next).await;
    }
}

impl Sender {
    fn take(&mut self, wish: Wish) {
        match wish {
            Wish::Beat { session, key, interval, parent } => {
                let now = Instant::now();
                let known = self.sessions.entry(session).or_insert_with(|| Session {
                    key: hmac::Key::new(hmac::HMAC_SHA256, &key),
                    parent,
                    interval,
                    next_number: 0,
                    orders: 0,
                    due: now,
                });
                known.interval = interval;
                known.orders += 1;
                if known.next_number == 0 {
                    self.schedule.insert((known.due, session), ());
                }
            }
            Wish::End { session } => {
                let Some(known) = self.sessions.get_mut(&session) else { return };
                known.orders -= 1;
                if known.orders == 0 {
                    self.schedule.remove(&(known.due, session));
                    self.sessions.remove(&session);
                }
            }
        }
    }

    fn send_due(&mut self, socket: &UdpSocket, now: Instant) {
        while let Some(entry) = self.schedule.first_entry()
            && entry.key().0 <= now
        {
            let ((_, id), ()) = entry.remove_entry();
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.send(socket, id);
            session.due = (session.due + session.interval).max(now);
            self.schedule.insert((session.due, id), ());
        }
    }

    /// One beat for every ask that is genuine.
    fn answer(&mut self, socket: &UdpSocket) {
        let mut buffer = [0; LENGTH + 1];
        while let Ok(LENGTH) = socket.try_recv(&mut buffer) {
            let (Some((id, _)), Some(tagged)) = (buffer.split_first_chunk(), buffer.get(..TAGGED)) else {
                return;
            };
            let id = u64::from_be_bytes(*id);
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if tag(b'a', tagged, &session.key) == buffer[TAGGED..LENGTH] {
                session.send(socket, id);
            }
        }
    }
}

impl Session {
    fn send(&mut self, socket: &UdpSocket, id: u64) {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&id.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.next_number.to_be_bytes());
        // A little different every time, as measured loads are: 10 to 20 % in hundredths.
        let load = 1000 + u16::try_from(self.next_number % 1000).unwrap_or_default();
        bytes[12..14].copy_from_slice(&load.to_be_bytes());
        let tag = tag(b'b', &bytes[..TAGGED], &self.key);
        bytes[TAGGED..].copy_from_slice(&tag);
        self.next_number = self.next_number.wrapping_add(1);
        // One that is lost is lost: it counts as sent.
        if let Err(error) = socket.try_send_to(&bytes, self.parent) {
            tracing::debug!(%error, "a beat could not be sent");
        }
    }
}

/// The beginning of an HMAC over direction and what comes before the tag.
fn tag(direction: u8, tagged: &[u8], key: &hmac::Key) -> [u8; 8] {
    let mut context = hmac::Context::with_key(key);
    context.update(&[direction]);
    context.update(tagged);
    *context.sign().as_ref().first_chunk().expect("an HMAC-SHA256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use link::BeatListener;

    use super::*;

    #[tokio::test]
    async fn a_real_listener_believes_the_beats_and_its_asks_are_answered() {
        let listener = BeatListener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        let parent = listener.local_addr().expect("bound");
        let sessions = [listener.register(), listener.register()];
        let beats = Beats::start().await.expect("a port");
        let hour = Duration::from_secs(3600);
        let beating: Vec<Beating> =
            sessions.iter().map(|session| beats.order(session.id, session.key, hour, parent)).collect();
        let mut came = Vec::new();
        while came.len() < 2 {
            listener.rung().await;
            came.extend(listener.take_in().into_iter().map(|beat| (beat.session, beat.sequence)));
        }
        let mut first = sessions.each_ref().map(|session| (session.id, 0));
        first.sort_unstable();
        came.sort_unstable();
        assert_eq!(came, first);
        listener.ask(sessions[1].id);
        listener.rung().await;
        let answer = listener.take_in();
        assert_eq!((answer[0].session, answer[0].sequence), (sessions[1].id, 1));
        drop(beating);
    }
}
