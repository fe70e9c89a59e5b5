//! What the root has yet to hear of: gathered after each commit, taken by the next report over the connection to it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use cluster_core::Change;
use model::InstanceId;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

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
    use std::time::Duration;

    use model::ServiceId;
    use tokio::time::timeout;

    use super::*;

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
