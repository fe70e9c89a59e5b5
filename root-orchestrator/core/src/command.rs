//! What users may ask for. Each returns the changes it makes, or why it makes none.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use model::{
    ApplicationId, Desired, Generation, InstanceId, InstanceReport, OrganizationId, Phase, ServiceId,
    ServiceNames, Tenure, Timestamp,
};

use crate::{
    Application, Change, Instance, Notes, Revision, Service, State,
    addresses::chosen,
    sla::{SecretWishes, SlaApplication, SlaService},
    tenancy::told_callers,
};

/// Who makes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// For which organisation.
    pub organization: OrganizationId,
    /// The user's name.
    pub name: String,
}

/// Where new ids come from; the shell's are random, a test's are counted.
pub trait FreshIds {
    /// An application id nobody has.
    fn application(&mut self) -> ApplicationId;
    /// A service id nobody has.
    fn service(&mut self) -> ServiceId;
}

/// A wish that is not fulfilled. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The organisation has one of that name.
    #[error(
        "application `{name}` in namespace `{namespace}` exists already as {existing}; \
         delete it first, or choose another application_name or application_namespace"
    )]
    ApplicationExists {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// The one that is there.
        existing: ApplicationId,
    },
    /// The application has one of that name.
    #[error(
        "the application has a service `{name}` in namespace `{namespace}` already; choose another microservice_name"
    )]
    ServiceExists {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// A chosen address that another has.
    #[error(
        "`addresses.rr_ip` of service `{service}`: {address} is the address of another service or instance; choose another \
         or leave it out"
    )]
    AddressTaken {
        /// Who chose it.
        service: String,
        /// Which.
        address: Ipv4Addr,
    },
    /// There are not enough addresses left.
    #[error(
        "all {limit} addresses of services and instances are in use; delete services or instances that are not needed"
    )]
    NoAddress {
        /// How many there are.
        limit: usize,
    },
    /// More than the organisation may have.
    #[error(
        "with this the applications of the organisation would take {total} {what}, {over} more than its quota of {limit}; \
         remove instances, or ask an administrator of the platform for a larger quota"
    )]
    QuotaExceeded {
        /// Of what.
        what: &'static str,
        /// How much it may have.
        limit: u64,
        /// How much it would take.
        total: u64,
        /// How much that is too much.
        over: u64,
    },
    /// No such application, or none the caller may know of.
    #[error("there is no application {0}; list them with `mangrove get apps`")]
    NoApplication(String),
    /// No such service, or none the caller may know of.
    #[error("there is no service {0}; list them with `mangrove get services`")]
    NoService(String),
    /// No such revision.
    #[error("the service has no revision {number} to go back to; list them with `mangrove history`")]
    NoRevision {
        /// The number asked for; 0 is the one before.
        number: u32,
    },
    /// A change of the name, or of what else cannot be changed.
    #[error("{0}")]
    NotChangeable(String),
    /// The organisation has no such secret.
    #[error("there is no secret `{0}`; list them with `mangrove secret list`")]
    NoSecret(String),
    /// A service refers to a secret that the organisation does not have.
    #[error(
        "service `{service}` refers to the secret `{name}`, and your organisation has none of that name; make it with \
         `mangrove secret create {name}`, or correct the name: `mangrove secret list` shows them"
    )]
    NoSuchSecret {
        /// The service.
        service: String,
        /// The name.
        name: String,
    },
    /// The organisation has one of that name.
    #[error("there is a secret `{0}` already; give it a new value with `mangrove secret rotate {0}`")]
    SecretExists(String),
    /// Services refer to it.
    #[error(
        "the secret `{name}` is used by {users}; delete those services, or update them to do without it, and wait until \
         their old instances are gone"
    )]
    SecretInUse {
        /// Its name.
        name: String,
        /// The full names of the services.
        users: String,
    },
    /// It is for something else.
    #[error(
        "the secret `{name}` is of kind {is}, and here one of kind {wanted} is needed: `secrets` of a service are opaque, \
         its `image_pull_secret` is of kind registry, and a new value is of the kind of the one before"
    )]
    OtherKind {
        /// Its name.
        name: String,
        /// What it is.
        is: &'static str,
        /// What is needed.
        wanted: &'static str,
    },
    /// A revision refers to it.
    #[error(
        "that revision uses the secret `{0}` in a version that was deleted; make the secret and update the service instead"
    )]
    SecretGone(String),
    /// No such instance.
    #[error("service {service} has no instance {number}; list them with `mangrove get instances`")]
    NoInstance {
        /// The service.
        service: ServiceId,
        /// The number asked for.
        number: u32,
    },
}

impl State {
    /// Creates applications with their services; instances are asked for separately.
    ///
    /// # Errors
    /// When one of them exists. All are created or none.
    pub fn create_applications(
        &self,
        author: &Author,
        wanted: Vec<SlaApplication>,
        ids: &mut dyn FreshIds,
        now: Timestamp,
    ) -> Result<(Vec<ApplicationId>, Vec<Change>), Rejected> {
        let mut created = Vec::new();
        let mut changes = Vec::new();
        for application in &wanted {
            self.ensure_addresses(&application.services)?;
        }
        for application in wanted {
            if let Some(existing) = self.named(author.organization, &application.name, &application.namespace)
            {
                return Err(Rejected::ApplicationExists {
                    name: application.name,
                    namespace: application.namespace,
                    existing: existing.id,
                });
            }
            let document = Application {
                id: ids.application(),
                organization: author.organization,
                owner: author.name.clone(),
                name: application.name,
                namespace: application.namespace,
                description: application.description,
                notes: Notes::default(),
            };
            created.push(document.id);
            for service in application.services {
                changes.push(self.new_service(&document, service, ids.service(), now));
            }
            changes.push(Change::Application(document.id, Some(document)));
        }
        Ok((created, changes))
    }

    /// Adds services to an application.
    ///
    /// # Errors
    /// When it has one of the names. All are added or none.
    pub fn add_services(
        &self,
        application: &Application,
        wanted: Vec<SlaService>,
        ids: &mut dyn FreshIds,
        now: Timestamp,
    ) -> Result<(Vec<ServiceId>, Vec<Change>), Rejected> {
        let taken: BTreeSet<(&str, &str)> = self
            .services_of(application.id)
            .map(|service| (service.names.service.as_str(), service.names.service_namespace.as_str()))
            .collect();
        if let Some(service) =
            wanted.iter().find(|service| taken.contains(&(&*service.name, &*service.namespace)))
        {
            return Err(Rejected::ServiceExists {
                name: service.name.clone(),
                namespace: service.namespace.clone(),
            });
        }
        self.ensure_addresses(&wanted)?;
        let mut added = Vec::new();
        let mut changes = Vec::new();
        for service in wanted {
            let id = ids.service();
            added.push(id);
            changes.push(self.new_service(application, service, id, now));
        }
        Ok((added, changes))
    }

    /// Describes an application anew; what it has, whose it is and what it is called stay as they are.
    #[must_use]
    pub fn describe(&self, application: &Application, description: String) -> Vec<Change> {
        if application.description == description {
            return Vec::new();
        }
        let described = Application { description, ..application.clone() };
        vec![Change::Application(application.id, Some(described))]
    }

    /// Deletes an application with all it has: its services vanish from view at once and their instances are
    /// removed wherever they are.
    pub fn delete_application(&self, application: &Application, now: Timestamp) -> Vec<Change> {
        let mut changes: Vec<Change> =
            self.services_of(application.id).flat_map(|service| self.delete_service(service, now)).collect();
        changes.push(Change::Application(application.id, None));
        changes
    }

    /// Deletes a service with its instances.
    #[must_use]
    pub fn delete_service(&self, service: &Service, now: Timestamp) -> Vec<Change> {
        let mut changes = self.undeploy_all(service.id, now);
        changes.push(Change::Service(service.id, Some(Service { deleted: true, ..service.clone() })));
        changes
    }

    /// Asks for one more instance; its number is the answer.
    ///
    /// # Errors
    /// When that is more than the organisation may have.
    pub fn deploy(&self, service: &Service, now: Timestamp) -> Result<(InstanceId, Vec<Change>), Rejected> {
        let wanted = self.wanted_instances(service).saturating_add(1);
        self.within_quota(service, wanted, service.spec().resources)?;
        let mut service = service.clone();
        if let Some(rollout) = &mut service.rollout {
            rollout.instances += 1;
        }
        let instance = one_more(&mut service, now);
        let id = instance.id;
        Ok((id, vec![Change::Service(service.id, Some(service)), Change::Instance(id, Some(instance))]))
    }

    /// Removes one instance. Asking again changes nothing.
    ///
    /// # Errors
    /// When there is none of that number.
    pub fn undeploy(&self, service: ServiceId, number: u32, now: Timestamp) -> Result<Vec<Change>, Rejected> {
        let instance =
            self.instance(InstanceId { service, number }).ok_or(Rejected::NoInstance { service, number })?;
        Ok(self.remove(service, [instance], now))
    }

    /// Removes every instance of a service.
    #[must_use]
    pub fn undeploy_all(&self, service: ServiceId, now: Timestamp) -> Vec<Change> {
        self.remove(service, self.instances_of(service), now)
    }

    /// Removes some instances; a change under way ends with so many fewer.
    pub(crate) fn remove<'a>(
        &self,
        service: ServiceId,
        instances: impl IntoIterator<Item = &'a Instance>,
        now: Timestamp,
    ) -> Vec<Change> {
        let mut changes: Vec<Change> =
            instances.into_iter().filter_map(|instance| bury(instance, now)).collect();
        if let Some(service) = self.service(service).filter(|_| !changes.is_empty())
            && let Some(rollout) = &service.rollout
        {
            let removed = u32::try_from(changes.len()).unwrap_or(u32::MAX);
            let mut rollout = rollout.clone();
            rollout.instances = rollout.instances.saturating_sub(removed);
            let changed = Service { rollout: Some(rollout), ..service.clone() };
            changes.push(Change::Service(service.id, Some(changed)));
        }
        changes
    }

    fn named(&self, organization: OrganizationId, name: &str, namespace: &str) -> Option<&Application> {
        let namesakes = self.by_name.get(name).into_iter().flatten();
        let mut known = namesakes.filter_map(|id| self.application(*id));
        known.find(|application| {
            application.organization == organization && application.namespace == namespace
        })
    }

    fn new_service(
        &self,
        application: &Application,
        service: SlaService,
        id: ServiceId,
        now: Timestamp,
    ) -> Change {
        debug_assert_eq!(service.secrets, SecretWishes::default(), "found before");
        let names = ServiceNames {
            application: application.name.clone(),
            application_namespace: self.told_namespace(application),
            service: service.name,
            service_namespace: service.namespace,
        };
        let service = Service {
            id,
            application: application.id,
            revision: 1,
            revisions: vec![Revision {
                number: 1,
                spec: Arc::new(service.spec),
                document: service.document,
                created: now,
                failed: None,
            }],
            addresses: chosen(service.round_robin),
            allowed_callers: told_callers(&service.allowed_callers, &names).into(),
            names: names.into(),
            update: service.update,
            rollout: None,
            next_number: 0,
            deleted: false,
            attempt: None,
            notes: Notes::default(),
        };
        Change::Service(id, Some(service))
    }
}

/// The next instance of a service, of its newest revision.
pub(crate) fn one_more(service: &mut Service, now: Timestamp) -> Instance {
    let id = InstanceId { service: service.id, number: service.next_number };
    service.next_number += 1;
    Instance {
        id,
        revision: service.revision,
        tenure: Tenure::default(),
        address: None,
        desired: Desired::Running,
        report: InstanceReport {
            detail: "waiting for scheduling decision".to_owned(),
            ..InstanceReport::new(id, Generation::default(), Phase::Requested, now)
        },
    }
}

/// What an instance that goes waits for as long as its cluster says nothing else.
pub(crate) const UNCONFIRMED: &str = "waiting for its cluster to confirm the removal";

/// The tombstone of an instance; one that no cluster has goes at once.
pub(crate) fn bury(instance: &Instance, now: Timestamp) -> Option<Change> {
    if instance.desired == Desired::Removed {
        return None;
    }
    if instance.tenure.is_vacant() {
        return Some(Change::Instance(instance.id, None));
    }
    let report = InstanceReport {
        phase: Phase::Undeploying,
        ready: false,
        detail: UNCONFIRMED.to_owned(),
        refusal: None,
        since: now,
        ..instance.report.clone()
    };
    let buried = Instance { desired: Desired::Removed, report, ..instance.clone() };
    Some(Change::Instance(instance.id, Some(buried)))
}
