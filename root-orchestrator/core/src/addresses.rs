//! The addresses of services and instances: which are in use follows from the documents, and what is new gets its own
//! in the same turn. Which there are is decided by `addressing::StablePlan`.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use addressing::StablePlan;
use model::{AddressKind, InstanceId, ServiceId};

use crate::{Change, Instance, Rejected, Service, State, reconcile::Plan, sla::SlaService};

impl State {
    pub(crate) fn address_service(&mut self, id: ServiceId, service: Option<&Service>) {
        let before = self.services.get(&id);
        let unchanged =
            before.is_some_and(|before| service.is_some_and(|it| it.addresses == before.addresses));
        if !unchanged {
            for address in before.into_iter().flat_map(|before| before.addresses.values()) {
                self.stable.release(*address);
            }
            for (kind, address) in service.into_iter().flat_map(|service| &*service.addresses) {
                // Taken already by this very document; whoever chose another's was refused before.
                self.stable.claim(*kind, *address).ok();
            }
        }
        let lacks = |service: &Service| {
            AddressKind::OF_A_SERVICE.iter().any(|kind| !service.addresses.contains_key(kind))
        };
        if service.is_some_and(|service| !service.deleted && lacks(service)) {
            self.unaddressed.0.insert(id);
        } else {
            self.unaddressed.0.remove(&id);
        }
    }

    pub(crate) fn address_instance(
        &mut self,
        id: InstanceId,
        before: Option<&Instance>,
        instance: Option<&Instance>,
    ) {
        let of = |instance: Option<&Instance>| instance.and_then(|instance| instance.address);
        let (was, is) = (of(before), of(instance));
        if was != is {
            was.into_iter().for_each(|address| self.stable.release(address));
            if let Some(address) = is {
                self.stable.claim(AddressKind::Instance, address).ok();
            }
        }
        if instance.is_some() && is.is_none() {
            self.unaddressed.1.insert(id);
        } else {
            self.unaddressed.1.remove(&id);
        }
    }

    /// Gives addresses to what has none yet. What is left over when there are none more waits for some to be free.
    pub(crate) fn give_addresses(&mut self, plan: &mut Plan) {
        if self.stable.left() == 0 {
            // Those that wait may be many.
            return;
        }
        for id in self.unaddressed.0.clone() {
            let Some(mut service) = self.services.get(&id).cloned() else { continue };
            let had = service.addresses.len();
            for kind in AddressKind::OF_A_SERVICE {
                if !service.addresses.contains_key(&kind)
                    && let Ok(address) = self.stable.allocate(kind)
                {
                    Arc::make_mut(&mut service.addresses).insert(kind, address.v4);
                }
            }
            if service.addresses.len() > had {
                self.change(plan, Change::Service(id, Some(service)));
            }
        }
        for id in self.unaddressed.1.clone() {
            let Some(mut instance) = self.instances.get(&id).cloned() else { continue };
            let Ok(address) = self.stable.allocate(AddressKind::Instance) else { return };
            instance.address = Some(address.v4);
            self.change(plan, Change::Instance(id, Some(instance)));
        }
    }

    /// Whether new services can have addresses.
    ///
    /// # Errors
    /// When a chosen address is in use or there are not enough.
    pub(crate) fn ensure_addresses(&self, services: &[SlaService]) -> Result<(), Rejected> {
        let chosen = || services.iter().filter_map(|service| Some((service, service.round_robin?)));
        if let Some((service, address)) = chosen().find(|(_, address)| self.stable.is_used(*address)) {
            return Err(Rejected::AddressTaken { service: service.name.clone(), address });
        }
        if self.stable.left() < services.len() * AddressKind::OF_A_SERVICE.len() {
            return Err(Rejected::NoAddress { limit: StablePlan::LIMIT });
        }
        Ok(())
    }
}

/// The addresses a new service has from its beginning.
pub(crate) fn chosen(round_robin: Option<Ipv4Addr>) -> Arc<BTreeMap<AddressKind, Ipv4Addr>> {
    Arc::new(round_robin.map(|address| (AddressKind::RoundRobin, address)).into_iter().collect())
}
