//! How many reports of workers a cluster takes in per second of processor time, everything included: prost, conversion,
//! the brain, the store. On one core, against decoding the same bytes and nothing else. What runs is
//! `crates/fleet/src/ingest.rs`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    figure::{Figure, Goal},
    scale::fleet::{self, Programs},
    statistics::Samples,
};

/// Instances per report: the usual device, and one that is full.
const INSTANCES: [u32; 2] = [2, 10];
/// The goal is for the usual one: 200,000 reports per second and core.
const GOAL: Goal = Goal::ValueAtMost { value: 5.0, unit: "us" };

#[derive(Deserialize)]
struct Told {
    ingest: Ingest,
}

/// As `fleet::events` has it.
#[derive(Deserialize)]
struct Ingest {
    instances_per_report: u32,
    bytes_per_report: f64,
    applied: Vec<f64>,
    decoded: Vec<f64>,
}

/// Measures with few and with many instances per report.
pub(crate) fn run() -> Result<Vec<Figure>> {
    let programs = fleet::build()?;
    let mut figures = Vec::new();
    for instances in INSTANCES {
        figures.extend(told(&measure(&programs, instances)?));
    }
    Ok(figures)
}

fn measure(programs: &Programs, instances: u32) -> Result<Ingest> {
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    let output = Command::new(programs.path("fleet-ingest"))
        .args(["--instances", &instances.to_string(), "--store"])
        .arg(folder.path().join("store.sqlite"))
        .output()
        .context("start fleet-ingest")?;
    ensure!(output.status.success(), "fleet-ingest fails: {}", String::from_utf8_lossy(&output.stderr));
    let told: Told = serde_json::from_slice(&output.stdout).context("understand fleet-ingest")?;
    Ok(told.ingest)
}

fn told(ingest: &Ingest) -> Vec<Figure> {
    let Ingest { instances_per_report, bytes_per_report, .. } = ingest;
    let named = |what: &str| format!("{what}, {instances_per_report} instances, {bytes_per_report:.0} bytes");
    let microseconds = |rates: &[f64]| Samples::new(rates.iter().map(|rate| 1e6 / rate).collect());
    let (applied, decoded) = (microseconds(&ingest.applied), microseconds(&ingest.decoded));
    let per_report = Figure::new(named("one report applied"), applied.median(), "us", applied.count())
        .against("decoded only", decoded.median());
    let is_usual = *instances_per_report == INSTANCES[0];
    vec![
        if is_usual { per_report.aiming_at(GOAL) } else { per_report },
        Figure::new(named("reports applied"), 1e6 / applied.median(), "/s/core", applied.count())
            .against("decoded only", 1e6 / decoded.median()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_as_times_and_rates() {
        let ingest = Ingest {
            instances_per_report: 2,
            bytes_per_report: 150.0,
            applied: vec![200_000.0, 250_000.0, 100_000.0],
            decoded: vec![1_000_000.0; 3],
        };
        let figures = told(&ingest);
        assert_eq!(figures[0].figure, "one report applied, 2 instances, 150 bytes");
        assert_eq!((figures[0].value, figures[0].met()), (5.0, Some(true)));
        assert_eq!((figures[1].value, figures[1].ratio), (200_000.0, Some(0.2)));
    }
}
