//! The beats of this device: on order of the cluster, and for as long as nothing newer is ordered. A stream that broke
//! does not end them; the cluster decides by them whether the device is lost or only its stream.

use std::{net::SocketAddr, time::Duration};

use link::DatagramSession;
use model::Load;
use proto::v1;
use tokio::{sync::watch, task::AbortHandle};

/// The one who beats. Dropping it ends the beats.
#[derive(Debug)]
pub(crate) struct Beats {
    sender: Option<Sender>,
    /// How busy the device is, as every beat tells.
    load: watch::Receiver<Load>,
}

#[derive(Debug)]
struct Sender {
    session: DatagramSession,
    parent: SocketAddr,
    interval: watch::Sender<Duration>,
    task: AbortHandle,
}

impl Beats {
    /// Silent until the cluster orders beats.
    pub(crate) const fn new(load: watch::Receiver<Load>) -> Self {
        Self { sender: None, load }
    }

    /// Does as the cluster at `parent` ordered: the same session with another interval goes on counting, another one
    /// replaces it. An order that makes no sense changes nothing.
    pub(crate) fn order(&mut self, parent: SocketAddr, ordered: v1::BeatSession) {
        let interval = Duration::from_millis(u64::from(ordered.interval_millis));
        let Ok(key) = <[u8; 32]>::try_from(ordered.key.as_slice()) else {
            tracing::warn!(
                bytes = ordered.key.len(),
                "the cluster sent a key for beats that is not 32 bytes long"
            );
            return;
        };
        let session = DatagramSession { id: ordered.id, key };
        if let Some(sender) = &self.sender
            && (&sender.session, sender.parent) == (&session, parent)
            && !sender.task.is_finished()
        {
            sender.interval.send_replace(interval);
            return;
        }
        tracing::debug!(?session, ?interval, %parent, "beating");
        let (told, heard) = watch::channel(interval);
        let task = tokio::spawn({
            let (session, load) = (session.clone(), self.load.clone());
            async move { link::send_beats(&parent.to_string(), session, heard, load).await }
        });
        self.end();
        self.sender = Some(Sender { session, parent, interval: told, task: task.abort_handle() });
    }

    fn end(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.task.abort();
        }
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        net::UdpSocket,
        time::{Instant, timeout},
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn ordered(id: u64, interval_millis: u32) -> v1::BeatSession {
        v1::BeatSession { id, key: vec![7; 32], interval_millis }
    }

    /// The session and the number of the next beat.
    async fn beat(socket: &UdpSocket) -> (u64, u32) {
        let mut datagram = [0; 64];
        let length =
            timeout(PATIENCE, socket.recv(&mut datagram)).await.expect("it beats").expect("received");
        assert_eq!(length, 24);
        let (session, number) = (datagram[..8].try_into(), datagram[8..12].try_into());
        (u64::from_be_bytes(session.expect("eight")), u32::from_be_bytes(number.expect("four")))
    }

    #[tokio::test]
    async fn an_order_is_followed_a_new_interval_keeps_the_count_and_a_new_session_begins_anew() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let parent = socket.local_addr().expect("bound");
        let mut beats = Beats::new(watch::channel(Load::default()).1);
        beats.order(parent, ordered(1, 60_000));
        assert_eq!(beat(&socket).await, (1, 0), "the first at once");
        beats.order(parent, ordered(1, 100));
        let begun = Instant::now();
        assert_eq!(beat(&socket).await, (1, 1));
        assert_eq!(beat(&socket).await, (1, 2));
        assert!(begun.elapsed() < Duration::from_secs(30), "by the new interval");
        beats.order(parent, v1::BeatSession { key: vec![7; 5], ..ordered(3, 100) });
        assert_eq!(beat(&socket).await.0, 1, "an order that makes no sense changes nothing");
        beats.order(parent, ordered(2, 100));
        let mut heard = beat(&socket).await;
        while heard.0 == 1 {
            heard = beat(&socket).await;
        }
        assert_eq!(heard, (2, 0));
        drop(beats);
        while timeout(Duration::from_millis(500), beat(&socket)).await.is_ok() {}
    }

    /// Sharing the thread with everything else that NodeEngine does is good enough as long as this holds.
    #[tokio::test]
    async fn beats_keep_their_time_on_a_device_with_twice_as_much_to_do_as_it_can() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let busy: Vec<_> = (0..2 * cores)
            .map(|_| {
                let stop = std::sync::Arc::clone(&stop);
                std::thread::spawn(move || {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let mut beats = Beats::new(watch::channel(Load::default()).1);
        beats.order(socket.local_addr().expect("bound"), ordered(1, 100));
        beat(&socket).await;
        let (mut gaps, mut last) = (Vec::new(), Instant::now());
        while gaps.len() < 30 {
            beat(&socket).await;
            gaps.push(last.elapsed());
            last = Instant::now();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for thread in busy {
            thread.join().expect("it does not panic");
        }
        gaps.sort();
        println!("beats each 100 ms on a busy device: median {:?}, longest {:?}", gaps[15], gaps[29]);
        assert!(gaps[29] < Duration::from_secs(1), "{gaps:?}");
    }
}
