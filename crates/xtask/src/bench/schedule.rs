//! How long one placement takes: filters, scores and reasons over a mixed fleet, against a raw scan of the same
//! candidates in the same run.
//!
//! The raw scan sums the free memory and finds the least load: every candidate is read, and nothing is decided.

use std::hint::black_box;

use anyhow::{Result, ensure};
use model::{Capability, Mebibytes, Millicores, Resources};
use placement::{Candidate, Request, decide};

use super::{
    figure::{Figure, Goal},
    statistics::{Samples, compare},
};

const SIZES: [usize; 4] = [45, 1_000, 10_000, 100_000];
/// Each gives two samples of either side.
const ROUNDS: usize = 50;
/// Candidates seen per sample, at least: long enough for the clock, short enough to stay interleaved.
const CANDIDATES_PER_SAMPLE: usize = 200_000;
const PEER: &str = "raw scan";

/// Times decisions that succeed and decisions that must say no to all.
pub(crate) fn run() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for size in SIZES {
        let fleet = fleet(size);
        let fitting = requests();
        for request in &fitting {
            let choice = decide(&fleet, request);
            ensure!(choice.is_ok(), "nobody of {size} takes {request:?}: the fleet is not as it should be");
        }
        let (ours, peer) = measure(&fleet, &fitting);
        figures.extend(told(&format!("decide among {size}"), size, &ours, &peer));
        let rejected = decide(&fleet, &fitting[0]).map_or(size, |choice| choice.rejected.total());
        figures.push(Figure::new(format!("rejected among {size}"), percent(rejected, size), "%", 1));
        let too_large = requests().map(|mut request| {
            request.resources.memory = Mebibytes::from_bytes(1 << 40);
            request
        });
        let (ours, peer) = measure(&fleet, &too_large);
        figures.extend(told(&format!("refuse with all reasons among {size}"), size, &ours, &peer));
    }
    Ok(figures)
}

fn measure(fleet: &[Candidate], requests: &[Request]) -> (Samples, Samples) {
    let calls = CANDIDATES_PER_SAMPLE.div_ceil(fleet.len()).next_multiple_of(requests.len());
    let mut turn = requests.iter().cycle();
    let ours = || {
        let request = turn.next().expect("a cycle does not end");
        drop(black_box(decide(black_box(fleet), black_box(request))));
    };
    let peer = || {
        black_box(raw_scan(black_box(fleet)));
    };
    compare(ROUNDS, calls, ours, peer)
}

fn told(what: &str, size: usize, ours: &Samples, peer: &Samples) -> [Figure; 2] {
    let microseconds = |nanoseconds: f64| nanoseconds / 1000.0;
    let median = Figure::new(format!("{what}, median"), microseconds(ours.median()), "us", ours.count())
        .against(PEER, microseconds(peer.median()))
        .aiming_at(Goal::RatioAtMost(3.0));
    let p95 = Figure::new(format!("{what}, p95"), microseconds(ours.p95()), "us", ours.count())
        .against(PEER, microseconds(peer.p95()));
    let largest = SIZES.iter().max() == Some(&size);
    [median, if largest { p95.aiming_at(Goal::ValueAtMost { value: 1000.0, unit: "us" }) } else { p95 }]
}

/// The least a pass over all candidates can do: one sum and one minimum.
fn raw_scan(fleet: &[Candidate]) -> (u64, u16) {
    let mut free = 0;
    let mut least_load = u16::MAX;
    for candidate in fleet {
        free += u64::from(candidate.free().memory.0);
        least_load = least_load.min(candidate.load_permille());
    }
    (free, least_load)
}

fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole as f64
}

/// Requests of different sizes, so that no decision repeats the one before.
fn requests() -> [Request; 4] {
    [(500, 256), (1000, 1024), (250, 128), (2000, 2048)].map(|(cpu, memory)| {
        let resources =
            Resources { cpu: Millicores(cpu), memory: Mebibytes(memory), storage: Mebibytes(512), gpus: 0 };
        Request::new(resources, &[Capability::Container, Capability::Overlay])
    })
}

/// Devices of four sizes, partly reserved, in no order; some are away, cordoned, without network or full.
fn fleet(size: usize) -> Vec<Candidate> {
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    (0..size).map(|_| device(&mut chance)).collect()
}

fn device(chance: &mut Chance) -> Candidate {
    let (cores, gibibytes, gpus) = [(1, 1, 0), (4, 4, 0), (4, 8, 1), (16, 64, 0)][chance.below(4) as usize];
    let free_percent = chance.below(101);
    let free = Resources {
        cpu: Millicores(cores * 10 * free_percent),
        memory: Mebibytes(gibibytes * 1024 * free_percent / 100),
        storage: Mebibytes(32 * 1024 * chance.below(101) / 100),
        gpus,
    };
    let id = u128::from(chance.next()) << 64 | u128::from(chance.next());
    let all = [Capability::Container, Capability::Overlay];
    let able = if chance.below(100) < 10 { &all[..1] } else { &all[..] };
    let mut device = Candidate::worker(id, free)
        .with_capabilities(able)
        .with_instances(chance.below(20) as usize)
        .with_load_percent(chance.below(1000) as f32 / 10.0);
    device.set_connected(chance.below(100) >= 8);
    device.set_cordoned(chance.below(100) < 3);
    device
}

/// Repeatable chance: a xorshift generator.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 up to, and without, `limit`.
    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(limit)) >> 32).expect("below a u32")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_finds_a_place_in_the_smallest_fleet_and_leaves_some_out() {
        let fleet = fleet(SIZES[0]);
        for request in requests() {
            let choice = decide(&fleet, &request).expect("somebody takes it");
            let rejected = choice.rejected.total();
            assert!(rejected > 0 && rejected < SIZES[0], "{rejected} of {} are rejected", SIZES[0]);
        }
    }
}
