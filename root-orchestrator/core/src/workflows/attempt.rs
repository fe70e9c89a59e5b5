//! An attempt as a service with one instance, and how that ended.

use std::sync::Arc;

use model::{
    AddedFile, ApplicationId, InstanceReport, Now, OnPartition, OrganizationId, Phase, Resources, ServiceId,
    ServiceNames, ServiceSpec,
};
use serde_json::Map;
use workflow::{AttemptEnd, AttemptId, Exit, Start};

use super::placement::placement;
use crate::{
    Application, Change, Notes, Revision, Service, State, UpdatePolicy, command::one_more, reconcile::Plan,
    sla::MAX_ADDED_FILES_BYTES,
};

/// The application of all attempts of an organisation. No user can give one such a name: it has a hyphen.
const APPLICATION: &str = "task-runs";
const NAMESPACE: &str = "tasks";
/// Where a container finds its inputs; its variable says so.
const INPUTS_VARIABLE: &str = "MANGROVE_INPUTS_FILE";
const READ_ONLY: u32 = 0o444;
/// Characters of what is in an attempt's way that its run tells; all of it is told of the instance.
const OBSTACLE_LENGTH: usize = 500;

impl State {
    /// Makes the service and the instance of an attempt.
    pub(super) fn begin_attempt(&mut self, plan: &mut Plan, start: &Start, now: Now) -> Result<(), String> {
        let organization: OrganizationId =
            start.namespace.parse().map_err(|error: model::IdError| error.to_string())?;
        let spec = specification(start)?;
        let resources = spec.resources;
        let id = ApplicationId::from_bytes(organization.to_bytes());
        let application = match self.application(id) {
            Some(application) => application.clone(),
            None => Application {
                id,
                organization,
                owner: String::new(),
                name: APPLICATION.to_owned(),
                namespace: NAMESPACE.to_owned(),
                description: "Attempts of tasks, one service each".to_owned(),
                notes: Notes::default(),
            },
        };
        let mut service = self.attempt_service(&application, &start.attempt, spec, now);
        let instance = one_more(&mut service, now.date);
        if self.application(id).is_some() {
            self.within_quota(&service, 1, resources).map_err(|rejected| rejected.to_string())?;
        } else {
            self.change(plan, Change::Application(id, Some(application)));
        }
        self.change(plan, Change::Service(service.id, Some(service)));
        self.change(plan, Change::Instance(instance.id, Some(instance)));
        Ok(())
    }

    fn attempt_service(
        &self,
        application: &Application,
        attempt: &AttemptId,
        spec: ServiceSpec,
        now: Now,
    ) -> Service {
        let names = ServiceNames {
            application: application.name.clone(),
            application_namespace: self.told_namespace(application),
            service: attempt.to_string(),
            service_namespace: NAMESPACE.to_owned(),
        };
        Service {
            id: self.free_service_id(attempt),
            application: application.id,
            revision: 1,
            revisions: vec![Revision {
                number: 1,
                spec: Arc::new(spec),
                document: Map::new(),
                created: now.date,
                failed: None,
            }],
            addresses: Arc::default(),
            allowed_callers: Arc::default(),
            names: names.into(),
            update: UpdatePolicy::default(),
            rollout: None,
            next_number: 0,
            deleted: false,
            attempt: Some(attempt.clone()),
            notes: Notes::default(),
        }
    }

    /// An id that follows from the attempt, or the next one that nobody has.
    fn free_service_id(&self, attempt: &AttemptId) -> ServiceId {
        const PRIME: u64 = 0x0100_0000_01b3;
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        let mut hash = attempt.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, mix);
        loop {
            let mut bytes = [0; 12];
            // The number of the run: those that users' services are given by chance do not begin like that.
            let run = u32::try_from(attempt.task_run.run.0 & u64::from(u32::MAX)).unwrap_or_default();
            bytes[..4].copy_from_slice(&run.to_be_bytes());
            bytes[4..].copy_from_slice(&hash.to_be_bytes());
            let id = ServiceId::from_bytes(bytes);
            if !self.services.contains_key(&id) {
                return id;
            }
            hash = hash.wrapping_add(1);
        }
    }
}

/// What is run, once and where it is placed first.
fn specification(start: &Start) -> Result<ServiceSpec, String> {
    let container = &start.spec.container;
    if start.inputs.len() > MAX_ADDED_FILES_BYTES {
        return Err(format!(
            "its inputs have {} bytes; they may have {MAX_ADDED_FILES_BYTES}",
            start.inputs.len()
        ));
    }
    let placement = placement(&start.spec)
        .map_err(|causes| causes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let path = start.environment.get(INPUTS_VARIABLE).cloned().unwrap_or_default();
    let mut spec = ServiceSpec::container(container.image.clone());
    spec.resources = Resources { cpu: container.cpu, memory: container.memory, ..Resources::default() };
    spec.entry_point = container.command.clone();
    spec.command = container.args.clone();
    spec.environment = start.environment.clone();
    spec.one_shot = true;
    spec.single_attempt = true;
    spec.added_files = vec![AddedFile { path, content: start.inputs.clone(), mode: READ_ONLY }];
    spec.constraints = placement.constraints;
    spec.distances = placement.distances;
    spec.architectures = placement.architectures;
    // Its worker, or its cluster, may have begun it. Its timeout says when it is waited for no longer.
    spec.survival.on_partition = OnPartition::Keep;
    spec.survival.cluster_lost_after = None;
    Ok(spec)
}

/// Why an instance does not run although it is wanted, if something is in its way. It may pass: its device or its cluster
/// tries again, so only the task's timeout makes a failure of it.
pub(super) fn obstacle(report: &InstanceReport) -> Option<String> {
    let said = match report.phase {
        Phase::Refused => report.refusal.as_ref().map(ToString::to_string)?,
        Phase::Failed | Phase::Dead | Phase::Lost => report.detail.clone(),
        Phase::Requested
        | Phase::ClusterScheduled
        | Phase::NodeScheduled
        | Phase::Creating
        | Phase::Running
        | Phase::Completed
        | Phase::Undeploying
        | Phase::Removed => return None,
    };
    Some(said.chars().take(OBSTACLE_LENGTH).collect())
}

/// How an instance that has completed ended. What a task said at its end is what it wrote to its termination log, or else
/// what it printed last; its node engine tells one of them.
pub(super) fn end(report: &InstanceReport) -> AttemptEnd {
    let exit = report.last_exit.as_ref();
    AttemptEnd {
        exit: Exit::Code(exit.map_or(0, |exit| exit.code)),
        at: exit.map_or(report.since, |exit| exit.at),
        data: exit.map(|exit| exit.tail.trim_end().to_owned()).unwrap_or_default(),
        output: exit.and_then(|exit| exit.output.clone()),
    }
}
