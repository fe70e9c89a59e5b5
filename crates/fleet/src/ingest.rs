//! How many reports of workers one cluster takes in per second of processor time: from the bytes of the wire through
//! prost, conversion, the loop of `crates/control`, the brain and the store, on one core. Beside it, in the same run, the
//! same bytes decoded and dropped.

mod fixture;

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, ensure};
use cluster_core::State;
use control::{Control, Handle};
use model::WorkerReport;
use prost::Message as _;
use proto::v1::{self, worker_to_cluster::Message};
use rustix::thread::{CpuSet, sched_setaffinity};
use store::{History, SqliteStore, Store};
use tokio::{runtime::Builder, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::events::{Event, Ingest, tell};
use fixture::{Fleet, Nowhere, Reporting};

/// Tasks that hand over reports: few enough to be cheap, many enough that turns are full.
const TASKS: usize = 64;

/// What to measure.
#[derive(Debug, Clone, clap::Parser)]
#[command(about = "Reports through one cluster's brain and store on one processor core")]
pub struct Options {
    /// Where the store is made; it must not exist.
    #[arg(long)]
    pub store: PathBuf,
    /// How many workers report.
    #[arg(long, default_value_t = 1000)]
    pub workers: u32,
    /// How many instances each has, which is how many are in each report.
    #[arg(long, default_value_t = 2)]
    pub instances: u32,
    /// One in so many reports tells of a change; the others have other loads only.
    #[arg(long, default_value_t = 10)]
    pub change_every: u64,
    /// Rounds, each measured by itself.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// How often every worker reports in a round.
    #[arg(long, default_value_t = 200)]
    pub reports: usize,
    /// The core to stay on.
    #[arg(long, default_value_t = 0)]
    pub core: usize,
}

/// Measures and tells the result.
///
/// # Errors
/// When the store fails, or the reports do not end up in the state.
pub fn run(options: &Options) -> Result<()> {
    let mut core = CpuSet::new();
    core.set(options.core);
    // Before any other thread is started, so that the store's is on the same core.
    sched_setaffinity(None, &core).context("stay on one core")?;
    let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let ingest = runtime.block_on(measure(options))?;
    tell(&Event::Ingest(ingest)).context("tell the result")
}

/// Measures on the calling runtime.
///
/// # Errors
/// See [`run`].
pub async fn measure(options: &Options) -> Result<Ingest> {
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&options.store, History::NONE).context("make a store")?);
    let control = Control::new(State::default());
    let handle = control.handle();
    let ends = CancellationToken::new();
    let looping = tokio::spawn(control.run(store, Nowhere, ends.clone()));
    let mut fleet = Fleet::settle(&handle, options.workers, options.instances).await?;
    let (mut applied, mut decoded) = (Vec::new(), Vec::new());
    let mut bytes_per_report = 0.0;
    // One more round than asked for: the first warms up.
    for round in 0..=options.rounds {
        let batch = fleet.batch(options.reports, options.change_every);
        let count: usize = batch.iter().map(|reporting| reporting.reports.len()).sum();
        let bytes: usize = batch.iter().flat_map(|reporting| &reporting.reports).map(Vec::len).sum();
        bytes_per_report = bytes as f64 / count as f64;
        let before = processor_seconds()?;
        decode_only(&batch)?;
        let between = processor_seconds()?;
        apply_all(&handle, batch).await?;
        let after = processor_seconds()?;
        fleet.ensure_applied(&handle).await?;
        if round > 0 {
            decoded.push(count as f64 / (between - before));
            applied.push(count as f64 / (after - between));
        }
    }
    ends.cancel();
    looping.await.context("end the loop")?.context("keep the store")?;
    Ok(Ingest { instances_per_report: options.instances, bytes_per_report, applied, decoded })
}

fn decode_only(batch: &[Reporting]) -> Result<()> {
    let mut instances = 0;
    for bytes in batch.iter().flat_map(|reporting| &reporting.reports) {
        instances += report_in(bytes)?.instances.len();
    }
    ensure!(instances > 0, "the reports are empty");
    Ok(())
}

/// As the connections of workers do it: each report is decoded, checked and handed to the loop, which waits when it has
/// enough. Returns when everything is durable.
async fn apply_all(handle: &Handle<State>, batch: Vec<Reporting>) -> Result<()> {
    let mut shares: Vec<Vec<Reporting>> = (0..TASKS).map(|_| Vec::new()).collect();
    for (index, reporting) in batch.into_iter().enumerate() {
        shares[index % TASKS].push(reporting);
    }
    let mut tasks = JoinSet::new();
    for share in shares {
        let handle = handle.clone();
        tasks.spawn(async move {
            let rounds = share.first().map_or(0, |reporting| reporting.reports.len());
            for round in 0..rounds {
                for Reporting { worker, session, reports } in &share {
                    let report = WorkerReport::try_from(report_in(&reports[round])?)?;
                    let (worker, session) = (*worker, *session);
                    handle
                        .notice(move |state, now| state.worker_reported(worker, session, report, now))
                        .await?;
                }
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("hand over reports")??;
    }
    handle
        .ask(|_, _| Ok::<_, std::convert::Infallible>(((), Vec::new())))
        .await?
        .map_err(|never| match never {})
}

fn report_in(bytes: &[u8]) -> Result<v1::WorkerReport> {
    match v1::WorkerToCluster::decode(bytes)?.message {
        Some(Message::Report(report)) => Ok(report),
        Some(_) | None => anyhow::bail!("these bytes are no report"),
    }
}

/// Of all threads of this process since their start.
fn processor_seconds() -> Result<f64> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir("/proc/self/task").context("list the threads")? {
        let path = thread.context("list the threads")?.path().join("schedstat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let first = text.split(' ').next().and_then(|first| first.parse::<u64>().ok());
        nanoseconds += first.with_context(|| format!("understand {}", path.display()))?;
    }
    Ok(nanoseconds as f64 / 1e9)
}
