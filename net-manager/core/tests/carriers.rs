//! What the kernel must do for links that its own WireGuard carries, and in which order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{Moment, NetworkLease, NetworkNews, Peer, TunnelKey, Way, WorkerId};
use net_core::{
    Carrier, Command, Effect, KernelPeer, NetworkState, ObservedKernel, Path, Sign, Signs, reconcile,
};

const KEY: TunnelKey = TunnelKey([2; 32]);

fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("what it is to be")
}

fn lease(v4: &str, v6: &str) -> NetworkLease {
    NetworkLease { v4: vec![parse(v4)], v6: vec![parse(v6)] }
}

/// A device that was told of another one, with a kernel that holds all there is to hold for it.
struct Device {
    state: NetworkState,
    kernel: ObservedKernel,
}

impl Device {
    fn new() -> Self {
        let mut state = NetworkState::default();
        let subnet = Command::UseLease(lease("10.18.0.0/26", "fc00::/120"));
        for change in state.accept(subnet).expect("a lease") {
            state.apply(change);
        }
        let way = Way::Secure {
            endpoint: parse("192.0.2.2:50103"),
            observed: None,
            relay: None,
            key: KEY,
            kernel_port: Some(50107),
        };
        let peer = Peer { way, lease: lease("10.18.0.64/26", "fc00::100/120") };
        let worker: WorkerId = parse("00000000-0000-0000-0000-000000000002");
        let peers = BTreeMap::from([(worker, Some(peer.into()))]);
        state.hear(NetworkNews { whole: true, peers, ..NetworkNews::default() });
        let kernel = ObservedKernel {
            secure: Some(BTreeMap::new()),
            kernel_peers: Some(BTreeMap::new()),
            ..ObservedKernel::default()
        };
        let mut device = Self { state, kernel };
        device.settle();
        device
    }

    fn settle(&mut self) -> Vec<Effect> {
        let effects = reconcile(&self.state.desired(), &self.kernel);
        effects.iter().for_each(|effect| self.kernel.after(effect));
        assert_eq!(reconcile(&self.state.desired(), &self.kernel), []);
        effects
    }

    /// What is done after it was seen that the engine has a direct way, and that the kernel has this to say.
    fn look(&mut self, at: u64, sign: Option<Sign>) -> Vec<Effect> {
        let kernel = Some(sign.map(|sign| (KEY, sign)).into_iter().collect());
        self.state.look(&Signs { direct: BTreeSet::from([KEY]), kernel }, Moment(at));
        self.settle()
    }
}

fn known() -> Effect {
    let allowed = BTreeSet::from([parse("10.18.0.64/26"), parse("fc00::100/120")]);
    Effect::SetKernelPeers(BTreeMap::from([(
        KEY,
        KernelPeer { endpoint: parse("192.0.2.2:50107"), allowed },
    )]))
}

fn moved(from: Carrier, to: Carrier) -> Effect {
    let paths = |by| {
        let through = |to, from| Path::Through { to: parse(to), from: parse(from), by };
        BTreeSet::from([through("10.18.0.64/26", "10.18.0.1"), through("fc00::100/120", "fc00::1")])
    };
    Effect::ChangePaths { remove: paths(from), add: paths(to) }
}

#[test]
fn a_link_is_led_into_the_kernel_once_that_knows_its_end_and_out_of_it_before_it_does_not() {
    let mut device = Device::new();
    assert_eq!(device.look(0, None), [known()]);
    let met = Some(Sign { handshake: Some(Duration::from_secs(1)), received: 148 });
    assert_eq!(device.look(250, met), [moved(Carrier::Engine, Carrier::Kernel)]);
    assert_eq!(
        device.look(30_250, met),
        [moved(Carrier::Kernel, Carrier::Engine), Effect::SetKernelPeers(BTreeMap::new())]
    );
}

#[test]
fn without_wireguard_the_engine_carries_everything_as_before() {
    let mut device = Device::new();
    device.kernel.kernel_peers = None;
    assert!(!device.state.look(&Signs { direct: BTreeSet::from([KEY]), kernel: None }, Moment(0)));
    assert_eq!(device.settle(), []);
    assert!(device.state.desired().secure.contains_key(&KEY));
}
