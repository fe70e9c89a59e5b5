//! Devices that are reached by the relay of the root.

use model::RelayPlace;

use super::*;

/// The way to worker 2 that worker 1 is told of.
fn told_way(cluster: &mut Cluster) -> Option<Way> {
    Some(told(cluster).get(&worker(1))?.peers.get(&worker(2))?.as_ref()?.way)
}

/// As seen there by the relay of the root.
fn by_root(observed: Option<SocketAddr>) -> Way {
    let endpoint = SocketAddr::new(reach(2).address, 50103);
    Way::Secure {
        endpoint,
        observed,
        relay: Some(RelayPlace::Root),
        key: TunnelKey([2; 32]),
        kernel_port: Some(50107),
    }
}

#[test]
fn who_is_at_the_relay_of_the_root_is_led_to_by_that_and_back_as_its_own_relay_sees_it() {
    let mut cluster = two_workers();
    told(&mut cluster);
    let [here, there] = [1, 2].map(|port| SocketAddr::from(([198, 51, 100, 7], port)));
    cluster.state.network_observed(worker(2), 1, here);
    told(&mut cluster);
    cluster.state.network_at_root(worker(2), 1, Some(there));
    assert_eq!(told_way(&mut cluster), Some(by_root(Some(there))));
    cluster.state.network_at_root(worker(2), 1, Some(there));
    assert_eq!(told_way(&mut cluster), None, "nothing new");
    cluster.state.network_connected(worker(2), 2, Some(reach(2)));
    cluster.state.network_at_root(worker(2), 1, None);
    assert_eq!(told_way(&mut cluster), None, "it is where it was, whatever an older connection says");
    // Its own relay sees it where it was, of which it tells nothing.
    cluster.state.network_at_root(worker(2), 2, None);
    let Some(Way::Secure { observed, relay, .. }) = told_way(&mut cluster) else { panic!("another way") };
    assert_eq!((observed, relay), (Some(here), None));
}

#[test]
fn of_where_the_root_sees_a_device_only_what_is_of_use_is_told() {
    for useless in [SocketAddr::new(reach(2).address, 50103), SocketAddr::from(([127, 0, 0, 1], 50103))] {
        let mut cluster = two_workers();
        told(&mut cluster);
        cluster.state.network_at_root(worker(2), 1, Some(useless));
        assert_eq!(told_way(&mut cluster), Some(by_root(None)), "{useless}");
    }
}

#[test]
fn a_device_of_another_key_is_not_where_the_one_before_was() {
    let mut cluster = two_workers();
    told(&mut cluster);
    cluster.state.network_at_root(worker(2), 1, Some(([198, 51, 100, 7], 1).into()));
    told(&mut cluster);
    cluster.state.network_connected(worker(2), 2, Some(Reach { tunnel: reach(9).tunnel, ..reach(2) }));
    let Some(Way::Secure { relay, .. }) = told_way(&mut cluster) else { panic!("another way") };
    assert_eq!(relay, None);
}
