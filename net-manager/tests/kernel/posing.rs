//! Instances that pretend to be others, or to be elsewhere.

use std::net::{IpAddr, UdpSocket};

use net_core::LinkName;
use nlink::netlink::{
    Connection, Nftables,
    addr::Ipv4Address,
    nftables::{BaseChain, Chain, Family, FilterHook, Priority, Rule, Stmt},
    types::route::RouteProtocol,
};

use crate::support::{Lab, PATIENCE, Place, index_of, instance, parse};

#[tokio::test]
async fn a_packet_with_somebody_elses_address_is_dropped() {
    let mut lab = Lab::new().await;
    lab.hear(&[], &[]).await;
    let (liar, _) = lab.attach(0, "").await;
    let (listener, _) = lab.attach(1, "").await;
    let (_victim, _) = lab.attach(2, "").await;
    let heard = listener.udp("0.0.0.0:9");
    let eth0 = index_of(&liar.route(), "eth0").await;
    for forged in ["10.18.0.4", "192.0.2.77"] {
        liar.route().add_address(Ipv4Address::with_index(eth0, parse(forged), 32)).await.expect("an address");
    }

    let mut sender = [0; 8];
    for forged in ["10.18.0.4:0", "192.0.2.77:0"] {
        liar.udp(forged).send_to(b"forged", "10.18.0.3:9").expect("it leaves the instance");
        assert!(heard.recv(&mut sender).is_err(), "{forged} was let through");
    }
    liar.udp("10.18.0.2:0").send_to(b"honest", "10.18.0.3:9").expect("it leaves the instance");
    assert_eq!(heard.recv(&mut sender).expect("it arrives"), 6);
}

#[tokio::test]
async fn nobody_speaks_in_a_flow_of_others() {
    let mut lab = Lab::new().await;
    lab.hear(&[], &[]).await;
    let (caller, _) = lab.attach(0, "").await;
    let (server, _) = lab.attach(1, "").await;
    let (liar, _) = lab.attach(2, "").await;
    let (calls, serves) = (caller.udp("10.18.0.2:7"), server.udp("10.18.0.3:9"));
    let mut said = [0; 8];
    let mut hears = |from: &UdpSocket, to: &str, at: &UdpSocket| {
        from.send_to(b"flow", to).expect("it leaves the instance");
        at.recv(&mut said).is_ok()
    };
    assert!(hears(&calls, "10.18.0.3:9", &serves) && hears(&serves, "10.18.0.2:7", &calls));

    let eth0 = index_of(&liar.route(), "eth0").await;
    liar.route()
        .add_address(Ipv4Address::with_index(eth0, parse("10.18.0.2"), 32))
        .await
        .expect("an address");
    assert!(!hears(&liar.udp("10.18.0.2:7"), "10.18.0.3:9", &serves), "another spoke for the caller");
    assert!(hears(&calls, "10.18.0.3:9", &serves), "the flow goes on");
}

#[tokio::test]
async fn what_the_device_offers_only_to_itself_stays_its_own() {
    let mut lab = Lab::new().await;
    let (inside, _) = lab.attach(0, "").await;
    let (mapped, _) = lab.attach(1, "8080:80/udp").await;
    let behind_a_port = mapped.udp("0.0.0.0:80");
    let private = lab.device.run(|| UdpSocket::bind("127.0.0.1:9")).expect("a free port");
    private.set_nonblocking(true).expect("a setting");
    // Without a loopback address of its own, what the instance sends there goes to its gateway.
    let loopback = Ipv4Address::with_index(1, parse("127.0.0.1"), 8);
    inside.route().del_address_config(loopback).await.expect("its loopback address");
    let (sender, open) = (inside.udp("10.18.0.2:0"), lab.device.udp("10.18.0.1:9"));
    // What is sent later arrives later.
    let passed = || {
        sender.send_to(b"!", "10.18.0.1:9").expect("it leaves the instance");
        open.recv(&mut [0; 8]).expect("the device is reached by its own address");
    };
    sender.send_to(b"?", "127.0.0.1:9").expect("it leaves the instance");
    passed();
    assert!(private.recv(&mut [0; 8]).is_err(), "127.0.0.1 of the device was reached");
    inside.udp("10.18.0.2:0").send_to(b"?", "127.0.0.1:8080").expect("it leaves the instance");
    assert!(behind_a_port.recv(&mut [0; 8]).is_err(), "a port of 127.0.0.1 was reached");
    inside.udp("10.18.0.2:0").send_to(b"?", "192.0.2.1:8080").expect("it leaves the instance");
    assert!(behind_a_port.recv(&mut [0; 8]).is_ok(), "a port of the device");

    // Rules that see connections only do not see this.
    let nftables: Connection<Nftables> = Connection::new_in(&lab.device.netns).expect("netlink");
    let chain = Chain::new("others", "untracked").expect("a name").family(Family::Inet);
    let rule = Rule::new("others", "untracked").family(Family::Inet).then(Stmt::Notrack);
    nftables
        .transaction()
        .add_table("others", Family::Inet)
        .add_chain(chain.base(BaseChain::filter(FilterHook::Prerouting, Priority::Raw)))
        .add_rule(rule)
        .commit(&nftables)
        .await
        .expect("rules");
    sender.send_to(b"?", "127.0.0.1:9").expect("it leaves the instance");
    passed();
    assert!(private.recv(&mut [0; 8]).is_err(), "127.0.0.1 of the device was reached untracked");
}

#[tokio::test]
async fn an_instance_that_poses_as_a_router_is_not_heard() {
    let mut lab = Lab::new().await;
    let (liar, _) = lab.attach(0, "").await;
    let link = LinkName::of(instance(0));
    lab.device.netns.sysctl().set(&format!("net.ipv6.conf.{link}.accept_ra"), "2").expect("a setting");
    lab.device.netns.sysctl().set("net.ipv6.conf.up0.accept_ra", "2").expect("a setting");
    let learnt = async || {
        let routes = lab.device.route().get_routes().await.expect("netlink");
        routes.iter().filter(|route| route.protocol() == RouteProtocol::Ra).count()
    };
    let fence = lab.device.udp("[::]:9");
    link_local_of(&liar, "eth0").await;
    for _ in 0..20 {
        liar.advertise_router("eth0").await;
    }
    // What is sent later arrives later.
    liar.udp("[fc00::2]:0").send_to(b"!", "[fc00::1]:9").expect("it leaves the instance");
    fence.recv(&mut [0; 8]).expect("the device is reached by its own address");
    assert_eq!(learnt().await, 0, "the device took the instance for a router");

    link_local_of(&lab.outside, "up0").await;
    lab.outside.advertise_router("up0").await;
    lab.outside.udp("[2001:db8::2]:0").send_to(b"!", "[2001:db8::1]:9").expect("a route");
    fence.recv(&mut [0; 8]).expect("the device is reached by its own address");
    assert_eq!(learnt().await, 1, "one of the world is taken for one");
}

/// Waits until an interface has the address that advertisements must come from.
async fn link_local_of(place: &Place, interface: &str) {
    for _ in 0..200 {
        let addresses = place.route().get_addresses_by_name(interface).await.expect("netlink");
        let usable = |address: &IpAddr| match address {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if addresses.iter().any(|one| one.address().is_some_and(usable) && !one.is_tentative()) {
            return;
        }
        tokio::time::sleep(PATIENCE / 20).await;
    }
    panic!("{interface} has no link-local address");
}
