//! Routes to other devices, many at once: a device that hears of a large application is led to thousands of instances.

use std::net::IpAddr;

use ipnet::IpNet;
use nlink::netlink::{
    Connection, InterfaceRef, MessageBuilder, Route,
    route::{Ipv4Route, Ipv6Route, ResolvedRouteInterfaces, RouteConfig},
    types::route::{RouteProtocol, RouteScope},
};

use super::ROUTE_PROTOCOL;
use crate::datapath::DatapathError;

/// The kernel answers each message of a batch, and drops answers that a socket has no room for. A usual socket has room for
/// more than these.
const BATCH: usize = 100;

/// A route over one of our interfaces.
#[derive(Debug, Clone)]
pub(super) struct Way {
    index: u32,
    to: IpNet,
    route: Versioned,
}

#[derive(Debug, Clone)]
enum Versioned {
    V4(Ipv4Route),
    V6(Ipv6Route),
}

impl Way {
    /// The route over the interface of this number; `None` when the addresses are not of one family, which no brain asks for.
    pub(super) fn new(index: u32, to: IpNet, via: Option<IpAddr>, from: IpAddr) -> Option<Self> {
        let protocol = RouteProtocol::from(ROUTE_PROTOCOL);
        let route = match (to, from) {
            (IpNet::V4(to), IpAddr::V4(from)) => {
                let way = Ipv4Route::new(to.network(), to.prefix_len()).dev_index(index);
                let way = way.prefsrc(from).protocol(protocol);
                Versioned::V4(match via {
                    Some(IpAddr::V4(via)) => way.gateway(via).onlink(),
                    Some(IpAddr::V6(_)) => return None,
                    None => way.scope(RouteScope::Link),
                })
            }
            (IpNet::V6(to), IpAddr::V6(from)) => {
                let way = Ipv6Route::new(to.network(), to.prefix_len()).dev_index(index);
                let way = way.prefsrc(from).protocol(protocol);
                Versioned::V6(match via {
                    Some(IpAddr::V6(via)) => way.gateway(via).onlink(),
                    Some(IpAddr::V4(_)) => return None,
                    None => way,
                })
            }
            (IpNet::V4(_) | IpNet::V6(_), _) => return None,
        };
        Some(Self { index, to, route })
    }

    /// Sets routes, each in place of one that is there: what can be added is, many at a time, and what cannot replaces in one
    /// step.
    pub(super) async fn set_all(route: &Connection<Route>, ways: &[Self]) -> Result<(), DatapathError> {
        for ways in ways.chunks(BATCH) {
            let mut batch = route.batch();
            for way in ways {
                batch = match &way.route {
                    Versioned::V4(config) => batch.add_route(OnInterface { config, index: way.index }),
                    Versioned::V6(config) => batch.add_route(OnInterface { config, index: way.index }),
                };
            }
            let outcome = batch.execute().await;
            let outcome = outcome.map_err(DatapathError::from_attempt("set routes to other devices"))?;
            let added: Vec<bool> = outcome.iter().map(Result::is_ok).collect();
            for (number, way) in ways.iter().enumerate() {
                if added.get(number) != Some(&true) {
                    let problem = format!("set the route to {} on another device", way.to);
                    way.set(route).await.map_err(DatapathError::from_attempt(problem))?;
                }
            }
        }
        Ok(())
    }

    async fn set(&self, route: &Connection<Route>) -> nlink::netlink::Result<()> {
        match &self.route {
            Versioned::V4(config) => route.replace_route(config.clone()).await,
            Versioned::V6(config) => route.replace_route(config.clone()).await,
        }
    }

    pub(super) async fn remove(self, route: &Connection<Route>) -> nlink::netlink::Result<()> {
        match self.route {
            Versioned::V4(config) => route.del_route_if_exists(config).await.map(drop),
            Versioned::V6(config) => route.del_route_if_exists(config).await.map(drop),
        }
    }
}

/// A route that names its interface in a batch too: nlink 0.33 leaves it out there.
struct OnInterface<'a, R> {
    config: &'a R,
    index: u32,
}

impl<R> OnInterface<'_, R> {
    fn interfaces(&self) -> ResolvedRouteInterfaces {
        ResolvedRouteInterfaces { oif: Some(self.index), multipath: Vec::new() }
    }
}

impl<R: RouteConfig> RouteConfig for OnInterface<'_, R> {
    fn device_ref(&self) -> Option<&InterfaceRef> {
        self.config.device_ref()
    }

    fn multipath_device_refs(&self) -> Vec<Option<&InterfaceRef>> {
        self.config.multipath_device_refs()
    }

    fn family(&self) -> u8 {
        self.config.family()
    }

    fn write_add(&self, builder: &mut MessageBuilder, _: &ResolvedRouteInterfaces) {
        self.config.write_add(builder, &self.interfaces());
    }

    fn write_delete(&self, builder: &mut MessageBuilder) {
        self.config.write_delete_with_interfaces(builder, &self.interfaces());
    }
}
