//! What the root has yet to hear of: gathered after each commit, taken by the next report over the connection to it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use cluster_core::Change;
use model::InstanceId;
use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep_until},
};

/// Sums alone wait as long as this after the report before, and longer while they go on changing: each report adds up
/// all workers, and while many join each of them changes the sums.
const BETWEEN_SUMS: Duration = Duration::from_millis(100);
/// They wait no longer.
const LONGEST_BETWEEN_SUMS: Duration = Duration::from_millis(800);

/// When sums alone may be told.
#[derive(Debug)]
pub(crate) struct Pace {
    last: Instant,
    between: Duration,
}

impl Pace {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { last: now, between: BETWEEN_SUMS }
    }

    pub(crate) fn next(&self) -> Instant {
        self.last + self.between
    }

    /// A report of nothing but sums is made: the next one waits twice as long, unless they had come to rest.
    pub(crate) fn sums_alone(&mut self, now: Instant) {
        let rested = now.duration_since(self.last) > 2 * self.between;
        self.between = if rested { BETWEEN_SUMS } else { (2 * self.between).min(LONGEST_BETWEEN_SUMS) };
    }

    /// A report has been told.
    pub(crate) const fn told(&mut self, now: Instant) {
        self.last = now;
    }
}

#[derive(Debug, Default)]
pub(crate) struct News {
    /// Of these instances; sums are in every report.
    about: Mutex<BTreeSet<InstanceId>>,
    of_instances: Notify,
    of_sums: Notify,
}

impl News {
    /// Some of what was committed a report would tell of.
    pub(crate) fn changed(&self, changes: &[Change]) {
        if changes.iter().any(Change::concerns_the_root) {
            self.add(changes.iter().filter_map(Change::instance));
        }
    }

    /// Sums are others than they were, and something is to be told of these.
    pub(crate) fn add(&self, instances: impl IntoIterator<Item = InstanceId>) {
        let mut about = self.about.lock().unwrap_or_else(PoisonError::into_inner);
        about.extend(instances);
        if about.is_empty() { self.of_sums.notify_one() } else { self.of_instances.notify_one() }
    }

    /// Waits until there is something to tell, for news of sums alone until `later`. Nothing is lost if nobody waits any
    /// longer, but that sums are others, which the next report tells anyway.
    pub(crate) async fn wait(&self, later: Instant) {
        let sums = async {
            self.of_sums.notified().await;
            sleep_until(later).await;
        };
        tokio::select! {
            () = self.of_instances.notified() => {}
            () = sums => {}
        }
    }

    /// What is to be told of, from now on no more.
    pub(crate) fn take(&self) -> BTreeSet<InstanceId> {
        std::mem::take(&mut *self.about.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use model::ServiceId;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn sums_that_go_on_changing_wait_longer_and_longer() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let waits = |pace: &mut Pace, later: Duration| {
            let (due, before) = (pace.next(), pace.last);
            pace.sums_alone(due + later);
            pace.told(due + later);
            (due - before).as_millis()
        };
        let busy = [0; 6].map(|_| waits(&mut pace, Duration::from_millis(5)));
        assert_eq!(busy, [100, 200, 400, 800, 800, 800]);
        assert_eq!(waits(&mut pace, Duration::from_secs(2)), 800, "they rested");
        assert_eq!(waits(&mut pace, Duration::ZERO), 100);
        // Reports of instances in between delay sums, and no more than that.
        let now = pace.next();
        pace.told(now);
        assert_eq!((pace.next() - now).as_millis(), 200);
    }

    #[tokio::test]
    async fn sums_wait_and_instances_do_not() {
        let news = News::default();
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(3600));
        let comes = async |until| timeout(Duration::from_millis(1), news.wait(until)).await.is_ok();
        assert!(!comes(now).await, "nothing is new");
        news.add([]);
        assert!(comes(now).await, "it is late enough");
        news.add([]);
        assert!(!comes(later).await, "sums can wait");
        let instance = InstanceId { service: ServiceId::from_bytes([1; 12]), number: 0 };
        news.add([instance]);
        news.add([]);
        assert!(comes(later).await);
        assert_eq!((news.take(), news.take()), (BTreeSet::from([instance]), BTreeSet::new()));
    }
}
