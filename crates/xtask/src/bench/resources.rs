//! The resource API with very many objects: how long they take to list, whole and by pages, how soon a watch tells of a
//! change, and what each costs in memory. A root alone, asked by one thread of the same machine.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::{
    api::peer,
    figure::{Figure, Goal},
    http::{Address, Body, Connection, Method},
    proc::Memory,
    stack::{ROOT, process::Process, root::Root, wait::wait_until},
    statistics::Samples,
};
use crate::workspace::{self, Workspace};

/// How many objects there are when it is measured. The last is as many as an organisation may have.
const SIZES: [usize; 3] = [10_000, 50_000, 100_000];
/// Measures with that many objects alone instead; a goal is then shown and not meant.
const SIZE_VARIABLE: &str = "MANGROVE_BENCH_RESOURCES";
const PASSWORD: &str = "Admin";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const SENSORS: &str = "/apis/example.com/v1/namespaces/root/sensors";
/// Who makes them.
const CONNECTIONS: usize = 32;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What was written is compacted, and buffers are given back.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
const LISTS: usize = 5;
/// As `kubectl` asks.
const PAGE: usize = 500;
const CHANGES: usize = 500;
const BETWEEN_CHANGES: Duration = Duration::from_millis(10);

/// A root that runs alone.
struct Alone {
    process: Process,
    root: Root,
    state: TempDir,
    api: SocketAddr,
    for_clusters: SocketAddr,
    logs: PathBuf,
}

/// How long a list by pages took.
#[derive(Debug, Default)]
struct Pages {
    whole: f64,
    each: Vec<f64>,
    objects: usize,
}

/// The memory of the root with so many objects, and how many bytes these are as they are listed.
struct Size {
    objects: usize,
    resident: f64,
    listed: f64,
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start a runtime")?;
    build()?;
    runtime.block_on(async {
        let mut alone = Alone::start().await?;
        let measured = measure(&mut alone).await;
        let ended = alone.process.end().await;
        let figures =
            measured.with_context(|| format!("the log of the root is in {}", alone.logs.display()))?;
        ended.map(|()| figures)
    })
}

fn build() -> Result<()> {
    eprintln!("building {ROOT}");
    let status = Command::new(workspace::cargo())
        .args(["build", "--quiet", "--release", "--bins", "--package", ROOT])
        .status()
        .context("start `cargo build`")?;
    ensure!(status.success(), "the build fails; cargo says why above");
    Ok(())
}

fn sizes() -> Result<Vec<usize>> {
    let Ok(text) = env::var(SIZE_VARIABLE) else { return Ok(SIZES.to_vec()) };
    let size: Option<usize> = text.parse().ok().filter(|size| (PAGE..=100_000).contains(size));
    let expected = || format!("understand {SIZE_VARIABLE}={text}: expected a number from {PAGE} to 100000");
    Ok(vec![size.with_context(expected)?])
}

async fn measure(alone: &mut Alone) -> Result<Vec<Figure>> {
    define(&alone.root).await?;
    let (mut figures, mut measured) = (Vec::new(), Vec::new());
    let mut made = 0;
    for size in sizes()? {
        let start = Instant::now();
        create(&alone.root, made..size).await?;
        let rate = (size - made) as f64 / start.elapsed().as_secs_f64();
        eprintln!("{size} objects, made at {rate:.0}/s");
        made = size;
        sleep(SETTLES_WITHIN).await;
        // Before lists, whose answers are in memory for as long as they are sent.
        let resident = resident(&alone.process)?;
        alone.log_in().await?;
        let listed = lists(&alone.root, size, &mut figures).await?;
        figures.extend(pages(&alone.root, size).await?);
        figures.extend(watches(&alone.root, size).await?);
        measured.push(Size { objects: size, resident, listed });
    }
    figures.extend(memory(&measured));
    figures.extend(restart(alone, made).await?);
    Ok(figures)
}

impl Alone {
    async fn start() -> Result<Self> {
        let logs = Workspace::load()?.target.join("bench").join("resources-logs");
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        let state = tempfile::Builder::new().prefix("mangrove-bench-").tempdir();
        let state = state.context("create a temporary folder")?;
        let (api, for_clusters) = (free_port()?, free_port()?);
        let (process, root) = Self::begin(&state, api, for_clusters, &logs).await?;
        Ok(Self { process, root, state, api, for_clusters, logs })
    }

    async fn begin(
        state: &TempDir,
        api: SocketAddr,
        for_clusters: SocketAddr,
        logs: &std::path::Path,
    ) -> Result<(Process, Root)> {
        let program = env::current_exe().context("find this program")?.with_file_name(ROOT);
        let mut command = Command::new(program);
        command.arg("--state-dir").arg(state.path()).args(["--relay-port", "0"]);
        command.args(["--api-listen", &api.to_string(), "--cluster-listen", &for_clusters.to_string()]);
        let mut process = Process::start(ROOT, command.env("MANGROVE_ADMIN_PASSWORD", PASSWORD), logs)?;
        let root = wait_until("the root lets Admin in", READY_WITHIN, async || match process.ensure_runs() {
            Ok(()) => Ok(Some(Ok(Root::log_in(Address::Tcp(api), PASSWORD).await?))),
            Err(ended) => Ok(Some(Err(ended))),
        });
        let root = root.await??;
        Ok((process, root))
    }

    /// Anew: a login lasts ten minutes.
    async fn log_in(&mut self) -> Result<()> {
        self.root = Root::log_in(Address::Tcp(self.api), PASSWORD).await?;
        Ok(())
    }
}

/// Let go at once for the root to take.
fn free_port() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    listener.local_addr().context("read the port")
}

async fn define(root: &Root) -> Result<()> {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "sensors.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "sensors", "kind": "Sensor"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
                    "type": "object", "required": ["place"],
                    "properties": {
                        "place": {"type": "string"}, "interval": {"type": "integer", "minimum": 1},
                        "topics": {"type": "array", "items": {"type": "string"}},
                    },
                }}}},
            }],
        },
    });
    root.connect().await?.ask(Method::POST, DEFINITIONS, Body::Json(definition)).await.map(drop)
}

fn sensor(number: usize) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Sensor",
        "metadata": {"name": name(number), "labels": {"floor": (number % 40).to_string(), "site": "north"}},
        "spec": {
            "place": format!("hall {} column {number}", number % 7), "interval": 60,
            "topics": ["temperature", "humidity", "vibration"],
        },
    })
}

fn name(number: usize) -> String {
    format!("sensor-{number:06}")
}

async fn create(root: &Root, numbers: std::ops::Range<usize>) -> Result<()> {
    let mut lanes = JoinSet::new();
    for lane in 0..CONNECTIONS {
        let (mut connection, numbers) = (root.connect().await?, numbers.clone());
        lanes.spawn(async move {
            for number in numbers.skip(lane).step_by(CONNECTIONS) {
                connection.ask(Method::POST, SENSORS, Body::Json(sensor(number))).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = lanes.join_next().await {
        done??;
    }
    Ok(())
}

/// All objects in one answer, beside a server that has the bytes ready; how many bytes.
async fn lists(root: &Root, size: usize, figures: &mut Vec<Figure>) -> Result<f64> {
    let mut connection = root.connect().await?;
    let body = connection.fetch(SENSORS).await?;
    let bytes = body.len() as f64;
    let bare = peer::start(String::from_utf8(body.to_vec()).context("the list is text")?)?;
    let mut bare = Connection::open(Address::Tcp(bare), None).await?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..LISTS {
        ours.push(fetched(&mut connection, SENSORS).await?);
        peers.push(fetched(&mut bare, "/").await?);
    }
    let (ours, peers) = (Samples::new(ours), Samples::new(peers));
    let what = format!("{size} objects: list of all, {:.0} MB, median", bytes / 1e6);
    figures.push(Figure::new(what, ours.median(), "ms", ours.count()).against("bare hyper", peers.median()));
    Ok(bytes)
}

async fn fetched(connection: &mut Connection, path: &str) -> Result<f64> {
    let start = Instant::now();
    connection.fetch(path).await?;
    Ok(milliseconds(start))
}

/// All objects by pages: while nothing is written, and while others are.
async fn pages(root: &Root, size: usize) -> Result<Vec<Figure>> {
    let still = by_pages(root).await?;
    let writing = Writing::start(root).await?;
    let busy = by_pages(root).await;
    writing.end().await?;
    let busy = busy?;
    ensure!(still.objects == size && busy.objects == size, "pages have other objects than there are");
    let figure = |what: &str, pages: Pages| {
        let each = Samples::new(pages.each);
        let whole = Figure::new(format!("{size} objects: {what}, all"), pages.whole, "ms", 1);
        let page = format!("{size} objects: {what}, one, median");
        [whole, Figure::new(page, each.median(), "ms", each.count())]
    };
    let still = figure(&format!("pages of {PAGE}"), still);
    let busy = figure(&format!("pages of {PAGE} while objects are written"), busy);
    Ok(still.into_iter().chain(busy).collect())
}

async fn by_pages(root: &Root) -> Result<Pages> {
    #[derive(Deserialize)]
    struct Page {
        metadata: Metadata,
        items: Vec<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "continue", default)]
        next: String,
    }
    let mut connection = root.connect().await?;
    let (mut pages, mut next) = (Pages::default(), String::new());
    loop {
        let path = format!("{SENSORS}?limit={PAGE}&continue={next}");
        let start = Instant::now();
        let body = connection.fetch(&path).await?;
        pages.each.push(milliseconds(start));
        let page: Page = serde_json::from_slice(&body).context("read a page")?;
        pages.objects += page.items.len();
        next = super::stack::engine::encoded(&page.metadata.next);
        if next.is_empty() {
            break;
        }
    }
    pages.whole = pages.each.iter().sum();
    Ok(pages)
}

/// Somebody who changes objects, one after the other.
struct Writing {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Writing {
    async fn start(root: &Root) -> Result<Self> {
        let mut connection = root.connect().await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let task = tokio::spawn(async move {
            let mut turn = 0;
            while !ends.load(Ordering::Relaxed) {
                change(&mut connection, turn % PAGE, turn).await?;
                turn += 1;
                sleep(BETWEEN_CHANGES).await;
            }
            Ok(())
        });
        Ok(Self { is_over, task })
    }

    async fn end(self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await?.context("change objects meanwhile")
    }
}

async fn change(connection: &mut Connection, number: usize, turn: usize) -> Result<()> {
    let patch = json!({"spec": {"interval": turn + 1000}});
    let path = format!("{SENSORS}/{}", name(number));
    connection.ask(Method::PATCH, &path, Body::Patch(patch)).await.map(drop)
}

/// From when a change was asked for until a watch of all objects has told of it.
async fn watches(root: &Root, size: usize) -> Result<Vec<Figure>> {
    let listed = root.connect().await?.ask(Method::GET, &format!("{SENSORS}?limit=1"), Body::Empty).await?;
    let revision = listed["metadata"]["resourceVersion"].as_str().context("the list has no revision")?;
    let path = format!("{SENSORS}?watch=true&resourceVersion={revision}");
    let mut told = root.connect().await?.follow(&path).await?;
    let mut connection = root.connect().await?;
    let mut millis = Vec::new();
    for turn in 0..CHANGES {
        let (asked, heard) = (Instant::now(), heard(&mut told));
        // Whichever is first: a watcher may hear of it before the one who asked has an answer.
        let (changed, heard) = tokio::join!(change(&mut connection, turn % size, size + turn), heard);
        changed?;
        millis.push((heard? - asked).as_secs_f64() * 1000.0);
        sleep(BETWEEN_CHANGES).await;
    }
    let millis = Samples::new(millis);
    let figure = |what: &str, value| {
        Figure::new(
            format!("{size} objects: change until a watch tells of it, {what}"),
            value,
            "ms",
            millis.count(),
        )
    };
    let goal = Goal::ValueAtMost { value: 20.0, unit: "ms" };
    Ok(vec![figure("median", millis.median()), figure("p99", millis.p99()).aiming_at(goal)])
}

/// When the next line has come.
async fn heard(told: &mut Incoming) -> Result<Instant> {
    loop {
        let frame = told.frame().await.context("the watch has ended")?.context("read on")?;
        if frame.data_ref().is_some_and(|data| data.ends_with(b"\n")) {
            return Ok(Instant::now());
        }
    }
}

fn resident(process: &Process) -> Result<f64> {
    Ok(Memory::of(process.id())?.resident as f64)
}

fn memory(sizes: &[Size]) -> Vec<Figure> {
    let mut figures: Vec<Figure> = sizes
        .iter()
        .map(|it| {
            Figure::new(format!("{} objects: memory of the root", it.objects), it.resident / 1e6, "MB", 1)
        })
        .collect();
    // What each takes between two sizes: what there is besides them is in neither.
    let each = |two: &[Size], of: fn(&Size) -> f64| {
        (of(&two[1]) - of(&two[0])) / (two[1].objects - two[0].objects) as f64
    };
    let grows: Vec<f64> = sizes.windows(2).map(|two| each(two, |size| size.resident)).collect();
    if let (Some(two), [first, .., last]) = (sizes.last_chunk::<2>(), grows.as_slice()) {
        let json = each(two, |size| size.listed);
        let figure = |what: &str| Figure::new(format!("memory of an object, {what}"), *last, "B", 1);
        figures.push(figure("beside what it is as JSON").against("as JSON", json));
        figures.push(
            figure("the last half of them").against("the first", *first).aiming_at(Goal::RatioAtMost(1.25)),
        );
    }
    figures
}

/// With all objects stored: how long until it answers, and its memory then.
async fn restart(alone: &mut Alone, objects: usize) -> Result<Vec<Figure>> {
    let start = Instant::now();
    alone.process.kill()?;
    let Alone { state, api, for_clusters, logs, .. } = &*alone;
    let (process, root) = Alone::begin(state, *api, *for_clusters, logs).await?;
    let took = start.elapsed().as_secs_f64();
    (alone.process, alone.root) = (process, root);
    sleep(SETTLES_WITHIN).await;
    let figure = |what: &str, value, unit| Figure::new(format!("{objects} objects: {what}"), value, unit, 1);
    Ok(vec![
        figure("killed until it lets somebody in again", took, "s"),
        figure("memory of the root after that", resident(&alone.process)? / 1e6, "MB"),
    ])
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_faster_than_what_is_kept_misses_the_goal() {
        let sizes = |resident: [f64; 3]| {
            let objects = [10, 50, 100];
            let size = |(objects, resident)| Size { objects, resident, listed: objects as f64 * 500.0 };
            objects.into_iter().zip(resident).map(size).collect::<Vec<_>>()
        };
        let last = |resident| memory(&sizes(resident)).pop().expect("a figure");
        let even = last([30_000.0, 70_000.0, 120_000.0]);
        assert_eq!((even.value, even.met()), (1000.0, Some(true)));
        assert_eq!(last([30_000.0, 70_000.0, 150_000.0]).met(), Some(false));
        assert_eq!(memory(&sizes([1.0, 2.0, 3.0])[..1]).len(), 1, "one size says nothing of growth");
    }
}
