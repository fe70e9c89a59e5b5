//! What 20,000 entries for services cost: until the kernel leads to them, and calls among them. What runs is
//! `net-manager/examples/crowd.rs`: NetManager's own datapath in a namespace that stands for a device.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    Extent,
    place::Place,
    probe::{self, Ended, Server},
};
use crate::{
    bench::{
        figure::{Figure, Goal},
        recovery::PROGRAMS_VARIABLE,
        statistics::{Samples, interleaved},
    },
    workspace,
};

const PROGRAM: &str = "crowd";
/// Each has four addresses in both families, so these are 20,000 entries.
const MANY: u32 = 2_500;
/// As many as there are addresses for, and some.
const MOST: u32 = 20_000;
/// Where the server beside the caller is called.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 30, 0, 1));
/// The rest is within what one run differs from the next.
const AS_FAST: Goal = Goal::RatioAtLeast(0.97);

/// A device with an instance that calls and one that is called.
#[derive(Debug)]
struct Crowd {
    caller: Place,
    asked: ChildStdin,
    told: BufReader<ChildStdout>,
    _server: Server,
    _process: Ended,
    _places: [Place; 2],
}

/// What `crowd` says.
#[derive(Debug, Deserialize)]
struct Told {
    entries: u32,
    loaded_ms: f64,
    read_ms: f64,
}

/// With one service, and with many.
#[derive(Debug, Default)]
struct Values {
    throughput: Vec<f64>,
    connections: Vec<f64>,
}

impl Crowd {
    fn start(program: &Path) -> Result<Self> {
        let (device, caller, server) = (Place::new()?, Place::new()?, Place::new()?);
        let mut command = device.command(&program.to_string_lossy());
        command.args([caller.path(), server.path()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("start crowd")?;
        let asked = process.stdin.take().context("crowd has a standard input")?;
        let told = process.stdout.take().context("crowd has a standard output")?;
        let serving = Server::start(&server)?;
        Ok(Self {
            caller,
            asked,
            told: BufReader::new(told),
            _server: serving,
            _process: Ended::of(process),
            _places: [device, server],
        })
    }

    /// Lets the device hear of so many services.
    fn tell(&mut self, services: u32) -> Result<Told> {
        writeln!(self.asked, "{services}").context("tell crowd a number")?;
        let mut line = String::new();
        self.told.read_line(&mut line).context("hear what crowd says")?;
        ensure!(!line.is_empty(), "crowd has ended; it says why above");
        serde_json::from_str(&line).with_context(|| format!("understand crowd: {line}"))
    }
}

pub(super) fn measure(program: &Path, extent: &Extent) -> Result<Vec<Figure>> {
    let mut crowd = Crowd::start(program)?;
    crowd.tell(1)?;
    probe::await_path(&crowd.caller, ADDRESS)?;
    let time = Duration::from_secs(extent.seconds);
    let (mut few, mut many, mut loaded, mut read) = (Values::default(), Values::default(), vec![], vec![]);
    let mut entries = 0;
    for services in interleaved(&[1, MANY], extent.rounds) {
        let told = crowd.tell(services)?;
        // Twice the same number changes nothing.
        if services == MANY && told.entries != entries {
            loaded.push(told.loaded_ms);
            read.push(told.read_ms);
        }
        entries = told.entries;
        let values = if services == MANY { &mut many } else { &mut few };
        values.throughput.push(probe::throughput(&crowd.caller, ADDRESS, 1, time)?);
        values.connections.push(probe::connections(&crowd.caller, ADDRESS, time)?);
    }
    let most = crowd.tell(MOST)?;
    let [loaded, read] = [loaded, read].map(Samples::new);
    let entries = |count: u32| format!("{count} entries for services");
    let many_entries = entries(MANY * 8);
    Ok(vec![
        Figure::new(
            format!("{many_entries}: until the kernel leads to them"),
            loaded.median(),
            "ms",
            loaded.count(),
        )
        .aiming_at(Goal::ValueAtMost { value: 200.0, unit: "ms" }),
        Figure::new(format!("{many_entries}: read back"), read.median(), "ms", read.count()),
        Figure::new(
            format!("{}: until the kernel leads to them", entries(most.entries)),
            most.loaded_ms,
            "ms",
            1,
        ),
        compared(&format!("{many_entries}: TCP, 1 stream"), "Gbit/s", many.throughput, few.throughput),
        compared(&format!("{many_entries}: new connections"), "/s", many.connections, few.connections),
    ])
}

fn compared(what: &str, unit: &'static str, many: Vec<f64>, few: Vec<f64>) -> Figure {
    let (many, few) = (Samples::new(many), Samples::new(few));
    let figure = Figure::new(what.to_owned(), many.median(), unit, many.count());
    figure.against("8 entries", few.median()).aiming_at(AS_FAST)
}

/// That of the folder of programs, if it has one; or else it is built.
pub(super) fn program() -> Result<PathBuf> {
    let given = env::var_os(PROGRAMS_VARIABLE).map(|folder| PathBuf::from(folder).join(PROGRAM));
    if let Some(given) = given.filter(|program| program.is_file()) {
        return Ok(given);
    }
    let status = Command::new(workspace::cargo())
        .args(["build", "--quiet", "--release", "--package", "net-manager", "--example", PROGRAM])
        .status()
        .context("start `cargo build`")?;
    ensure!(status.success(), "the build of {PROGRAM} fails; cargo says why above");
    // This program is in the folder of one profile, that of releases is beside it.
    let own = env::current_exe().context("find this program")?;
    let profiles = own.parent().and_then(Path::parent).context("this program is in a folder of a profile")?;
    Ok(profiles.join("release/examples").join(PROGRAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_entries_may_cost_three_percent() {
        let met = |many: f64| compared("TCP", "Gbit/s", vec![many], vec![100.0]).met();
        assert_eq!((met(97.5), met(96.5)), (Some(true), Some(false)));
    }
}
