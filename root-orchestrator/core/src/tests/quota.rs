//! What the applications of an organisation may take.

use super::{
    membership::{ADA, EVE, as_member, people},
    names::{create, shop},
    *,
};
use crate::{PeopleRejected, Quota, QuotaUsage, Service};

/// An organisation with a service whose instances take one and a half cores and 100 MiB each, and may have that much.
struct Limited {
    root: Root,
    service: ServiceId,
}

impl Limited {
    fn to(quota: Quota) -> Self {
        let mut root = people();
        let spec = ServiceSpec::container("image").reserving(Millicores(1500), Mebibytes(100));
        let application = create(&mut root, ACME, shop(vec![neighbours::wanted(spec, &[])])).expect("new");
        let service = root.state.services_of(application).next().expect("its service").id;
        let mut limited = Self { root, service };
        limited.allow(quota);
        limited
    }

    fn allow(&mut self, quota: Quota) {
        let ada = as_member(&self.root, ADA);
        let changes = self.root.state.set_quota(&ada, ACME, quota).expect("allowed");
        self.root.apply(changes);
    }

    fn service(&self) -> Service {
        self.root.state.service(self.service).expect("there").clone()
    }

    fn scale(&mut self, instances: u32) -> Result<(), Rejected> {
        let (_, changes) = self.root.state.scale(&self.service(), instances, BEGINNING.date)?;
        self.root.apply(changes);
        Ok(())
    }

    fn deploy(&mut self) -> Result<(), Rejected> {
        let (_, changes) = self.root.state.deploy(&self.service(), BEGINNING.date)?;
        self.root.apply(changes);
        Ok(())
    }

    fn update(&mut self, memory: u32) -> Result<(), Rejected> {
        let spec = ServiceSpec::container("image").reserving(Millicores(1500), Mebibytes(memory));
        let wanted = neighbours::wanted(spec, &[]);
        let (_, changes) = self.root.state.update(&self.service(), wanted, BEGINNING.date)?;
        self.root.apply(changes);
        Ok(())
    }
}

fn exceeded(what: &'static str, limit: u64, total: u64) -> Result<(), Rejected> {
    Err(Rejected::QuotaExceeded { what, limit, total, over: total - limit })
}

#[test]
fn what_is_asked_for_is_counted_and_more_than_the_quota_is_refused() {
    let mut acme = Limited::to(Quota { instances: Some(2), ..Quota::default() });
    assert_eq!(acme.deploy(), Ok(()));
    assert_eq!(acme.scale(2), Ok(()));
    assert_eq!(acme.deploy(), exceeded("instances", 2, 3));
    assert_eq!(acme.scale(5), exceeded("instances", 2, 5));
    let taken = QuotaUsage { instances: 2, millicores: 3000, memory: 200, storage: 0 };
    assert_eq!(acme.root.state.quota_usage(ACME), taken);
    assert_eq!(acme.root.state.quota_usage(ROOT), QuotaUsage::default());
    assert_eq!(acme.scale(0), Ok(()));
    assert_eq!(acme.root.state.quota_usage(ACME), QuotaUsage::default());
}

#[test]
fn a_refusal_names_what_and_how_much() {
    let mut acme = Limited::to(Quota { vcpus: Some(3), memory: Some(250), ..Quota::default() });
    assert_eq!(acme.scale(2), Ok(()), "three cores");
    assert_eq!(acme.scale(3), exceeded("vcpus", 3, 5));
    assert_eq!(acme.update(125), Ok(()), "250 MiB");
    assert_eq!(
        acme.update(130).expect_err("too much").to_string(),
        "with this the applications of the organisation would take 260 MiB of memory, 10 more than its quota of 250; \
         remove instances, or ask an administrator of the platform for a larger quota"
    );
}

#[test]
fn going_back_to_a_larger_revision_is_refused_too() {
    let mut acme = Limited::to(Quota::default());
    acme.scale(2).expect("there is no quota");
    acme.update(50).expect("there is no quota");
    acme.allow(Quota { memory: Some(150), ..Quota::default() });
    let back = acme.root.state.roll_back(&acme.service(), None).map(|_| ());
    assert_eq!(back, exceeded("MiB of memory", 150, 200));
}

#[test]
fn a_quota_below_what_is_taken_removes_nothing_and_lets_less_be_taken() {
    let mut acme = Limited::to(Quota::default());
    acme.scale(5).expect("there is no quota");
    acme.allow(Quota { instances: Some(1), ..Quota::default() });
    assert_eq!(acme.root.state.quota_usage(ACME).instances, 5);
    assert_eq!(acme.update(10), Ok(()), "fewer of what is limited, or as many");
    assert_eq!(acme.scale(4), Ok(()));
    assert_eq!(acme.scale(5), exceeded("instances", 1, 5));
}

#[test]
fn quotas_are_set_by_who_administrates_the_platform() {
    let acme = Limited::to(Quota::default());
    let eve = as_member(&acme.root, EVE);
    let refused = acme.root.state.set_quota(&eve, ACME, Quota::default());
    assert!(matches!(refused, Err(PeopleRejected::Forbidden(_))));
    let hidden = acme.root.state.set_quota(&eve, ROOT, Quota::default());
    assert_eq!(hidden, Err(PeopleRejected::NoOrganization(ROOT.to_string())));
}
