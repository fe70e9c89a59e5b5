//! The relay of the root: lent by the root to a cluster, and by the cluster to a device, which registers with it.

use std::{path::Path, sync::Arc, time::Duration};

use daemon::StateDirectory;
use link::{Dial, Subject, dial};
use model::{TunnelEnd, TunnelKey};
use net_manager::uplink::{Registration, Uplink, UplinkEvent};
use proto::v1::{CertificateRequest, cluster_link_client::ClusterLinkClient};
use relay::{Order, Proof, Registrations};
use testkit::{Root, Worker};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

/// The way up of a NetManager beside a worker, certified by its cluster.
async fn network_of(worker: &Worker, directory: &Path) -> Uplink {
    let (identity, address) = (worker.identity(), worker.cluster_address());
    let Subject::Worker { root, cluster, worker: worker_id } = identity.subject() else { panic!("a worker") };
    let tunnel = TunnelEnd { port: 50103, key: TunnelKey([7; 32]), kernel_port: None };
    let state = Arc::new(StateDirectory::open(directory).expect("a directory"));
    let at_root = watch::Sender::default().subscribe();
    let uplink = Uplink::open(state, None, Some([127, 0, 0, 1].into()), Some(tunnel), at_root);
    let uplink = uplink.expect("an uplink");
    let registered = uplink.register(Registration {
        worker_id,
        cluster_id: cluster,
        cluster_address: address.clone(),
        root_id: root.to_string(),
        ca_certificate: identity.authority_pem(),
    });
    let request = registered.expect("registered").certificate_request.expect("it has no certificate");
    let channel =
        dial(&address, Dial::As(&identity, Subject::Cluster { root, cluster })).await.expect("there");
    let request = CertificateRequest { certificate_request_pem: request };
    let certificate = ClusterLinkClient::new(channel).certify_network(request).await.expect("certified");
    uplink.certify(&certificate.into_inner().certificate_pem).expect("its certificate");
    uplink
}

/// The next order to register with the relay of the root.
async fn order(events: &mut mpsc::Receiver<UplinkEvent>) -> Order {
    loop {
        let event = timeout(PATIENCE, events.recv()).await.expect("in time").expect("it runs");
        if let UplinkEvent::Relay(order) = event
            && let Proof::Lent(_) = &order.proof
        {
            return order;
        }
    }
}

/// Registers by this order alone, until the relay says that it sees the device.
async fn register(order: Order) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let mut device = Registrations::default();
    assert!(device.take_order(order));
    // As another device has to be met there.
    device.meet(true);
    let mut buffer = [0; 100];
    loop {
        for (to, datagram) in device.register(daemon::present().moment) {
            socket.send_to(&datagram, to).await.expect("sent");
        }
        let answer = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.expect("in time");
        let (length, from) = answer.expect("an answer");
        if device.take(&buffer[..length], from, daemon::present().moment) {
            return;
        }
    }
}

#[tokio::test]
async fn a_device_registers_with_the_relay_of_a_root_that_knows_no_device_and_again_after_its_restart() {
    let mut root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let directory = tempfile::tempdir().expect("a directory");
    let uplink = network_of(&worker, directory.path()).await;
    let (sender, mut events) = mpsc::channel(8);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(uplink.run(sender, shutdown.clone()));

    let first = order(&mut events).await;
    register(first.clone()).await;
    root.kill();
    root.start_again().await;
    // Its relay is at another port; the connection of the device to its cluster is the same as before.
    let second = order(&mut events).await;
    assert!(second.relay != first.relay && second.proof == first.proof, "{second:?} after {first:?}");
    register(second).await;
    shutdown.cancel();
    running.await.expect("no panic");
}
