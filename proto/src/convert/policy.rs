//! Policies and probes of a service.

use model::{Check, Health, OnRejoin, Probe, Span, Survival};

use super::{WireError, narrow, parse, required};
use crate::v1::{self, probe};

impl From<Survival> for v1::Survival {
    fn from(survival: Survival) -> Self {
        Self {
            on_partition: survival.on_partition.to_string(),
            on_rejoin: match survival.on_rejoin {
                OnRejoin::KeepOriginal => "keep_original",
                OnRejoin::KeepReplacement => "keep_replacement",
            }
            .to_owned(),
            cluster_lost_after_millis: survival.cluster_lost_after.map_or(0, Span::as_millis),
        }
    }
}

impl TryFrom<v1::Survival> for Survival {
    type Error = WireError;

    fn try_from(wire: v1::Survival) -> Result<Self, WireError> {
        Ok(Self {
            on_partition: parse("survival.on_partition", &wire.on_partition)?,
            on_rejoin: parse("survival.on_rejoin", &wire.on_rejoin)?,
            cluster_lost_after: match wire.cluster_lost_after_millis {
                0 => None,
                millis => Some(Span::from_millis(millis)),
            },
        })
    }
}

impl From<&Probe> for v1::Probe {
    fn from(probe: &Probe) -> Self {
        let check = match &probe.check {
            Check::Http { port, path } => {
                probe::Check::Http(v1::HttpCheck { port: (*port).into(), path: path.clone() })
            }
            Check::Tcp { port } => probe::Check::TcpPort((*port).into()),
            Check::Exec { command } => probe::Check::Exec(v1::ExecCheck { command: command.clone() }),
        };
        Self {
            check: Some(check),
            interval_millis: probe.interval.as_millis(),
            timeout_millis: probe.timeout.as_millis(),
            failures: probe.failures,
        }
    }
}

impl TryFrom<v1::Probe> for Probe {
    type Error = WireError;

    fn try_from(wire: v1::Probe) -> Result<Self, WireError> {
        let check = match required("probe.check", wire.check)? {
            probe::Check::Http(http) => {
                Check::Http { port: narrow("probe.port", http.port)?, path: http.path }
            }
            probe::Check::TcpPort(port) => Check::Tcp { port: narrow("probe.port", port)? },
            probe::Check::Exec(exec) => Check::Exec { command: exec.command },
        };
        Ok(Self {
            check,
            interval: Span::from_millis(wire.interval_millis),
            timeout: Span::from_millis(wire.timeout_millis),
            failures: wire.failures,
        })
    }
}

impl From<&Health> for v1::Health {
    fn from(health: &Health) -> Self {
        let probe = |probe: &Option<Probe>| probe.as_ref().map(Into::into);
        Self { start: probe(&health.start), ready: probe(&health.ready), live: probe(&health.live) }
    }
}

impl TryFrom<v1::Health> for Health {
    type Error = WireError;

    fn try_from(wire: v1::Health) -> Result<Self, WireError> {
        let probe = |probe: Option<v1::Probe>| probe.map(TryInto::try_into).transpose();
        Ok(Self { start: probe(wire.start)?, ready: probe(wire.ready)?, live: probe(wire.live)? })
    }
}
