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
        labels: BTreeMap::from([("tier".to_owned(), "edge".to_owned())]),
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
    let fired: Vec<(&str, FireCause)> =
        world.workflow.runs().map(|run| (run.ignitor.name.as_str(), run.cause.clone())).collect();
    assert_eq!(fired, [("a", FireCause::Event(7)), ("b", FireCause::Event(7))]);
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

#[test]
fn a_call_from_outside_counts_once() {
    let mut world = World::new();
    let webhook = Some(Webhook { secret: "key".to_owned() });
    world.ignitor("hook", IgnitorSpec { webhook, ..IgnitorSpec::by_hand() });
    let call = |world: &mut World, delivery: &str| {
        let data = Some("body".to_owned());
        let (run, changes) =
            world.workflow.call_in(&name("hook"), delivery.to_owned(), data, world.now).expect("it is taken");
        world.turn(changes);
        run
    };
    assert_eq!(call(&mut world, "x"), Some(RunId(1)));
    world.restart_after(10);
    assert_eq!(call(&mut world, "x"), None);
    assert_eq!(call(&mut world, "y"), Some(RunId(2)));
    assert_eq!(world.workflow.runs[&RunId(2)].data, "body");
    let refused = |of: &str, delivery: &str, data: &str| {
        let (delivery, data) = (delivery.to_owned(), Some(data.to_owned()));
        world.workflow.call_in(&name(of), delivery, data, world.now).expect_err("it is refused").to_string()
    };
    assert_eq!(refused("i", "x", ""), "ignitor team/i takes no calls: it has no `webhook`");
    assert_eq!(refused("none", "x", ""), "there is no ignitor team/none");
    assert_eq!(refused("hook", "z", &"x".repeat(4097)), "data must have at most 4096 bytes, but has 4097");
    assert_eq!(refused("hook", "", ""), "the id of a delivery must have 1 to 128 bytes");
}
