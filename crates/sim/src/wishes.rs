//! What a user asks of the root, and the brain's answer.

use model::{InstanceId, Now, ServiceId, ServiceSpec};
use root_core::{
    Change, FreshIds, State, UpdatePolicy,
    sla::{SlaApplication, SlaService},
};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wish {
    /// An application with one service.
    Create {
        name: String,
        spec: Box<ServiceSpec>,
    },
    /// One instance more.
    Deploy(ServiceId),
    /// So many instances; `fewer` unless that is more than the user knows of.
    Scale {
        service: ServiceId,
        instances: u32,
        fewer: bool,
    },
    /// Another specification: instances give way one after another.
    Update {
        service: ServiceId,
        spec: Box<ServiceSpec>,
    },
    Undeploy(InstanceId),
    /// The service with all its instances.
    DeleteService(ServiceId),
    /// The application of the service, with all it has.
    DeleteApplication(ServiceId),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Created(ServiceId),
    Deployed(InstanceId),
    Done,
    Rejected(String),
}

/// Asks the brain.
pub(crate) fn carry_out(
    brain: &State,
    ids: &mut dyn FreshIds,
    wish: &Wish,
    now: Now,
) -> (Answer, Vec<Change>) {
    let found = |id: ServiceId| brain.service(id).ok_or_else(|| Answer::Rejected(format!("no service {id}")));
    let outcome = match wish {
        Wish::Create { name, spec } => create(brain, ids, name, spec, now),
        Wish::Deploy(id) => found(*id).map(|service| {
            let (instance, changes) = brain.deploy(service, now.date);
            (Answer::Deployed(instance), changes)
        }),
        Wish::Scale { service, instances, .. } => {
            found(*service).map(|service| (Answer::Done, brain.scale(service, *instances, now.date).1))
        }
        Wish::Update { service, spec } => found(*service).and_then(|known| {
            let wanted = described(&known.names.service, spec);
            let updated = brain.update(known, wanted, now.date);
            updated.map(|(_, changes)| (Answer::Done, changes)).map_err(|no| Answer::Rejected(no.to_string()))
        }),
        Wish::Undeploy(id) => brain
            .undeploy(id.service, id.number, now.date)
            .map(|changes| (Answer::Done, changes))
            .map_err(|no| Answer::Rejected(no.to_string())),
        Wish::DeleteService(id) => {
            found(*id).map(|service| (Answer::Done, brain.delete_service(service, now.date)))
        }
        Wish::DeleteApplication(id) => found(*id).and_then(|service| {
            let application = brain.application(service.application);
            let gone = application.ok_or_else(|| Answer::Rejected("no application".to_owned()));
            gone.map(|application| (Answer::Done, brain.delete_application(application, now.date)))
        }),
    };
    outcome.unwrap_or_else(|rejected| (rejected, Vec::new()))
}

fn create(
    brain: &State,
    ids: &mut dyn FreshIds,
    name: &str,
    spec: &ServiceSpec,
    now: Now,
) -> Result<(Answer, Vec<Change>), Answer> {
    let wanted = SlaApplication {
        id: None,
        name: name.to_owned(),
        namespace: "sim".to_owned(),
        description: String::new(),
        services: vec![described("service", spec)],
    };
    let (_, changes) = brain
        .create_applications("user", vec![wanted], ids, now.date)
        .map_err(|no| Answer::Rejected(no.to_string()))?;
    let service = changes.iter().find_map(|change| match change {
        Change::Service(id, _) => Some(*id),
        Change::Application(..)
        | Change::Instance(..)
        | Change::Cluster(..)
        | Change::Token(..)
        | Change::Blocks(_) => None,
    });
    let service = service.ok_or_else(|| Answer::Rejected("no service was made".to_owned()))?;
    Ok((Answer::Created(service), changes))
}

fn described(name: &str, spec: &ServiceSpec) -> SlaService {
    SlaService {
        allowed_callers: model::AllowedCallers::new(),
        round_robin: None,
        name: name.to_owned(),
        namespace: "sim".to_owned(),
        spec: spec.clone(),
        document: serde_json::Map::new(),
        update: UpdatePolicy::default(),
    }
}
