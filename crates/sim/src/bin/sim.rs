//! `sim`: the command line of the simulation. `cargo xtask sim` builds and runs it.

#![expect(clippy::print_stdout, reason = "a command line tool speaks on it")]

use std::{
    process::ExitCode,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Parser;
use sim::{Fault, Invariant, Mutant, Options, Outcome, Progress, Runs, RunsOutcome, Scenario, Statistics};

/// Runs the whole hierarchy in virtual time, with faults, and checks the invariants of docs/invariants.md.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Arguments {
    /// Replays this one seed with its log.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs so many seeds, from 1 or from `--first` on, without logs.
    #[arg(long, conflicts_with = "seed")]
    seeds: Option<u64>,
    /// The first of `--seeds`.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Worker devices.
    #[arg(long)]
    workers: Option<u32>,
    /// Clusters.
    #[arg(long)]
    clusters: Option<u32>,
    /// Virtual minutes of load and faults.
    #[arg(long)]
    minutes: Option<u32>,
    /// Instances wanted at most at one time.
    #[arg(long)]
    instances: Option<u32>,
    /// Virtual milliseconds in which time passes; with several, large worlds are faster and delays coarser. 1 unless
    /// `--scale` is given, then 20.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50))]
    step: Option<u32>,
    /// Applications belong to places: most are for one cluster, many for a region of ten, and some may be anywhere. As
    /// with `--scale`.
    #[arg(long)]
    places: bool,
    /// With `--seeds`: goes on after a failure and tells one line of each.
    #[arg(long)]
    survey: bool,
    /// A kind of fault that does not happen; may be given several times.
    #[arg(long, value_parser = fault)]
    without: Vec<Fault>,
    /// An invariant that is not judged; may be given several times.
    #[arg(long, value_parser = invariant)]
    ignore: Vec<Invariant>,
    /// A deliberate mistake.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Only these lines of the log: those that contain the text.
    #[arg(long)]
    about: Option<String>,
    /// With `--seed`: no log, only the end of it.
    #[arg(long)]
    quiet: bool,
    /// Looks for the smallest scenario in which a failing seed still fails.
    #[arg(long)]
    shrink: bool,
    /// Makes every deliberate mistake; fails if one is not caught.
    #[arg(long)]
    mutants: bool,
    /// Seeds in which a deliberate mistake must be caught.
    #[arg(long, default_value_t = 1000)]
    within: u64,
    /// A root, a thousand clusters and a hundred thousand workers, and how deciding grows up to there. `--workers` ends
    /// it earlier, `--clusters` begins it later; `--minutes` makes it shorter.
    #[arg(long)]
    scale: bool,
    /// So many runs of tasks in progress while the root ends and comes back: whether all finish, what they took, and how
    /// deciding goes. `--seed` is the chance in it.
    #[arg(long, conflicts_with_all = ["scale", "mutants", "seeds"])]
    runs: Option<u64>,
}

fn fault(name: &str) -> Result<Fault, String> {
    Fault::named(name).ok_or_else(|| format!("is none of {}", Fault::ALL.map(Fault::as_str).join(", ")))
}

fn invariant(id: &str) -> Result<Invariant, String> {
    Invariant::named(id).ok_or_else(|| format!("is none of {}", Invariant::ALL.map(Invariant::id).join(", ")))
}

fn mutant(name: &str) -> Result<Mutant, String> {
    Mutant::named(name).ok_or_else(|| format!("is none of {}", Mutant::ALL.map(Mutant::name).join(", ")))
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.mutants {
        return Ok(mutants(&arguments));
    }
    if arguments.scale {
        return scale(&arguments);
    }
    if let Some(count) = arguments.runs {
        return runs(arguments.seed.unwrap_or(1), count);
    }
    match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => Ok(one(&arguments, seed)),
        (None, Some(seeds)) => Ok(many(&arguments, seeds)),
        (None, None) => bail!("nothing to do: pass --seed N, --seeds N, --mutants, --scale or --runs N"),
    }
}

impl Arguments {
    fn scenario(&self, seed: u64) -> Scenario {
        let mut scenario = Scenario::small(seed);
        scenario.workers = self.workers.unwrap_or(scenario.workers);
        scenario.clusters = self.clusters.unwrap_or(scenario.clusters).min(scenario.workers);
        scenario.minutes = self.minutes.unwrap_or(scenario.minutes);
        scenario.instances = self.instances.unwrap_or(scenario.instances);
        scenario.places = self.places;
        scenario.step = self.step.unwrap_or(scenario.step);
        scenario.faults.retain(|fault| !self.without.contains(fault));
        scenario.ignored = self.ignore.iter().copied().collect();
        scenario.mutant = self.mutant;
        scenario
    }
}

fn one(arguments: &Arguments, seed: u64) -> ExitCode {
    let mut scenario = arguments.scenario(seed);
    let (outcome, took) =
        timed(|| sim::run(&scenario, Options { log: !arguments.quiet, timed: true, ..Options::default() }));
    let wanted = |text: &str| arguments.about.as_ref().is_none_or(|about| text.contains(about));
    for line in outcome.log.iter().filter(|line| wanted(&line.text)) {
        println!("{line}");
    }
    println!("{}", figures(&outcome.statistics, took));
    println!("trace {:016x}", outcome.hash);
    let Some(violation) = outcome.violation else { return ExitCode::SUCCESS };
    if arguments.shrink {
        scenario = sim::shrink(&scenario, violation.invariant);
    }
    println!("\n{}", sim::explain(&scenario, 60));
    ExitCode::FAILURE
}

fn many(arguments: &Arguments, seeds: u64) -> ExitCode {
    let scenarios: Vec<Scenario> =
        (arguments.first..arguments.first + seeds).map(|seed| arguments.scenario(seed)).collect();
    let run = |scenario: &Scenario| sim::run(scenario, Options::default());
    let (outcomes, took) = timed(|| sim::run_all(&scenarios, arguments.survey, run));
    let done: Vec<(&Scenario, &Outcome)> = scenarios
        .iter()
        .zip(&outcomes)
        .filter_map(|(scenario, outcome)| Some((scenario, outcome.as_ref()?)))
        .collect();
    let events: u64 = done.iter().map(|(_, outcome)| outcome.statistics.events).sum();
    let slowest = done.iter().map(|(_, outcome)| outcome.statistics.rested).max().unwrap_or(0);
    println!(
        "{} seeds, {events} events in {took:.1?}; at rest at most {} s after the last fault",
        done.len(),
        slowest / 1000
    );
    if arguments.survey {
        return survey(&done);
    }
    let mut failed =
        done.iter().filter_map(|(scenario, outcome)| Some((scenario, outcome.violation.as_ref()?)));
    let Some((scenario, violation)) = failed.next() else { return ExitCode::SUCCESS };
    let smallest =
        if arguments.shrink { sim::shrink(scenario, violation.invariant) } else { (*scenario).clone() };
    println!("\n{}", sim::explain(&smallest, 60));
    ExitCode::FAILURE
}

fn survey(done: &[(&Scenario, &Outcome)]) -> ExitCode {
    let mut failed = 0_u32;
    for (scenario, violation) in
        done.iter().filter_map(|(scenario, it)| Some((scenario, it.violation.as_ref()?)))
    {
        failed += 1;
        let instance = violation.instance.map(|id| format!("{id}: ")).unwrap_or_default();
        println!("{:>6} {:<20} {instance}{}", scenario.seed, violation.invariant.id(), violation.detail);
    }
    println!("{failed} of {} seeds fail", done.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mutants(arguments: &Arguments) -> ExitCode {
    println!("{:<24} {:<22} {:>5}", "mutant", "caught by", "seed");
    let mut survivors = 0;
    let mutants =
        Mutant::ALL.into_iter().filter(|mutant| arguments.mutant.is_none_or(|only| only == *mutant));
    for mutant in mutants {
        match sim::hunt(mutant, arguments.first..arguments.first + arguments.within) {
            Some((seed, violation)) => {
                println!("{:<24} {:<22} {seed:>5}", mutant.name(), violation.invariant.id());
            }
            None => {
                survivors += 1;
                println!("{:<24} {:<22} {:>5}", mutant.name(), "nothing", "-");
            }
        }
    }
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Milliseconds in which time passes in `--scale`, unless it is told otherwise: as long as a message takes at most, mostly.
const SCALE_STEP: u32 = 20;

/// Worlds of a hundred workers per cluster and two instances per worker, each ten times as large as the one before.
fn scale(arguments: &Arguments) -> Result<ExitCode> {
    println!(
        "{:>8} {:>8} {:>10} {:>9} {:>7} {:>11} {:>7} {:>7} {:>9} {:>8}  root decides; a cluster decides",
        "clusters",
        "workers",
        "instances",
        "at once",
        "minutes",
        "events",
        "wall s",
        "cpu s",
        "events/s",
        "peak MiB"
    );
    let minutes = arguments.minutes.unwrap_or(15);
    let mut sizes: Vec<(u32, Statistics)> = Vec::new();
    let mut failed = false;
    for clusters in [10, 100, 1_000] {
        let (workers, instances) = (clusters * 100, clusters * 200);
        if arguments.clusters.is_some_and(|least| clusters < least) {
            continue;
        }
        if arguments.workers.is_some_and(|most| workers > most) {
            break;
        }
        let step = arguments.step.unwrap_or(SCALE_STEP);
        let scenario =
            Scenario { clusters, workers, minutes, instances, step, places: true, ..arguments.scenario(1) };
        let before = processor_time()?;
        let options = Options { timed: true, progress: Some(tell_progress), ..Options::default() };
        let (outcome, took) = timed(|| sim::run(&scenario, options));
        let used = processor_time()?.saturating_sub(before);
        let Statistics { events, most_running, root, cluster, .. } = &outcome.statistics;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let rate = *events as f64 / took.as_secs_f64();
        println!(
            "{clusters:>8} {workers:>8} {instances:>10} {most_running:>9} {minutes:>7} {events:>11} {:>7.1} {:>7.1} \
             {rate:>9.0} {:>8}  {}; {}",
            took.as_secs_f64(),
            used.as_secs_f64(),
            memory_mib("VmHWM")?,
            times(root),
            times(cluster)
        );
        if let Some(violation) = outcome.violation {
            failed = true;
            println!(
                "{} at {} ms: {}\n  {}",
                violation.invariant,
                violation.at,
                violation.detail,
                scenario.command()
            );
        }
        sizes.push((workers, outcome.statistics));
    }
    if sizes.is_empty() {
        bail!(
            "no size is left: `--clusters` begins at one of 10, 100 and 1000, `--workers` is at least 100 times that"
        );
    }
    if let [(least, small), .., (most, large)] = sizes.as_slice() {
        println!(
            "from {least} to {most} workers: the root decides {:.2} times as long, a cluster {:.2} times (medians); \
             at the 99th percentile {:.2} and {:.2} times",
            growth(&small.root, &large.root, 500),
            growth(&small.cluster, &large.cluster, 500),
            growth(&small.root, &large.root, 990),
            growth(&small.cluster, &large.cluster, 990)
        );
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs of tasks over an end of the root.
fn runs(seed: u64, count: u64) -> Result<ExitCode> {
    let before = processor_time()?;
    let scenario = Runs { timed: true, ..Runs::new(seed, count) };
    let (outcome, took) = timed(|| scenario.run());
    let used = processor_time()?.saturating_sub(before);
    let RunsOutcome { in_progress, runs, starts, turns, .. } = outcome;
    println!(
        "{in_progress} runs in progress when the root ended; {runs} runs with {starts} containers were over after {:.0} \
         virtual seconds, in {turns} turns of the root",
        Duration::from_millis(outcome.took).as_secs_f64()
    );
    println!(
        "wall {:.1} s, cpu {:.1} s, peak {} MiB; the root decides: {}, longest {:.1?}",
        took.as_secs_f64(),
        used.as_secs_f64(),
        memory_mib("VmHWM")?,
        times(&outcome.root),
        outcome.root.longest()
    );
    outcome.wrong.iter().for_each(|wrong| println!("{wrong}"));
    Ok(if outcome.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells once a minute how far a run has got, on the error output, which is no part of the table.
#[expect(clippy::print_stderr, reason = "a command line tool speaks on it")]
#[expect(clippy::disallowed_methods, reason = "when something is told of a run decides nothing in it")]
fn tell_progress(progress: Progress) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let minutes = BEGAN.get_or_init(Instant::now).elapsed().as_secs() / 60;
    if TOLD.swap(minutes, Ordering::Relaxed) == minutes {
        return;
    }
    let Progress { virtual_millis, events, running } = progress;
    let (minute, second) = (virtual_millis / 60_000, virtual_millis / 1000 % 60);
    let memory = memory_mib("VmRSS").unwrap_or(0);
    eprintln!(
        "  after {minutes} min: {minute}:{second:02} virtual, {events} events, {running} containers, {memory} MiB"
    );
}

fn growth(small: &sim::Times, large: &sim::Times, rank: u64) -> f64 {
    large.per_mille(rank).as_secs_f64() / small.per_mille(rank).as_secs_f64()
}

fn times(times: &sim::Times) -> String {
    let rank = |rank| times.per_mille(rank);
    format!("median {:.1?} mean {:.1?} p99 {:.1?}", rank(500), times.mean(), rank(990))
}

/// How long this thread had a processor: what a run costs also while others want the machine.
fn processor_time() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| anyhow::anyhow!("/proc/thread-self/schedstat has no time"))
}

fn figures(statistics: &Statistics, took: Duration) -> String {
    let Statistics {
        events,
        messages,
        lost,
        faults,
        answers,
        starts,
        most_running,
        rested,
        root_turns,
        cluster_turns,
        ..
    } = statistics;
    format!(
        "{events} events in {took:.1?}: {messages} messages ({lost} lost), {faults} faults, {answers} answers, \
         {starts} starts of containers ({most_running} at once), {root_turns} turns of the root (mean {:.1?}), {cluster_turns} of clusters \
         (mean {:.1?}); at rest {:.1} s after the last fault",
        statistics.root.mean(),
        statistics.cluster.mean(),
        Duration::from_millis(*rested).as_secs_f64()
    )
}

#[expect(clippy::disallowed_methods, reason = "the time a run takes is told, and decides nothing")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}

/// Memory of this process: `VmHWM` is the most it ever had, `VmRSS` what it has now.
fn memory_mib(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: Option<u64> = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kib.map(|kib| kib / 1024).ok_or_else(|| anyhow::anyhow!("/proc/self/status has no {field}"))
}
