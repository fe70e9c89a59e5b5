//! Whatever comes and goes: what neighbours are told in pieces is what they would be told at once.

use super::*;

#[test]
fn a_neighbour_is_told_of_instances_when_there_is_a_netmanager_that_leads_to_them() {
    let mut site = Site::of(|_| {});
    let nothing = NeighbourNews { whole: true, ..NeighbourNews::default() };
    assert_eq!(site.told, [(neighbour(1), 7, nothing)]);
    site.cluster.state.network_connected(worker(1), 1, Some(REACH));
    site.turn();
    let (_, _, news) = site.told.first().expect("somebody is told");
    assert!(news.services[&SERVICE].is_some() && news.peers[&worker(1)].is_some(), "{news:?}");
}

#[derive(Debug, Clone)]
enum Step {
    /// Whom the service here lets connect: `till` or not.
    Allow(bool),
    /// Which of two neighbours have copies of `till`, and whether it lets `app` connect; and which have copies of `app`.
    Named {
        till: Option<(u8, bool)>,
        app: u8,
    },
    /// What the instance here does.
    Say(bool),
    Move(u8),
    /// Everybody is told what is new.
    Turn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => any::<bool>().prop_map(Step::Allow),
        4 => (proptest::option::of((1_u8..4, any::<bool>())), 0_u8..4)
            .prop_map(|(till, app)| Step::Named { till, app }),
        2 => any::<bool>().prop_map(Step::Say),
        1 => (1_u8..4).prop_map(Step::Move),
        4 => Just(Step::Turn),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The neighbours of a mask.
fn of_mask(mask: u8) -> impl Iterator<Item = u8> {
    [1, 2].into_iter().filter(move |number| mask >> (number - 1) & 1 == 1)
}

impl Site {
    /// Neighbours take in what they were told.
    fn is_heard(&mut self, heard: &mut BTreeMap<u8, NeighbourNews>) {
        for (to, _, news) in std::mem::take(&mut self.told) {
            let known = heard.entry(u8::from(to == neighbour(2)) + 1).or_default();
            if news.whole {
                *known = NeighbourNews::default();
            }
            known.services.extend(news.services);
            known.peers.extend(news.peers);
            known.services.retain(|_, told| told.is_some());
            known.peers.retain(|_, told| told.is_some());
        }
    }
}

proptest! {
    /// Whatever comes and goes, what neighbours were told in pieces, less what each of them drops when the root says that
    /// it has nothing to do with it any more, is what one is told that connects now.
    #[test]
    fn what_neighbours_are_told_in_pieces_amounts_to_the_whole(steps in steps()) {
        let mut site = Site::new();
        let mut heard: BTreeMap<u8, NeighbourNews> = BTreeMap::new();
        let mut session = 2;
        // What the root knows: who has copies of `app`, of `till`, and whom these let connect.
        let (mut app, mut till_at, mut till_lets, mut app_lets) = (0_u8, 0_u8, false, false);
        let epochs = |epoch| BTreeMap::from([1, 2].map(|number| {
            (neighbour(number), Neighbour { epoch: Some(epoch), blocks: blocks(number) })
        }));
        let shares = |number: u8, app: u8, till_at: u8, related: bool| {
            of_mask(app).any(|it| it == number) || (related && of_mask(till_at).any(|it| it == number))
        };
        site.named(session, Neighbours { whole: true, clusters: epochs(1), ..Neighbours::default() });
        for step in steps.into_iter().chain([Step::Turn]) {
            match step {
                Step::Allow(lets) => {
                    app_lets = lets;
                    site.allow(if lets { &["till.test"] } else { &[] });
                }
                Step::Named { till: named_till, app: named_app } => {
                    app = named_app;
                    (till_at, till_lets) = named_till.unwrap_or((till_at, till_lets));
                }
                Step::Say(runs) => {
                    site.cluster.say(1, 0, if runs { Phase::Running } else { Phase::Dead });
                }
                Step::Move(key) => {
                    let tunnel = Some(TunnelEnd { port: 50103, key: TunnelKey([key + 100; 32]), kernel_port: Some(50107) });
                    let reach = Reach { address: ADDRESS, tunnel, observed: None, at_root: None };
                    session += 1;
                    site.cluster.state.network_connected(worker(1), session, Some(reach));
                }
                Step::Turn => {
                    site.turn();
                    site.is_heard(&mut heard);
                }
            }
            // The root says what follows at once; and at the same word each neighbour drops what is not shared any more.
            let related = till_lets || app_lets;
            let (id, backend) = shared(BACKEND, "backend");
            let (_, mut service) = shared(SERVICE, "service");
            service.allowed_callers = callers(if app_lets { &["till.test"] } else { &[] });
            let is_shared = |number| shares(number, app, till_at, related);
            let anybody = [1, 2].into_iter().any(is_shared);
            let of_app = SharedNews {
                services: Arc::new([(id, backend), (SERVICE, service)].into()),
                joined: of_mask(app).map(neighbour).collect(),
                left: of_mask(!app & 3).map(neighbour).collect(),
            };
            let of_till = SharedNews {
                left: of_mask(!till_at & 3).map(neighbour).collect(),
                ..till(&of_mask(till_at).collect::<Vec<_>>(), if till_lets { &["app.test"] } else { &[] })
            };
            let named = Neighbours {
                whole: false,
                applications: BTreeMap::from([
                    (APPLICATION, anybody.then_some(of_app)),
                    (TILL, (related && till_at != 0).then_some(of_till)),
                ]),
                clusters: [1, 2].into_iter().filter(|number| is_shared(*number))
                    .map(|number| (neighbour(number), epochs(1)[&neighbour(number)].clone())).collect(),
            };
            let changes = site.cluster.state.neighbours_named(2, named);
            site.take(changes);
            for number in [1, 2].into_iter().filter(|number| !is_shared(*number)) {
                heard.remove(&number);
            }
        }
        // What was said above may be new.
        site.turn();
        site.is_heard(&mut heard);
        let changes = site.cluster.state.neighbours_named(2, Neighbours { clusters: epochs(2), ..Neighbours::default() });
        site.take(changes);
        site.turn();
        let whole: BTreeMap<ClusterId, NeighbourNews> =
            site.told.iter().map(|(to, _, news)| (*to, news.clone())).collect();
        for number in [1, 2] {
            let expected = whole.get(&neighbour(number)).cloned().unwrap_or_default();
            let heard = heard.remove(&number).unwrap_or_default();
            prop_assert_eq!((heard.services, heard.peers), (expected.services, expected.peers));
        }
    }
}
