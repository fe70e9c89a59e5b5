//! The keys of a relay that knows no devices: the root's. It lends each cluster a key, from which the cluster makes those
//! of its devices. A registration names cluster and mailbox, and from these the relay makes the key that proves it.
//!
//! ```text
//!   secret of the root ── cluster ──► key of the cluster ── mailbox ──► key of the device
//! ```

use std::fmt;

use model::ClusterId;
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

use crate::Destination;

/// Each step has a name of its own, so that no key of one can be taken for one of the other.
const OF_CLUSTER: &[u8] = b"mangrove relay, cluster ";
const OF_DEVICE: &[u8] = b"mangrove relay, device ";

/// What all keys that a root lends follow from. Kept by the root, so that after a restart it lends the same.
#[derive(Clone)]
pub struct RootSecret(pub [u8; 32]);

/// What a root lends a cluster.
#[derive(Clone)]
pub struct ClusterKey(pub [u8; 32]);

impl RootSecret {
    /// One of chance.
    #[must_use]
    pub fn generate() -> Self {
        Self(random())
    }

    /// The key of a cluster.
    #[must_use]
    pub fn lend(&self, cluster: ClusterId) -> ClusterKey {
        ClusterKey(derive(&self.0, OF_CLUSTER, cluster.as_uuid().as_bytes()))
    }
}

impl ClusterKey {
    /// The key by which a device of the cluster registers for its mailbox.
    #[must_use]
    pub fn of_mailbox(&self, mailbox: Destination) -> [u8; 32] {
        derive(&self.0, OF_DEVICE, &mailbox.0)
    }
}

fn derive(from: &[u8; 32], step: &[u8], name: &[u8; 16]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, from);
    let tag = hmac::sign(&key, &[step, name].concat());
    *tag.as_ref().first_chunk().expect("an HMAC-SHA256 has 32 bytes")
}

pub(crate) fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes on every supported system");
    bytes
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootSecret")
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_key_is_of_one_root_one_cluster_and_one_mailbox_and_always_the_same() {
        let clusters = [1, 2].map(|number| ClusterId::new(Uuid::from_u128(number)));
        let mailboxes = [1, 2].map(|number| Destination::of(&[number; 32]));
        let key = |secret: u8, cluster: usize, mailbox: usize| {
            RootSecret([secret; 32]).lend(clusters[cluster]).of_mailbox(mailboxes[mailbox])
        };
        let all = [key(1, 0, 0), key(2, 0, 0), key(1, 1, 0), key(1, 0, 1)];
        assert_eq!(BTreeSet::from(all).len(), all.len());
        assert_eq!(key(1, 0, 0), all[0]);
    }
}
