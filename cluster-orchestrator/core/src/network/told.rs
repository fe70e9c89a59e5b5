//! What a NetManager was told, and whether something is different to it.

use std::{collections::BTreeMap, sync::Arc};

use model::{CallableService, NetworkLease, NetworkNews, Peer, Reach, ServiceId, TunnelKey, WorkerId};

use crate::ways::key_of;

/// A connected NetManager and what it was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Its connection.
    pub(super) session: u64,
    /// Where other devices reach its device, as it says.
    pub(super) reach: Option<Reach>,
    /// `None` before its first news.
    pub(super) lease: Option<NetworkLease>,
    pub(super) services: BTreeMap<ServiceId, Arc<CallableService>>,
    /// How many of these services have instances on each device.
    pub(super) devices: BTreeMap<WorkerId, usize>,
    pub(super) peers: BTreeMap<WorkerId, Arc<Peer>>,
    /// How many of the peers have a key that begins so. Those are many, and that two begin alike by chance only has them
    /// looked at.
    pub(super) keys: BTreeMap<u64, usize>,
    /// Some device may not be led to because of its key.
    pub(super) disputed: bool,
}

impl Told {
    /// Whether it is to be seen which of two devices with one key counts, of these or others. All that it is led to is
    /// looked at then.
    pub(super) fn has_doubts<'a>(
        &mut self,
        own: Option<TunnelKey>,
        mut ways: impl Iterator<Item = &'a (WorkerId, Option<Arc<Peer>>)>,
    ) -> bool {
        self.disputed = self.disputed
            || ways.any(|(id, peer)| peer.as_ref().is_some_and(|peer| self.doubts(own, *id, peer)));
        self.disputed
    }

    /// Whether another device, or this one, has the key of that peer.
    fn doubts(&self, own: Option<TunnelKey>, id: WorkerId, peer: &Peer) -> bool {
        let Some(key) = key_of(peer.way) else { return false };
        let itself = self.peers.get(&id).is_some_and(|known| key_of(known.way) == Some(key));
        own == Some(key) || self.keys.get(&beginning(key)).is_some_and(|times| *times > usize::from(itself))
    }

    /// A device is led to like this from now on, or not any more. Tells whether that is different.
    pub(super) fn lead(&mut self, id: WorkerId, peer: Option<Arc<Peer>>) -> bool {
        if self.peers.get(&id) == peer.as_ref() {
            return false;
        }
        if let Some(key) = self.peers.remove(&id).and_then(|before| key_of(before.way)) {
            fewer(&mut self.keys, beginning(key));
        }
        if let Some(peer) = peer {
            if let Some(key) = key_of(peer.way) {
                *self.keys.entry(beginning(key)).or_default() += 1;
            }
            self.peers.insert(id, peer);
        }
        true
    }

    /// A service has no instances on those devices any more: they are not led to where no other has.
    pub(super) fn leave<'a>(&mut self, devices: impl Iterator<Item = &'a WorkerId>, news: &mut NetworkNews) {
        for device in devices {
            if fewer(&mut self.devices, *device) && self.lead(*device, None) {
                news.peers.insert(*device, None);
            }
        }
    }
}

const fn beginning(key: TunnelKey) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = key.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Counts one down; tells whether that was the last.
pub(crate) fn fewer<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) -> bool {
    let Some(count) = counts.get_mut(&key) else { return false };
    *count -= 1;
    let last = *count == 0;
    if last {
        counts.remove(&key);
    }
    last
}
