//! Simulated workers: what a NodeEngine says over the wire, without containers. Each dials its cluster with its own
//! certificate, sends its inventory, reports every two seconds and after every change, answers each assignment with
//! `running`, or that it has ended well if it runs once, and beats as it is told.
//!
//! Commands on standard input, a word a line: `each` tells of every instance that arrives, `bulk` stops that; `mark`
//! begins to time who is connected again, `attached` tells the times; the end of the input ends the program.

mod beats;
mod worker;

use std::{
    io::BufRead,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::channel,
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use model::WorkerId;
use tokio::{runtime::Builder, sync::Semaphore};
use uuid::Uuid;

use crate::{
    events::{Event, Status, now_nanos, tell},
    ledger::Ledger,
    plan::{Certifier, Plan},
    tables,
};
use beats::Beats;
use worker::Worker;

const GROUPS: usize = 2;
const STATUS_EVERY: Duration = Duration::from_millis(200);

/// What to simulate.
#[derive(Debug, Clone, clap::Parser)]
#[command(about = "Very many simulated workers over the real protocol, to measure their clusters")]
pub struct Options {
    /// The folder of a fleet that runs.
    #[arg(long)]
    pub folder: PathBuf,
    /// How many workers, spread evenly over the clusters.
    #[arg(long, default_value_t = 20)]
    pub workers: usize,
    /// How many of each thread connect for the first time at once.
    #[arg(long, default_value_t = 32)]
    pub connecting: usize,
    /// How often each reports when nothing happens; as NodeEngine does unless said otherwise.
    #[arg(long, default_value_t = 30_000)]
    pub report_millis: u64,
    /// Leave out the beats over UDP.
    #[arg(long)]
    pub no_beats: bool,
}

/// What all workers share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) connected: AtomicU64,
    pub(crate) broken: AtomicU64,
    pub(crate) reports: AtomicU64,
    pub(crate) instances: AtomicU64,
    pub(crate) last_arrival_nanos: AtomicU64,
    pub(crate) assignments: AtomicU64,
    pub(crate) changing: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) went_back: AtomicU64,
    pub(crate) tell_each: AtomicBool,
    pub(crate) ledger: Ledger,
    marked_nanos: AtomicU64,
    /// When each worker was connected again, in nanoseconds after the mark.
    attached: Mutex<Vec<u64>>,
}

impl Shared {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn attached(&self) {
        Self::count(&self.connected);
        let marked = self.marked_nanos.load(Ordering::Relaxed);
        if marked > 0 {
            let after = now_nanos().saturating_sub(marked);
            self.attached.lock().unwrap_or_else(PoisonError::into_inner).push(after);
        }
    }

    fn mark(&self) {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.marked_nanos.store(now_nanos(), Ordering::Relaxed);
    }

    fn attached_event(&self) -> Event {
        let mut times = self.attached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_unstable();
        let at = |percent: usize| {
            let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(index).map_or(0.0, |nanos| Duration::from_nanos(*nanos).as_secs_f64() * 1000.0)
        };
        Event::Attached { count: times.len(), p50_millis: at(50), p99_millis: at(99), last_millis: at(100) }
    }

    /// The sums as of now.
    fn status(&self) -> Status {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            connected: read(&self.connected),
            broken: read(&self.broken),
            reports: read(&self.reports),
            instances: read(&self.instances),
            last_arrival_nanos: read(&self.last_arrival_nanos),
            assignments: read(&self.assignments),
            changing: read(&self.changing),
            stale: read(&self.stale),
            duplicates: read(&self.duplicates),
            went_back: read(&self.went_back),
        }
    }
}

/// Simulates until standard input ends.
///
/// # Errors
/// When the fleet cannot be read or threads cannot be started.
pub fn run(options: &Options) -> Result<()> {
    let plan =
        Plan::load(&options.folder)?.context("the fleet has no plan yet: start fleet-control first")?;
    let certifier = Arc::new(Certifier::open(&options.folder, plan.root)?);
    let plan = Arc::new(plan);
    let shared = Arc::new(Shared::default());
    let per_table = tables::room()?;
    let groups = options.workers.div_ceil(per_table).max(GROUPS).min(options.workers.max(1));
    let (ended, ends) = channel();
    for group in 0..groups {
        let (options, plan) = (options.clone(), Arc::clone(&plan));
        let (shared, certifier) = (Arc::clone(&shared), Arc::clone(&certifier));
        let ended = ended.clone();
        let run = move || {
            let indices = (group..options.workers).step_by(groups);
            // Whoever listened may have heard of another end before.
            drop(ended.send(simulate(&options, &plan, &certifier, &shared, indices)));
            Ok(())
        };
        tables::spawn(format!("workers-{group}"), run)?;
    }
    let telling = Arc::clone(&shared);
    thread::Builder::new().name("status".to_owned()).spawn(move || {
        // Ends when nobody reads any more.
        while tell(&Event::Status(telling.status())).is_ok() {
            thread::sleep(STATUS_EVERY);
        }
    })?;
    thread::Builder::new().name("commands".to_owned()).spawn(move || drop(ended.send(obey(&shared))))?;
    ends.recv().context("nothing runs")?
}

/// Does as the lines of standard input say, until they end.
fn obey(shared: &Shared) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        match line.context("read a command")?.trim() {
            "each" => shared.tell_each.store(true, Ordering::Relaxed),
            "bulk" => shared.tell_each.store(false, Ordering::Relaxed),
            "mark" => shared.mark(),
            "attached" => tell(&shared.attached_event())?,
            other => anyhow::bail!("`{other}` is no command: each, bulk, mark, attached"),
        }
    }
    Ok(())
}

/// One thread's share of the workers.
fn simulate(
    options: &Options,
    plan: &Plan,
    certifier: &Certifier,
    shared: &Arc<Shared>,
    indices: impl Iterator<Item = usize>,
) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let beats =
            if options.no_beats { None } else { Some(Beats::start().await.context("start the beats")?) };
        let entrance = Arc::new(Semaphore::new(options.connecting.max(1)));
        for index in indices {
            let site = &plan.clusters[index % plan.clusters.len()];
            // Chosen by the index, so that the next run has the same workers.
            let id = WorkerId::new(Uuid::from_u128(0x6d67_0000 << 96 | index as u128));
            let turn = Arc::clone(&entrance).acquire_owned().await.context("wait for a turn")?;
            let worker = Worker {
                index,
                identity: certifier.worker(site.id, id)?,
                parent: link::Subject::Cluster { root: plan.root, cluster: site.id },
                address: site.for_workers,
                report_every: Duration::from_millis(options.report_millis),
                beats: beats.clone(),
                shared: Arc::clone(shared),
            };
            tokio::spawn(worker.hold(turn));
        }
        std::future::pending::<Result<()>>().await
    })
}
