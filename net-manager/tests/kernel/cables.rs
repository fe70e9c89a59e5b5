//! One device: cables, ports, and what others do to them.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{Lab, Place, echo, instance, lease, parse};
use ipnet::IpNet;
use model::{Generation, InstanceId, PortMapping};
use net_core::{AttachRequest, Command, Effect, Element, LinkName, ObservedKernel};
use net_manager::datapath::{Datapath, KernelDatapath};
use nlink::netlink::{
    Connection, Nftables,
    addr::{Ipv4Address, Ipv6Address},
    link::VethLink,
    nftables::{BaseChain, Chain, Family, FilterHook, Policy, Priority, Rule, Verdict},
};

#[tokio::test]
async fn instances_and_the_device_reach_each_other_under_their_own_addresses() {
    let mut lab = Lab::new().await;
    lab.hear(&[], &[]).await;
    let (first, _) = lab.attach(0, "").await;
    let (second, _) = lab.attach(1, "").await;
    first.serve("first", 80);
    lab.device.serve("device", 81);

    assert_eq!(second.ask("10.18.0.2:80").expect("an answer"), "first to 10.18.0.3");
    assert_eq!(second.ask("[fc00::2]:80").expect("an answer"), "first to fc00::3");
    assert_eq!(lab.device.ask("10.18.0.2:80").expect("an answer"), "first to 10.18.0.1");
    assert_eq!(lab.device.ask("[fc00::2]:80").expect("an answer"), "first to fc00::1");
    assert_eq!(first.ask("10.18.0.1:81").expect("an answer"), "device to 10.18.0.2");
    assert_eq!(first.ask("[fc00::1]:81").expect("an answer"), "device to fc00::2");
    assert_eq!(first.ask("192.0.2.1:81").expect("an answer"), "device to 10.18.0.2");
}

#[tokio::test]
async fn the_world_sees_the_device_where_an_instance_speaks() {
    let mut lab = Lab::new().await;
    let (inside, _) = lab.attach(0, "").await;
    lab.outside.serve("outside", 80);

    assert_eq!(inside.ask("198.51.100.7:80").expect("an answer"), "outside to 192.0.2.1");
    assert_eq!(inside.ask("[2001:db8::2]:80").expect("an answer"), "outside to 2001:db8::1");
}

#[tokio::test]
async fn a_mapped_port_is_reached_at_every_address_of_the_device() {
    let mut lab = Lab::new().await;
    let (inside, _) = lab.attach(0, "8080:80/tcp").await;
    let (neighbour, _) = lab.attach(1, "").await;
    inside.serve("inside", 80);

    assert_eq!(lab.outside.ask("192.0.2.1:8080").expect("an answer"), "inside to 192.0.2.2");
    assert_eq!(lab.outside.ask("[2001:db8::1]:8080").expect("an answer"), "inside to 2001:db8::2");
    assert_eq!(lab.device.ask("127.0.0.1:8080").expect("an answer"), "inside to 10.18.0.1");
    assert_eq!(lab.device.ask("192.0.2.1:8080").expect("an answer"), "inside to 192.0.2.1");
    assert_eq!(lab.device.ask("[2001:db8::1]:8080").expect("an answer"), "inside to 2001:db8::1");
    assert_eq!(neighbour.ask("192.0.2.1:8080").expect("an answer"), "inside to 10.18.0.3");
    assert_eq!(neighbour.ask("[fc00::1]:8080").expect("an answer"), "inside to fc00::3");
    let refused = lab.device.ask("[::1]:8080").expect_err("::1 cannot be translated");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "and is refused at once");
}

#[tokio::test]
async fn a_mapped_port_of_another_machine_is_left_alone() {
    let mut lab = Lab::new().await;
    let (inside, _) = lab.attach(0, "8080:80").await;
    inside.serve("inside", 80);
    lab.outside.serve("outside", 8080);

    assert_eq!(lab.device.ask("198.51.100.7:8080").expect("an answer"), "outside to 192.0.2.1");
    assert_eq!(inside.ask("198.51.100.7:8080").expect("an answer"), "outside to 192.0.2.1");
    assert_eq!(inside.ask("[2001:db8::2]:8080").expect("an answer"), "outside to 2001:db8::1");
}

#[tokio::test]
async fn an_instance_reaches_itself_through_its_mapped_port() {
    let mut lab = Lab::new().await;
    let (inside, _) = lab.attach(0, "8080:80").await;
    inside.serve("inside", 80);

    let answer = inside.ask("192.0.2.1:8080").expect("an answer");
    assert!(answer.starts_with("inside to "), "{answer}");
    let answer = inside.ask("[2001:db8::1]:8080").expect("an answer");
    assert!(answer.starts_with("inside to "), "{answer}");
}

#[tokio::test]
async fn detaching_leaves_nothing_and_a_purge_takes_the_rest() {
    let mut lab = Lab::new().await;
    let before = lab.datapath.observe().await.expect("a kernel");
    let (inside, _) = lab.attach(0, "8080:80;53:53/udp").await;
    inside.serve("inside", 80);
    assert!(lab.outside.ask("192.0.2.1:8080").is_ok());

    lab.submit(Command::Detach(instance(0))).await;
    assert_eq!(lab.datapath.observe().await.expect("a kernel"), before);
    assert!(lab.outside.ask("192.0.2.1:8080").is_err());

    let _until_the_end = lab.attach(0, "8080:80").await;
    let report = lab.datapath.purge_all().await.expect("a purge");
    let subnets: Vec<IpNet> = vec![parse("10.18.0.0/26"), parse("fc00::/120")];
    assert_eq!((report.links.len(), report.subnets, report.table), (1, subnets, true));
    let nothing = lab.datapath.observe().await.expect("a kernel");
    assert_eq!(nothing, ObservedKernel::default());
    let report = lab.datapath.purge_all().await.expect("a purge of nothing");
    assert_eq!(report, net_manager::datapath::PurgeReport::default());
}

#[tokio::test]
async fn a_restart_reads_everything_back_and_interrupts_nothing() {
    let mut lab = Lab::new().await;
    let (inside, _) = lab.attach(0, "8080:80;53:53/udp").await;
    let (_other, _) = lab.attach(1, "9000").await;
    inside.serve_udp("inside", 53);
    let client = lab.outside.udp("0.0.0.0:0");
    assert_eq!(echo(&client, "192.0.2.1:53").as_deref(), Some("inside"));

    lab.datapath = KernelDatapath::open_in(lab.device.netns.try_clone().expect("a namespace"))
        .await
        .expect("a datapath");
    // What was forbidden while it was away is not to be read from the kernel.
    assert!(matches!(lab.pending().await[..], [Effect::EndForbidden(_)]));
    lab.settle().await;
    assert_eq!(echo(&client, "192.0.2.1:53").as_deref(), Some("inside"));
}

#[tokio::test]
async fn attaching_again_does_nothing_and_a_new_namespace_gets_a_new_cable() {
    let mut lab = Lab::new().await;
    let (old, attachment) = lab.attach(0, "8080:80").await;
    let request = |place: &Place, generation| AttachRequest {
        id: instance(0),
        generation: Generation(generation),
        namespace: place.namespace(),
        ports: PortMapping::parse_list("8080:80").expect("port mappings"),
        address: None,
    };
    assert_eq!(lab.submit(Command::Attach(request(&old, 1))).await, []);

    let new = Place::new();
    let effects = lab.submit(Command::Attach(request(&new, 2))).await;
    assert!(matches!(effects[..], [Effect::RemoveLink { .. }, Effect::CreateLink(_)]), "{effects:?}");
    new.serve("new", 80);
    assert_eq!(lab.outside.ask("192.0.2.1:8080").expect("an answer"), "new to 192.0.2.2");
    assert_eq!(lab.state.attachment(instance(0)).expect("attached").addresses, attachment.addresses);
}

#[tokio::test]
async fn what_is_sent_to_an_address_without_an_instance_does_not_leave_the_device() {
    let mut lab = Lab::new().await;
    let (inside, _) = lab.attach(0, "").await;
    let far = lab.outside.route();
    far.add_address(Ipv4Address::with_index(1, parse("10.18.0.9"), 32)).await.expect("an address");
    far.add_address(Ipv6Address::with_index(1, parse("fc00::9"), 128).nodad()).await.expect("an address");
    lab.outside.serve("outside", 80);
    for nobody in ["10.18.0.9:80", "[fc00::9]:80"] {
        assert_eq!(inside.ask(nobody).ok(), None);
        assert_eq!(lab.device.ask(nobody).ok(), None);
    }
}

#[tokio::test]
async fn what_others_break_is_put_right() {
    let mut lab = Lab::new().await;
    let (inside, _) = lab.attach(0, "8080:80").await;
    inside.serve("inside", 80);

    let nftables: Connection<Nftables> = Connection::new_in(&lab.device.netns).expect("netlink");
    nftables.del_table("mangrove", Family::Inet).await.expect("our table");
    // Takes its routes and neighbours with it.
    lab.device.route().set_link_down(LinkName::of(instance(0)).as_str()).await.expect("our cable");
    assert!(lab.outside.ask("192.0.2.1:8080").is_err());

    lab.device.route().del_address_v4("lo", parse("10.18.0.1"), 32).await.expect("our address");

    let effects = lab.settle().await;
    assert!(effects.contains(&Effect::InstallRuleset), "{effects:?}");
    assert!(effects.contains(&Effect::ClaimSubnet(parse("10.18.0.0/26"))), "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::RepairLink(_))), "{effects:?}");
    assert_eq!(lab.outside.ask("192.0.2.1:8080").expect("an answer"), "inside to 192.0.2.2");
    assert_eq!(lab.outside.ask("[2001:db8::1]:8080").expect("an answer"), "inside to 2001:db8::2");
}

#[tokio::test]
async fn a_cable_whose_making_was_cut_short_is_made_anew() {
    let mut lab = Lab::new().await;
    let inside = Place::new();
    let name = LinkName::of(instance(0));
    let half_made = VethLink::new(name.as_str(), "eth0").peer_netns_fd(&inside.netns);
    lab.device.route().add_link(half_made).await.expect("a cable");

    lab.attach_in(&inside, 0, "").await;
    inside.serve("inside", 80);
    assert_eq!(lab.device.ask("10.18.0.2:80").expect("an answer"), "inside to 10.18.0.1");
}

#[tokio::test]
async fn a_cable_that_leads_nowhere_any_more_is_removed_with_its_ports() {
    let mut lab = Lab::new().await;
    let (inside, attachment) = lab.attach(0, "8080:80").await;
    drop(inside);
    for change in lab.state.observe(&BTreeSet::new()) {
        lab.state.apply(change);
    }
    let effects = lab.settle().await;
    let port = |address| Element::Port {
        protocol: model::Protocol::Tcp,
        host: 8080,
        to: std::net::SocketAddr::new(address, 80),
    };
    let gone = attachment.addresses.all().map(Element::Instance).into_iter();
    let gone: BTreeSet<Element> = gone.chain(attachment.addresses.all().map(port)).collect();
    assert_eq!(
        effects[0],
        Effect::ChangeElements {
            remove: gone,
            add: BTreeSet::new(),
            close: BTreeSet::new(),
            open: BTreeSet::new()
        }
    );
}

#[tokio::test]
async fn a_container_with_ipv6_switched_off_gets_it_back_on_its_cable() {
    let mut lab = Lab::new().await;
    let inside = Place::new();
    inside.netns.sysctl().set("net.ipv6.conf.all.disable_ipv6", "1").expect("a setting");
    inside.netns.sysctl().set("net.ipv6.conf.default.disable_ipv6", "1").expect("a setting");
    lab.attach_in(&inside, 0, "").await;
    inside.serve("inside", 80);
    assert_eq!(lab.device.ask("[fc00::2]:80").expect("an answer"), "inside to fc00::1");
}

#[tokio::test]
async fn a_client_that_sent_before_the_port_was_mapped_is_answered_afterwards() {
    let mut lab = Lab::new().await;
    let client = lab.outside.udp("0.0.0.0:4000");
    assert_eq!(echo(&client, "192.0.2.1:53"), None);
    let (inside, _) = lab.attach(0, "53:53/udp").await;
    inside.serve_udp("inside", 53);
    assert_eq!(echo(&client, "192.0.2.1:53").as_deref(), Some("inside"));

    lab.submit(Command::Detach(instance(0))).await;
    let (other, _) = lab.attach(1, "53:53/udp").await;
    other.serve_udp("other", 53);
    assert_eq!(echo(&client, "192.0.2.1:53").as_deref(), Some("other"), "the flow follows the port");
}

#[tokio::test]
async fn a_port_a_program_listens_on_is_refused_until_it_is_free() {
    let mut lab = Lab::new().await;
    let program = lab.device.run(|| std::net::TcpListener::bind(("0.0.0.0", 8080))).expect("a free port");
    let ports = PortMapping::parse_list("7000;8080:80").expect("port mappings");
    let error = lab.datapath.reserve_ports(instance(0), &ports).expect_err("a program listens");
    assert_eq!(
        error.to_string(),
        "port 8080/tcp of this device is taken by a program that runs on it; stop that program or use another port"
    );
    drop(program);
    lab.datapath.reserve_ports(instance(0), &ports).expect("the port is free");
    lab.datapath.reserve_ports(instance(0), &ports).expect("it is held by the same instance");
    let program = || lab.device.run(|| std::net::TcpListener::bind(("0.0.0.0", 8080)));
    assert!(program().is_err(), "a program cannot listen in vain");
    lab.datapath.release_ports(instance(0));
    assert!(program().is_ok());
}

#[tokio::test]
async fn neighbouring_subnets_are_kept_apart() {
    let mut lab = Lab::new().await;
    lab.hear(&[], &[]).await;
    let (old, _) = lab.attach(0, "").await;
    lab.submit(Command::UseLease(lease("10.18.0.64/26", "fc00::100/120"))).await;
    let (new, _) = lab.attach(1, "").await;
    lab.outside.serve("outside", 80);
    old.serve("old", 80);
    assert_eq!(new.ask("10.18.0.2:80").expect("an answer"), "old to 10.18.0.66");
    assert_eq!(old.ask("198.51.100.7:80").expect("an answer"), "outside to 192.0.2.1");

    lab.submit(Command::Detach(instance(0))).await;
    assert_eq!(new.ask("198.51.100.7:80").expect("an answer"), "outside to 192.0.2.1");
    assert_eq!(new.ask("[2001:db8::2]:80").expect("an answer"), "outside to 2001:db8::1");
}

#[tokio::test]
async fn dockers_firewall_lets_instances_through_and_is_left_as_it_was() {
    let mut lab = Lab::new().await;
    let (inside, _) = lab.attach(0, "8080:80").await;
    inside.serve("inside", 80);
    lab.outside.serve("outside", 80);
    let nftables: Connection<Nftables> = Connection::new_in(&lab.device.netns).expect("netlink");
    install_docker_rules(&nftables).await;
    let docker_rules = || async { nftables.list_rules("filter", Family::Ip).await.expect("rules").len() };
    let before = docker_rules().await;
    assert!(inside.ask("198.51.100.7:80").is_err(), "Docker's policy drops it");

    assert_eq!(lab.settle().await, [Effect::OpenDockerUser(net_core::Family::V4)]);
    assert_eq!(inside.ask("198.51.100.7:80").expect("an answer"), "outside to 192.0.2.1");
    assert_eq!(lab.outside.ask("192.0.2.1:8080").expect("an answer"), "inside to 192.0.2.2");
    assert_eq!(docker_rules().await, before + 2);

    lab.datapath.purge_all().await.expect("a purge");
    assert_eq!(docker_rules().await, before);
}

/// As Docker with `iptables-nft` leaves them, as far as they concern others.
async fn install_docker_rules(nftables: &Connection<Nftables>) {
    let chain = |name: &str| Chain::new("filter", name).expect("a name").family(Family::Ip);
    let forward = BaseChain::filter(FilterHook::Forward, Priority::Filter).policy(Policy::Drop);
    let rule = |name: &str| Rule::new("filter", name).family(Family::Ip);
    nftables
        .transaction()
        .add_table("filter", Family::Ip)
        .add_chain(chain("DOCKER-USER"))
        .add_chain(chain("FORWARD").base(forward))
        .add_rule(rule("DOCKER-USER").counter().then(Verdict::Return))
        .add_rule(rule("FORWARD").jump("DOCKER-USER".parse().expect("a name")))
        .commit(nftables)
        .await
        .expect("rules");
}

#[tokio::test]
async fn the_devices_own_namespace_is_known_by_whatever_path_it_is_named() {
    let mut lab = Lab::new().await;
    let (instance, _) = lab.attach(0, "").await;
    assert!(lab.datapath.is_devices_own(&lab.device.namespace()));
    assert!(lab.datapath.is_devices_own(&lab.device.another().namespace()));
    assert!(!lab.datapath.is_devices_own(&instance.namespace()));
}

#[tokio::test]
async fn many_instances_attach_quickly() {
    let mut lab = Lab::new().await;
    let mut kernel = lab.datapath.observe().await.expect("a kernel");
    let (mut attach, mut look) = (Duration::MAX, Duration::MAX);
    let places: Vec<Place> = (0..20).map(|_| Place::new()).collect();
    for (number, place) in (0..).zip(&places) {
        let id: InstanceId = instance(number);
        let ports = PortMapping::parse_list(&format!("{}:80", 8000 + number)).expect("port mappings");
        let (generation, namespace) = (Generation(1), place.namespace());
        let request = AttachRequest { id, generation, namespace, ports, address: None };
        let begun = processor_time();
        for change in lab.state.accept(Command::Attach(request)).expect("room") {
            lab.state.apply(change);
        }
        for effect in net_core::reconcile(&lab.state.desired(), &kernel) {
            lab.datapath.apply(&effect).await.expect("an effect");
            kernel.after(&effect);
        }
        attach = attach.min(processor_time() - begun);
    }
    for _ in 0..20 {
        let begun = processor_time();
        assert_eq!(
            lab.datapath.observe().await.expect("a kernel"),
            kernel,
            "what is believed is what is there"
        );
        look = look.min(processor_time() - begun);
    }
    // The least of each, because other tests run beside this one. An attach is a quarter of a look at all that the kernel
    // holds, so it takes none.
    eprintln!("an attach takes {attach:?}, a look {look:?}");
    assert!(2 * attach < look, "an attach takes {attach:?}, a look {look:?}");
}

/// What this process has used, in the kernel too. That it had to wait for others does not count.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.try_into().expect("a time since the start")
}
