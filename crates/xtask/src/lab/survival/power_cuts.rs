//! All daemons are killed at one instant, again and again, while users deploy and remove: what was acknowledged holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use super::{
    Bench,
    world::{Service, World, until},
};
use crate::{
    bench::{
        http::{Body, Connection, Method},
        stack::root::Root,
    },
    lab::{IMAGE, Lab, Process, Then, host::Host},
};

const CUTS: [u32; 2] = [5, 100];
/// Each has so many instances at most: all fit, so that every deployment must come to run.
const USERS: usize = 4;
const OF_EACH: usize = 4;
/// From less than the daemons need to find each other to long enough for a deployment.
const BETWEEN_CUTS_MILLIS: (u64, u64) = (300, 4000);
const AT_REST_WITHIN: Duration = Duration::from_secs(90);

/// What one user was told.
#[derive(Debug, Default)]
struct Ledger {
    /// Instances by number: whether they should be there. `None` where a removal was asked for and nothing was heard.
    instances: BTreeMap<u32, Option<bool>>,
    /// Applications by name, alike. One that was asked for without an answer is `None` too.
    applications: BTreeMap<String, Option<bool>>,
    acknowledged: u32,
    unanswered: u32,
}

pub(super) async fn power_cuts(bench: &mut Bench) -> Result<()> {
    let cuts = CUTS[usize::from(bench.slow)];
    let world = &mut bench.world;
    let seed = RandomState::new().hash_one(0);
    eprintln!("    seed {seed}");
    let mut chance = Chance(seed | 1);
    let stop = Arc::new(AtomicBool::new(false));
    let mut users = JoinSet::new();
    let mut services = Vec::new();
    for user in 0..USERS {
        let service = world.service(json!({})).await?;
        services.push(service.clone());
        let (root, stop) = (world.lab.api().await?, Arc::clone(&stop));
        let chance = Chance(chance.next() | 1);
        users.spawn(async move { (user, use_until(&stop, root, service, user, chance).await) });
    }
    let (least, most) = BETWEEN_CUTS_MILLIS;
    for _ in 0..cuts {
        sleep(Duration::from_millis(least + chance.next() % (most - least))).await;
        kill_all(&world.lab)?;
    }
    // The end of the last one is part of it.
    sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    let mut ledgers: BTreeMap<usize, Ledger> = BTreeMap::new();
    while let Some(ended) = users.join_next().await {
        let (user, ledger) = ended.context("a user panicked")?;
        ledgers.insert(user, ledger);
    }
    let all = |count: fn(&Ledger) -> u32| ledgers.values().map(count).sum::<u32>();
    let (acknowledged, unanswered) = (all(|ledger| ledger.acknowledged), all(|ledger| ledger.unanswered));
    eprintln!("    {cuts} power cuts, {acknowledged} acknowledged requests, {unanswered} without an answer");
    ensure!(acknowledged > 2 * cuts, "too little was acknowledged to show anything");
    ensure!(unanswered > 0, "no request was interrupted: nothing is shown by that");

    let begun = Instant::now();
    for (service, ledger) in services.iter().zip(ledgers.values()) {
        all_is_kept(world, service, ledger).await?;
    }
    whole_applications(world, &ledgers).await?;
    bench.took("everything is as acknowledged", begun.elapsed(), AT_REST_WITHIN.as_secs_f64());
    Ok(())
}

/// SIGKILL to every daemon of every host; engines go on, as they are not ours. All of them start again.
fn kill_all(lab: &Lab) -> Result<()> {
    let mut daemons = Vec::new();
    for host in lab.shape.hosts() {
        let processes: &[Process] = match host {
            Host::Root => &[Process::Root],
            Host::Cluster(_) => &[Process::Cluster],
            Host::Worker { .. } => &[Process::NodeEngine, Process::NetManager],
            Host::Bare(_) => &[],
        };
        daemons.extend(processes.iter().map(|process| (host.to_string(), *process)));
    }
    let killed = thread::scope(|scope| {
        let killers: Vec<_> = daemons
            .iter()
            .map(|(host, process)| scope.spawn(|| lab.kill(host, *process, Then::Restart).is_ok()))
            .collect();
        killers.into_iter().filter_map(|killer| killer.join().ok()).filter(|killed| *killed).count()
    });
    // One that is down already is not killed.
    ensure!(killed > daemons.len() / 2, "only {killed} of {} daemons could be killed", daemons.len());
    Ok(())
}

async fn use_until(
    stop: &AtomicBool,
    root: Root,
    service: Service,
    user: usize,
    mut chance: Chance,
) -> Ledger {
    let mut ledger = Ledger::default();
    let mut connection: Option<Connection> = None;
    let mut turn = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let connected = match connection.take() {
            Some(connection) => Ok(connection),
            None => root.connect().await,
        };
        let Ok(mut connected) = connected else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        turn += 1;
        let answered = if user == 0 && turn.is_multiple_of(2) {
            application(&mut connected, &mut ledger, turn).await
        } else {
            instance(&mut connected, &service, &mut ledger, &mut chance).await
        };
        match answered {
            Ok(()) => {
                ledger.acknowledged += 1;
                connection = Some(connected);
            }
            Err(_) => ledger.unanswered += 1,
        }
        sleep(Duration::from_millis(chance.next() % 100)).await;
    }
    ledger
}

/// Deploys one more, or removes one.
async fn instance(
    connection: &mut Connection,
    service: &Service,
    ledger: &mut Ledger,
    chance: &mut Chance,
) -> Result<()> {
    let there: Vec<u32> = ledger
        .instances
        .iter()
        .filter(|(_, there)| **there == Some(true))
        .map(|(number, _)| *number)
        .collect();
    if there.len() < OF_EACH {
        let path = format!("/api/service/{}/instance", service.id);
        let answer = connection.ask(Method::POST, &path, Body::Empty).await?;
        let number = answer["instance_number"].as_u64().context("the root gives no instance number")?;
        ledger.instances.insert(u32::try_from(number)?, Some(true));
        return Ok(());
    }
    let count = u64::try_from(there.len()).context("a count")?;
    let number = there[usize::try_from(chance.next() % count).context("less than the count")?];
    ledger.instances.insert(number, None);
    let path = format!("/api/service/{}/instance/{number}", service.id);
    connection.ask(Method::DELETE, &path, Body::Empty).await?;
    ledger.instances.insert(number, Some(false));
    Ok(())
}

/// Creates an application and removes it at the next opportunity.
async fn application(connection: &mut Connection, ledger: &mut Ledger, turn: u32) -> Result<()> {
    let name = format!("cut{turn}");
    ledger.applications.insert(name.clone(), None);
    let microservice = |name: &str| {
        json!({
            "microservice_name": name, "microservice_namespace": "test", "virtualization": "container",
            "code": IMAGE, "memory": 16,
        })
    };
    let sla = json!({"sla_version": "v2.0", "customerID": "Admin", "applications": [{
        "applicationID": "", "application_name": name, "application_namespace": "cuts",
        "application_desc": "", "microservices": [microservice("one"), microservice("two")],
    }]});
    let all = connection.ask(Method::POST, "/api/application", Body::Json(sla)).await?;
    ledger.applications.insert(name.clone(), Some(true));
    if turn.is_multiple_of(4) {
        return Ok(());
    }
    let mut all = all.as_array().into_iter().flatten();
    let made = all.find(|one| one["application_name"] == name.as_str());
    let id = made.and_then(|made| made["applicationID"].as_str()).context("it is not told of")?;
    ledger.applications.insert(name.clone(), None);
    connection.ask(Method::DELETE, &format!("/api/application/{id}"), Body::Empty).await?;
    ledger.applications.insert(name, Some(false));
    Ok(())
}

/// What was acknowledged is so, at the root and on the engines; and both tell the same of what was not.
async fn all_is_kept(world: &mut World, service: &Service, ledger: &Ledger) -> Result<()> {
    let wanted = |there: bool| {
        let all = ledger.instances.iter().filter(move |(_, is)| **is == Some(there));
        all.map(|(number, _)| *number).collect::<BTreeSet<u32>>()
    };
    let (there, gone) = (wanted(true), wanted(false));
    until("all that was acknowledged is so", AT_REST_WITHIN, async || {
        let seen = world.seen(service).await?;
        let told: BTreeSet<u32> = seen.iter().map(|one| one.number).collect();
        ensure!(told.is_superset(&there), "acknowledged were {there:?}, but the root tells of {told:?}");
        ensure!(told.is_disjoint(&gone), "removed were {gone:?}, but the root tells of {told:?}");
        ensure!(seen.iter().all(|one| one.phase == "running"), "not all run: {seen:?}");
        let copies = world.copies(service).await?;
        let run: BTreeSet<u32> = copies
            .iter()
            .filter(|copy| copy.running)
            .filter_map(|copy| copy.instance.rsplit_once('/')?.1.parse().ok())
            .collect();
        ensure!(run == told && copies.len() == run.len(), "the root tells of {told:?}, there are {copies:?}");
        Ok(Some(()))
    })
    .await
}

async fn whole_applications(world: &mut World, ledgers: &BTreeMap<usize, Ledger>) -> Result<()> {
    let wanted: BTreeMap<&String, Option<bool>> = ledgers
        .values()
        .flat_map(|ledger| &ledger.applications)
        .map(|(name, there)| (name, *there))
        .collect();
    let all = world.get("/api/applications").await?;
    let mut told = BTreeMap::new();
    for one in all.as_array().into_iter().flatten().filter(|one| one["application_namespace"] == "cuts") {
        let name = one["application_name"].as_str().context("an application has a name")?;
        told.insert(name, one["microservices"].as_array().map_or(0, Vec::len));
    }
    ensure!(told.values().all(|services| *services == 2), "there are half applications: {told:?}");
    for (name, there) in wanted {
        if let Some(there) = there {
            let is = told.contains_key(name.as_str());
            ensure!(is == there, "application {name} should be there: {there}; it is: {is}");
        }
    }
    Ok(())
}

/// Marsaglia's xorshift: good enough for moments, and the same again for the same seed.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
