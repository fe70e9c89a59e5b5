//! Instances asked for through the REST API, and when each reached its worker.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::fleet::{Fleet, Phase};
use crate::bench::{
    http::{Body, Connection, Method},
    stack::root::Root,
};

/// As many instances as the root allows a service.
const PER_SERVICE: usize = 10_000;
const PLACED_WITHIN: Duration = Duration::from_secs(300);

/// The services of an application, and one more for single deployments.
#[derive(Debug)]
pub(crate) struct Load {
    root: Root,
    services: Vec<String>,
    single: String,
}

/// How long it took until every worker had its order.
#[derive(Debug)]
pub(crate) struct Placing {
    pub(crate) phase: Phase,
    pub(crate) seconds: f64,
    /// Until the root had answered the last request.
    pub(crate) acknowledged_seconds: f64,
}

impl Load {
    pub(crate) async fn create(fleet: &Fleet, instances: usize) -> Result<Self> {
        let root = fleet.root().await?;
        let count = instances.div_ceil(PER_SERVICE);
        let names: Vec<String> = (0..=count).map(|number| format!("load{number}")).collect();
        let sla = json!({
            "sla_version": "v2.0",
            "customerID": "Admin",
            "applications": [{
                "applicationID": "",
                "application_name": "fleet",
                "application_namespace": "bench",
                "application_desc": "Made by cargo xtask bench",
                "microservices": names.iter().map(|name| microservice(name)).collect::<Vec<Value>>(),
            }],
        });
        let answer = root.connect().await?.ask(Method::POST, "/api/application", Body::Json(sla)).await?;
        let ids = answer[0]["microservices"].as_array().context("the application has no services")?;
        let ids: Option<Vec<String>> = ids.iter().map(|id| id.as_str().map(str::to_owned)).collect();
        let mut services = ids.context("a service has no id")?;
        let single = services.pop().context("the application has no services")?;
        ensure!(services.len() == count, "{} services were made, not {count}", services.len());
        Ok(Self { root, services, single })
    }

    /// Asks for `instances` and waits until all have arrived at workers.
    pub(crate) async fn place(&self, fleet: &mut Fleet, instances: usize) -> Result<Placing> {
        let mut connection = self.root.connect().await?;
        let before = fleet.look()?;
        let there = fleet.status().instances;
        let start = now_nanos();
        let mut left = instances;
        for service in &self.services {
            let wanted = left.min(PER_SERVICE);
            left -= wanted;
            let scale = Body::Json(json!({ "instances": wanted }));
            connection.ask(Method::POST, &format!("/api/service/{service}/scale"), scale).await?;
        }
        let acknowledged = now_nanos();
        let wanted = there + instances as u64;
        fleet
            .when("every instance is at a worker", PLACED_WITHIN, |status| status.instances == wanted)
            .await?;
        let seconds = |nanos: u64| Duration::from_nanos(nanos.saturating_sub(start)).as_secs_f64();
        Ok(Placing {
            phase: fleet.since(&before)?,
            seconds: seconds(fleet.status().last_arrival_nanos),
            acknowledged_seconds: seconds(acknowledged),
        })
    }

    /// Asks for one instance after the other; milliseconds from each request to its arrival at a worker, sorted.
    pub(crate) async fn deploy_singly(
        &self,
        fleet: &mut Fleet,
        count: usize,
        between: Duration,
    ) -> Result<Vec<f64>> {
        let mut connection = self.root.connect().await?;
        fleet.say("each")?;
        let there = fleet.status().instances;
        let mut asked = Vec::new();
        let mut next = Instant::now();
        for _ in 0..count {
            sleep_until(next).await;
            next += between;
            let start = now_nanos();
            asked.push((start, deploy(&mut connection, &self.single).await?));
        }
        let wanted = there + count as u64;
        fleet
            .when("every instance is at a worker", PLACED_WITHIN, |status| status.instances == wanted)
            .await?;
        fleet.say("bulk")?;
        let latency = |(start, number): &(u64, u32)| {
            let arrived = fleet.arrival(&self.single, *number)?;
            Some(Duration::from_nanos(arrived.saturating_sub(*start)).as_secs_f64() * 1000.0)
        };
        let latencies: Option<Vec<f64>> = asked.iter().map(latency).collect();
        let mut latencies = latencies.context("the arrival of an instance was not told")?;
        latencies.sort_by(f64::total_cmp);
        Ok(latencies)
    }

    /// Whether a root that is reached by `connection` still knows the services and what they run.
    pub(crate) async fn is_known(&self, connection: &mut Connection) -> Result<()> {
        let service =
            connection.ask(Method::GET, &format!("/api/service/{}", self.single), Body::Empty).await?;
        ensure!(service["microserviceID"] == *self.single, "the root does not know the service");
        Ok(())
    }

    /// The service of single deployments; before there are any it has no instances.
    pub(crate) fn single(&self) -> &str {
        &self.single
    }

    pub(crate) const fn root(&self) -> &Root {
        &self.root
    }
}

/// The smallest value that at least `percent` of 100 do not exceed.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

async fn deploy(connection: &mut Connection, service: &str) -> Result<u32> {
    let path = format!("/api/service/{service}/instance");
    let answer = connection.ask(Method::POST, &path, Body::Empty).await?;
    let number = answer["instance_number"].as_u64().context("the root gives no instance number")?;
    Ok(u32::try_from(number)?)
}

fn microservice(name: &str) -> Value {
    json!({
        "microserviceID": "",
        "microservice_name": name,
        "microservice_namespace": "bench",
        "virtualization": "container",
        "code": "docker.io/library/nginx:1.27",
        "memory": 32,
        "vcpus": 0,
    })
}

fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([50, 99, 100].map(|percent| percentile(&values, percent)), [100.0, 198.0, 200.0]);
        assert_eq!(percentile(&[7.0], 99), 7.0);
    }
}
