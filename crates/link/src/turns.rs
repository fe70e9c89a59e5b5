//! In which order handshakes are worked on: those that have begun come first.
//!
//! When a whole fleet comes back at once, its handshakes would otherwise advance side by side and all end late, half of
//! them after the other side gave up; and whatever else the process has to do would wait behind thousands of them.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

/// What a thread works on at once. One handshake takes a third of a millisecond of a processor core, so the last of
/// them waits some 20 ms.
const AT_ONCE: usize = 64;
/// A peer that answers slowly, because it is far away or wants to be in the way, keeps others waiting for no longer than
/// this: a thousand handshakes a second begin whatever peers do.
const KEPT_AT_MOST: Duration = Duration::from_millis(50);

thread_local! {
    static HANDSHAKES: Arc<Turns> = Arc::new(Turns::new(AT_ONCE, KEPT_AT_MOST));
}

/// Those of all ports that are served from this thread, as they share its processor core.
pub(crate) fn handshakes() -> Arc<Turns> {
    HANDSHAKES.with(Arc::clone)
}

/// Lets a number of pieces of work begin at once, the next when one of them has ended or had its time.
pub(crate) struct Turns {
    places: Semaphore,
    kept_at_most: Duration,
}

impl Turns {
    pub(crate) const fn new(at_once: usize, kept_at_most: Duration) -> Self {
        Self { places: Semaphore::const_new(at_once), kept_at_most }
    }

    /// Does `work` when it is its turn, in the order of asking. It is never stopped: after its time it goes on without a
    /// place.
    pub(crate) async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        let place = self.places.acquire().await;
        let mut work = pin!(work);
        if let Ok(done) = timeout(self.kept_at_most, &mut work).await {
            return done;
        }
        drop(place);
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::sync::oneshot;

    use super::Turns;

    #[tokio::test]
    async fn the_next_begins_when_one_has_ended() {
        let turns = Turns::new(1, Duration::from_secs(3600));
        let (end, ended) = oneshot::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let first = turns.take(async {
            begun.send(()).expect("awaited below");
            ended.await.expect("sent below");
        });
        let second = async {
            has_begun.await.expect("the first begins");
            let mut second = Box::pin(turns.take(async { "second" }));
            tokio::select! {
                biased;
                _ = &mut second => panic!("began while the only place was taken"),
                () = std::future::ready(()) => {}
            }
            end.send(()).expect("awaited by the first");
            second.await
        };
        let ((), done) = tokio::join!(first, second);
        assert_eq!(done, "second");
    }

    #[tokio::test]
    async fn who_is_slow_keeps_nobody_out() {
        let turns = Turns::new(1, Duration::from_millis(1));
        tokio::select! {
            biased;
            () = turns.take(pending()) => {}
            done = turns.take(async { "second" }) => assert_eq!(done, "second"),
        }
    }
}
