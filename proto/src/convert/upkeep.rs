//! Tokens a cluster may honour, and what people ask of its workers.

use model::{ClusterAnswer, ClusterRequest, Scheduling, SpentToken, Timestamp, WorkerStatus, WorkerToken};

use super::{WireError, narrow, parse, required};
use crate::v1::{self, cluster_answer::Answer, cluster_request::Wish};

impl From<&WorkerToken> for v1::WorkerToken {
    fn from(token: &WorkerToken) -> Self {
        Self {
            id: token.id.to_string(),
            secret_hash: token.secret_hash.clone(),
            uses_left: token.uses_left,
            expires_at_unix_millis: token.expires_at.0,
        }
    }
}

impl TryFrom<v1::WorkerToken> for WorkerToken {
    type Error = WireError;

    fn try_from(wire: v1::WorkerToken) -> Result<Self, WireError> {
        Ok(Self {
            id: parse("token.id", &wire.id)?,
            secret_hash: wire.secret_hash,
            uses_left: wire.uses_left,
            expires_at: Timestamp(wire.expires_at_unix_millis),
        })
    }
}

impl From<&SpentToken> for v1::SpentToken {
    fn from(spent: &SpentToken) -> Self {
        Self { token: spent.token.to_string(), key_fingerprint: spent.key_fingerprint.clone() }
    }
}

impl TryFrom<v1::SpentToken> for SpentToken {
    type Error = WireError;

    fn try_from(wire: v1::SpentToken) -> Result<Self, WireError> {
        Ok(Self { token: parse("spent.token", &wire.token)?, key_fingerprint: wire.key_fingerprint })
    }
}

impl From<Scheduling> for v1::Scheduling {
    fn from(scheduling: Scheduling) -> Self {
        match scheduling {
            Scheduling::Open => Self::Open,
            Scheduling::Cordoned => Self::Cordoned,
            Scheduling::Draining => Self::Draining,
        }
    }
}

fn known_scheduling(wire: v1::Scheduling) -> Result<Scheduling, WireError> {
    match wire {
        v1::Scheduling::Open => Ok(Scheduling::Open),
        v1::Scheduling::Cordoned => Ok(Scheduling::Cordoned),
        v1::Scheduling::Draining => Ok(Scheduling::Draining),
        v1::Scheduling::Unspecified => Err(WireError::new("scheduling", "is unknown")),
    }
}

impl v1::ClusterRequest {
    /// A request with the number its answer is known by.
    #[must_use]
    pub fn new(request: u64, wish: &ClusterRequest) -> Self {
        let wish = match wish {
            ClusterRequest::ListWorkers => Wish::ListWorkers(v1::ListWorkers {}),
            ClusterRequest::Schedule { worker, scheduling } => Wish::Schedule(v1::ScheduleWorker {
                worker: worker.clone(),
                scheduling: v1::Scheduling::from(*scheduling).into(),
            }),
            ClusterRequest::Rebalance => Wish::Rebalance(v1::Rebalance {}),
            ClusterRequest::Forget { worker } => Wish::Forget(v1::ForgetWorker { worker: worker.clone() }),
            ClusterRequest::ListCertificates => Wish::ListCertificates(v1::ListCertificates {}),
        };
        Self { request, wish: Some(wish) }
    }
}

impl TryFrom<v1::ClusterRequest> for ClusterRequest {
    type Error = WireError;

    fn try_from(wire: v1::ClusterRequest) -> Result<Self, WireError> {
        Ok(match required("request.wish", wire.wish)? {
            Wish::ListWorkers(v1::ListWorkers {}) => Self::ListWorkers,
            Wish::Schedule(schedule) => {
                let scheduling = known_scheduling(schedule.scheduling())?;
                Self::Schedule { worker: schedule.worker, scheduling }
            }
            Wish::Rebalance(v1::Rebalance {}) => Self::Rebalance,
            Wish::Forget(forget) => Self::Forget { worker: forget.worker },
            Wish::ListCertificates(v1::ListCertificates {}) => Self::ListCertificates,
        })
    }
}

impl v1::ClusterAnswer {
    /// The answer to the request of that number.
    #[must_use]
    pub fn new(request: u64, answer: ClusterAnswer) -> Self {
        let answer = match answer {
            ClusterAnswer::Workers(workers) => {
                Answer::Workers(v1::WorkerStatuses { workers: workers.iter().map(Into::into).collect() })
            }
            ClusterAnswer::Certificates(certificates) => {
                let certificates = certificates.iter().map(Into::into).collect();
                Answer::Certificates(v1::WorkerCertificates { certificates })
            }
            ClusterAnswer::Begun { instances } => Answer::Begun(instances),
            ClusterAnswer::Rejected { reason } => Answer::Rejected(reason),
        };
        Self { request, answer: Some(answer) }
    }
}

impl TryFrom<v1::ClusterAnswer> for ClusterAnswer {
    type Error = WireError;

    fn try_from(wire: v1::ClusterAnswer) -> Result<Self, WireError> {
        Ok(match required("answer.answer", wire.answer)? {
            Answer::Workers(statuses) => {
                Self::Workers(statuses.workers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
            Answer::Certificates(listed) => Self::Certificates(
                listed.certificates.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            ),
            Answer::Begun(instances) => Self::Begun { instances },
            Answer::Rejected(reason) => Self::Rejected { reason },
        })
    }
}

impl From<&WorkerStatus> for v1::WorkerStatus {
    fn from(status: &WorkerStatus) -> Self {
        Self {
            id: status.id.to_string(),
            name: status.name.clone(),
            alive: status.alive,
            silent_millis: status.silent_millis,
            threshold_millis: status.threshold_millis,
            loss_percent: status.loss_percent.into(),
            scheduling: v1::Scheduling::from(status.scheduling).into(),
            instances: status.instances,
            allocatable: Some(status.allocatable.into()),
            free: Some(status.free.into()),
        }
    }
}

impl TryFrom<v1::WorkerStatus> for WorkerStatus {
    type Error = WireError;

    fn try_from(wire: v1::WorkerStatus) -> Result<Self, WireError> {
        let scheduling = known_scheduling(wire.scheduling())?;
        Ok(Self {
            id: parse("worker.id", &wire.id)?,
            name: wire.name,
            alive: wire.alive,
            silent_millis: wire.silent_millis,
            threshold_millis: wire.threshold_millis,
            loss_percent: narrow("worker.loss_percent", wire.loss_percent)?,
            scheduling,
            instances: wire.instances,
            allocatable: wire.allocatable.unwrap_or_default().into(),
            free: wire.free.unwrap_or_default().into(),
        })
    }
}
