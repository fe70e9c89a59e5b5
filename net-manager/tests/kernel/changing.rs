//! Whoever may call is answered while the entries that calls are looked up in change. A packet looks up several, and meets
//! those from before and from after a change.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::support::{Lab, Place, connect_from, shop, stable, till, worker};
use model::{AddressKind, StableAddress, WorkerId};
use net_core::{Effect, Element};
use net_manager::datapath::Datapath as _;
use nlink::netlink::{Connection, Netfilter};
use tokio::runtime::Handle;

const HERE: u8 = 1;
const SERVICE: &str = "10.30.0.1:80";

/// Instances of `shop`: one that calls, and those that serve.
async fn scene() -> (Lab, Place, [Place; 3]) {
    let mut lab = Lab::new().await;
    let caller = lab.attach_stable(0).await;
    let servers = [lab.attach_stable(1).await, lab.attach_stable(2).await, lab.attach_stable(3).await];
    for server in &servers {
        server.serve("shop", 80);
    }
    (lab, caller, servers)
}

fn ready(numbers: &[u32]) -> Vec<(u32, WorkerId, bool)> {
    numbers.iter().map(|number| (*number, worker(HERE), true)).collect()
}

/// Calls one after the other while `change` is at work, and asserts that all are answered.
fn assert_answered_while(caller: &Place, address: &str, change: impl FnOnce(Handle) + Send) {
    let stop = AtomicBool::new(false);
    let runtime = Handle::current();
    let (answered, refused) = thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let (mut answered, mut refused) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                match caller.ask(address) {
                    Ok(_) => answered += 1,
                    Err(error) => refused.push(error.kind()),
                }
            }
            (answered, refused)
        });
        let changed = scope.spawn(|| change(runtime)).join();
        stop.store(true, Ordering::Relaxed);
        changed.expect("changes");
        calls.join().expect("it called")
    });
    assert_eq!(refused, [] as [ErrorKind; 0]);
    assert!(answered > 20, "{answered}");
}

#[tokio::test]
async fn what_is_allowed_loses_nothing_while_policies_change() {
    let (mut lab, caller, _servers) = scene().await;
    let _till = lab.attach_till("").await;
    lab.hear(&ready(&[1]), &[]).await;
    assert_answered_while(&caller, "10.30.1.1:80", |runtime| {
        for round in 0..20 {
            let allowed: &[&str] = if round % 2 == 0 { &["till.prod"] } else { &[] };
            let mut services = vec![shop(&ready(&[1, 2]), allowed), till(worker(HERE), &[])];
            if round % 4 < 2 {
                // The one its number is from.
                Arc::make_mut(&mut services[0].1.addresses).remove(&AddressKind::RoundRobin);
            }
            runtime.block_on(lab.hear_of(services, &[]));
        }
    });
}

#[tokio::test]
async fn nobody_is_refused_while_a_service_grows_and_shrinks() {
    let (mut lab, caller, _servers) = scene().await;
    lab.hear(&ready(&[1]), &[]).await;
    assert_answered_while(&caller, SERVICE, |runtime| {
        for numbers in [&[1, 2, 3][..], &[3], &[2, 3], &[1, 2, 3], &[1, 2], &[2]].iter().cycle().take(30) {
            runtime.block_on(lab.hear(&ready(numbers), &[]));
        }
    });
}

/// A packet that is in a service's chain when there are fewer from now on.
#[tokio::test]
async fn a_call_whose_place_has_just_gone_is_answered_by_another() {
    let (mut lab, caller, _servers) = scene().await;
    lab.hear(&ready(&[1, 2, 3]), &[]).await;
    let entries = lab.state.desired().elements.into_iter();
    let remove = entries.filter(|entry| matches!(entry, Element::Backend { index: 2, .. })).collect();
    let gone = Effect::ChangeElements {
        remove,
        add: BTreeSet::new(),
        close: BTreeSet::new(),
        open: BTreeSet::new(),
    };
    lab.datapath.apply(&gone).await.expect("places go");
    for address in [SERVICE, "[fdff:2000::1]:80"] {
        for call in 0..6 {
            assert!(caller.ask(address).is_ok(), "{address}: call {call}");
        }
    }
}

/// Connections that are over are not forgotten with an address that goes, as the kernel itself begins anew with such a caller.
#[tokio::test]
async fn who_calls_again_from_the_same_port_is_led_to_whoever_is_there() {
    let (mut lab, caller, _servers) = scene().await;
    let conntrack: Connection<Netfilter> = Connection::new_in(&lab.device.netns).expect("netlink");
    let led_to = async |number: u32| {
        let to = StableAddress::of(AddressKind::Instance, stable(number)).expect("of an instance").v6;
        let entries = conntrack.get_conntrack_v6().await.expect("entries");
        entries.iter().filter(|entry| entry.reply.src_ip == Some(to.into())).count()
    };
    // No passages there. The server hangs up first, so the port is free again at once.
    let call = || {
        let mut stream = caller.run(|| connect_from(4711, "[fdff:2000::1]:80")).expect("a connection");
        stream.read_to_string(&mut String::new()).expect("an answer");
    };
    lab.hear(&ready(&[1]), &[]).await;
    call();
    lab.detach(1).await;
    lab.hear(&ready(&[2]), &[]).await;
    assert_eq!([led_to(1).await, led_to(2).await], [1, 0], "it is remembered");
    call();
    assert_eq!([led_to(1).await, led_to(2).await], [0, 1]);
}
