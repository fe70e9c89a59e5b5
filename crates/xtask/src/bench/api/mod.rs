//! The root's REST API: reads next to bare hyper in the same run, durable creates, from a request to the worker, and a
//! minute of reads and writes while workers stream. Root and clusters are those of a small fleet (`scale/fleet.rs`), so
//! that writes have something to do.
//!
//! The client is one thread of this program and shares the machine with what it asks.

mod hammer;
mod mixed;
pub(super) mod peer;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    figure::{Figure, Goal},
    http::{Address, Body, Connection, Method},
    scale::{
        fleet::{self, Fleet, Programs},
        load::{Load, percentile},
    },
    stack::root::Root,
    statistics::{Samples, interleaved},
};

const WORKERS: usize = 200;
/// What connecting and placing leave behind.
const SETTLES_WITHIN: Duration = Duration::from_secs(12);
/// Of each side; each samples its rate twice a round.
const READ_ROUNDS: usize = 5;
const READ_SAMPLE: Duration = Duration::from_secs(2);
const CREATES: usize = 200;
const SINGLE_DEPLOYS: usize = 200;
const BETWEEN_DEPLOYS: Duration = Duration::from_millis(20);

/// Measures all of it with one fleet.
pub(crate) fn run() -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start a runtime")?;
    let programs = fleet::build()?;
    runtime.block_on(measure(&programs))
}

async fn measure(programs: &Programs) -> Result<Vec<Figure>> {
    let mut fleet = Fleet::start(programs, WORKERS).await?;
    fleet.connect(WORKERS).await?;
    let load = Load::create(&fleet, WORKERS).await?;
    load.place(&mut fleet, WORKERS).await?;
    sleep(SETTLES_WITHIN).await;
    let mut figures = reads(&fleet, &load).await?;
    figures.push(creates(load.root()).await?);

    let latencies = load.deploy_singly(&mut fleet, SINGLE_DEPLOYS, BETWEEN_DEPLOYS).await?;
    let order = |percent| {
        let name = format!("POST instance, until its worker has the order, p{percent}");
        Figure::new(name, percentile(&latencies, percent), "ms", latencies.len())
    };
    figures.push(order(50).aiming_at(Goal::ValueAtMost { value: 5.0, unit: "ms" }));
    figures.push(order(99));

    let before = fleet.status();
    figures.extend(mixed::measure(&fleet, load.root()).await?);
    let broken = fleet.status().broken - before.broken;
    let name = "mixed load: connections of workers that broke".to_owned();
    figures.push(Figure::new(name, broken as f64, "", WORKERS).aiming_at_none());
    fleet.end()?;
    Ok(figures)
}

/// Answers per second to who is logged in and asks for a service, against a server that does nothing but answer as much.
async fn reads(fleet: &Fleet, load: &Load) -> Result<Vec<Figure>> {
    #[derive(Clone, Copy)]
    enum Side {
        Ours,
        Bare,
    }
    let path = format!("/api/service/{}", load.single());
    let service = load.root().connect().await?.ask(Method::GET, &path, Body::Empty).await?;
    let bare = peer::start(service.to_string())?;
    let Address::Tcp(ours) = fleet.api_address()? else { bail!("the API is not reached by TCP") };
    let (mut our_rates, mut bare_rates) = (Vec::new(), Vec::new());
    for side in interleaved(&[Side::Ours, Side::Bare], READ_ROUNDS) {
        let (to, rates) = match side {
            Side::Ours => (ours, &mut our_rates),
            Side::Bare => (bare, &mut bare_rates),
        };
        rates.push(hammer::rate(to, &path, load.root().token(), READ_SAMPLE).await?);
    }
    let (our_rates, bare_rates) = (Samples::new(our_rates), Samples::new(bare_rates));
    let name = format!("GET service, {} connections, median", hammer::CONNECTIONS);
    let rate = Figure::new(name, our_rates.median(), "/s", our_rates.count())
        .against("bare hyper", bare_rates.median())
        .aiming_at(Goal::ValueAtLeast { value: 25_000.0, unit: "/s" });
    Ok(vec![rate])
}

/// One application after the other, each deleted before the next, so that all answers are of one size.
async fn creates(root: &Root) -> Result<Figure> {
    let mut connection = root.connect().await?;
    let mut millis = Vec::new();
    for number in 0..CREATES {
        let name = format!("create{number}");
        let document = Body::Json(sla(&name));
        let start = Instant::now();
        let all = connection.ask(Method::POST, "/api/application", document).await?;
        millis.push(start.elapsed().as_secs_f64() * 1000.0);
        delete(&mut connection, &application_of(&all, &name)?).await?;
    }
    let millis = Samples::new(millis);
    let goal = Goal::ValueAtMost { value: 3.0, unit: "ms" };
    let name = "create an application with a service, durable, median".to_owned();
    Ok(Figure::new(name, millis.median(), "ms", millis.count()).aiming_at(goal))
}

/// The application of that name among those a creation is answered with.
fn application_of(all: &Value, name: &str) -> Result<Value> {
    let found = all.as_array().into_iter().flatten().find(|one| one["application_name"] == name);
    Ok(found.with_context(|| format!("the root does not list the application {name}"))?.clone())
}

async fn delete(connection: &mut Connection, application: &Value) -> Result<()> {
    let id = application["applicationID"].as_str().context("an application has no id")?;
    connection.ask(Method::DELETE, &format!("/api/application/{id}"), Body::Empty).await.map(drop)
}

fn sla(application: &str) -> Value {
    json!({
        "sla_version": "v2.0",
        "customerID": "Admin",
        "applications": [{
            "applicationID": "",
            "application_name": application,
            "application_namespace": "api",
            "application_desc": "Made by cargo xtask bench",
            "microservices": [{
                "microserviceID": "",
                "microservice_name": "one",
                "microservice_namespace": "api",
                "virtualization": "container",
                "code": "docker.io/library/nginx:1.27",
                "memory": 32,
                "vcpus": 0,
            }],
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_found_by_its_name() {
        let all = json!([{"application_name": "a", "applicationID": "1"}, {"application_name": "b"}]);
        assert_eq!(application_of(&all, "a").expect("listed")["applicationID"], "1");
        let error = application_of(&all, "c").expect_err("not listed").to_string();
        assert_eq!(error, "the root does not list the application c");
    }
}
