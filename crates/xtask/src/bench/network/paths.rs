//! What each path between two instances carries: ours, Docker Swarm's, and those made by hand, in turns.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result};

use super::{
    Extent,
    by_hand::{By, ByHand},
    ours::Ours,
    overlay::Overlay,
    place::Place,
    plain::PlainHosts,
    probe,
};
use crate::bench::{
    figure::{Figure, Goal},
    recovery::SWARM,
    statistics::{Samples, interleaved},
};

const MANY_STREAMS: u8 = 8;

/// Whose path, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    OursNear,
    OursDirect,
    OursEncrypted,
    /// The same paths to the same instances, by addresses of their own.
    NearItself,
    DirectItself,
    Swarm,
    ByHand(By),
    /// From one host to the other, without instances.
    Hosts,
    /// The same, between hosts that have a container engine.
    PlainHosts,
}

const SIDES: [Side; 13] = [
    Side::ByHand(By::Cable),
    Side::OursNear,
    Side::NearItself,
    Side::ByHand(By::Route),
    Side::Hosts,
    Side::ByHand(By::Vxlan),
    Side::PlainHosts,
    Side::OursDirect,
    Side::DirectItself,
    Side::Swarm,
    Side::ByHand(By::Forwarder),
    Side::ByHand(By::Boringtun),
    Side::OursEncrypted,
];

/// All that is there to be measured.
#[derive(Debug)]
pub(super) struct Paths<'a> {
    pub(super) by_hand: &'a ByHand,
    pub(super) plain: &'a PlainHosts,
    /// In a trusted site.
    pub(super) direct: &'a Ours,
    pub(super) encrypted: &'a Ours,
    pub(super) swarm: &'a Overlay,
}

/// What one side came to.
#[derive(Debug, Clone, PartialEq, Default)]
struct Values {
    one_stream: Vec<f64>,
    many_streams: Vec<f64>,
    latencies: Vec<f64>,
    connections: Vec<f64>,
}

/// The same in order of size.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    one_stream: Samples,
    many_streams: Samples,
    latencies: Samples,
    connections: Samples,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::OursNear => "ours, same host",
            Self::OursDirect => "ours, direct",
            Self::OursEncrypted => "ours, encrypted",
            Self::NearItself => "the instance itself, same host",
            Self::DirectItself => "the instance itself, direct",
            Self::Swarm => SWARM,
            Self::ByHand(By::Cable) => "cables and routes",
            Self::ByHand(By::Route) => "routes between hosts",
            Self::ByHand(By::Vxlan) => "VXLAN by hand",
            Self::ByHand(By::Forwarder) => "TUN forwarder",
            Self::ByHand(By::Boringtun) => "boringtun-cli",
            Self::Hosts => "VXLAN alone, no instances, no engine",
            Self::PlainHosts => "VXLAN alone, no instances",
        }
    }

    fn path<'a>(self, all: &Paths<'a>) -> (&'a Place, IpAddr) {
        match self {
            Self::OursNear => (&all.direct.caller, all.direct.near),
            Self::OursDirect => (&all.direct.caller, all.direct.far),
            Self::OursEncrypted => (&all.encrypted.caller, all.encrypted.far),
            Self::NearItself => (&all.direct.caller, all.direct.near_itself),
            Self::DirectItself => (&all.direct.caller, all.direct.far_itself),
            Self::Swarm => (&all.swarm.caller, all.swarm.far),
            Self::ByHand(by) => (&all.by_hand.caller, ByHand::address(by)),
            Self::Hosts => all.by_hand.between_hosts(),
            Self::PlainHosts => (&all.plain.caller, all.plain.far),
        }
    }
}

/// Measures all sides in turns.
pub(super) fn measure(all: &Paths<'_>, extent: &Extent) -> Result<Vec<Figure>> {
    let mut values = SIDES.map(|side| (side, Values::default()));
    for side in SIDES {
        let (caller, address) = side.path(all);
        probe::await_path(caller, address).with_context(|| side.name())?;
    }
    for side in interleaved(&SIDES, extent.rounds) {
        let (caller, address) = side.path(all);
        let values = values.iter_mut().find(|(of, _)| *of == side);
        let (_, values) = values.expect("all sides are there");
        sample(caller, address, extent, values).with_context(|| format!("measure {}", side.name()))?;
        eprintln!("{}: {}", side.name(), values.last());
    }
    Ok(figures(&values.map(|(side, values)| (side, Measured::of(values)))))
}

fn sample(caller: &Place, address: IpAddr, extent: &Extent, values: &mut Values) -> Result<()> {
    let time = Duration::from_secs(extent.seconds);
    values.one_stream.push(probe::throughput(caller, address, 1, time)?);
    values.many_streams.push(probe::throughput(caller, address, MANY_STREAMS, time)?);
    values.latencies.extend(probe::latencies(caller, address, extent.requests)?);
    values.connections.push(probe::connections(caller, address, time)?);
    Ok(())
}

impl Values {
    fn last(&self) -> String {
        let last = |values: &[f64]| values.last().copied().unwrap_or_default();
        format!(
            "{:.2} and {:.2} Gbit/s, {:.0} connections/s",
            last(&self.one_stream),
            last(&self.many_streams),
            last(&self.connections)
        )
    }
}

impl Measured {
    fn of(values: Values) -> Self {
        Self {
            one_stream: Samples::new(values.one_stream),
            many_streams: Samples::new(values.many_streams),
            latencies: Samples::new(values.latencies),
            connections: Samples::new(values.connections),
        }
    }
}

/// What is aimed at, side by side.
struct Aim {
    ours: Side,
    peer: Side,
    throughput: Option<Goal>,
    /// How much longer than the peer's the 99th of 100 requests may take, in microseconds.
    added: Option<f64>,
    connections: Option<Goal>,
}

/// A new connection by the address of a service is held against one to the instance itself, over the same path: that is
/// what service addresses cost. What the path costs is told beside it, against paths that keep no connections.
const AIMS: [Aim; 10] = [
    Aim {
        ours: Side::OursNear,
        peer: Side::ByHand(By::Cable),
        throughput: Some(Goal::RatioAtLeast(0.95)),
        added: Some(30.0),
        connections: None,
    },
    Aim {
        ours: Side::OursNear,
        peer: Side::NearItself,
        throughput: None,
        added: None,
        connections: Some(Goal::RatioAtLeast(0.9)),
    },
    Aim {
        ours: Side::OursDirect,
        peer: Side::DirectItself,
        throughput: None,
        added: None,
        connections: Some(Goal::RatioAtLeast(0.9)),
    },
    Aim {
        ours: Side::OursDirect,
        peer: Side::PlainHosts,
        throughput: Some(Goal::RatioAtLeast(0.95)),
        added: None,
        connections: None,
    },
    Aim {
        ours: Side::OursDirect,
        peer: Side::Hosts,
        throughput: Some(Goal::RatioAtLeast(0.95)),
        added: None,
        connections: None,
    },
    Aim {
        ours: Side::OursDirect,
        peer: Side::ByHand(By::Vxlan),
        throughput: Some(Goal::RatioAtLeast(0.95)),
        added: None,
        connections: None,
    },
    Aim {
        ours: Side::OursDirect,
        peer: Side::ByHand(By::Route),
        throughput: None,
        added: Some(30.0),
        connections: None,
    },
    Aim {
        ours: Side::OursDirect,
        peer: Side::Swarm,
        throughput: Some(Goal::RatioAtLeast(1.0)),
        added: None,
        connections: None,
    },
    Aim {
        ours: Side::OursDirect,
        peer: Side::ByHand(By::Forwarder),
        throughput: Some(Goal::RatioAtLeast(10.0)),
        added: None,
        connections: None,
    },
    Aim {
        ours: Side::OursEncrypted,
        peer: Side::ByHand(By::Boringtun),
        throughput: Some(Goal::EitherAtLeast { value: 2.5, unit: "Gbit/s", ratio: 4.0 }),
        added: None,
        connections: None,
    },
];

fn figures(measured: &[(Side, Measured)]) -> Vec<Figure> {
    let of = |side: Side| {
        let found = measured.iter().find(|(of, _)| *of == side);
        &found.expect("all sides are measured").1
    };
    AIMS.iter().flat_map(|aim| compare(aim, of(aim.ours), of(aim.peer))).collect()
}

fn compare(aim: &Aim, ours: &Measured, peer: &Measured) -> Vec<Figure> {
    let (name, against) = (aim.ours.name(), aim.peer.name());
    let ratio = |what: &str, unit, ours: &Samples, peer: &Samples, goal: Option<Goal>| {
        let figure = Figure::new(format!("{name}: {what}"), ours.median(), unit, ours.count());
        aiming(figure.against(against, peer.median()), goal)
    };
    let p99 = Figure::new(
        format!("{name}: small request, p99"),
        ours.latencies.p99(),
        "us",
        ours.latencies.count(),
    );
    let mut figures = vec![
        ratio("TCP, 1 stream", "Gbit/s", &ours.one_stream, &peer.one_stream, aim.throughput),
        ratio("TCP, 8 streams", "Gbit/s", &ours.many_streams, &peer.many_streams, aim.throughput),
        ratio("small request, median", "us", &ours.latencies, &peer.latencies, None),
        p99.against(against, peer.latencies.p99()),
    ];
    if let Some(most) = aim.added {
        let added = ours.latencies.p99() - peer.latencies.p99();
        let figure = format!("{name}: p99 more than {against}");
        figures.push(
            Figure::new(figure, added, "us", ours.latencies.count())
                .aiming_at(Goal::ValueAtMost { value: most, unit: "us" }),
        );
    }
    figures.push(ratio("new connections", "/s", &ours.connections, &peer.connections, aim.connections));
    figures
}

fn aiming(figure: Figure, goal: Option<Goal>) -> Figure {
    match goal {
        Some(goal) => figure.aiming_at(goal),
        None => figure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(gigabits: f64, p99: f64, connections: f64) -> Measured {
        let latencies = vec![10.0; 98].into_iter().chain([p99, p99]).collect();
        let (one_stream, many_streams) = (vec![gigabits], vec![gigabits * 2.0]);
        Measured::of(Values { one_stream, many_streams, latencies, connections: vec![connections] })
    }

    #[test]
    fn each_aim_is_held_against_its_own_peer() {
        let figures = compare(&AIMS[0], &measured(7.5, 50.0, 950.0), &measured(10.0, 15.0, 1000.0));
        let told: Vec<(&str, Option<bool>)> =
            figures.iter().map(|figure| (figure.figure.as_str(), figure.met())).collect();
        assert_eq!(
            told,
            [
                ("ours, same host: TCP, 1 stream", Some(false)),
                ("ours, same host: TCP, 8 streams", Some(false)),
                ("ours, same host: small request, median", None),
                ("ours, same host: small request, p99", None),
                ("ours, same host: p99 more than cables and routes", Some(false)),
                ("ours, same host: new connections", None),
            ]
        );
        assert_eq!((figures[4].value, figures[1].ratio), (35.0, Some(0.75)));
        let figures = compare(&AIMS[1], &measured(7.5, 50.0, 950.0), &measured(10.0, 15.0, 1000.0));
        assert_eq!(figures.last().and_then(Figure::met), Some(true));
    }

    #[test]
    fn every_path_is_measured_and_used_in_a_comparison() {
        for side in SIDES {
            assert!(AIMS.iter().any(|aim| aim.ours == side || aim.peer == side), "{side:?}");
        }
        let all = SIDES.map(|side| (side, measured(1.0, 20.0, 100.0)));
        assert_eq!(figures(&all).len(), AIMS.len() * 5 + 2);
    }
}
