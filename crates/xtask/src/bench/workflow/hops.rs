//! A chain of tasks on a real device: from the end of one container to the start of the next, as the engine itself tells
//! both. The other side makes and starts a container like these by the engine's interface, which is what `docker run` does.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::{IGNITOR, Lines, SEEN_WITHIN, Succeeded, fire, make_chain, millis, now_nanos};
use crate::bench::{
    figure::{Figure, Goal},
    http::Connection,
    stack::{
        Stack,
        engine::{create_and_start, encoded, remove},
        root::Root,
    },
    statistics::{Samples, interleaved},
};

/// Tasks of a chain.
const TASKS: usize = 10;
/// Of each side, twice a round. With one before that does not count, no run is forgotten while it is measured.
const ROUNDS: usize = 4;
const SETTLES_WITHIN: Duration = Duration::from_secs(1);
const DOCKER: &str = "docker run";

/// A container that has ended, by the clock of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Life {
    id: String,
    started: i64,
    ended: i64,
}

/// The lives of all containers of an image, in the order of their ends.
struct Lives {
    told: watch::Receiver<Vec<Life>>,
    /// How many were looked at.
    taken: usize,
}

/// In milliseconds.
#[derive(Debug, Default)]
struct Times {
    /// From the request to the start of the first container of a run.
    first: Vec<f64>,
    /// From the end of a container to the start of the next.
    hop: Vec<f64>,
    /// From its end to the end of the next.
    step: Vec<f64>,
    /// From when one was asked for to its start, by the engine alone.
    docker: Vec<f64>,
    docker_step: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Ours,
    Docker,
}

pub(super) async fn measure(stack: &mut Stack, root: &Root) -> Result<Vec<Figure>> {
    make_chain(root, IGNITOR, TASKS, &stack.image).await?;
    let mut lives = Lives::follow(stack).await?;
    let mut succeeded = Succeeded::watch(root).await?;
    let mut connection = root.connect().await?;
    let (mut times, mut unused) = (Times::default(), Times::default());
    let first = chain(&mut connection, &mut lives, &mut succeeded, &mut unused).await?;
    let (name, value) = stack.label();
    let mut container = stack.engine.like(&first[0].id).await?;
    container["Labels"] = json!({name: value});
    container["Cmd"] = json!(["exit", "0"]);
    let mut engine = stack.engine.connect().await?;
    by_hand(&mut engine, &container, &mut lives, &mut unused).await?;
    for side in interleaved(&[Side::Ours, Side::Docker], ROUNDS) {
        match side {
            Side::Ours => drop(chain(&mut connection, &mut lives, &mut succeeded, &mut times).await?),
            Side::Docker => by_hand(&mut engine, &container, &mut lives, &mut times).await?,
        }
        tokio::time::sleep(SETTLES_WITHIN).await;
    }
    Ok(told(times))
}

/// One run of all tasks; the containers it had, in their order.
async fn chain(
    connection: &mut Connection,
    lives: &mut Lives,
    succeeded: &mut Succeeded,
    times: &mut Times,
) -> Result<Vec<Life>> {
    let asked = now_nanos();
    let run = fire(connection, IGNITOR).await?;
    let lived = lives.next(TASKS).await?;
    succeeded.all(&[run]).await?;
    times.first.push(millis(lived[0].started - asked));
    for pair in lived.windows(2) {
        times.hop.push(millis(pair[1].started - pair[0].ended));
        times.step.push(millis(pair[1].ended - pair[0].ended));
    }
    Ok(lived)
}

/// As many containers, one after the other.
async fn by_hand(
    engine: &mut Connection,
    container: &Value,
    lives: &mut Lives,
    times: &mut Times,
) -> Result<()> {
    let mut made = Vec::new();
    for _ in 0..TASKS {
        let asked = now_nanos();
        made.push(create_and_start(engine, container).await?);
        let lived = lives.next(1).await?;
        times.docker.push(millis(lived[0].started - asked));
        times.docker_step.push(millis(lived[0].ended - asked));
    }
    for container in made {
        remove(engine, &container).await?;
    }
    Ok(())
}

impl Lives {
    async fn follow(stack: &Stack) -> Result<Self> {
        let filters = json!({"type": ["container"], "event": ["start", "die"], "image": [stack.image]});
        let path = format!("/events?filters={}", encoded(&filters.to_string()));
        let mut lines = Lines::of(stack.engine.connect().await?.follow(&path).await?);
        let (sender, told) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut started = std::collections::BTreeMap::new();
            while let Ok(Some(event)) = lines.next().await {
                let at = event["timeNano"].as_i64().unwrap_or_default();
                let id = event["Actor"]["ID"].as_str().unwrap_or_default().to_owned();
                match event["Action"].as_str() {
                    Some("start") => drop(started.insert(id, at)),
                    Some("die") => {
                        let started = started.remove(&id).unwrap_or_default();
                        sender.send_modify(|told: &mut Vec<Life>| told.push(Life { id, started, ended: at }));
                    }
                    _ => {}
                }
            }
        });
        Ok(Self { told, taken: 0 })
    }

    /// Waits for the ends of so many more.
    async fn next(&mut self, count: usize) -> Result<Vec<Life>> {
        let (from, until) = (self.taken, self.taken + count);
        let Ok(ended) = timeout(SEEN_WITHIN, self.told.wait_for(|told| told.len() >= until)).await else {
            let ended = self.told.borrow().len();
            bail!("waited {} s in vain for {until} containers to end; {ended} did", SEEN_WITHIN.as_secs());
        };
        let lived = ended.context("the engine tells of no more events")?[from..until].to_vec();
        self.taken = until;
        Ok(lived)
    }
}

fn told(times: Times) -> Vec<Figure> {
    let [first, hop, step, docker, docker_step] =
        [times.first, times.hop, times.step, times.docker, times.docker_step].map(Samples::new);
    let figure =
        |what: &str, value, samples: &Samples| Figure::new(what.to_owned(), value, "ms", samples.count());
    let added = |what: &str, value: f64| figure(what, value, &hop);
    vec![
        figure("hop: a task's end until the next one's container starts, median", hop.median(), &hop)
            .against(DOCKER, docker.median()),
        figure("hop: the same, p95", hop.p95(), &hop).against(DOCKER, docker.p95()),
        added("hop: added to `docker run`, median", hop.median() - docker.median())
            .aiming_at(Goal::ValueAtMost { value: 50.0, unit: "ms" }),
        added("hop: added to `docker run`, p95", hop.p95() - docker.p95()),
        figure("trigger until the first container starts, median", first.median(), &first)
            .against(DOCKER, docker.median()),
        added("trigger: added to `docker run`, median", first.median() - docker.median())
            .aiming_at(Goal::ValueAtMost { value: 50.0, unit: "ms" }),
        figure("step that ends at once: until its end, median", step.median(), &step)
            .against(DOCKER, docker_step.median()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_what_a_hop_takes_longer_than_the_engine() {
        let times = Times {
            first: vec![140.0],
            hop: vec![150.0, 151.0, 149.0],
            step: vec![200.0],
            docker: vec![100.0, 101.0, 99.0],
            docker_step: vec![120.0],
        };
        let figures = told(times);
        assert_eq!((figures[2].value, figures[2].met()), (50.0, Some(true)));
        assert_eq!((figures[5].value, figures[5].met()), (40.0, Some(true)));
    }
}
