//! Actions, events and calls from outside.

use super::*;
use crate::{EventSelector, Webhook};

fn plugin(name: &str) -> Action {
    Action::Plugin { name: name.to_owned(), with: None }
}

fn called(world: &mut World) -> Vec<String> {
    world.calls.drain(..).map(|(id, ..)| id.to_string()).collect()
}

#[test]
fn actions_are_called_once_for_each_end() {
    let mut world = World::new();
    let (success_actions, failure_actions) = (vec![plugin("good")], vec![plugin("bad"), plugin("worse")]);
    world.task("one", TaskSpec { success_actions, failure_actions, ..first() });
    world.fire("i");
    world.end("1-one-1-0-1", AttemptEnd { data: "why".to_owned(), ..ended(137) });
    let (id, action, about) = world.calls[0].clone();
    assert_eq!((id.to_string().as_str(), &action), ("1-one-1-1-0", &plugin("bad")));
    assert_eq!(
        (&about["task"], &about["exitCode"], &about["data"]),
        (&"one".into(), &137.into(), &"why".into())
    );
    assert_eq!(about["delivery"], "1-one-1-1-0");
    assert_eq!(called(&mut world), ["1-one-1-1-0", "1-one-1-1-1"]);
    let changes = world.workflow.retry(RunId(1), world.now).expect("it failed");
    world.turn(changes);
    world.end("1-one-1-0-2", ended(0));
    assert_eq!(called(&mut world), ["1-one-1-2-0"], "another end, another delivery");
}

#[test]
fn a_call_is_made_until_it_is_taken_or_a_day_is_over() {
    let mut world = World::new();
    world.task("one", TaskSpec { success_actions: vec![plugin("p")], ..first() });
    world.fire("i");
    world.end("1-one-1-0-1", ended(0));
    let id = world.calls[0].0.clone();
    let failed = |world: &mut World| world.observe(Fact::Called(id.clone(), Err("refused".to_owned())));
    failed(&mut world);
    world.pass(999);
    assert_eq!(world.calls.len(), 1);
    world.pass(1);
    failed(&mut world);
    world.pass(2000);
    assert_eq!(world.calls.len(), 3);
    world.pass(ANSWER_MILLIS);
    assert_eq!(world.calls.len(), 4, "of the last nothing was heard");
    world.restart_after(1000);
    assert_eq!(world.calls.len(), 5);
    let mut taken = Stored::default();
    taken.commit(&world.workflow.observe(Fact::Called(id.clone(), Ok(())), world.now));
    assert_eq!(taken.calls[&id].phase, CallPhase::Done);
    world.pass(24 * 3_600_000);
    failed(&mut world);
    assert_eq!(world.workflow.calls[&id].phase, CallPhase::GivenUp);
    world.calls.clear();
    world.pass(24 * 3_600_000);
    assert_eq!(world.calls, []);
}

#[test]
fn an_action_may_start_a_task_in_the_same_run() {
    let mut world = World::new();
    let failure_actions = vec![Action::RunTask { name: "mend".to_owned() }];
    world.task("one", TaskSpec { failure_actions, ..first() });
    world.task("mend", TaskSpec::running("image"));
    let run = world.fire("i");
    world.end("1-one-1-0-1", ended(1));
    assert_eq!(world.names(), ["1-one-1-0-1", "1-mend-1-0-1"]);
    world.end("1-mend-1-0-1", ended(0));
    assert_eq!((world.phase(run), world.calls.len()), (RunPhase::Succeeded, 0));
}

fn event(number: u64, name: &str, world: &World) -> Event {
    Event {
        number,
        namespace: "team".to_owned(),
        event: "addon.degraded".to_owned(),
        kind: "addon".to_owned(),
        name: name.to_owned(),
        part_of: Some("all".to_owned()),
        labels: BTreeMap::from([("tier".to_owned(), "edge".to_owned())]),
        message: "it is slow".to_owned(),
        at: world.now.date,
    }
}

#[test]
fn an_event_fires_once_for_all_who_wait_for_it() {
    let mut world = World::empty("2026-01-15T12:00:00Z");
    let selector = EventSelector {
        event: "addon.degraded".to_owned(),
        kind: None,
        name: Some("db".to_owned()),
        labels: BTreeMap::from([("tier".to_owned(), "edge".to_owned())]),
    };
    let spec = IgnitorSpec { on: vec![selector.clone()], ..IgnitorSpec::by_hand() };
    world.ignitor("a", spec.clone());
    world.ignitor("b", spec.clone());
    world.ignitor("c", IgnitorSpec { suspend: true, ..spec });
    let strict = EventSelector { kind: Some("cluster".to_owned()), ..selector };
    world.ignitor("d", IgnitorSpec { on: vec![strict], ..IgnitorSpec::by_hand() });
    let happened = event(7, "db", &world);
    world.observe(Fact::Happened(event(6, "web", &world)));
    world.observe(Fact::Happened(happened.clone()));
    world.observe(Fact::Happened(happened.clone()));
    world.restart_after(10);
    world.observe(Fact::Happened(happened));
    let cause = FireCause::Event { number: 7, event: "addon.degraded".to_owned(), name: "db".to_owned() };
    let fired: Vec<(&str, &FireCause)> =
        world.workflow.runs().map(|run| (run.ignitor.name.as_str(), &run.cause)).collect();
    assert_eq!(fired, [("a", &cause), ("b", &cause)]);
    let told = r#"{"event":"addon.degraded","kind":"addon","message":"it is slow","name":"db"}"#;
    assert_eq!(world.workflow.runs[&RunId(1)].data, told, "its ignitor has none");
}

/// An ignitor that waits for what happens to all databases.
fn waiting() -> (World, IgnitorSpec) {
    let mut world = World::empty("2026-01-15T12:00:00Z");
    let selector = EventSelector {
        event: "addon.degraded".to_owned(),
        kind: None,
        name: Some("all".to_owned()),
        labels: BTreeMap::new(),
    };
    let spec = IgnitorSpec { on: vec![selector], data: "own".to_owned(), ..IgnitorSpec::by_hand() };
    world.ignitor("a", spec.clone());
    (world, spec)
}

#[test]
fn what_its_tasks_do_may_be_what_an_ignitor_waits_for() {
    let (mut world, _) = waiting();
    let most = u64::try_from(MOST_EVENT_FIRES).expect("few");
    for number in 1..=most + 2 {
        world.observe(Fact::Happened(event(number, "db", &world)));
    }
    world.restart_after(10);
    world.observe(Fact::Happened(event(most + 3, "db", &world)));
    let ignitor = |world: &World| world.workflow.ignitors[&name("a")].clone();
    assert_eq!((ignitor(&world).fired, ignitor(&world).skipped), (most, 3));
    assert_eq!(ignitor(&world).flooded, Some(world.now.date));
    world.pass(EVENT_FIRES_MILLIS);
    world.observe(Fact::Happened(event(most + 4, "db", &world)));
    assert_eq!((ignitor(&world).fired, ignitor(&world).flooded), (most + 1, None));
    assert!(world.workflow.runs().all(|run| run.data == "own"));
}

#[test]
fn an_ignitor_that_waits_no_more_does_not_fire() {
    let (mut world, spec) = waiting();
    assert!(world.workflow.awaits("team", "addon.degraded"));
    world.ignitor("a", IgnitorSpec { on: Vec::new(), ..spec });
    assert!(!world.workflow.awaits("team", "addon.degraded"));
    world.observe(Fact::Happened(event(1, "db", &world)));
    assert_eq!(world.workflow.runs().count(), 0);
}

#[test]
fn what_is_refused_is_not_asked_for_again() {
    let mut world = World::new();
    world.task("one", TaskSpec { success_actions: vec![plugin("p")], ..first() });
    world.fire("i");
    world.end("1-one-1-0-1", ended(0));
    let id = world.calls[0].0.clone();
    world.observe(Fact::Refused(id.clone(), "there is no service x".to_owned()));
    world.calls.clear();
    world.pass(24 * 3_600_000);
    world.observe(Fact::Called(id.clone(), Ok(())));
    let call = &world.workflow.calls[&id];
    assert_eq!((call.phase, call.error.as_str()), (CallPhase::GivenUp, "there is no service x"));
    assert_eq!(world.calls, []);
}

#[test]
fn what_happened_before_there_was_an_ignitor_is_past() {
    let mut world = World::empty("2026-01-15T12:00:00Z");
    let happened = event(7, "db", &world);
    world.pass(1);
    let selector =
        EventSelector { event: "addon.degraded".to_owned(), kind: None, name: None, labels: BTreeMap::new() };
    world.ignitor("a", IgnitorSpec { on: vec![selector], ..IgnitorSpec::by_hand() });
    world.observe(Fact::Happened(happened));
    assert_eq!(world.workflow.runs().count(), 0);
}

/// With an ignitor that takes calls.
fn called_in() -> World {
    let mut world = World::new();
    world.ignitor("hook", taking_calls());
    world
}

fn taking_calls() -> IgnitorSpec {
    IgnitorSpec { webhook: Some(Webhook { secret: "key".to_owned() }), ..IgnitorSpec::by_hand() }
}

fn call_in(delivery: &str, data: &str, signed: Timestamp) -> CallIn {
    CallIn { delivery: delivery.to_owned(), data: Some(data.to_owned()), signed }
}

impl World {
    fn is_called(&mut self, delivery: &str) -> CalledIn {
        let call = call_in(delivery, "body", self.now.date);
        let (came, changes) = self.workflow.call_in(&name("hook"), call, self.now).expect("it is taken");
        self.turn(changes);
        came
    }

    fn refuses(&self, of: &str, call: CallIn) -> String {
        self.workflow.call_in(&name(of), call, self.now).expect_err("it is refused").to_string()
    }
}

#[test]
fn a_call_from_outside_counts_once() {
    let mut world = called_in();
    assert_eq!(world.is_called("x"), CalledIn::Began(RunId(1)));
    world.restart_after(10);
    assert_eq!(world.is_called("x"), CalledIn::Known);
    assert_eq!(world.is_called("y"), CalledIn::Began(RunId(2)));
    assert_eq!(world.workflow.runs[&RunId(2)].data, "body");
    world.pass(3_600_000);
    assert_eq!(world.is_called("y"), CalledIn::Known, "signed anew, it still is the same");
    let now = world.now.date;
    assert_eq!(
        world.refuses("i", call_in("x", "", now)),
        "ignitor team/i takes no calls: it has no `webhook`"
    );
    assert_eq!(world.refuses("none", call_in("x", "", now)), "there is no ignitor team/none");
    let long = "data must have at most 4096 bytes, but has 4097";
    assert_eq!(world.refuses("hook", call_in("z", &"x".repeat(4097), now)), long);
    let unnamed = "the id of a delivery must have 1 to 128 bytes";
    assert_eq!(world.refuses("hook", call_in("", "", now)), unnamed);
    world.ignitor("hook", IgnitorSpec { suspend: true, ..taking_calls() });
    assert!(world.refuses("hook", call_in("z", "", now)).starts_with("ignitor team/hook is suspended"));
}

#[test]
fn a_call_is_signed_when_it_is_made() {
    let world = called_in();
    let now = world.now.date;
    let early = Timestamp(now.0 - 300_000);
    assert!(world.refuses("hook", call_in("x", "", early)).starts_with("the call was signed at "));
    assert!(
        world.refuses("hook", call_in("x", "", now.plus_millis(60_001))).starts_with("the call was signed")
    );
    for taken in [Timestamp(early.0 + 1), now.plus_millis(60_000)] {
        assert!(world.workflow.call_in(&name("hook"), call_in("x", "", taken), world.now).is_ok());
    }
}

#[test]
fn no_call_is_forgotten_that_could_be_said_again() {
    let mut world = called_in();
    for number in 0..300 {
        world.is_called(&number.to_string());
    }
    let busy = world.refuses("hook", call_in("more", "", world.now.date));
    assert_eq!(busy, "ignitor team/hook takes 300 calls in five minutes; try again in 300 s");
    world.pass(300_000);
    assert_eq!(world.is_called("more"), CalledIn::Began(RunId(301)));
    assert_eq!(world.is_called("1"), CalledIn::Known, "only the oldest is forgotten");
}
