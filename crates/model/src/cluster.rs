//! What children say of themselves: a worker in full to its cluster, a cluster in aggregate to the root.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Capability, Generation, InstanceReport, Resources, Timestamp, TokenId};

/// A place on earth with a radius: `latitude,longitude,radius`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
    /// Metres around it that the cluster covers, not negative.
    pub radius_metres: f64,
}

/// A text that is not a location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a location: expected `latitude,longitude,radius` in degrees and metres, such as `48.137,11.575,1000`"
)]
pub struct LocationError(String);

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let wrong = || LocationError(text.to_owned());
        let numbers: Vec<f64> =
            text.split(',').map(|part| part.trim().parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
        let [latitude, longitude, radius_metres] = numbers[..] else { return Err(wrong()) };
        let valid = (-90.0..=90.0).contains(&latitude)
            && (-180.0..=180.0).contains(&longitude)
            && radius_metres.is_finite()
            && radius_metres >= 0.0;
        if valid { Ok(Self { latitude, longitude, radius_metres }) } else { Err(wrong()) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.latitude, self.longitude, self.radius_metres)
    }
}

/// All that the root learns of a cluster's workers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ClusterAggregate {
    /// Connected workers that may take instances.
    pub active_workers: u32,
    /// Workers that ever joined.
    pub known_workers: u32,
    /// Sum of what the active workers can give in all.
    pub allocatable: Resources,
    /// Sum of what is free on them.
    pub free: Resources,
    /// What single active workers have free, so that a sum that fits no worker is seen: no entry covers another,
    /// at most [`ClusterAggregate::LARGEST_FREE_ENTRIES`] of them.
    pub largest_free: Vec<Resources>,
    /// What at least one active worker can do.
    pub capabilities: Vec<Capability>,
    /// Processor architectures of the active workers (`amd64`, `arm64`, …), sorted.
    pub architectures: Vec<String>,
    /// Mean processor load of the active workers, 0 to 100.
    pub cpu_percent: f32,
    /// Mean memory use of the active workers, 0 to 100.
    pub memory_percent: f32,
}

impl ClusterAggregate {
    /// Enough for the corners of four kinds of resources twice over; more would tell the root about single workers.
    pub const LARGEST_FREE_ENTRIES: usize = 8;
}

/// Cluster to root: whole, replacing the report before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ClusterReport {
    /// The newest assignment the cluster has taken on durably.
    pub observed_generation: Generation,
    /// Grows with every report of one connection; older ones are ignored.
    pub sequence: u64,
    /// The sum of its workers.
    pub aggregate: ClusterAggregate,
    /// Every instance it holds, and every tombstone it has confirmed.
    pub instances: Vec<InstanceReport>,
    /// Uses of tokens the root has not yet taken off the tokens it sends.
    pub spent: Vec<SpentToken>,
}

/// A join token for workers that a cluster may honour while its root is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerToken {
    /// Which one.
    pub id: TokenId,
    /// Hash of the secret; the secret itself is not kept.
    pub secret_hash: String,
    /// How often it may still be used.
    pub uses_left: u32,
    /// Until when.
    pub expires_at: Timestamp,
}

/// One use of a token, made at a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpentToken {
    /// Which token.
    pub token: TokenId,
    /// The key it was used for, as seen through this token; tells nothing without the key.
    pub key_fingerprint: String,
}

/// What a worker is and has, said once per connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInventory {
    /// The device's name, a label.
    pub name: String,
    /// `amd64`, `arm64`, … as container images name it.
    pub architecture: String,
    /// What instances may reserve.
    pub allocatable: Resources,
    /// What it can do.
    pub capabilities: Vec<Capability>,
}

/// How busy a device is. Told with every beat, so that a worker whose instances are as they were need not report.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Processor load, 0 to 100.
    pub cpu_percent: f32,
    /// Memory use, 0 to 100.
    pub memory_percent: f32,
}

/// Worker to cluster: whole, replacing the report before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WorkerReport {
    /// The newest assignment the worker has taken on durably.
    pub observed_generation: Generation,
    /// Grows with every report of one connection; older ones are ignored.
    pub sequence: u64,
    /// How busy the device is.
    pub load: Load,
    /// Every instance on the device that carries Mangrove's labels, and every tombstone it has confirmed. One whose output
    /// found no room is in the next report.
    pub instances: Vec<InstanceReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_three_numbers_in_range() {
        let munich = Location { latitude: 48.137, longitude: 11.575, radius_metres: 1000.0 };
        assert_eq!("48.137, 11.575,1000".parse(), Ok(munich));
        assert_eq!(munich.to_string().parse(), Ok(munich));
        for text in ["", "1,2", "91,0,1", "0,181,1", "0,0,-1", "0,0,inf", "a,b,c", "1,2,3,4", "NaN,0,0"] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }
}
