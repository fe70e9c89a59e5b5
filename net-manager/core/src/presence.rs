//! Of an instance that moves there are two copies for a while, and one address, which leads to the copy that the cluster says:
//! to the old one until the new one is ready and its turn has come, then to the new one. On the device of the other copy
//! that address leads away, as on all others. That copy, a guest, calls from its device's range meanwhile, and other devices
//! see the device itself: what it needs to get ready, and to end well, answers.

use std::{collections::BTreeSet, net::IpAddr};

use model::InstanceId;

use crate::{Element, LinkPlan, NetworkState};

impl NetworkState {
    /// The instances attached here that their kept addresses lead to.
    pub(crate) fn instances_here(&self) -> BTreeSet<InstanceId> {
        let attached = self.attachments().iter().map(|attachment| attachment.id);
        attached.filter(|id| !self.is_elsewhere(*id)).collect()
    }

    /// Whether another device has it, as far as the cluster told.
    fn is_elsewhere(&self, id: InstanceId) -> bool {
        let surroundings = self.surroundings();
        let service = surroundings.services.get(&id.service);
        let now = service.and_then(|service| service.instance(id.number));
        now.is_some_and(|now| surroundings.peers.contains_key(&now.worker))
    }

    /// The addresses at which others may be connected to an instance here. One that another device has by now took the
    /// address it keeps along: whoever was connected to that is not any more.
    #[must_use]
    pub fn connected_at(&self, id: InstanceId) -> BTreeSet<IpAddr> {
        let Some(attachment) = self.attachment(id) else { return BTreeSet::new() };
        let kept = attachment.stable().filter(|_| !self.is_elsewhere(id)).map(|stable| stable.all());
        attachment.addresses.all().into_iter().chain(kept.into_iter().flatten()).collect()
    }
}

/// What a guest calls others as.
pub(crate) fn guest(plan: &LinkPlan) -> impl Iterator<Item = Element> + use<> {
    let calls = plan.addresses.all().into_iter().zip(plan.gateway.all());
    calls.map(|(from, gateway)| Element::Guest { from, gateway })
}
