//! Inventories, aggregates and reports.

use model::{
    CandidateVerdict, ClusterAggregate, ClusterReport, Generation, InstanceReport, LastExit, Load, Output,
    Phase, Refusal, RefusalCode, Timestamp, Usage, WorkerInventory, WorkerReport,
};

use super::{WireError, known_capabilities, parse, required, wire_capabilities};
use crate::v1::{self, last_exit::Output as WireOutput};

impl From<Phase> for v1::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Requested => Self::Requested,
            Phase::ClusterScheduled => Self::ClusterScheduled,
            Phase::NodeScheduled => Self::NodeScheduled,
            Phase::Creating => Self::Creating,
            Phase::Running => Self::Running,
            Phase::Completed => Self::Completed,
            Phase::Dead => Self::Dead,
            Phase::Failed => Self::Failed,
            Phase::Refused => Self::Refused,
            Phase::Undeploying => Self::Undeploying,
            Phase::Removed => Self::Removed,
            Phase::Lost => Self::Lost,
        }
    }
}

fn known_phase(wire: v1::Phase) -> Result<Phase, WireError> {
    Ok(match wire {
        v1::Phase::Requested => Phase::Requested,
        v1::Phase::ClusterScheduled => Phase::ClusterScheduled,
        v1::Phase::NodeScheduled => Phase::NodeScheduled,
        v1::Phase::Creating => Phase::Creating,
        v1::Phase::Running => Phase::Running,
        v1::Phase::Completed => Phase::Completed,
        v1::Phase::Dead => Phase::Dead,
        v1::Phase::Failed => Phase::Failed,
        v1::Phase::Refused => Phase::Refused,
        v1::Phase::Undeploying => Phase::Undeploying,
        v1::Phase::Removed => Phase::Removed,
        v1::Phase::Lost => Phase::Lost,
        v1::Phase::Unspecified => return Err(WireError::new("instance.phase", "is unknown")),
    })
}

impl From<&Refusal> for v1::Refusal {
    fn from(refusal: &Refusal) -> Self {
        Self {
            code: match refusal.code {
                RefusalCode::NoTargetCluster => v1::RefusalCode::NoTargetCluster,
                RefusalCode::NoResourcesAvailable => v1::RefusalCode::NoResourcesAvailable,
            }
            .into(),
            summary: refusal.summary.clone(),
            candidates: refusal
                .candidates
                .iter()
                .map(|verdict| v1::CandidateVerdict {
                    candidate: verdict.candidate.clone(),
                    reason: verdict.reason.clone(),
                })
                .collect(),
        }
    }
}

impl TryFrom<v1::Refusal> for Refusal {
    type Error = WireError;

    fn try_from(wire: v1::Refusal) -> Result<Self, WireError> {
        let code = match wire.code() {
            v1::RefusalCode::NoTargetCluster => RefusalCode::NoTargetCluster,
            v1::RefusalCode::NoResourcesAvailable => RefusalCode::NoResourcesAvailable,
            v1::RefusalCode::Unspecified => return Err(WireError::new("refusal.code", "is unknown")),
        };
        Ok(Self {
            code,
            summary: wire.summary,
            candidates: wire
                .candidates
                .into_iter()
                .map(|verdict| CandidateVerdict { candidate: verdict.candidate, reason: verdict.reason })
                .collect(),
        })
    }
}

impl From<&InstanceReport> for v1::InstanceReport {
    fn from(report: &InstanceReport) -> Self {
        Self {
            id: Some(report.id.into()),
            generation: report.generation.0,
            phase: v1::Phase::from(report.phase).into(),
            detail: report.detail.clone(),
            since_unix_millis: report.since.0,
            addresses: report.addresses.iter().map(ToString::to_string).collect(),
            published_at: report.published_at.map(|address| address.to_string()).unwrap_or_default(),
            restarts: report.restarts,
            cpu_percent: report.usage.cpu_percent,
            memory_bytes: report.usage.memory_bytes,
            disk_bytes: report.usage.disk_bytes,
            refusal: report.refusal.as_ref().map(Into::into),
            ready: report.ready,
            last_exit: report.last_exit.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::InstanceReport> for InstanceReport {
    type Error = WireError;

    fn try_from(wire: v1::InstanceReport) -> Result<Self, WireError> {
        let phase = known_phase(wire.phase())?;
        let published_at = match wire.published_at.as_str() {
            "" => None,
            text => Some(parse("instance.published_at", text)?),
        };
        Ok(Self {
            id: required("instance.id", wire.id)?.into(),
            generation: Generation(wire.generation),
            phase,
            detail: wire.detail,
            since: Timestamp(wire.since_unix_millis),
            addresses: wire
                .addresses
                .iter()
                .map(|address| parse("instance.addresses", address))
                .collect::<Result<_, _>>()?,
            published_at,
            restarts: wire.restarts,
            usage: Usage {
                cpu_percent: wire.cpu_percent,
                memory_bytes: wire.memory_bytes,
                disk_bytes: wire.disk_bytes,
            },
            refusal: wire.refusal.map(TryInto::try_into).transpose()?,
            ready: wire.ready,
            last_exit: wire.last_exit.map(Into::into),
        })
    }
}

impl From<&LastExit> for v1::LastExit {
    fn from(exit: &LastExit) -> Self {
        let output = exit.output.as_ref().map(|output| match output {
            Output::Text(text) => WireOutput::OutputText(text.to_string()),
            Output::Withheld(why) => WireOutput::OutputWithheld(why.clone()),
            Output::AsTold => WireOutput::OutputAsTold(true),
        });
        Self { code: exit.code, at_unix_millis: exit.at.0, tail: exit.tail.clone(), output }
    }
}

impl From<v1::LastExit> for LastExit {
    fn from(wire: v1::LastExit) -> Self {
        let output = wire.output.map(|output| match output {
            WireOutput::OutputText(text) => Output::Text(text.into()),
            WireOutput::OutputWithheld(why) => Output::Withheld(why),
            WireOutput::OutputAsTold(_) => Output::AsTold,
        });
        Self { code: wire.code, at: Timestamp(wire.at_unix_millis), tail: wire.tail, output }
    }
}

fn instance_reports(wire: Vec<v1::InstanceReport>) -> Result<Vec<InstanceReport>, WireError> {
    wire.into_iter().map(TryInto::try_into).collect()
}

impl From<&ClusterAggregate> for v1::ClusterAggregate {
    fn from(aggregate: &ClusterAggregate) -> Self {
        Self {
            active_workers: aggregate.active_workers,
            known_workers: aggregate.known_workers,
            allocatable: Some(aggregate.allocatable.into()),
            free: Some(aggregate.free.into()),
            largest_free: aggregate.largest_free.iter().map(|free| (*free).into()).collect(),
            capabilities: wire_capabilities(&aggregate.capabilities),
            architectures: aggregate.architectures.clone(),
            cpu_percent: aggregate.cpu_percent,
            memory_percent: aggregate.memory_percent,
        }
    }
}

impl From<v1::ClusterAggregate> for ClusterAggregate {
    fn from(wire: v1::ClusterAggregate) -> Self {
        let capabilities = known_capabilities(&wire.capabilities);
        Self {
            active_workers: wire.active_workers,
            known_workers: wire.known_workers,
            allocatable: wire.allocatable.unwrap_or_default().into(),
            free: wire.free.unwrap_or_default().into(),
            largest_free: wire
                .largest_free
                .into_iter()
                .take(Self::LARGEST_FREE_ENTRIES)
                .map(Into::into)
                .collect(),
            capabilities,
            architectures: wire.architectures,
            cpu_percent: wire.cpu_percent,
            memory_percent: wire.memory_percent,
        }
    }
}

impl From<&ClusterReport> for v1::ClusterReport {
    fn from(report: &ClusterReport) -> Self {
        Self {
            observed_generation: report.observed_generation.0,
            aggregate: Some((&report.aggregate).into()),
            instances: report.instances.iter().map(Into::into).collect(),
            sequence: report.sequence,
            spent: report.spent.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::ClusterReport> for ClusterReport {
    type Error = WireError;

    fn try_from(wire: v1::ClusterReport) -> Result<Self, WireError> {
        Ok(Self {
            observed_generation: Generation(wire.observed_generation),
            sequence: wire.sequence,
            aggregate: required("report.aggregate", wire.aggregate)?.into(),
            instances: instance_reports(wire.instances)?,
            spent: wire.spent.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&WorkerInventory> for v1::WorkerInventory {
    fn from(inventory: &WorkerInventory) -> Self {
        Self {
            name: inventory.name.clone(),
            architecture: inventory.architecture.clone(),
            allocatable: Some(inventory.allocatable.into()),
            capabilities: wire_capabilities(&inventory.capabilities),
            // The shell's, as the key is.
            sealing_key: Vec::new(),
        }
    }
}

impl TryFrom<v1::WorkerInventory> for WorkerInventory {
    type Error = WireError;

    fn try_from(wire: v1::WorkerInventory) -> Result<Self, WireError> {
        let capabilities = known_capabilities(&wire.capabilities);
        Ok(Self {
            name: wire.name,
            architecture: wire.architecture,
            allocatable: required("inventory.allocatable", wire.allocatable)?.into(),
            capabilities,
        })
    }
}

impl From<&WorkerReport> for v1::WorkerReport {
    fn from(report: &WorkerReport) -> Self {
        Self {
            observed_generation: report.observed_generation.0,
            cpu_percent: report.load.cpu_percent,
            memory_percent: report.load.memory_percent,
            instances: report.instances.iter().map(Into::into).collect(),
            sequence: report.sequence,
        }
    }
}

impl TryFrom<v1::WorkerReport> for WorkerReport {
    type Error = WireError;

    fn try_from(wire: v1::WorkerReport) -> Result<Self, WireError> {
        Ok(Self {
            observed_generation: Generation(wire.observed_generation),
            sequence: wire.sequence,
            load: Load { cpu_percent: wire.cpu_percent, memory_percent: wire.memory_percent },
            instances: instance_reports(wire.instances)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_on_the_other_side_what_it_was() {
        let outputs = [Output::Text("{}".into()), Output::Withheld("is not text".to_owned()), Output::AsTold];
        for output in outputs.map(Some).into_iter().chain([None]) {
            let exit = LastExit { tail: "bye".to_owned(), output, ..LastExit::new(137, Timestamp(5)) };
            assert_eq!(LastExit::from(v1::LastExit::from(&exit)), exit);
        }
    }
}
