//! More and fewer instances, and instances of another revision.

use model::Span;

use super::*;

/// A service with instances that run on one large cluster.
struct Shop {
    root: Root,
    cluster: ClusterId,
    service: ServiceId,
}

impl Shop {
    fn new(instances: u32, update: UpdatePolicy) -> Self {
        let mut root = Root::new();
        let cluster = root.cluster(1, "one", &[resources(64, 64_000)]);
        let service = root.service(small());
        let mut document = root.state.service(service).expect("it exists").clone();
        document.update = update;
        root.apply(vec![Change::Service(service, Some(document))]);
        let mut shop = Self { root, cluster, service };
        shop.scale(instances);
        shop.all_run();
        shop
    }

    fn document(&self) -> crate::Service {
        self.root.state.service(self.service).expect("it exists").clone()
    }

    fn scale(&mut self, wanted: u32) {
        let (_, changes) =
            self.root.state.scale(&self.document(), wanted, self.root.now.date).expect("there is no quota");
        self.root.apply(changes);
        self.root.reconcile();
    }

    fn update(&mut self, image: &str) -> u32 {
        let spec = ServiceSpec { image: image.to_owned(), ..small() };
        let wanted = SlaService {
            allowed_callers: model::AllowedCallers::new(),
            round_robin: None,
            name: "service".to_owned(),
            namespace: "test".to_owned(),
            spec,
            update: self.document().update,
            secrets: crate::sla::SecretWishes::default(),
            document: serde_json::Map::new(),
        };
        let (number, changes) =
            self.root.state.update(&self.document(), wanted, self.root.now.date).expect("the same name");
        self.root.apply(changes);
        self.root.reconcile();
        number
    }

    fn say(&mut self, id: InstanceId, phase: Phase) {
        let said = self.root.said(id, phase);
        let same = self.root.state.aggregate(self.cluster).0;
        self.root.report(self.cluster, same, vec![said]);
        self.root.reconcile();
    }

    fn live(&self) -> Vec<(u32, u32, bool)> {
        let live = self.root.state.instances_of(self.service).filter(|it| it.desired == Desired::Running);
        live.map(|it| (it.id.number, it.revision, it.is_ready())).collect()
    }

    fn id(&self, number: u32) -> InstanceId {
        InstanceId { service: self.service, number }
    }

    fn all_run(&mut self) {
        for (number, ..) in self.live() {
            self.say(self.id(number), Phase::Running);
        }
    }

    /// Confirms what was removed.
    fn bury(&mut self) {
        let gone: Vec<InstanceId> = self
            .root
            .state
            .instances_of(self.service)
            .filter(|it| it.desired == Desired::Removed)
            .map(|it| it.id)
            .collect();
        gone.into_iter().for_each(|id| self.say(id, Phase::Removed));
    }
}

#[test]
fn scaling_adds_and_takes_away_the_last_first_but_those_of_no_use_before() {
    let mut shop = Shop::new(3, UpdatePolicy::default());
    shop.scale(5);
    shop.say(shop.id(3), Phase::Running);
    shop.scale(4);
    assert_eq!(shop.live(), [(0, 1, true), (1, 1, true), (2, 1, true), (3, 1, true)], "4 was not ready");
    shop.scale(1);
    assert_eq!(shop.live(), [(0, 1, true)]);
    shop.scale(0);
    assert_eq!(shop.live(), []);
}

#[test]
fn an_update_never_leaves_fewer_ready_than_wanted() {
    let mut shop = Shop::new(2, UpdatePolicy::default());
    assert_eq!(shop.update("image:2"), 2);
    assert_eq!(shop.live(), [(0, 1, true), (1, 1, true), (2, 2, false)], "one more, none less");
    let assignment = shop.root.state.assignment(shop.root.state.cluster(shop.cluster).expect("it joined"));
    let images: Vec<&str> = assignment.services.values().map(|service| service.spec.image.as_str()).collect();
    assert_eq!(images, ["image", "image:2"], "both revisions are told");
    shop.say(shop.id(2), Phase::Running);
    assert_eq!(shop.live(), [(0, 1, true), (2, 2, true), (3, 2, false)]);
    shop.bury();
    shop.say(shop.id(3), Phase::Running);
    assert_eq!(shop.live(), [(2, 2, true), (3, 2, true)]);
    shop.bury();
    assert_eq!((shop.document().rollout, shop.document().revision), (None, 2));
}

#[test]
fn with_one_that_may_be_missing_no_surge_is_needed() {
    let update = UpdatePolicy { max_unavailable: 1, max_surge: 0, ..UpdatePolicy::default() };
    let mut shop = Shop::new(2, update);
    shop.update("image:2");
    assert_eq!(shop.live(), [(0, 1, true), (2, 2, false)]);
    shop.say(shop.id(2), Phase::Running);
    assert_eq!(shop.live(), [(2, 2, true), (3, 2, false)]);
    shop.say(shop.id(3), Phase::Running);
    assert_eq!(shop.document().rollout, None);
}

#[test]
fn a_revision_that_does_not_get_ready_is_taken_back_with_the_reason() {
    let update = UpdatePolicy { ready_within: Span::from_secs(30), ..UpdatePolicy::default() };
    let mut shop = Shop::new(2, update);
    shop.update("image:broken");
    shop.say(shop.id(2), Phase::Failed);
    shop.root.wait(31_000);
    assert_eq!(shop.live(), [(0, 1, true), (1, 1, true)], "what worked was never touched");
    let document = shop.document();
    assert_eq!((document.revision, document.rollout), (1, None));
    let failed = document.revisions[1].failed.clone().expect("marked");
    assert!(failed.contains("instance 2 was not ready within 30s: FAILED"), "{failed}");
}

#[test]
fn without_rollback_a_stuck_change_says_why_and_goes_on_when_it_can() {
    let update =
        UpdatePolicy { ready_within: Span::from_secs(30), rollback: false, ..UpdatePolicy::default() };
    let mut shop = Shop::new(1, update);
    shop.update("image:slow");
    shop.root.wait(31_000);
    assert!(shop.document().rollout.and_then(|rollout| rollout.stalled).is_some());
    shop.say(shop.id(1), Phase::Running);
    assert_eq!((shop.live(), shop.document().rollout), (vec![(1, 2, true)], None));
}

#[test]
fn going_back_is_an_update_to_what_was() {
    let mut shop = Shop::new(1, UpdatePolicy::default());
    shop.update("image:2");
    shop.all_run();
    shop.bury();
    assert_eq!(shop.document().revision, 2);
    let (number, changes) = shop.root.state.roll_back(&shop.document(), None).expect("there is one before");
    assert_eq!(number, 1);
    shop.root.apply(changes);
    shop.root.reconcile();
    shop.all_run();
    assert_eq!(shop.live(), [(2, 1, true)]);
    let unknown = shop.root.state.roll_back(&shop.document(), Some(9));
    assert_eq!(unknown, Err(Rejected::NoRevision { number: 9 }));
}

#[test]
fn the_same_again_changes_nothing() {
    let mut shop = Shop::new(1, UpdatePolicy::default());
    assert_eq!(shop.update("image"), 1);
    assert_eq!((shop.live(), shop.document().rollout), (vec![(0, 1, true)], None));
}

#[test]
fn a_service_without_instances_is_changed_at_once() {
    let mut shop = Shop::new(0, UpdatePolicy::default());
    shop.update("image:2");
    assert_eq!((shop.document().revision, shop.document().rollout), (2, None));
    shop.scale(1);
    assert_eq!(shop.live(), [(0, 2, false)]);
}

#[test]
fn scaling_during_a_change_ends_with_the_new_number_of_the_new_revision() {
    let mut shop = Shop::new(2, UpdatePolicy::default());
    shop.update("image:2");
    shop.scale(3);
    for _ in 0..6 {
        shop.all_run();
        shop.bury();
    }
    let revisions: Vec<u32> = shop.live().iter().map(|(_, revision, _)| *revision).collect();
    assert_eq!((revisions, shop.document().rollout), (vec![2, 2, 2], None));
}

#[test]
fn a_second_update_overtakes_the_first() {
    let mut shop = Shop::new(2, UpdatePolicy::default());
    shop.update("image:2");
    shop.update("image:3");
    for _ in 0..8 {
        shop.all_run();
        shop.bury();
    }
    let revisions: Vec<u32> = shop.live().iter().map(|(_, revision, _)| *revision).collect();
    assert_eq!((revisions, shop.document().rollout), (vec![3, 3], None));
}

#[test]
fn old_revisions_are_forgotten_but_not_those_in_use() {
    let mut shop = Shop::new(1, UpdatePolicy::default());
    for number in 0..20 {
        shop.update(&format!("image:{number}"));
        shop.bury();
    }
    let numbers: Vec<u32> = shop.document().revisions.iter().map(|revision| revision.number).collect();
    assert!(numbers.len() <= 12 && numbers.contains(&1) && numbers.contains(&21), "{numbers:?}");
}

#[test]
fn a_service_keeps_its_name() {
    let shop = Shop::new(1, UpdatePolicy::default());
    let wanted = SlaService {
        allowed_callers: model::AllowedCallers::new(),
        round_robin: None,
        name: "other".to_owned(),
        namespace: "test".to_owned(),
        spec: small(),
        update: UpdatePolicy::default(),
        secrets: crate::sla::SecretWishes::default(),
        document: serde_json::Map::new(),
    };
    let refused = shop.root.state.update(&shop.document(), wanted, shop.root.now.date);
    assert!(matches!(refused, Err(Rejected::NotChangeable(_))));
}

#[test]
fn who_may_connect_is_changed_without_another_revision_and_told_to_clusters() {
    let mut shop = Shop::new(2, UpdatePolicy::default());
    let before = shop.live();
    let wanted = SlaService {
        allowed_callers: ["till.prod".parse().expect("a caller")].into(),
        round_robin: None,
        name: "service".to_owned(),
        namespace: "test".to_owned(),
        spec: (**shop.document().spec()).clone(),
        update: UpdatePolicy::default(),
        secrets: crate::sla::SecretWishes::default(),
        document: serde_json::Map::new(),
    };
    let now = shop.root.now.date;
    let (number, changes) =
        shop.root.state.update(&shop.document(), wanted.clone(), now).expect("the same name");
    assert_eq!(number, 1);
    shop.root.apply(changes);
    let effects = shop.root.reconcile().effects;
    let told = effects.iter().find_map(|effect| match effect {
        Effect::SendAssignment { assignment, .. } => Some(assignment),
        Effect::SendTokens { .. }
        | Effect::SendRevocations { .. }
        | Effect::Deliver(_)
        | Effect::CallAction(_)
        | Effect::TellNeighbours { .. }
        | Effect::PassOn { .. } => None,
    });
    let services: Vec<_> = told.expect("the cluster hears of it").services.values().collect();
    assert_eq!(*services[0].allowed_callers, wanted.allowed_callers);
    assert_eq!(shop.live(), before, "nothing is replaced");
    assert_eq!(shop.root.state.update(&shop.document(), wanted, now).map(|(_, changes)| changes), Ok(vec![]));
}
