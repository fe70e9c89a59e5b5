//! `mangrove get workers`, `cordon`, `uncordon`, `drain`, `forget` and `rebalance`: what concerns the workers of one
//! cluster. The root passes it on to the cluster, which alone knows them.

use std::{
    io,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time;

use crate::{
    args::{DrainArguments, ForgetArguments, Listing},
    client::{Client, path_segment},
    commands::{
        counted,
        get::{self, Columns, yes_or_no},
    },
    error::Error,
    objects::{self, Listed, Worker},
    output::{Output, Tone, clean},
    progress::{Entry, Progress},
    terminal,
};

/// How often it is asked how many instances are left on a worker: a cluster answers from memory.
const LOOK: Duration = Duration::from_secs(1);

/// A worker as the user names it, and where the API has it.
struct Target {
    cluster: String,
    worker: String,
    path: String,
}

impl Target {
    fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::NotAWorker(text.to_owned());
        let (cluster, worker) = text.split_once('/').ok_or_else(wrong)?;
        let segment = |name: &str| path_segment(name).ok_or_else(wrong);
        let path = format!("/api/cluster/{}/worker/{}", segment(cluster)?, segment(worker)?);
        Ok(Self { cluster: cluster.to_owned(), worker: worker.to_owned(), path })
    }

    fn name(&self) -> String {
        format!("{}/{}", self.cluster, self.worker)
    }
}

/// Lists the workers of a cluster.
pub(crate) async fn list(
    client: &Client,
    output: &Output,
    cluster: &str,
    listing: Listing,
) -> Result<(), Error> {
    let mut workers = workers_of(client, cluster).await?;
    workers.sort_by_key(|item| (item.object.name.clone(), item.object.id.clone()));
    let columns = Columns {
        headings: &[
            "NAME",
            "ALIVE",
            "SILENT",
            "LOST AFTER",
            "LOSS",
            "SCHEDULING",
            "INSTANCES",
            "CPU FREE",
            "MEMORY FREE",
            "STORAGE FREE",
            "ID",
        ],
        narrow: 9,
        row: &|worker: &Worker| {
            let (free, all) = (&worker.free, &worker.allocatable);
            vec![
                worker.name.clone(),
                yes_or_no(worker.alive),
                worker.silent_ms.map(seconds).unwrap_or_default(),
                worker.lost_after_ms.map(seconds).unwrap_or_default(),
                format!("{} %", worker.loss_percent),
                worker.scheduling.clone(),
                worker.instances.to_string(),
                format!("{}/{}", cores(free.cpu_millicores), cores(all.cpu_millicores)),
                format!("{}/{} MiB", free.memory_mb, all.memory_mb),
                format!("{}/{} MiB", free.storage_mb, all.storage_mb),
                worker.id.clone(),
            ]
        },
        name: &|worker: &Worker| format!("{cluster}/{}", worker.name),
        nothing: "the cluster has no workers; `mangrove token create --worker` lets one join",
    };
    get::print(output, listing.output, &workers, &columns)
}

/// Stops a worker from taking instances, or lets it take them again.
pub(crate) async fn schedule(
    client: &Client,
    output: &Output,
    target: &str,
    open: bool,
) -> Result<(), Error> {
    let target = Target::parse(target)?;
    let verb = if open { "uncordon" } else { "cordon" };
    let answer = client.post(&format!("{}/{verb}", target.path), None).await?;
    told(output, &target.cluster, &answer);
    Ok(())
}

/// Moves instances of a cluster from full workers to empty ones.
pub(crate) async fn rebalance(client: &Client, output: &Output, cluster: &str) -> Result<(), Error> {
    let answer = client.post(&format!("{}/rebalance", path_of(cluster)?), None).await?;
    told(output, cluster, &answer);
    Ok(())
}

/// Forgets a worker that will not return.
pub(crate) async fn forget(
    client: &Client,
    output: &Output,
    arguments: ForgetArguments,
) -> Result<(), Error> {
    let target = Target::parse(&arguments.worker)?;
    let name = target.name();
    if !arguments.yes && !output.confirm(&format!("forget worker {name} and what runs on it"))? {
        output.note(&format!("worker {name} stays"));
        return Ok(());
    }
    let answer = client.delete(&target.path).await?;
    told(output, &target.cluster, &answer);
    Ok(())
}

/// Moves what a worker has to others and waits until nothing is left.
pub(crate) async fn drain(client: &Client, output: &Output, arguments: DrainArguments) -> Result<(), Error> {
    let begun = Instant::now();
    let target = Target::parse(&arguments.worker)?;
    let answer = client.post(&format!("{}/drain", target.path), None).await?;
    told(output, &target.cluster, &answer);
    if arguments.waiting.no_wait {
        output.note(&format!("not waiting; `mangrove get workers {}` shows how it goes", target.cluster));
        return Ok(());
    }
    let mut progress = Progress::new(io::stderr(), output.repaints, output.colours);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let deadline = begun + arguments.waiting.timeout;
    let mut last_problem = None;
    let mut left = answer["instances"].as_u64().unwrap_or_default();
    loop {
        let workers = tokio::select! {
            workers = workers_of(client, &target.cluster) => workers,
            _ = &mut interrupted => return Err(drain_interrupted(&target)),
        };
        match workers {
            Ok(workers) => {
                last_problem = None;
                let found =
                    workers.into_iter().map(|item| item.object).find(|it| is_named(it, &target.worker));
                let Some(worker) = found else {
                    output.note(&format!("its cluster has no worker {} any more", target.name()));
                    return Ok(());
                };
                left = worker.instances;
                show(&mut progress, &target, &worker, begun);
                if worker.scheduling == "open" {
                    return Err(Error::DrainEnded { worker: target.name(), left });
                }
                if left == 0 {
                    output.note(&format!("nothing is left on {}", target.name()));
                    return Ok(());
                }
            }
            Err(error) if error.is_passing() => {
                let problem = error.to_string();
                if last_problem.as_ref() != Some(&problem) {
                    progress.note(&format!("{problem}; trying again"));
                    last_problem = Some(problem);
                }
            }
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        if now >= deadline {
            let seconds = arguments.waiting.timeout.as_secs();
            return Err(Error::NotDrained { worker: target.name(), cluster: target.cluster, left, seconds });
        }
        tokio::select! {
            () = time::sleep_until((now + LOOK).min(deadline).into()) => {}
            _ = &mut interrupted => return Err(drain_interrupted(&target)),
        }
    }
}

fn show(progress: &mut Progress<io::Stderr>, target: &Target, worker: &Worker, begun: Instant) {
    let left =
        format!("{} left", counted(usize::try_from(worker.instances).unwrap_or(usize::MAX), "instance"));
    let (tone, detail) = match worker.alive {
        true => (Tone::Plain, left),
        false => (Tone::Doubtful, format!("{left}; the worker is not alive")),
    };
    let entry = Entry::of_line(&target.name(), &worker.scheduling, tone, &detail);
    let headline = format!("draining {}  {} s", target.name(), begun.elapsed().as_secs());
    progress.show(&headline, &[entry], terminal::size());
}

fn drain_interrupted(target: &Target) -> Error {
    Error::Interrupted(format!(
        "the drain goes on: `mangrove get workers {}` shows it, `mangrove uncordon {}` ends it",
        target.cluster,
        target.name()
    ))
}

fn is_named(worker: &Worker, name: &str) -> bool {
    worker.name == name || worker.id == name
}

fn told(output: &Output, cluster: &str, answer: &Value) {
    let message = clean(answer["message"].as_str().unwrap_or("accepted"));
    let concerned = match answer["instances"].as_u64() {
        None | Some(0) => String::new(),
        Some(number) => format!(" ({})", counted(usize::try_from(number).unwrap_or(usize::MAX), "instance")),
    };
    output.note(&format!("{cluster}: {message}{concerned}"));
}

async fn workers_of(client: &Client, cluster: &str) -> Result<Vec<Listed<Worker>>, Error> {
    objects::list(client, &format!("{}/workers", path_of(cluster)?)).await
}

fn path_of(cluster: &str) -> Result<String, Error> {
    let unknown =
        || Error::Unknown { kind: "cluster", name: cluster.to_owned(), application: None, nearest: None };
    Ok(format!("/api/cluster/{}", path_segment(cluster).ok_or_else(unknown)?))
}

/// Tenths of a second: what tells a good link from a bad one.
fn seconds(millis: u64) -> String {
    format!("{}.{}s", millis / 1000, millis % 1000 / 100)
}

fn cores(millicores: u64) -> String {
    format!("{}.{}", millicores / 1000, millicores % 1000 / 100)
}
