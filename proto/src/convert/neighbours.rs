//! What clusters are told of each other, by the root and through it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    ApplicationId, ClusterId, Generation, Neighbour, NeighbourInstance, NeighbourNews, Neighbours, ServiceId,
    SharedNews, SharedService,
};
use uuid::Uuid;

use super::{
    WireError,
    network::{
        description_from_wire, description_to_wire, in_order, instance_from_wire, instance_to_wire,
        peer_from_wire, peer_to_wire,
    },
    parse, required, service_from_parts, service_to_parts,
};
use crate::v1;

impl From<&Neighbours> for v1::Neighbours {
    fn from(neighbours: &Neighbours) -> Self {
        let service = |(id, service): (&ServiceId, &SharedService)| {
            let SharedService { names, addresses, allowed_callers } = service;
            description_to_wire(*id, names, addresses, allowed_callers)
        };
        let application = |(id, news): (&ApplicationId, &Option<SharedNews>)| match news {
            Some(news) => v1::SharedApplication {
                id: id.to_string(),
                services: news.services.iter().map(service).collect(),
                joined: news.joined.iter().map(|id| cluster_to_wire(*id)).collect(),
                left: news.left.iter().map(|id| cluster_to_wire(*id)).collect(),
                gone: false,
            },
            None => {
                v1::SharedApplication { id: id.to_string(), gone: true, ..v1::SharedApplication::default() }
            }
        };
        let cluster = |(id, neighbour): (&ClusterId, &Neighbour)| v1::Neighbour {
            cluster: cluster_to_wire(*id),
            epoch: neighbour.epoch.unwrap_or_default(),
            blocks: Some((&neighbour.blocks).into()),
        };
        Self {
            whole: neighbours.whole,
            applications: neighbours.applications.iter().map(application).collect(),
            clusters: neighbours.clusters.iter().map(cluster).collect(),
        }
    }
}

impl TryFrom<v1::Neighbours> for Neighbours {
    type Error = WireError;

    fn try_from(wire: v1::Neighbours) -> Result<Self, WireError> {
        let application = |wire: v1::SharedApplication| {
            let id: ApplicationId = parse("application.id", &wire.id)?;
            if wire.gone {
                return Ok((id, None));
            }
            let services: BTreeMap<ServiceId, SharedService> =
                wire.services.into_iter().map(description_from_wire).collect::<Result<_, WireError>>()?;
            let clusters = |ids: Vec<Vec<u8>>| -> Result<BTreeSet<ClusterId>, WireError> {
                ids.iter().map(|id| cluster_from_wire(id)).collect()
            };
            let news = SharedNews {
                services: Arc::new(services),
                joined: clusters(wire.joined)?,
                left: clusters(wire.left)?,
            };
            Ok((id, Some(news)))
        };
        let cluster = |wire: v1::Neighbour| {
            let neighbour = Neighbour {
                epoch: (wire.epoch > 0).then_some(wire.epoch),
                blocks: required("neighbour.blocks", wire.blocks)?.try_into()?,
            };
            Ok((cluster_from_wire(&wire.cluster)?, neighbour))
        };
        Ok(Self {
            whole: wire.whole,
            applications: wire.applications.into_iter().map(application).collect::<Result<_, WireError>>()?,
            clusters: wire.clusters.into_iter().map(cluster).collect::<Result<_, WireError>>()?,
        })
    }
}

impl From<&NeighbourNews> for v1::NeighbourNews {
    fn from(news: &NeighbourNews) -> Self {
        let service = |(id, instances): (&ServiceId, &Option<Arc<Vec<NeighbourInstance>>>)| {
            let (high, low) = service_to_parts(*id);
            let instance = |it: &NeighbourInstance| v1::NeighbourInstance {
                instance: Some(instance_to_wire(&it.instance)),
                generation: it.generation.0,
            };
            let instances = instances.iter().flat_map(|instances| instances.iter()).map(instance).collect();
            v1::NeighbourService { high, low, instances }
        };
        Self {
            whole: news.whole,
            services: news.services.iter().map(service).collect(),
            peers: news.peers.iter().map(|(id, peer)| peer_to_wire(*id, peer.as_deref())).collect(),
        }
    }
}

impl TryFrom<v1::NeighbourNews> for NeighbourNews {
    type Error = WireError;

    fn try_from(wire: v1::NeighbourNews) -> Result<Self, WireError> {
        let instance = |wire: v1::NeighbourInstance| {
            let instance = instance_from_wire(required("neighbour.instance", wire.instance)?)?;
            Ok(NeighbourInstance { instance, generation: Generation(wire.generation) })
        };
        let service = |wire: v1::NeighbourService| {
            let id = service_from_parts(wire.high, wire.low);
            let instances: Vec<NeighbourInstance> =
                wire.instances.into_iter().map(instance).collect::<Result<_, WireError>>()?;
            in_order("neighbour.instances", instances.iter().map(|it| it.instance.number))?;
            Ok((id, (!instances.is_empty()).then(|| Arc::new(instances))))
        };
        Ok(Self {
            whole: wire.whole,
            services: wire.services.into_iter().map(service).collect::<Result<_, WireError>>()?,
            peers: wire.peers.into_iter().map(peer_from_wire).collect::<Result<_, _>>()?,
        })
    }
}

impl v1::ToNeighbour {
    /// What a cluster says to the connection `epoch` of another.
    #[must_use]
    pub fn new(to: ClusterId, epoch: u64, news: &NeighbourNews) -> Self {
        Self { cluster: cluster_to_wire(to), epoch, news: Some(news.into()) }
    }

    /// To whom, to which of its connections, and what.
    ///
    /// # Errors
    /// When a part of it is not what it should be.
    pub fn read(self) -> Result<(ClusterId, u64, NeighbourNews), WireError> {
        let news = required("to_neighbour.news", self.news)?.try_into()?;
        Ok((cluster_from_wire(&self.cluster)?, self.epoch, news))
    }
}

impl v1::FromNeighbour {
    /// What a cluster said, as it is passed on.
    #[must_use]
    pub fn new(from: ClusterId, news: &NeighbourNews) -> Self {
        Self { cluster: cluster_to_wire(from), news: Some(news.into()) }
    }

    /// Who said what.
    ///
    /// # Errors
    /// When a part of it is not what it should be.
    pub fn read(self) -> Result<(ClusterId, NeighbourNews), WireError> {
        let news = required("from_neighbour.news", self.news)?.try_into()?;
        Ok((cluster_from_wire(&self.cluster)?, news))
    }
}

fn cluster_to_wire(id: ClusterId) -> Vec<u8> {
    id.as_uuid().as_bytes().to_vec()
}

fn cluster_from_wire(bytes: &[u8]) -> Result<ClusterId, WireError> {
    let id = Uuid::from_slice(bytes).map_err(|error| WireError::new("cluster", error.to_string()))?;
    Ok(ClusterId::new(id))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use model::{
        AddressKind, CallableInstance, NetworkLease, Peer, RelayPlace, ServiceNames, TunnelKey, Way, Weight,
        WorkerId,
    };
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn cluster(number: u128) -> ClusterId {
        ClusterId::new(Uuid::from_u128(number))
    }

    fn lease() -> NetworkLease {
        NetworkLease {
            v4: vec!["10.18.0.0/20".parse().expect("a network")],
            v6: vec!["fc00::/114".parse().expect("a network")],
        }
    }

    fn neighbours() -> Neighbours {
        let names = ServiceNames {
            application: "shop".to_owned(),
            application_namespace: "prod".to_owned(),
            service: "front".to_owned(),
            service_namespace: "v1".to_owned(),
        };
        let addresses = BTreeMap::from([(AddressKind::RoundRobin, Ipv4Addr::new(10, 30, 0, 7))]);
        let callers = ["till.prod", "*"].map(|caller| caller.parse().expect("a caller"));
        let shared = SharedService {
            names: names.into(),
            addresses: addresses.into(),
            allowed_callers: Arc::new(callers.into()),
        };
        let news = SharedNews {
            services: BTreeMap::from([(ServiceId::from_bytes([3; 12]), shared)]).into(),
            joined: BTreeSet::from([cluster(1), cluster(2)]),
            left: BTreeSet::from([cluster(3)]),
        };
        Neighbours {
            whole: true,
            applications: BTreeMap::from([
                (ApplicationId::from_bytes([1; 12]), Some(news)),
                (ApplicationId::from_bytes([2; 12]), None),
            ]),
            clusters: BTreeMap::from([
                (cluster(1), Neighbour { epoch: Some(9), blocks: lease() }),
                (cluster(2), Neighbour { epoch: None, blocks: lease() }),
            ]),
        }
    }

    fn news() -> NeighbourNews {
        let worker = WorkerId::new(Uuid::from_u128(77));
        let instance = CallableInstance {
            number: 4,
            address: Ipv4Addr::new(10, 30, 0, 9),
            worker,
            ready: true,
            weight: Weight::new(4),
        };
        let peer = Peer {
            way: Way::Secure {
                endpoint: SocketAddr::from(([192, 0, 2, 1], 50103)),
                observed: Some(SocketAddr::from(([198, 51, 100, 7], 4000))),
                relay: Some(RelayPlace::At(SocketAddr::from(([203, 0, 113, 1], 50105)))),
                key: TunnelKey([5; 32]),
                kernel_port: Some(50107),
            },
            lease: lease(),
        };
        NeighbourNews {
            whole: true,
            services: BTreeMap::from([
                (
                    ServiceId::from_bytes([3; 12]),
                    Some(Arc::new(vec![NeighbourInstance { instance, generation: Generation(6) }])),
                ),
                (ServiceId::from_bytes([4; 12]), None),
            ]),
            peers: BTreeMap::from([(worker, Some(peer.into())), (WorkerId::new(Uuid::from_u128(78)), None)]),
        }
    }

    #[test]
    fn what_is_said_arrives_as_it_was() {
        assert_eq!(Neighbours::try_from(v1::Neighbours::from(&neighbours())), Ok(neighbours()));
        let to = v1::ToNeighbour::new(cluster(5), 12, &news());
        assert_eq!(to.read(), Ok((cluster(5), 12, news())));
        assert_eq!(v1::FromNeighbour::new(cluster(5), &news()).read(), Ok((cluster(5), news())));
    }

    #[test]
    fn what_is_not_of_the_plan_is_named() {
        let mut wire = v1::NeighbourNews::from(&news());
        wire.services[0].instances[0].instance.as_mut().expect("an instance").address =
            u32::from(Ipv4Addr::new(192, 0, 2, 1));
        let error = NeighbourNews::try_from(wire).expect_err("an address of somebody else");
        assert_eq!(
            error.to_string(),
            "message from the peer is not valid: instance.address is 192.0.2.1, which is not of the plan"
        );
        let mut wire = v1::Neighbours::from(&neighbours());
        wire.clusters[0].cluster.pop();
        let error = Neighbours::try_from(wire).expect_err("half an id");
        assert!(error.to_string().starts_with("message from the peer is not valid: cluster "), "{error}");
    }

    proptest! {
        /// Whatever bytes come, they are understood or refused.
        #[test]
        fn garbage_is_refused(cut in 0_usize..400, place in 0_usize..400, byte: u8) {
            for whole in [
                v1::FromNeighbour::new(cluster(5), &news()).encode_to_vec(),
                v1::Neighbours::from(&neighbours()).encode_to_vec(),
            ] {
                let mut bytes = whole;
                bytes.truncate(cut.max(1));
                if let Some(there) = bytes.get_mut(place) {
                    *there = byte;
                }
                if let Ok(wire) = v1::FromNeighbour::decode(bytes.as_slice()) {
                    drop(wire.read());
                }
                if let Ok(wire) = v1::Neighbours::decode(bytes.as_slice()) {
                    drop(Neighbours::try_from(wire));
                }
            }
        }
    }
}
