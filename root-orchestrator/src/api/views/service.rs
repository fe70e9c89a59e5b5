//! Services, what they were, and changes under way.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use model::{AddressKind, Now, Phase, StableAddress};
use root_core::{Instance, Rollout, Service, State};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    Oid,
    instance::{InstanceView, Seen, instance, status},
    rfc3339,
};

/// A service with its instances. Fields of the SLA stand beside these as they were sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ServiceView {
    _id: Oid,
    #[serde(rename = "microserviceID")]
    microservice_id: String,
    /// `application.namespace.service.namespace`
    job_name: String,
    #[serde(rename = "applicationID")]
    application_id: String,
    app_name: String,
    app_ns: String,
    application_name: String,
    application_namespace: String,
    service_name: String,
    service_ns: String,
    image: String,
    virtualization: String,
    next_instance_progressive_number: u32,
    /// Absent until the first deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<String>,
    /// What new instances are copies of.
    revision: u32,
    /// A change under way; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<RolloutView>,
    instance_list: Vec<InstanceView>,
    /// The addresses instances call it by, one for each way to choose who answers.
    service_ip_list: Vec<ServiceAddressView>,
    /// Applications whose instances may connect to its instances beside its own: `application.namespace`, or `*`.
    allowed_callers: Vec<String>,
    #[serde(flatten)]
    #[schema(additional_properties)]
    sent: Map<String, Value>,
}

/// An address that leads to a service.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ServiceAddressView {
    /// `RR` (each instance in turn), `Closest`, `LeastUsed` or `Affinity` (the same instance for the same caller).
    #[schema(example = "RR")]
    #[serde(rename = "IpType")]
    ip_type: &'static str,
    #[schema(value_type = String, example = "10.30.0.1")]
    #[serde(rename = "Address")]
    address: Ipv4Addr,
    #[schema(value_type = String, example = "fdff:2000::1")]
    #[serde(rename = "Address_v6")]
    address_v6: Ipv6Addr,
}

fn service_addresses(service: &Service) -> Vec<ServiceAddressView> {
    let shown = |(kind, address): (&AddressKind, &Ipv4Addr)| {
        let ip_type = match kind {
            AddressKind::RoundRobin => "RR",
            AddressKind::Closest => "Closest",
            AddressKind::LeastUsed => "LeastUsed",
            AddressKind::Affinity => "Affinity",
            AddressKind::Instance => return None,
        };
        let StableAddress { v4, v6 } = StableAddress::of(*kind, *address)?;
        Some(ServiceAddressView { ip_type, address: v4, address_v6: v6 })
    };
    service.addresses.iter().filter_map(shown).collect()
}

/// A change of revision under way.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RolloutView {
    /// The revision before.
    from: u32,
    /// The revision all instances shall be copies of.
    to: u32,
    /// Instances there shall be in the end.
    instances: u32,
    /// How many of them are of the new revision and ready.
    ready: usize,
    /// It takes a failed change back.
    rollback: bool,
    /// Why it gets no further, when that has lasted too long and it is not taken back.
    stalled: Option<String>,
}

/// One thing a service was or is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RevisionView {
    number: u32,
    /// When it was made; RFC 3339.
    created: String,
    /// Whether new instances are copies of it.
    current: bool,
    /// Why it was rolled back, if it was.
    failed: Option<String>,
    image: String,
    /// The fields its user sent.
    #[schema(value_type = Object)]
    document: Map<String, Value>,
}

/// A service as users see it; `logs` by instance number.
pub(crate) fn service(
    state: &State,
    service: &Service,
    logs: &BTreeMap<u32, String>,
    now: Now,
) -> ServiceView {
    let instances: Vec<(&Instance, Seen)> =
        state.instances_of(service.id).map(|instance| (instance, Seen::of(state, instance, now))).collect();
    let telling = most_telling(&instances);
    let names = service.written_names();
    let mut sent = service.current().document.clone();
    // Those the root sets from them, and one that is not of a revision.
    sent.remove("image");
    sent.remove("virtualization");
    sent.remove("allowed_callers");
    ServiceView {
        _id: Oid::of(service.id),
        microservice_id: service.id.to_string(),
        job_name: names.to_string(),
        application_id: service.application.to_string(),
        app_name: names.application.clone(),
        app_ns: names.application_namespace.clone(),
        application_name: names.application,
        application_namespace: names.application_namespace,
        service_name: names.service,
        service_ns: names.service_namespace,
        image: service.spec().image.clone(),
        virtualization: match service.spec().virtualization {
            model::Virtualization::Container => "docker".to_owned(),
        },
        next_instance_progressive_number: service.next_number,
        status: telling.map(|(one, seen)| status(seen.phase, &one.report)),
        status_detail: telling.map(|(_, seen)| seen.detail.clone()),
        revision: service.revision,
        rollout: service.rollout.as_ref().map(|rollout| rollout_view(service, rollout, &instances)),
        instance_list: instances
            .iter()
            .map(|(one, seen)| {
                let log = logs.get(&one.id.number).cloned().unwrap_or_default();
                instance(state, service, one, seen, log)
            })
            .collect(),
        service_ip_list: service_addresses(service),
        allowed_callers: service.written_callers().map(|caller| caller.to_string()).collect(),
        sent,
    }
}

/// The instance whose status stands for the service: the one furthest from running.
fn most_telling<'a>(instances: &'a [(&Instance, Seen)]) -> Option<&'a (&'a Instance, Seen)> {
    let order = |phase: Phase| match phase {
        Phase::Refused => 0,
        Phase::Failed => 1,
        Phase::Lost => 2,
        Phase::Dead => 3,
        Phase::Requested => 4,
        Phase::ClusterScheduled => 5,
        Phase::NodeScheduled => 6,
        Phase::Creating => 7,
        Phase::Running => 8,
        Phase::Completed => 9,
        Phase::Undeploying => 10,
        Phase::Removed => 11,
    };
    instances.iter().min_by_key(|(instance, seen)| (order(seen.phase), instance.id))
}

fn rollout_view(service: &Service, rollout: &Rollout, instances: &[(&Instance, Seen)]) -> RolloutView {
    let is_new = |instance: &Instance| instance.revision == service.revision;
    RolloutView {
        from: rollout.from,
        to: service.revision,
        instances: rollout.instances,
        ready: instances.iter().filter(|(instance, seen)| is_new(instance) && seen.ready).count(),
        rollback: rollout.is_rollback,
        stalled: rollout.stalled.clone(),
    }
}

/// All that is known of what a service was, oldest first.
pub(crate) fn revisions(service: &Service) -> Vec<RevisionView> {
    service
        .revisions
        .iter()
        .map(|revision| RevisionView {
            number: revision.number,
            created: rfc3339(revision.created),
            current: revision.number == service.revision,
            failed: revision.failed.clone(),
            image: revision.spec.image.clone(),
            document: revision.document.clone(),
        })
        .collect()
}
