//! What callers notice while a service grows from one instance to ten, loses some and shrinks again: 200 requests a second
//! to its address; to Docker Swarm's by its name, asked for each request, as its addresses change.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::time::sleep;

use super::{
    TRUSTED,
    calls::{Call, Calls, HELLO, failures, first_answers},
    ours::{self, Called},
    overlay::{self, Overlay},
    place::Place,
};
use crate::{
    bench::{
        figure::{Figure, Goal},
        recovery::SWARM,
        stack::root,
        statistics::{Samples, interleaved},
    },
    lab::survival::{
        engines::Copy,
        world::{RUNS_WITHIN, Service, World},
    },
};

const NAME: &str = "crew";
const CALL_EVERY: Duration = Duration::from_millis(5);
const MOST: usize = 10;
const KILLS: usize = 3;
/// In which callers meet every instance several times.
const A_WHILE: Duration = Duration::from_secs(1);
const ROUNDS: usize = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Swarm,
}

/// What happened, by the interface of the side.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// When who was told to be ready.
    pub(super) ready: BTreeMap<String, Instant>,
    pub(super) kills: Vec<Kill>,
    /// From the wish to shrink until it has.
    pub(super) shrink: Option<(Instant, Instant)>,
}

/// An instance whose process was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kill {
    pub(super) when: Instant,
    /// The side's own interface says that it does not run.
    pub(super) detected: Instant,
}

/// What callers noticed of it: milliseconds and numbers of calls.
#[derive(Debug, Clone, PartialEq, Default)]
struct Noticed {
    /// From ready to the first answer.
    visible: Vec<f64>,
    /// From the kill until it was detected.
    detected: Vec<f64>,
    /// From the detection until the last call that failed began.
    avoided: Vec<f64>,
    /// Calls that began after a loss was detected and failed.
    late: usize,
    /// Calls that failed while the service shrank.
    shrinking: usize,
    failed: usize,
    calls: usize,
}

pub(super) async fn measure(world: &mut World, swarm: &mut Overlay) -> Result<Vec<Figure>> {
    let mut called = ours::on(TRUSTED, None);
    // By which one that runs, and does not listen yet, is told from one that answers.
    called["health"] = json!({"ready": {"tcp": {"port": HELLO}}});
    let services = [("caller", ours::on(TRUSTED, Some("c1w1"))), (NAME, called)];
    let made = ours::application(world, "convergence", &services).await?;
    let [caller, called]: [Called; 2] = made.try_into().ok().context("there are two services")?;
    let caller = ours::deploy(world, &caller.service).await?;
    let (mut our_notices, mut swarm_notices) = (Noticed::default(), Noticed::default());
    for side in interleaved(&[Side::Ours, Side::Swarm], ROUNDS) {
        let (events, calls) = match side {
            Side::Ours => follow_ours(world, &caller, &called).await.context("grow and shrink ours")?,
            Side::Swarm => follow_swarm(world, swarm).await.context("grow and shrink the swarm's")?,
        };
        let noticed = match side {
            Side::Ours => &mut our_notices,
            Side::Swarm => &mut swarm_notices,
        };
        noticed.add(&events, &calls).with_context(|| format!("of {side:?}"))?;
        let reasons: Vec<&String> = failures(&calls).filter_map(|call| call.answer.as_ref().err()).collect();
        eprintln!(
            "convergence, {side:?}: {} calls, {} failed {:?}",
            calls.len(),
            reasons.len(),
            reasons.first()
        );
    }
    Ok(figures(our_notices, swarm_notices))
}

impl Noticed {
    /// # Errors
    /// One that was told to be ready never answered.
    fn add(&mut self, events: &Events, calls: &[Call]) -> Result<()> {
        let first = first_answers(calls);
        for (who, ready) in &events.ready {
            let answered = first.get(who);
            let answered = answered.with_context(|| format!("{who} is ready and answered no caller"))?;
            self.visible.push(milliseconds(*ready, *answered));
        }
        for kill in &events.kills {
            let until = kill.detected + A_WHILE;
            let after = |since| between(calls, since, until).map(|call| call.begun);
            self.detected.push(milliseconds(kill.when, kill.detected));
            let last = after(kill.when).max();
            self.avoided.push(last.map_or(0.0, |last| milliseconds(kill.detected, last)));
            self.late += after(kill.detected).count();
        }
        if let Some((since, until)) = events.shrink {
            self.shrinking += between(calls, since, until).count();
        }
        self.failed += failures(calls).count();
        self.calls += calls.len();
        Ok(())
    }
}

/// Calls that began in that time and failed.
fn between(calls: &[Call], since: Instant, until: Instant) -> impl Iterator<Item = &Call> {
    failures(calls).filter(move |call| (since..until).contains(&call.begun))
}

/// None where the second was earlier: an instance may answer before it is told to be ready.
fn milliseconds(since: Instant, until: Instant) -> f64 {
    until.saturating_duration_since(since).as_secs_f64() * 1e3
}

fn figures(ours: Noticed, swarm: Noticed) -> Vec<Figure> {
    let at_most = |value, unit| Goal::ValueAtMost { value, unit };
    let count = |what: &str, ours: usize, swarm: usize, calls| {
        Figure::new(what.to_owned(), ours as f64, "calls", calls).against(SWARM, swarm as f64)
    };
    let calls = ours.calls;
    let mut figures = vec![
        count("calls that failed while it shrank", ours.shrinking, swarm.shrinking, calls)
            .aiming_at(at_most(0.0, "calls")),
        count("calls after a loss was detected that failed", ours.late, swarm.late, calls)
            .aiming_at(at_most(0.0, "calls")),
        count("calls that failed in all", ours.failed, swarm.failed, calls),
    ];
    for (what, ours, swarm, goal) in [
        ("ready until it answers callers", ours.visible, swarm.visible, Some(100.0)),
        ("killed until detected", ours.detected, swarm.detected, None),
        ("detected until no call goes to it", ours.avoided, swarm.avoided, Some(100.0)),
    ] {
        let (ours, swarm) = (Samples::new(ours), Samples::new(swarm));
        let figure = |which: &str, value| Figure::new(format!("{what}, {which}"), value, "ms", ours.count());
        let worst = figure("p95", ours.p95()).against(SWARM, swarm.p95());
        figures.push(figure("median", ours.median()).against(SWARM, swarm.median()));
        figures.push(match goal {
            Some(goal) => worst.aiming_at(at_most(goal, "ms")),
            None => worst,
        });
    }
    figures
}

async fn follow_ours(world: &mut World, caller: &Place, called: &Called) -> Result<(Events, Vec<Call>)> {
    let Called { service, address } = called;
    let address = *address;
    world.deploy(service).await?;
    world.all_ready(service, 1, RUNS_WITHIN).await?;
    let (application, id) = (service.application.clone(), service.id.clone());
    let mut watch = world.lab.api().await?.watch(&root::Service { application, id }).await?;
    let calls = Calls::start(caller, CALL_EVERY, move || Ok(address))?;
    sleep(A_WHILE).await;
    let mut events = Events::default();
    let mut numbers = Vec::new();
    for _ in 1..MOST {
        numbers.push(world.deploy(service).await?);
    }
    let ready = watch.ready(&numbers).await?;
    let copies = world.copies(service).await?;
    for (number, ready) in numbers.iter().zip(ready) {
        let shown = world.inspect(copy_of(&copies, service, *number)?).await?;
        let host = shown["Config"]["Hostname"].as_str().context("a container has a host name")?;
        events.ready.insert(host.to_owned(), ready);
    }
    sleep(A_WHILE).await;
    for number in numbers.iter().take(KILLS) {
        let copies = world.copies(service).await?;
        let when = world.kill_container(copy_of(&copies, service, *number)?).await?;
        let detected = watch.stopped(*number).await?;
        events.kills.push(Kill { when, detected });
        world.running(service, MOST, RUNS_WITHIN).await?;
        sleep(A_WHILE).await;
    }
    let begun = Instant::now();
    for number in &numbers {
        world.delete(&format!("/api/service/{}/instance/{number}", service.id)).await?;
    }
    world.running(service, 1, RUNS_WITHIN).await?;
    sleep(A_WHILE).await;
    events.shrink = Some((begun, Instant::now()));
    let calls = calls.end()?;
    world.delete(&format!("/api/service/{}/instance/-1", service.id)).await?;
    world.seen_until(service, "it is removed", RUNS_WITHIN, <[_]>::is_empty).await?;
    Ok((events, calls))
}

fn copy_of<'a>(copies: &'a [Copy], service: &Service, number: u32) -> Result<&'a Copy> {
    let instance = format!("{}/{number}", service.id);
    let copy = copies.iter().find(|copy| copy.instance == instance);
    copy.with_context(|| format!("instance {number} has no container"))
}

async fn follow_swarm(world: &World, swarm: &mut Overlay) -> Result<(Events, Vec<Call>)> {
    swarm.create(NAME, 1).await?;
    let first: Vec<String> = swarm.await_running(NAME, 1).await?.into_keys().collect();
    let calls = Calls::start(&swarm.caller, CALL_EVERY, || overlay::address(NAME))?;
    sleep(A_WHILE).await;
    let mut events = Events::default();
    swarm.scale(NAME, MOST).await?;
    events.ready = swarm.await_running(NAME, MOST).await?;
    events.ready.retain(|who, _| !first.contains(who));
    sleep(A_WHILE).await;
    for _ in 0..KILLS {
        events.kills.push(swarm.kill_one(world, NAME).await?);
        swarm.await_running(NAME, MOST).await?;
        sleep(A_WHILE).await;
    }
    let begun = Instant::now();
    swarm.scale(NAME, 1).await?;
    swarm.await_containers(world, NAME, 1).await?;
    sleep(A_WHILE).await;
    events.shrink = Some((begun, Instant::now()));
    let calls = calls.end()?;
    swarm.remove(world, NAME).await?;
    Ok((events, calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_fail_count_by_when_they_began() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let call = |begun, answer: Result<&str, &str>| Call {
            begun: at(begun),
            ended: at(begun + 1),
            answer: answer.map(str::to_owned).map_err(str::to_owned),
        };
        let calls = [
            call(0, Ok("1")),
            call(29, Ok("2")),
            call(110, Err("refused")),
            call(125, Err("refused")),
            call(300, Err("refused")),
        ];
        let events = Events {
            ready: BTreeMap::from([("2".to_owned(), at(20))]),
            kills: vec![Kill { when: at(100), detected: at(120) }],
            shrink: Some((at(290), at(310))),
        };
        let mut noticed = Noticed::default();
        noticed.add(&events, &calls).expect("it answered");
        let expected = Noticed {
            visible: vec![10.0],
            detected: vec![20.0],
            avoided: vec![180.0],
            late: 2,
            shrinking: 1,
            failed: 3,
            calls: 5,
        };
        assert_eq!(noticed, expected);
        let events = Events { ready: BTreeMap::from([("3".to_owned(), at(20))]), ..Events::default() };
        noticed.add(&events, &calls).expect_err("it never answered");
    }
}
