//! Where NetManager is on its way to being of use, in words that say what it waits for.

use model::{Way, WorkerId};
use net_core::{Carrier, EngineReason, Nearness, RoundTrip};
use serde::{Deserialize, Serialize};

use crate::secure::{EncryptedLink, LinkPath};

/// The steps, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// NodeEngine has not said whose network this is.
    WaitingForNodeEngine,
    /// There is no certificate from the cluster.
    WaitingForCertificate,
    /// The cluster is being dialled.
    Connecting,
    /// The cluster has lent no subnet.
    WaitingForSubnet,
    /// Instances can be attached.
    Ready,
}

/// The answer to `GET /status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Which step it is at.
    pub state: Stage,
    /// What to look at when it does not go on, or what is odd though it works; empty when all is well.
    pub detail: String,
    /// Whose network this is.
    pub worker_id: Option<WorkerId>,
    /// IPv4 subnet of this worker.
    pub subnet_v4: Option<String>,
    /// IPv6 subnet of this worker.
    pub subnet_v6: Option<String>,
    /// How many instances are attached.
    pub instances: usize,
    /// Whether packets of known connections leave the rules early; `false` where the kernel lacks what it takes.
    pub passages: bool,
    /// How long the certificate is good; `None` while there is none.
    pub certificate_seconds_left: Option<u64>,
}

/// A way to another device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Whose device.
    pub worker_id: WorkerId,
    /// `direct` or `encrypted`.
    pub way: String,
    /// How packets get there over an encrypted link; `None` while it has not answered, and for direct links.
    pub path: Option<LinkPath>,
    /// What carries an encrypted link; `None` for direct ones.
    pub carrier: Option<Carrier>,
    /// Why it is the engine and not the kernel.
    pub engine_reason: Option<EngineReason>,
    /// Where it is reached now; its relay, when they go by that.
    pub endpoint: String,
    /// How long ago the keys in use were agreed on; `None` without any, and for direct links.
    pub last_handshake_seconds: Option<u64>,
    /// Bytes of packets from there, over an encrypted link.
    pub received: u64,
    /// Bytes of packets to there, over an encrypted link.
    pub sent: u64,
    /// How long an echo takes there and back, as it counts for closest addresses; `None` while nobody needs to know.
    pub round_trip_microseconds: Option<u32>,
    /// It does not answer echoes: closest addresses lead there last.
    pub silent: bool,
}

impl Link {
    /// `encrypted` are the links of what carries this one: of the kernel unless it is the engine for that reason.
    pub(crate) fn of(
        worker_id: WorkerId,
        way: Way,
        engine_reason: Option<EngineReason>,
        encrypted: &[EncryptedLink],
        nearness: Nearness,
    ) -> Self {
        let by = if engine_reason.is_some() { Carrier::Engine } else { Carrier::Kernel };
        let (way, endpoint, link, carrier) = match way {
            Way::Direct { underlay } => ("direct", underlay.to_string(), None, None),
            Way::Secure { endpoint, key, .. } => {
                let link = encrypted.iter().find(|link| link.key == key);
                let endpoint = link.and_then(|link| link.endpoint).unwrap_or(endpoint);
                ("encrypted", endpoint.to_string(), link, Some(by))
            }
        };
        Self {
            worker_id,
            way: way.to_owned(),
            path: link.and_then(|link| link.path),
            carrier,
            engine_reason,
            endpoint,
            last_handshake_seconds: link.and_then(|link| link.last_handshake_seconds),
            received: link.map_or(0, |link| link.received),
            sent: link.map_or(0, |link| link.sent),
            round_trip_microseconds: match nearness {
                Nearness::Measured(RoundTrip(micros)) => Some(micros),
                Nearness::Unmeasured | Nearness::Silent => None,
            },
            silent: nearness == Nearness::Silent,
        }
    }
}

/// What the stage follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) registered: bool,
    pub(crate) certified: bool,
    pub(crate) connection: Connection,
    pub(crate) has_subnet: bool,
    /// The last pass over the datapath failed with this.
    pub(crate) datapath_error: Option<String>,
    pub(crate) warnings: Vec<String>,
}

/// The connection to the cluster, as last heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    NotYet,
    Up,
    Down(String),
}

impl Facts {
    pub(crate) fn stage(&self) -> Stage {
        if self.has_subnet {
            return Stage::Ready;
        }
        match (self.registered, self.certified, &self.connection) {
            (_, _, Connection::Up) => Stage::WaitingForSubnet,
            (false, _, Connection::NotYet | Connection::Down(_)) => Stage::WaitingForNodeEngine,
            (true, false, Connection::NotYet | Connection::Down(_)) => Stage::WaitingForCertificate,
            (true, true, Connection::NotYet | Connection::Down(_)) => Stage::Connecting,
        }
    }

    pub(crate) fn detail(&self) -> String {
        let mut sentences = Vec::new();
        match self.stage() {
            Stage::WaitingForNodeEngine => {
                sentences
                    .push("start NodeEngine on this device, or check that it reaches this port".to_owned());
            }
            Stage::WaitingForCertificate => {
                sentences.push(
                    "NodeEngine must get a certificate from the cluster; check NodeEngine's status"
                        .to_owned(),
                );
            }
            Stage::Connecting => sentences.push(match &self.connection {
                Connection::Down(reason) => format!(
                    "the cluster is not connected: {reason}; check that its orchestrator runs, the address NodeEngine \
                     (-a) or ClusterUrl names, and that no firewall stops that port"
                ),
                Connection::NotYet | Connection::Up => "the cluster is being dialled".to_owned(),
            }),
            Stage::WaitingForSubnet => sentences.push(
                "the cluster is connected and has lent no subnet: check that it has an address block from the root, to \
                 which it must have been connected once (`mangrove get clusters`)"
                    .to_owned(),
            ),
            Stage::Ready => {
                if let Connection::Down(reason) = &self.connection {
                    sentences.push(format!("cut off from the cluster, instances keep running: {reason}"));
                }
            }
        }
        sentences.extend(
            self.datapath_error.iter().map(|error| format!("the kernel is not as it should be: {error}")),
        );
        sentences.extend(self.warnings.iter().cloned());
        sentences.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            registered: true,
            certified: true,
            connection: Connection::Up,
            has_subnet: false,
            datapath_error: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn each_step_waits_for_the_one_before() {
        let down = || Connection::Down("refused".to_owned());
        let steps = [
            (
                Facts { registered: false, certified: false, connection: Connection::NotYet, ..facts() },
                Stage::WaitingForNodeEngine,
            ),
            (
                Facts { certified: false, connection: Connection::NotYet, ..facts() },
                Stage::WaitingForCertificate,
            ),
            (Facts { connection: Connection::NotYet, ..facts() }, Stage::Connecting),
            (Facts { connection: down(), ..facts() }, Stage::Connecting),
            (facts(), Stage::WaitingForSubnet),
            (Facts { has_subnet: true, connection: down(), ..facts() }, Stage::Ready),
        ];
        for (facts, stage) in steps {
            assert_eq!(facts.stage(), stage, "{facts:?}");
        }
    }

    #[test]
    fn a_worker_that_is_cut_off_is_ready_and_says_so() {
        let facts = Facts { has_subnet: true, connection: Connection::Down("refused".to_owned()), ..facts() };
        assert_eq!(facts.detail(), "cut off from the cluster, instances keep running: refused");
    }

    #[test]
    fn whoever_waits_says_what_to_check() {
        let timeout = "cluster.example:10100 cannot be reached: no answer within 10 s";
        let down = Facts { connection: Connection::Down(timeout.to_owned()), ..facts() };
        assert_eq!(
            down.detail(),
            format!(
                "the cluster is not connected: {timeout}; check that its orchestrator runs, the address NodeEngine (-a) \
                 or ClusterUrl names, and that no firewall stops that port"
            )
        );
        assert_eq!(
            facts().detail(),
            "the cluster is connected and has lent no subnet: check that it has an address block from the root, to which \
             it must have been connected once (`mangrove get clusters`)"
        );
    }
}
