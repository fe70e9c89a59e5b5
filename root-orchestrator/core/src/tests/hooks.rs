//! Hooks: who is told of what, in which order, how often it is tried, and what is kept.

use std::collections::BTreeSet;

use super::*;
use crate::{
    Delivery, DeliveryId, Envelope, Hook, HookEvent, HookRejected, HookWish, MOST_HOOKS, MOST_WAITING,
    SecretWish,
};
use HookEvent::{PostCreate, PostDelete, PostUpdate};
use model::{HookId, Sealed, SecretVersionId};

const DAY: u64 = 24 * 3_600_000;
/// No attempt may take so long.
const LOST: u64 = 120_000;

type NoSeal = fn(SecretVersionId) -> Envelope;
const UNSIGNED: Option<NoSeal> = None;

fn id(number: u8) -> HookId {
    HookId::from_bytes([number; 12])
}

fn wish(number: u8, entity: &str, events: &[HookEvent]) -> HookWish {
    HookWish {
        name: format!("hook{number}"),
        url: format!("https://hooks.example/{number}"),
        entity: entity.to_owned(),
        events: events.iter().copied().collect(),
    }
}

impl Root {
    fn hook(&mut self, number: u8, of: OrganizationId, entity: &str, events: &[HookEvent]) -> HookId {
        let made = self.state.create_hook(id(number), of, wish(number, entity, events), UNSIGNED);
        let (id, changes) = made.expect("it is free");
        self.apply(changes);
        id
    }

    /// Makes an application without services.
    fn application_of(&mut self, of: OrganizationId, name: &str) -> Application {
        let wanted = SlaApplication {
            id: None,
            name: name.to_owned(),
            namespace: "test".to_owned(),
            description: String::new(),
            services: Vec::new(),
        };
        let made = self.state.create_applications(&author(of), vec![wanted], &mut self.ids, self.now.date);
        let (ids, changes) = made.expect("a new name");
        self.apply(changes);
        self.state.application(ids[0]).expect("made").clone()
    }

    fn describe(&mut self, application: &Application, text: &str) {
        let application = self.state.application(application.id).expect("there").clone();
        let changes = self.state.describe(&application, text.to_owned());
        self.apply(changes);
    }

    /// One turn; what hooks are to be told now.
    fn deliveries_due(&mut self) -> Vec<DeliveryId> {
        let plan = self.state.reconcile(self.now);
        let again = self.state.reconcile(self.now);
        assert_eq!((again.changes, again.effects), (vec![], vec![]), "without news there is nothing to do");
        plan.effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Deliver(id) => Some(id),
                Effect::SendAssignment { .. }
                | Effect::SendTokens { .. }
                | Effect::SendRevocations { .. }
                | Effect::TellNeighbours { .. }
                | Effect::CallAction(_)
                | Effect::PassOn { .. } => None,
            })
            .collect()
    }

    fn taken(&mut self, id: DeliveryId) {
        let changes = self.state.delivered(id, Ok(()), self.now);
        self.apply(changes);
    }

    fn failed(&mut self, id: DeliveryId) {
        let changes = self.state.delivered(id, Err("it is away".to_owned()), self.now);
        self.apply(changes);
    }

    fn waiting(&self, hook: HookId) -> Vec<(HookEvent, String)> {
        self.state.deliveries_of(hook).map(|it| (it.event, it.entity_id.clone())).collect()
    }

    fn pass(&mut self, millis: u64) {
        self.now.moment = self.now.moment.plus_millis(millis);
        self.now.date = self.now.date.plus_millis(millis);
    }

    fn status(&self, hook: HookId) -> crate::HookStatus {
        self.state.hook(hook).expect("there").status.clone()
    }
}

fn delivery(hook: HookId, number: u64) -> DeliveryId {
    DeliveryId { hook, number }
}

#[test]
fn an_organisation_hears_of_its_own_and_of_nothing_else() {
    let mut root = Root::new();
    let all = [PostCreate, PostUpdate, PostDelete];
    let ours = root.hook(1, ROOT, "applications", &all);
    let theirs = root.hook(2, ACME, "applications", &all);
    let jobs = root.hook(3, ACME, "job", &all);
    let shop = root.application_of(ACME, "shop");
    assert_eq!(root.deliveries_due(), [delivery(theirs, 1)]);
    assert_eq!(root.waiting(theirs), [(PostCreate, shop.id.to_string())]);
    root.describe(&shop, "sells");
    root.deliveries_due();
    let changes = root.state.delete_application(&shop, root.now.date);
    root.apply(changes);
    root.deliveries_due();
    let events: Vec<HookEvent> = root.waiting(theirs).into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, all);
    assert_eq!((root.waiting(ours), root.waiting(jobs)), (vec![], vec![]));
}

#[test]
fn what_happened_is_stored_with_what_it_happened_by() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "applications", &[PostCreate]);
    root.deliveries_due();
    let shop = root.application_of(ROOT, "shop");
    let plan = root.state.reconcile(root.now);
    let id = delivery(hook, 1);
    let waiting = Delivery { id, event: PostCreate, entity_id: shop.id.to_string(), at: root.now.date };
    assert!(plan.changes.contains(&Change::Delivery(id, Some(waiting))), "{:?}", plan.changes);
}

#[test]
fn services_are_told_of_with_their_instances_and_once_they_are_deleted_no_more() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "jobs", &[PostCreate, PostUpdate, PostDelete]);
    root.deliveries_due();
    let service = root.service(small());
    root.deliveries_due();
    let text = service.to_string();
    assert_eq!(root.waiting(hook), [(PostCreate, text.clone())]);
    root.deploy(service);
    root.deliveries_due();
    assert_eq!(root.waiting(hook), [(PostCreate, text.clone()), (PostUpdate, text.clone())]);
    let gone = root.state.service(service).expect("there").clone();
    let changes = root.state.delete_service(&gone, root.now.date);
    root.apply(changes);
    root.deliveries_due();
    let expected = [PostCreate, PostUpdate, PostDelete].map(|event| (event, text.clone()));
    assert_eq!(root.waiting(hook), expected);
}

#[test]
fn clusters_are_told_of_by_name_and_place_and_not_by_every_assignment() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "resources", &[PostCreate, PostUpdate]);
    let cluster = root.cluster(1, "munich", &[resources(4, 4096)]);
    root.deliveries_due();
    assert_eq!(root.waiting(hook), [(PostCreate, cluster.to_string())]);
    let known = root.state.cluster(cluster).expect("there").clone();
    root.apply(vec![Change::Cluster(cluster, Some(Cluster { name: "bavaria".to_owned(), ..known }))]);
    root.deliveries_due();
    let events = [(PostCreate, cluster.to_string()), (PostUpdate, cluster.to_string())];
    assert_eq!(root.waiting(hook), events);
    let service = root.service(small());
    root.deploy(service);
    root.deliveries_due();
    root.deploy(service);
    root.deliveries_due();
    assert_eq!(root.waiting(hook), events);
    let theirs = root.state.create_hook(id(2), ACME, wish(2, "resources", &[PostCreate]), UNSIGNED);
    assert_eq!(theirs, Err(HookRejected::OfThePlatform));
}

#[test]
fn an_update_that_waits_stands_for_those_after_it_until_it_is_begun() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "applications", &[PostUpdate]);
    let (shop, bank) = (root.application_of(ROOT, "shop"), root.application_of(ROOT, "bank"));
    root.describe(&shop, "one");
    assert_eq!(root.deliveries_due(), [delivery(hook, 1)]);
    // The receiver may have looked before these.
    root.describe(&shop, "two");
    root.deliveries_due();
    root.describe(&shop, "three");
    root.describe(&bank, "one");
    root.deliveries_due();
    let update = |of: &Application| (PostUpdate, of.id.to_string());
    assert_eq!(root.waiting(hook), [update(&shop), update(&shop), update(&bank)]);
    root.taken(delivery(hook, 1));
    assert_eq!(root.deliveries_due(), [delivery(hook, 2)]);
}

#[test]
fn a_hook_is_told_in_order_and_again_later_and_later_until_it_takes_it() {
    let mut root = Root::new();
    let (hook, other) =
        (root.hook(1, ROOT, "applications", &[PostCreate]), root.hook(2, ROOT, "jobs", &[PostCreate]));
    root.application_of(ROOT, "shop");
    root.application_of(ROOT, "bank");
    let first = delivery(hook, 1);
    let mut pause = 1000;
    for failures in 1..=14 {
        assert_eq!(root.deliveries_due(), [first], "after {failures} failures");
        root.failed(first);
        assert_eq!(root.status(hook).failures, failures);
        assert_eq!(root.deliveries_due(), [], "it pauses");
        root.pass(pause * 3 / 4 - 1);
        assert_eq!(root.deliveries_due(), [], "it pauses a little longer");
        root.pass(pause / 4 + 1);
        pause = (pause * 2).min(600_000);
    }
    // Another is not held up.
    root.service(small());
    assert_eq!(root.deliveries_due(), [delivery(other, 1), first]);
    root.taken(first);
    assert_eq!(root.deliveries_due(), [delivery(hook, 2)]);
    let status = root.status(hook);
    assert_eq!((status.failures, status.delivered), (0, Some(root.now.date)));
    assert_eq!(status.error.expect("it is kept").reason, "it is away");
}

#[test]
fn what_fails_for_a_day_is_given_up_and_what_waited_for_the_root_is_not() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "applications", &[PostCreate]);
    root.application_of(ROOT, "shop");
    root.application_of(ROOT, "bank");
    let first = delivery(hook, 1);
    root.deliveries_due();
    root.pass(2 * DAY);
    // Nothing is known of it yet: the root itself may have been away.
    assert_eq!(root.deliveries_due(), [first], "it was lost, and is made again");
    root.application_of(ROOT, "mill");
    root.failed(first);
    root.pass(600_000);
    assert_eq!(root.deliveries_due(), [delivery(hook, 3)]);
    assert_eq!(root.status(hook).given_up, 2);
}

#[test]
fn what_is_on_its_way_is_not_given_up_meanwhile() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "applications", &[PostCreate]);
    root.application_of(ROOT, "shop");
    let first = delivery(hook, 1);
    assert_eq!(root.deliveries_due(), [first]);
    root.failed(first);
    root.pass(DAY - 1);
    assert_eq!(root.deliveries_due(), [first]);
    root.pass(1);
    root.application_of(ROOT, "bank");
    assert_eq!(root.deliveries_due(), []);
    root.taken(first);
    assert_eq!(root.deliveries_due(), [delivery(hook, 2)]);
    let status = root.status(hook);
    assert_eq!((status.given_up, status.delivered), (0, Some(root.now.date)));
}

#[test]
fn of_a_long_reason_the_beginning_is_kept() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "applications", &[PostCreate]);
    root.application_of(ROOT, "shop");
    let [id] = root.deliveries_due()[..] else { panic!("one is due") };
    let changes = root.state.delivered(id, Err("\u{e9}".repeat(1000)), root.now);
    root.apply(changes);
    assert_eq!(root.status(hook).error.expect("it says so").reason, "\u{e9}".repeat(300));
}

#[test]
fn one_of_which_nothing_is_heard_is_made_again() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "applications", &[PostCreate]);
    root.application_of(ROOT, "shop");
    assert_eq!(root.deliveries_due(), [delivery(hook, 1)]);
    root.pass(LOST - 1);
    assert_eq!(root.deliveries_due(), []);
    root.pass(1);
    assert_eq!(root.deliveries_due(), [delivery(hook, 1)]);
}

#[test]
fn what_waits_outlives_a_restart_and_is_told_at_once() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "applications", &[PostCreate]);
    let shop = root.application_of(ROOT, "shop");
    root.deliveries_due();
    root.failed(delivery(hook, 1));
    let mut again = Root { ids: CountedIds(root.ids.0), ..Root::new() };
    let kept: Hook = root.state.hook(hook).expect("stored").clone();
    let waiting: Vec<Delivery> = root.state.deliveries_of(hook).cloned().collect();
    // Hooks first: what is read from the store must not be taken for what happens now.
    again.apply(vec![Change::Hook(hook, Some(kept))]);
    again.apply(vec![Change::Application(shop.id, Some(shop))]);
    again.apply(waiting.into_iter().map(|it| Change::Delivery(it.id, Some(it))).collect());
    again.state.loaded(again.now);
    assert_eq!(again.deliveries_due(), [delivery(hook, 1)]);
    assert_eq!(again.waiting(hook).len(), 1);
    again.application_of(ROOT, "bank");
    again.deliveries_due();
    let numbers: Vec<u64> = again.state.deliveries_of(hook).map(|it| it.id.number).collect();
    assert_eq!(numbers, [1, 2], "a number is never given twice");
}

#[test]
fn a_receiver_that_stays_away_fills_no_more_than_its_share() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "applications", &[PostCreate, PostDelete]);
    for _ in 0..=MOST_WAITING / 2 {
        let shop = root.application_of(ROOT, "shop");
        root.ids = CountedIds::default();
        let changes = root.state.delete_application(&shop, root.now.date);
        root.apply(changes);
        root.deliveries_due();
    }
    assert_eq!(root.waiting(hook).len(), MOST_WAITING);
    let status = root.status(hook);
    assert_eq!(status.dropped, 2);
    let why = status.error.expect("it says so").reason;
    assert!(why.contains("was dropped: mend the receiver"), "{why}");
}

#[test]
fn receivers_of_one_organisation_do_not_take_the_places_of_another() {
    let mut root = Root::new();
    let many: Vec<HookId> =
        (1..=20).map(|number| root.hook(number, ACME, "applications", &[PostCreate])).collect();
    let ours = root.hook(99, ROOT, "applications", &[PostCreate]);
    root.application_of(ACME, "shop");
    root.application_of(ROOT, "shop");
    let told = root.deliveries_due();
    assert_eq!(told.len(), 8 + 1);
    assert!(told.contains(&delivery(ours, 1)));
    // One that is done makes room for one that was not told yet, not for itself.
    root.application_of(ACME, "bank");
    root.deliveries_due();
    root.taken(delivery(many[0], 1));
    assert_eq!(root.deliveries_due(), [delivery(many[8], 1)]);
}

#[test]
fn only_so_many_are_told_at_once() {
    let mut root = Root::new();
    for of in 1..=5 {
        let of = OrganizationId::from_bytes([of; 12]);
        for number in 0..8 {
            let number = of.to_bytes()[0] * 10 + number;
            root.hook(number, of, "applications", &[PostCreate]);
        }
        root.application_of(of, "shop");
    }
    let told = root.deliveries_due();
    assert_eq!(told.len(), 32, "of 40");
    root.taken(told[0]);
    assert_eq!(root.deliveries_due().len(), 1);
}

#[test]
fn each_secret_of_a_hook_has_a_number_of_its_own() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "applications", &[PostCreate]);
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let before = root.state.hook(hook).expect("there").clone();
        let seal = |version: SecretVersionId| {
            numbers.push(version.number);
            Envelope { key: String::new(), data_key: Sealed(Vec::new()), value: Sealed(Vec::new()) }
        };
        let same = wish(1, "applications", &[PostCreate]);
        let changed = root.state.update_hook(&before, same, SecretWish::Set(seal));
        root.apply(changed.expect("it may").1);
    }
    assert_eq!(numbers, [1, 2, 3], "none is opened as another");
}

#[test]
fn a_changed_hook_is_told_at_once_where_it_says_now_and_of_what_it_still_hears() {
    let mut root = Root::new();
    let hook = root.hook(1, ROOT, "applications", &[PostCreate, PostDelete]);
    let shop = root.application_of(ROOT, "shop");
    let changes = root.state.delete_application(&shop, root.now.date);
    root.apply(changes);
    root.deliveries_due();
    root.failed(delivery(hook, 1));
    let before = root.state.hook(hook).expect("there").clone();
    let elsewhere =
        HookWish { url: "https://other.example".to_owned(), ..wish(1, "applications", &[PostDelete]) };
    let keep = SecretWish::<NoSeal>::Keep;
    let ((), changes) = root.state.update_hook(&before, elsewhere, keep).expect("it may");
    root.apply(changes);
    assert_eq!(root.deliveries_due(), [delivery(hook, 2)]);
    assert_eq!(root.waiting(hook), [(PostDelete, shop.id.to_string())]);
    let changes = root.state.delete_hook(hook);
    root.apply(changes);
    assert_eq!(root.state.delivered(delivery(hook, 2), Ok(()), root.now), []);
    assert_eq!((root.deliveries_due(), root.waiting(hook)), (vec![], vec![]));
}

#[test]
fn a_hook_that_cannot_be_says_which_field_it_is() {
    let mut root = Root::new();
    root.hook(1, ROOT, "applications", &[PostCreate]);
    let refused =
        |wish: HookWish| root.state.create_hook(id(9), ROOT, wish, UNSIGNED).expect_err("it cannot be");
    let good = wish(2, "applications", &[PostCreate]);
    let fields = [
        HookWish { name: String::new(), ..good.clone() },
        HookWish { name: "x".repeat(64), ..good.clone() },
        HookWish { url: "x".repeat(2049), ..good.clone() },
        HookWish { entity: "workers".to_owned(), ..good.clone() },
        HookWish { events: BTreeSet::new(), ..good.clone() },
    ];
    let named = fields.map(|wish| {
        let HookRejected::Field { field, message } = refused(wish) else { unreachable!("a field is wrong") };
        assert!(message.starts_with(field), "{message}");
        field
    });
    assert_eq!(named, ["hook_name", "hook_name", "webhook_url", "entity", "events"]);
    let same_name = HookWish { name: "hook1".to_owned(), ..good.clone() };
    assert_eq!(refused(same_name), HookRejected::NameTaken("hook1".to_owned()));
    let same_url = HookWish { url: "https://hooks.example/1".to_owned(), ..good.clone() };
    assert_eq!(refused(same_url.clone()), HookRejected::Duplicate("hook1".to_owned()));
    // What others have is nobody's affair.
    assert!(root.state.create_hook(id(9), ACME, same_url, UNSIGNED).is_ok());
    for number in 2..=u8::try_from(MOST_HOOKS).expect("few") {
        root.hook(number, ROOT, "applications", &[PostCreate]);
    }
    let more = root.state.create_hook(id(99), ROOT, wish(99, "jobs", &[PostCreate]), UNSIGNED);
    assert_eq!(more, Err(HookRejected::TooMany));
}
