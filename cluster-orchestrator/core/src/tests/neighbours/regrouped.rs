//! Neighbours that share more or less than before are told of what has to do with that, and of nothing else.

use super::*;

const BANK: ApplicationId = ApplicationId::from_bytes([7; 12]);
const DESK: ServiceId = ServiceId::from_bytes([5; 12]);

/// What the root says of an application with one service, of which those have copies since, and not any more.
fn shared_by(
    application: ApplicationId,
    services: &[(ServiceId, &str)],
    joined: &[u8],
    left: &[u8],
) -> Neighbours {
    let of = |(id, name): &(ServiceId, &str)| {
        let (id, mut service) = shared(*id, "service");
        service.names =
            Arc::new(ServiceNames { application: (*name).to_owned(), ..(*service.names).clone() });
        (id, service)
    };
    let news = SharedNews {
        services: Arc::new(services.iter().map(of).collect()),
        joined: joined.iter().map(|number| neighbour(*number)).collect(),
        left: left.iter().map(|number| neighbour(*number)).collect(),
    };
    let cluster = |number: &u8| (neighbour(*number), Neighbour { epoch: Some(7), blocks: blocks(*number) });
    Neighbours {
        whole: false,
        applications: BTreeMap::from([(application, Some(news))]),
        clusters: joined.iter().map(cluster).collect(),
    }
}

impl Site {
    /// A service of `till.test` has an instance here too, and lets those connect.
    fn takes_on(&mut self, id: ServiceId, allowed: &[&str]) {
        let here = AssignedInstance { address: Some([10, 30, 1, 0].into()), ..wanted(0, Desired::Running) };
        let other = InstanceId { service: id, number: 0 };
        let there = AssignedInstance { id: other, address: Some([10, 30, 1, 9].into()), ..here };
        let mut all = self.cluster.assignment(small(), vec![here, there]);
        let mut service = all.services[&REVISION].clone();
        service.names = Arc::new(ServiceNames { application: "till".to_owned(), ..(*service.names).clone() });
        service.allowed_callers = callers(allowed);
        all.services.insert(RevisionId { service: id, number: 1 }, service);
        let changes = self.cluster.state.take_on(all, self.cluster.now).expect("newer");
        self.take(changes);
        self.turn();
        self.cluster.report_of(1, other, Generation(1), Phase::Running);
        self.turn();
    }

    /// The services that each neighbour was told of in the last pass, and whether they have instances here.
    fn told_of(&self) -> Vec<(ClusterId, Vec<(ServiceId, bool)>)> {
        let services = |news: &NeighbourNews| {
            news.services.iter().map(|(id, instances)| (*id, instances.is_some())).collect()
        };
        self.told.iter().map(|(to, _, news)| (*to, services(news))).collect()
    }
}

#[test]
fn who_shares_one_more_application_is_told_of_that_and_who_does_not_is_not() {
    let mut site = Site::new();
    site.named(1, named(false, &[(1, Some(7)), (2, Some(7))]));
    site.takes_on(FOREIGN, &[]);
    site.named(1, shared_by(TILL, &[(FOREIGN, "till")], &[2], &[]));
    assert_eq!(site.told_of(), [(neighbour(2), vec![(FOREIGN, true)])]);
    site.named(1, shared_by(TILL, &[(FOREIGN, "till")], &[1], &[]));
    assert_eq!(site.told_of(), [(neighbour(1), vec![(FOREIGN, true)])], "the other knows");
}

#[test]
fn who_drops_what_has_to_do_with_one_application_is_told_again_of_what_has_to_do_with_another() {
    let mut site = Site::new();
    site.named(1, named(false, &[]));
    site.allow(&["till.test", "bank.test"]);
    site.named(1, shared_by(TILL, &[(FOREIGN, "till")], &[1], &[]));
    site.named(1, shared_by(BANK, &[(DESK, "bank")], &[1, 2], &[]));
    assert_eq!(site.told_of(), [(neighbour(2), vec![(SERVICE, true)])], "the other knows");
    site.named(1, shared_by(TILL, &[(FOREIGN, "till")], &[], &[1]));
    assert_eq!(site.told_of(), [(neighbour(1), vec![(SERVICE, true)])]);

    site.named(1, shared_by(TILL, &[(FOREIGN, "till")], &[1], &[]));
    assert_eq!(site.told_of(), [], "it knows");
    let applications = BTreeMap::from([(TILL, None)]);
    site.named(1, Neighbours { applications, ..Neighbours::default() });
    assert_eq!(site.told_of(), [(neighbour(1), vec![(SERVICE, true)])]);
}

#[test]
fn a_service_more_that_is_shared_has_those_told_who_may_be_called_back() {
    let mut site = Site::new();
    site.named(1, named(false, &[]));
    site.named(1, shared_by(TILL, &[(FOREIGN, "till")], &[1], &[]));
    site.takes_on(DESK, &["app.test"]);
    assert_eq!(
        site.told_of(),
        [(neighbour(1), vec![(DESK, true)])],
        "nobody there is said to be called by the service here"
    );
    site.named(1, shared_by(TILL, &[(FOREIGN, "till"), (DESK, "till")], &[], &[]));
    assert_eq!(site.told_of(), [(neighbour(1), vec![(SERVICE, true)])]);
}

#[test]
fn of_a_service_that_is_open_to_everybody_all_are_told() {
    let mut site = Site::new();
    site.named(1, named(false, &[]));
    site.allow(&["*"]);
    site.named(1, shared_by(TILL, &[(FOREIGN, "till")], &[1], &[]));
    site.named(1, shared_by(BANK, &[(DESK, "bank")], &[2], &[]));
    for phase in [Phase::Dead, Phase::Running] {
        site.cluster.say(1, 0, phase);
        site.turn();
        let told = vec![(SERVICE, phase == Phase::Running)];
        assert_eq!(site.told_of(), [(neighbour(1), told.clone()), (neighbour(2), told)]);
    }
}
