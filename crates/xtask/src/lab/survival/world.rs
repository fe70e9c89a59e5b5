//! What the trials of `survival` do with a lab: deploy, ask the root, look at every engine, bring all back to rest.
//!
//! What users see is asked of the root here; what is true is asked of the container engines, in `engines.rs`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::{garbage::MADE_BY_A_TRIAL, traffic};
use crate::{
    bench::http::{Body, Connection, Method},
    lab::{IMAGE, Lab, Process, control, control::Request, host::Host},
};

/// The port of `hello` in its container.
pub(super) const HELLO: u16 = 8080;
/// Small against what is measured.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Logged in anew after this: tokens expire.
const SESSION: Duration = Duration::from_secs(300);
/// All hosts of a lab that boot at once on two processors need about as long.
const REST_WITHIN: Duration = Duration::from_secs(90);
/// A cluster orchestrator waits a quarter of a minute for workers it knew before it judges them.
pub(crate) const RUNS_WITHIN: Duration = Duration::from_secs(40);

/// A lab and a user of it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) lab: Lab,
    /// With when it was logged in.
    connection: Option<(Connection, Instant)>,
    /// Tells the applications of this run from others.
    run: String,
    made: u32,
}

/// A service of a trial, alone in its application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) application: String,
    /// What the application is called, in the namespace `survival`.
    pub(crate) name: String,
    pub(crate) id: String,
    /// The port of a device that leads to it, if any.
    pub(crate) port: Option<u16>,
}

/// An instance as the root tells of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Seen {
    #[serde(rename = "instance_number")]
    pub(crate) number: u32,
    pub(crate) phase: String,
    pub(crate) status: String,
    #[serde(rename = "status_detail")]
    pub(crate) detail: String,
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
    pub(crate) last_exit: Option<LastExit>,
    pub(crate) publicip: String,
    pub(crate) reason: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct LastExit {
    pub(crate) code: i64,
    pub(crate) tail: String,
}

/// A worker as its cluster tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) alive: bool,
    pub(crate) silent_ms: Option<u64>,
    pub(crate) lost_after_ms: u64,
    pub(crate) loss_percent: u8,
    pub(crate) scheduling: String,
    pub(crate) instances: u32,
}

impl Worker {
    /// Whether its cluster has given it up. One whose connection broke is not alive either, but lives while it beats.
    pub(crate) fn is_lost(&self) -> bool {
        !self.alive && self.silent_ms.is_some_and(|silent| silent >= self.lost_after_ms)
    }
}

impl World {
    pub(crate) fn of(lab: Lab) -> Self {
        Self { lab, connection: None, run: format!("r{}", std::process::id()), made: 0 }
    }

    /// Asks the root; connects and logs in anew where need be.
    ///
    /// # Errors
    /// It does not answer, or refuses: nothing can be said then of whether it was done.
    pub(crate) async fn ask(&mut self, method: Method, path: &str, body: Body) -> Result<Value> {
        // Whatever goes wrong, the connection is not used again.
        let known = self.connection.take().filter(|(_, since)| since.elapsed() < SESSION);
        let (mut connection, since) = match known {
            Some(known) => known,
            None => (self.lab.api().await?.connect().await?, Instant::now()),
        };
        let answer = connection.ask(method, path, body).await;
        if answer.is_ok() {
            self.connection = Some((connection, since));
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, Body::Empty).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: Value) -> Result<Value> {
        self.ask(Method::POST, path, Body::Json(body)).await
    }

    pub(crate) async fn delete(&mut self, path: &str) -> Result<Value> {
        self.ask(Method::DELETE, path, Body::Empty).await
    }

    /// Creates a service of `hello` with more `fields` of the SLA; nothing is deployed by it.
    pub(crate) async fn service(&mut self, fields: Value) -> Result<Service> {
        self.made += 1;
        let name = format!("{}n{}", self.run, self.made);
        let service = microservice(fields)?;
        let port = service.get("port").and_then(Value::as_str).and_then(|port| port.split(':').next());
        let port = port.map(str::parse).transpose().context("the port of a service")?;
        let sla = json!({"sla_version": "v2.0", "customerID": "Admin", "applications": [{
            "applicationID": "", "application_name": name, "application_namespace": "survival",
            "application_desc": "", "microservices": [service],
        }]});
        let all = self.post("/api/application", sla).await?;
        let mut all = all.as_array().into_iter().flatten();
        let made = all.find(|one| one["application_name"] == name.as_str());
        let made = made.context("the root does not tell of the application it has made")?;
        let id = made["microservices"][0].as_str().context("the application has no service")?;
        let application = made["applicationID"].as_str().context("the application has no id")?;
        Ok(Service { application: application.to_owned(), name, id: id.to_owned(), port })
    }

    /// Lets a service of [`World::service`] be one with these fields from now on.
    pub(crate) async fn change(&mut self, service: &Service, fields: Value) -> Result<()> {
        let document = Body::Json(Value::Object(microservice(fields)?));
        self.ask(Method::PUT, &format!("/api/service/{}", service.id), document).await.map(drop)
    }

    /// One that answers on a port of its device.
    pub(crate) async fn server(&mut self, port: u16, fields: Value) -> Result<Service> {
        let Value::Object(mut all) = fields else { bail!("the fields of a service are an object") };
        all.insert("port".to_owned(), json!(format!("{port}:{HELLO}/tcp")));
        self.service(Value::Object(all)).await
    }

    /// Asks for one more instance; gives its number.
    pub(crate) async fn deploy(&mut self, service: &Service) -> Result<u32> {
        let answer = self.post(&format!("/api/service/{}/instance", service.id), json!({})).await?;
        let number = answer["instance_number"].as_u64().context("the root gives no instance number")?;
        Ok(u32::try_from(number)?)
    }

    /// Deploys one instance on a worker of choice, by closing all others meanwhile, and waits until it runs.
    pub(crate) async fn deploy_on(&mut self, service: &Service, host: &str) -> Result<()> {
        let others: Vec<String> = self.workers_but(host);
        for other in &others {
            self.schedule(other, "cordon").await?;
        }
        self.deploy(service).await?;
        self.running(service, 1, RUNS_WITHIN).await?;
        for other in &others {
            self.schedule(other, "uncordon").await?;
        }
        let copies = self.copies(service).await?;
        ensure!(copies.len() == 1 && copies[0].host == host, "it should be on {host}, but is {copies:?}");
        Ok(())
    }

    /// Waits until so many instances run, and there are no others.
    pub(crate) async fn running(
        &mut self,
        service: &Service,
        count: usize,
        within: Duration,
    ) -> Result<Vec<Seen>> {
        let what = format!("{count} instances run");
        self.seen_until(service, &what, within, |seen| {
            seen.len() == count && seen.iter().all(|one| one.phase == "running")
        })
        .await
    }

    /// Waits until so many instances may be called, and there are no others.
    pub(crate) async fn all_ready(
        &mut self,
        service: &Service,
        count: usize,
        within: Duration,
    ) -> Result<()> {
        let what = format!("{count} instances are ready");
        let are_ready = |seen: &[Seen]| seen.len() == count && seen.iter().all(|one| one.ready);
        self.seen_until(service, &what, within, are_ready).await.map(drop)
    }

    /// Waits until the root tells what is waited for.
    pub(crate) async fn seen_until(
        &mut self,
        service: &Service,
        what: &str,
        within: Duration,
        mut done: impl FnMut(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>> {
        let mut last = Vec::new();
        let waited = until(what, within, async || {
            last = self.seen(service).await?;
            Ok(done(&last).then_some(()))
        })
        .await;
        waited.with_context(|| format!("the root tells {last:?}"))?;
        Ok(last)
    }

    pub(crate) async fn seen(&mut self, service: &Service) -> Result<Vec<Seen>> {
        // Not asked as one service, which would fetch logs from the workers.
        let mut services = self.get(&format!("/api/services/{}", service.application)).await?;
        let mut services = services.as_array_mut().into_iter().flatten();
        let told = services.find(|one| one["microserviceID"] == service.id.as_str());
        let told = told.context("the root does not tell of the service")?;
        serde_json::from_value(told["instance_list"].take()).context("read the instances")
    }

    pub(crate) async fn workers(&mut self, cluster: &str) -> Result<Vec<Worker>> {
        let workers = self.get(&format!("/api/cluster/{cluster}/workers")).await?;
        serde_json::from_value(workers).context("read the workers")
    }

    pub(crate) async fn worker(&mut self, host: &str) -> Result<Worker> {
        let workers = self.workers(cluster_of(host)).await?;
        // One that was installed anew has the name of the one before.
        let named = workers.into_iter().filter(|worker| worker.name == host);
        named.max_by_key(|worker| worker.alive).with_context(|| format!("{host} is not known to its cluster"))
    }

    /// Waits until a worker counts as lost; gives when that was seen.
    pub(crate) async fn lost(&mut self, host: &str, within: Duration) -> Result<Instant> {
        until(&format!("{host} counts as lost"), within, async || {
            let worker = self.worker(host).await?;
            Ok(worker.is_lost().then(Instant::now))
        })
        .await
    }

    /// `cordon`, `uncordon` or `drain`.
    pub(crate) async fn schedule(&mut self, host: &str, what: &str) -> Result<()> {
        let path = format!("/api/cluster/{}/worker/{host}/{what}", cluster_of(host));
        self.ask(Method::POST, &path, Body::Empty).await.map(drop)
    }

    /// Waits until a service answers on one of these hosts; gives which, and when.
    pub(crate) async fn answers(
        &self,
        service: &Service,
        hosts: &[String],
        within: Duration,
    ) -> Result<(String, Instant)> {
        let addresses: Result<Vec<SocketAddr>> =
            hosts.iter().map(|host| self.address(service, host)).collect();
        let answered = traffic::first_answer(&addresses?, within).await;
        let (place, when) = answered
            .with_context(|| format!("ask {} on one of {}", service.application, hosts.join(", ")))?;
        Ok((hosts[place].clone(), when))
    }

    /// Where a service is reached on a host.
    pub(crate) fn address(&self, service: &Service, host: &str) -> Result<SocketAddr> {
        let port = service.port.context("the service has no port")?;
        self.address_of(host, port)
    }

    pub(crate) fn address_of(&self, host: &str, port: u16) -> Result<SocketAddr> {
        Ok((self.lab.host(host)?.address(), port).into())
    }

    /// The hosts with a worker.
    pub(crate) fn all_workers(&self) -> Vec<String> {
        self.lab.shape.workers().map(|host| host.to_string()).collect()
    }

    pub(crate) fn workers_but(&self, host: &str) -> Vec<String> {
        self.all_workers().into_iter().filter(|other| other != host).collect()
    }

    pub(crate) fn workers_of(&self, cluster: &str) -> Vec<String> {
        self.all_workers().into_iter().filter(|host| cluster_of(host) == cluster).collect()
    }

    pub(crate) fn workers_of_but(&self, cluster: &str, host: &str) -> Vec<String> {
        self.workers_of(cluster).into_iter().filter(|other| other != host).collect()
    }

    pub(crate) fn is_on(&self, host: &str) -> Result<bool> {
        Ok(self.lab.find_init(self.lab.host(host)?)?.is_some())
    }

    /// How often each process of a host was started since it is on.
    pub(crate) fn starts(&self, host: &str) -> Result<BTreeMap<Process, u32>> {
        let told = self.lab.ask(self.lab.host(host)?, &Request::Status)?;
        Ok(told.into_iter().map(|told| (told.process, told.starts)).collect())
    }

    /// Brings everything back: all hosts on and plugged in, all processes running, nothing deployed.
    pub(crate) async fn rest(&mut self) -> Result<()> {
        for host in self.lab.shape.hosts() {
            let name = host.to_string();
            self.lab.lossy(&name, 0)?;
            self.lab.heal(&name)?;
            if self.lab.translation_of(host)?.is_some() {
                if self.is_on(&name)? {
                    self.lab.power_off(&name)?;
                }
                self.lab.translate(&name, None)?;
            }
            if !self.is_on(&name)? {
                self.lab.power_on(&name)?;
            }
            self.start_all(host)?;
        }
        self.connection = None;
        until("all workers live", REST_WITHIN, async || {
            self.all_live().await?;
            Ok(Some(()))
        })
        .await?;
        for host in self.all_workers() {
            self.schedule(&host, "uncordon").await?;
        }
        self.remove_all().await?;
        for host in self.all_workers() {
            self.lab.engine(&host)?.remove_containers(MADE_BY_A_TRIAL).await?;
        }
        until("no container is left", REST_WITHIN, async || {
            let left = self.all_copies().await?;
            ensure!(left.is_empty(), "there are {left:?}");
            let left = self.get("/api/services").await?;
            ensure!(left == json!([]), "the root tells of {left}");
            Ok(Some(()))
        })
        .await
    }

    /// Removes what [`World::rest`] waits for in vain, so that others can be tried.
    pub(crate) async fn sweep(&self) -> Result<()> {
        for host in self.all_workers() {
            if self.is_on(&host)? {
                self.lab.engine(&host)?.remove_containers("mangrove.instance").await?;
            }
        }
        Ok(())
    }

    fn start_all(&self, host: Host) -> Result<()> {
        for told in self.lab.ask(host, &Request::Status)? {
            match told.state {
                control::State::Stopped => {
                    self.lab.start(&host.to_string(), told.process)?;
                }
                control::State::Runs { .. } | control::State::Waits { .. } => {}
            }
        }
        Ok(())
    }

    /// # Errors
    /// A worker is not there, or its loss was measured a moment ago and still makes its cluster patient.
    pub(crate) async fn all_live(&mut self) -> Result<()> {
        for number in 1..=self.lab.shape.clusters {
            let cluster = Host::Cluster(number).to_string();
            let workers = self.workers(&cluster).await?;
            for host in self.workers_of(&cluster) {
                let worker = workers.iter().find(|worker| worker.name == host && worker.alive);
                let worker = worker.with_context(|| format!("{host} is away: {workers:?}"))?;
                ensure!(worker.loss_percent == 0, "{host} had a lossy link lately");
            }
        }
        Ok(())
    }

    async fn remove_all(&mut self) -> Result<()> {
        let applications = self.get("/api/applications").await?;
        for application in applications.as_array().into_iter().flatten() {
            let id = application["applicationID"].as_str().context("an application has an id")?;
            self.delete(&format!("/api/application/{id}")).await?;
        }
        Ok(())
    }
}

/// `hello` with more fields of the SLA.
fn microservice(fields: Value) -> Result<Map<String, Value>> {
    let mut service = Map::from_iter([
        ("microservice_name".to_owned(), json!("hello")),
        ("microservice_namespace".to_owned(), json!("test")),
        ("virtualization".to_owned(), json!("container")),
        ("code".to_owned(), json!(IMAGE)),
        ("memory".to_owned(), json!(16)),
    ]);
    let Value::Object(fields) = fields else { bail!("the fields of a service are an object") };
    service.extend(fields);
    Ok(service)
}

/// `c1w2` is of `c1`.
pub(crate) fn cluster_of(host: &str) -> &str {
    host.split_once('w').map_or(host, |(cluster, _)| cluster)
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// There is none in time; the error tells the last answer.
pub(crate) async fn until<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let last = match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => anyhow::anyhow!("not yet"),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            return Err(last.context(format!("waited {} s in vain until {what}", within.as_secs())));
        }
        sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_name_tells_its_cluster() {
        assert_eq!((cluster_of("c12w3"), cluster_of("c1")), ("c12", "c1"));
    }

    #[test]
    fn an_instance_is_read_as_the_root_tells_of_it() {
        let told = json!({
            "instance_number": 3, "phase": "dead", "status": "DEAD", "status_detail": "exited with code 3",
            "ready": false, "restarts": 2, "publicip": "", "reason": null, "cluster_id": null,
            "last_exit": {"code": 3, "at": "2026-11-21T00:00:00Z", "tail": "bye\n"},
        });
        let seen: Seen = serde_json::from_value(told).expect("it is one");
        assert_eq!((seen.number, seen.restarts), (3, 2));
        assert_eq!(seen.last_exit, Some(LastExit { code: 3, tail: "bye\n".to_owned() }));
    }
}
