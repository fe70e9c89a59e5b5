//! The root by its REST interface, as a user's program would use it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use model::Phase;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use crate::bench::http::{Address, Body, Connection, Method};

/// Longer than a burst takes on a slow machine.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// A root that is logged in to.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    address: Address,
    token: String,
}

/// A deployed service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) application: String,
    pub(crate) id: String,
}

/// One instance as the root last told of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Instance {
    #[serde(rename = "instance_number")]
    pub(crate) number: u32,
    pub(crate) phase: String,
    #[serde(rename = "status_detail")]
    pub(crate) detail: String,
    pub(crate) ready: bool,
}

/// All that was told of one service's instances.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) now: Vec<Instance>,
    /// When an instance was first told to be in a phase.
    pub(crate) first: BTreeMap<(u32, String), Instant>,
    /// When it was first told that it may be called.
    ready: BTreeMap<u32, Instant>,
}

/// Follows `GET /api/watch` in the background.
#[derive(Debug)]
pub(crate) struct Watch {
    told: watch::Receiver<Told>,
}

impl Root {
    pub(crate) async fn log_in(address: Address, password: &str) -> Result<Self> {
        let login = json!({"username": "Admin", "password": password});
        let mut connection = Connection::open(address.clone(), None).await?;
        let answer = connection.ask(Method::POST, "/api/auth/login", Body::Json(login)).await?;
        Ok(Self { address, token: text(&answer, "token")? })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(self.address.clone(), Some(self.token.clone())).await
    }

    /// What it lets in who sends it, for ten minutes.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A join token for the cluster of that name, or for a worker of any.
    pub(crate) async fn join_token(&self, cluster: Option<&str>) -> Result<String> {
        let wanted = match cluster {
            Some(name) => json!({"kind": "cluster", "cluster": name}),
            None => json!({"kind": "worker"}),
        };
        text(&self.connect().await?.ask(Method::POST, "/api/tokens", Body::Json(wanted)).await?, "token")
    }

    /// How many workers all clusters have between them; `None` without a cluster that is there.
    pub(crate) async fn workers(&self) -> Result<Option<u64>> {
        let clusters = self.connect().await?.ask(Method::GET, "/api/clusters/active", Body::Empty).await?;
        let active = clusters.as_array().into_iter().flatten();
        let counts: Vec<u64> = active.filter_map(|cluster| cluster["active_nodes"].as_u64()).collect();
        Ok((!counts.is_empty()).then(|| counts.iter().sum()))
    }

    /// Creates an application with one service; nothing is deployed by it.
    pub(crate) async fn create(&self, sla: Value) -> Result<Service> {
        let mut connection = self.connect().await?;
        let all = connection.ask(Method::POST, "/api/application", Body::Json(sla)).await?;
        let application = text(&all[0], "applicationID")?;
        let id = all[0]["microservices"][0].as_str().context("the application has no service")?.to_owned();
        Ok(Service { application, id })
    }

    pub(crate) async fn watch(&self, service: &Service) -> Result<Watch> {
        let path = format!("/api/watch?application={}", service.application);
        let events = self.connect().await?.follow(&path).await?;
        let (sender, told) = watch::channel(Told::default());
        let id = service.id.clone();
        tokio::spawn(async move {
            let ended = pass_on(events, &id, &sender).await;
            // Whoever still waits hears of it by the sender's end; why is told here.
            if let Err(error) = ended
                && !sender.is_closed()
            {
                eprintln!("the watch of the root broke off: {error:#}");
            }
        });
        Ok(Watch { told })
    }
}

/// Asks for one more instance; gives its number.
pub(crate) async fn deploy(connection: &mut Connection, service: &Service) -> Result<u32> {
    let path = format!("/api/service/{}/instance", service.id);
    let answer = connection.ask(Method::POST, &path, Body::Empty).await?;
    let number = answer["instance_number"].as_u64().context("the root gives no instance number")?;
    Ok(u32::try_from(number)?)
}

/// Asks for the end of all instances.
pub(crate) async fn undeploy_all(connection: &mut Connection, service: &Service) -> Result<()> {
    let path = format!("/api/service/{}/instance/-1", service.id);
    connection.ask(Method::DELETE, &path, Body::Empty).await.map(drop)
}

/// The instances of a service as a single question answers it.
pub(crate) async fn instances(connection: &mut Connection, service: &Service) -> Result<Vec<Instance>> {
    let path = format!("/api/services/{}", service.application);
    let mut services = connection.ask(Method::GET, &path, Body::Empty).await?;
    serde_json::from_value(services[0]["instance_list"].take()).context("read the instances of the service")
}

impl Watch {
    /// Waits until all of `numbers` run; gives when each was told to.
    pub(crate) async fn running(&mut self, numbers: &[u32]) -> Result<Vec<Instant>> {
        let running = Phase::Running.as_str();
        let told = self.all(numbers, "run", |instance| instance.phase == running).await?;
        let when = |number: &u32| told.first.get(&(*number, running.to_owned())).copied();
        numbers.iter().map(when).collect::<Option<_>>().context("when an instance ran was not noted")
    }

    /// Waits until all of `numbers` may be called; gives when that was told of each.
    pub(crate) async fn ready(&mut self, numbers: &[u32]) -> Result<Vec<Instant>> {
        let told = self.all(numbers, "are ready", |instance| instance.ready).await?;
        let when = |number: &u32| told.ready.get(number).copied();
        numbers.iter().map(when).collect::<Option<_>>().context("when an instance was ready was not noted")
    }

    /// Waits until `do_so` holds for all of `numbers`.
    async fn all(&mut self, numbers: &[u32], what: &str, do_so: impl Fn(&Instance) -> bool) -> Result<Told> {
        let hopeless = [Phase::Refused, Phase::Failed, Phase::Dead].map(Phase::as_str);
        let all = numbers.len();
        self.wait(&format!("{all} instances {what}"), |told| {
            let of_these = |instance: &&Instance| numbers.contains(&instance.number);
            if let Some(lost) = told.now.iter().filter(of_these).find(|it| hopeless.contains(&&*it.phase)) {
                return Some(Err(anyhow!("instance {} is {}: {}", lost.number, lost.phase, lost.detail)));
            }
            let count = told.now.iter().filter(of_these).filter(|it| do_so(it)).count();
            (count == all).then(|| Ok(told.clone()))
        })
        .await?
    }

    /// Waits until an instance that ran does not; gives when that was told.
    pub(crate) async fn stopped(&mut self, number: u32) -> Result<Instant> {
        let running = Phase::Running.as_str();
        self.wait(&format!("instance {number} is told not to run"), |told| {
            let runs = told.now.iter().any(|it| it.number == number && it.phase == running);
            (!runs).then(Instant::now)
        })
        .await
    }

    /// Waits until there are no instances.
    pub(crate) async fn none(&mut self) -> Result<()> {
        self.wait("no instance is left", |told| told.now.is_empty().then_some(())).await
    }

    /// When an instance was first told to be in each phase, in order.
    pub(crate) fn phases(&self, number: u32) -> Vec<(String, Instant)> {
        let told = self.told.borrow();
        let mut phases: Vec<_> = told
            .first
            .iter()
            .filter(|((of, _), _)| *of == number)
            .map(|((_, phase), when)| (phase.clone(), *when))
            .collect();
        phases.sort_by_key(|(_, when)| *when);
        phases
    }

    async fn wait<T>(&mut self, what: &str, mut done: impl FnMut(&Told) -> Option<T>) -> Result<T> {
        let waiting = async {
            loop {
                if let Some(result) = done(&self.told.borrow_and_update()) {
                    return Ok(result);
                }
                self.told.changed().await.context("the root ended its watch")?;
            }
        };
        match timeout(SEEN_WITHIN, waiting).await {
            Ok(result) => result,
            Err(_) => {
                let now = &self.told.borrow().now;
                bail!("waited {} s in vain until {what}; the root says {now:?}", SEEN_WITHIN.as_secs())
            }
        }
    }
}

fn text(answer: &Value, field: &str) -> Result<String> {
    Ok(answer[field].as_str().with_context(|| format!("the root's answer has no `{field}`"))?.to_owned())
}

async fn pass_on(mut events: Incoming, service: &str, told: &watch::Sender<Told>) -> Result<()> {
    let mut unread = Vec::new();
    while let Some(frame) = events.frame().await {
        let Ok(data) = frame.context("read on")?.into_data() else { continue };
        let now = Instant::now();
        unread.extend_from_slice(&data);
        for event in whole_events(&mut unread) {
            if let Some(instances) = read_event(&event, service)? {
                told.send_modify(|told| told.note(instances, now));
            }
        }
    }
    Ok(())
}

impl Told {
    fn note(&mut self, instances: Vec<Instance>, now: Instant) {
        for instance in &instances {
            self.first.entry((instance.number, instance.phase.clone())).or_insert(now);
            if instance.ready {
                self.ready.entry(instance.number).or_insert(now);
            }
        }
        self.now = instances;
    }
}

/// Takes the events that are complete; the rest stays.
fn whole_events(unread: &mut Vec<u8>) -> Vec<String> {
    let mut events = Vec::new();
    while let Some(end) = unread.windows(2).position(|two| two == b"\n\n") {
        let event: Vec<u8> = unread.drain(..end + 2).collect();
        events.push(String::from_utf8_lossy(&event).trim_end().to_owned());
    }
    events
}

/// The instances of the service an event tells of; `None` when it tells of something else.
fn read_event(event: &str, service: &str) -> Result<Option<Vec<Instance>>> {
    #[derive(Deserialize)]
    struct Service {
        #[serde(rename = "microserviceID")]
        id: String,
        instance_list: Vec<Instance>,
    }
    if !event.lines().any(|line| line == "event: service") {
        return Ok(None);
    }
    let data: String = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let told: Service = serde_json::from_str(&data).context("read an event of the root")?;
    Ok((told.id == service).then_some(told.instance_list))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "event: service\ndata: {\"microserviceID\":\"one\",\"instance_list\":[{\"instance_number\":3,\"phase\":\"running\",\
                         \"status_detail\":\"\",\"ready\":true}]}\n\n";

    #[test]
    fn events_are_read_when_they_are_whole() {
        let (first, rest) = EVENT.split_at(20);
        let mut unread = first.as_bytes().to_vec();
        assert_eq!(whole_events(&mut unread), Vec::<String>::new());
        unread.extend_from_slice(rest.as_bytes());
        unread.extend_from_slice(b": keep-alive\n\nevent:");
        let events = whole_events(&mut unread);
        assert_eq!((events.len(), &*unread), (2, &b"event:"[..]));
        let running = Instance { number: 3, phase: "running".to_owned(), detail: String::new(), ready: true };
        assert_eq!(read_event(&events[0], "one").expect("JSON"), Some(vec![running]));
        assert_eq!(read_event(&events[0], "another").expect("JSON"), None);
        assert_eq!(read_event(&events[1], "one").expect("nothing to read"), None);
    }

    #[test]
    fn the_first_time_in_a_phase_and_ready_counts() {
        let instance = |phase: &str, ready| Instance {
            number: 1,
            phase: phase.to_owned(),
            detail: String::new(),
            ready,
        };
        let start = Instant::now();
        let mut told = Told::default();
        let phases =
            [(0, "creating", false), (5, "running", false), (9, "running", true), (12, "running", true)];
        for (millis, phase, ready) in phases {
            told.note(vec![instance(phase, ready)], start + Duration::from_millis(millis));
        }
        assert_eq!(told.first[&(1, "running".to_owned())], start + Duration::from_millis(5));
        assert_eq!(told.ready[&1], start + Duration::from_millis(9));
        assert_eq!(told.now, [instance("running", true)]);
    }
}
