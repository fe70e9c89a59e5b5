//! A thousand requests a second for a minute, four fifths reads, while the workers of the fleet stream. Each is due at a
//! time of its own and is timed from then, so that what waits behind something slow counts as slow too.

use std::{env, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::{application_of, delete, sla};
use crate::bench::{
    figure::{Figure, Goal},
    http::{Body, Connection, Method},
    scale::fleet::Fleet,
    stack::root::Root,
    statistics::Samples,
};

const PER_SECOND: u32 = 1_000;
/// Users at once; each asks twenty times a second.
const USERS: u32 = 50;
const SECONDS: u64 = 60;
const SECONDS_VARIABLE: &str = "MANGROVE_BENCH_SECONDS";
/// After so much of the time memory is as large as it should stay.
const WARM_AFTER: f64 = 0.2;
/// Growth by less is the allocator's affair.
const FLAT: f64 = 1.1;

/// What one user saw.
#[derive(Debug, Default)]
struct Seen {
    millis: Vec<f64>,
    errors: Vec<String>,
}

/// One user with an application of his own.
struct User {
    root: Root,
    connection: Connection,
    number: u32,
    /// The ids of both.
    application: String,
    service: String,
    /// What was made and is to be removed.
    instance: Option<u64>,
    second: Option<Value>,
}

/// Asks for the usual time, or as long as `MANGROVE_BENCH_SECONDS` says.
pub(super) async fn measure(fleet: &Fleet, root: &Root) -> Result<Vec<Figure>> {
    let length = Duration::from_secs(seconds()?);
    let mut users = Vec::new();
    for number in 0..USERS {
        users.push(User::new(root, number).await?);
    }
    let look = fleet.look()?;
    let start = Instant::now();
    let asking: Vec<_> = users.into_iter().map(|user| tokio::spawn(user.ask(start, length))).collect();
    sleep(length.mul_f64(WARM_AFTER)).await;
    let warm = fleet.since(&look)?.megabytes();
    let mut all = Seen::default();
    for asking in asking {
        let seen = asking.await.context("a user's task ended")?;
        all.millis.extend(seen.millis);
        all.errors.extend(seen.errors);
    }
    let taken = start.elapsed();
    let phase = fleet.since(&look)?;
    eprintln!("mixed load: {phase}");
    if let Some(error) = all.errors.first() {
        eprintln!("mixed load: the first error: {error}");
    }
    Ok(told(&all, taken, (warm, phase.megabytes())))
}

fn told(seen: &Seen, taken: Duration, (warm, end): (f64, f64)) -> Vec<Figure> {
    let count = seen.millis.len();
    let figure = |name: &str, value, unit| Figure::new(format!("mixed load: {name}"), value, unit, count);
    let millis = Samples::new(seen.millis.clone());
    vec![
        figure("requests", count as f64 / taken.as_secs_f64(), "/s")
            .against("asked for", f64::from(PER_SECOND))
            .aiming_at(Goal::RatioAtLeast(0.99)),
        figure("errors", seen.errors.len() as f64, "").aiming_at_none(),
        figure("from when it was due to its answer, median", millis.median(), "ms"),
        figure("from when it was due to its answer, p99", millis.p99(), "ms")
            .aiming_at(Goal::ValueAtMost { value: 50.0, unit: "ms" }),
        figure("memory of root and clusters at the end", end, "MB")
            .against("after a fifth of the time", warm)
            .aiming_at(Goal::RatioAtMost(FLAT)),
    ]
}

fn seconds() -> Result<u64> {
    let Ok(text) = env::var(SECONDS_VARIABLE) else { return Ok(SECONDS) };
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.with_context(|| format!("understand {SECONDS_VARIABLE}={text}: expected a number of seconds"))
}

impl User {
    async fn new(root: &Root, number: u32) -> Result<Self> {
        let mut connection = root.connect().await?;
        let name = format!("user{number}");
        let all = connection.ask(Method::POST, "/api/application", Body::Json(sla(&name))).await?;
        let made = application_of(&all, &name)?;
        let id = |id: &Value| id.as_str().map(str::to_owned).context("what was made has no id");
        let (application, service) = (id(&made["applicationID"])?, id(&made["microservices"][0])?);
        Ok(Self {
            root: root.clone(),
            connection,
            number,
            application,
            service,
            instance: None,
            second: None,
        })
    }

    async fn ask(mut self, start: Instant, length: Duration) -> Seen {
        let between = Duration::from_secs(1) * USERS / PER_SECOND;
        // Spread over the time between two requests of one user.
        let mut due = start + between * self.number / USERS;
        let mut seen = Seen::default();
        let mut turn = self.number;
        while due < start + length {
            sleep_until(due).await;
            if let Err(error) = self.step(turn).await {
                seen.errors.push(format!("{error:#}"));
                // What is not understood any more must not make the next request fail too.
                if let Ok(fresh) = self.root.connect().await {
                    self.connection = fresh;
                }
            }
            seen.millis.push(due.elapsed().as_secs_f64() * 1000.0);
            due += between;
            turn = turn.wrapping_add(1);
        }
        seen
    }

    /// One request: of twenty, four write.
    async fn step(&mut self, turn: u32) -> Result<()> {
        let service = format!("/api/service/{}", self.service);
        match turn % 20 {
            0 => {
                let answer = self.write(Method::POST, &format!("{service}/instance")).await?;
                self.instance = answer["instance_number"].as_u64();
                Ok(())
            }
            5 => match self.instance.take() {
                Some(number) => {
                    self.write(Method::DELETE, &format!("{service}/instance/{number}")).await.map(drop)
                }
                None => self.read(&service).await,
            },
            10 => {
                let name = format!("user{}second", self.number);
                let document = Body::Json(sla(&name));
                let all = self.connection.ask(Method::POST, "/api/application", document).await?;
                self.second = Some(application_of(&all, &name)?);
                Ok(())
            }
            15 => match self.second.take() {
                Some(second) => delete(&mut self.connection, &second).await,
                None => self.read(&service).await,
            },
            other => match other % 4 {
                0 => self.read("/api/clusters/active").await,
                1 => self.read(&format!("/api/services/{}", self.application)).await,
                2 => self.read(&format!("/api/application/{}", self.application)).await,
                _ => self.read(&service).await,
            },
        }
    }

    async fn write(&mut self, method: Method, path: &str) -> Result<Value> {
        self.connection.ask(method, path, Body::Empty).await
    }

    async fn read(&mut self, path: &str) -> Result<()> {
        self.connection.ask(Method::GET, path, Body::Empty).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_misses_a_goal_and_so_does_memory_that_grows() {
        let seen = Seen { millis: vec![1.0, 60.0, 2.0], errors: vec!["refused".to_owned()] };
        let figures = told(&seen, Duration::from_millis(3), (100.0, 111.0));
        let met: Vec<Option<bool>> = figures.iter().map(Figure::met).collect();
        assert_eq!(met, [Some(true), Some(false), None, Some(false), Some(false)]);
        let fine = Seen { millis: vec![1.0; 3], errors: vec![] };
        let figures = told(&fine, Duration::from_millis(3), (100.0, 109.0));
        assert!(figures.iter().all(|figure| figure.met() != Some(false)), "{figures:?}");
    }
}
