//! What a user asks of the root, and the brain's answer.

use model::{AllowedCallers, InstanceId, Now, OrganizationId, ServiceId, ServiceSpec};
use root_core::{
    Author, Change, FreshIds, Service, State, UpdatePolicy,
    sla::{SlaApplication, SlaService},
};

/// The namespace of everything.
pub(crate) const NAMESPACE: &str = "sim";
/// Whose everything is.
pub(crate) const ORGANIZATION: OrganizationId = OrganizationId::from_bytes([0; 12]);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wish {
    /// An application with one service.
    Create {
        name: String,
        spec: Box<ServiceSpec>,
        callers: AllowedCallers,
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
    /// Other applications may connect to it than before.
    Allow {
        service: ServiceId,
        callers: AllowedCallers,
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
        Wish::Create { name, spec, callers } => {
            create(brain, ids, name, described("service", spec, callers), now)
        }
        Wish::Deploy(id) => found(*id).and_then(|service| {
            let deployed = brain.deploy(service, now.date).map_err(|no| Answer::Rejected(no.to_string()));
            deployed.map(|(instance, changes)| (Answer::Deployed(instance), changes))
        }),
        Wish::Scale { service, instances, .. } => found(*service).and_then(|service| {
            let scaled = brain.scale(service, *instances, now.date);
            scaled.map(|(_, changes)| (Answer::Done, changes)).map_err(|no| Answer::Rejected(no.to_string()))
        }),
        Wish::Update { service, spec } => {
            found(*service).and_then(|known| update(brain, known, spec, &known.allowed_callers, now))
        }
        Wish::Allow { service, callers } => {
            found(*service).and_then(|known| update(brain, known, known.spec(), callers, now))
        }
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

fn update(
    brain: &State,
    known: &Service,
    spec: &ServiceSpec,
    callers: &AllowedCallers,
    now: Now,
) -> Result<(Answer, Vec<Change>), Answer> {
    let wanted = described(&known.names.service, spec, callers);
    let updated = brain.update(known, wanted, now.date);
    updated.map(|(_, changes)| (Answer::Done, changes)).map_err(|no| Answer::Rejected(no.to_string()))
}

fn create(
    brain: &State,
    ids: &mut dyn FreshIds,
    name: &str,
    service: SlaService,
    now: Now,
) -> Result<(Answer, Vec<Change>), Answer> {
    let wanted = SlaApplication {
        id: None,
        name: name.to_owned(),
        namespace: NAMESPACE.to_owned(),
        description: String::new(),
        services: vec![service],
    };
    let author = Author { organization: ORGANIZATION, name: "user".to_owned() };
    let (_, changes) = brain
        .create_applications(&author, vec![wanted], ids, now.date)
        .map_err(|no| Answer::Rejected(no.to_string()))?;
    let service = changes.iter().find_map(|change| match change {
        Change::Service(id, _) => Some(*id),
        Change::Application(..)
        | Change::Instance(..)
        | Change::Cluster(..)
        | Change::Token(..)
        | Change::Certificate(..)
        | Change::Revocation(..)
        | Change::Secret(..)
        | Change::Hook(..)
        | Change::Delivery(..)
        | Change::ResourceType(..)
        | Change::Object(..)
        | Change::Resource(..)
        | Change::Blocks(_)
        | Change::AuditRecord(..)
        | Change::AuditEnds(_)
        | Change::AuditMark(..)
        | Change::People(_) => None,
    });
    let service = service.ok_or_else(|| Answer::Rejected("no service was made".to_owned()))?;
    Ok((Answer::Created(service), changes))
}

fn described(name: &str, spec: &ServiceSpec, callers: &AllowedCallers) -> SlaService {
    SlaService {
        allowed_callers: callers.clone(),
        round_robin: None,
        name: name.to_owned(),
        namespace: NAMESPACE.to_owned(),
        spec: spec.clone(),
        secrets: root_core::sla::SecretWishes::default(),
        document: serde_json::Map::new(),
        update: UpdatePolicy::default(),
    }
}
