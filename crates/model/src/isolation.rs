//! Which instances may connect to which. Decided here and nowhere else; told between clusters by both cores'
//! `neighbours.rs` and to devices by `cluster-orchestrator/core/src/network.rs`, carried out in
//! `net-manager/core/src/isolation.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{OrganizationId, ServiceId, ServiceNames};

/// Names an application, of whatever organisation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ApplicationName {
    /// Its name.
    pub name: String,
    /// Its namespace; of another organisation than `root` followed by `-` and the organisation's id, as the root tells it
    /// (`root-orchestrator/core/src/tenancy.rs`). Users cannot write that.
    pub namespace: String,
}

impl fmt::Display for ApplicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

impl From<&ServiceNames> for ApplicationName {
    fn from(names: &ServiceNames) -> Self {
        Self { name: names.application.clone(), namespace: names.application_namespace.clone() }
    }
}

/// Somebody a service lets connect to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AllowedCaller {
    /// Every application.
    Everybody,
    /// One application.
    Application(ApplicationName),
}

impl fmt::Display for AllowedCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("*"),
            Self::Application(name) => name.fmt(f),
        }
    }
}

/// A text that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no caller: expected `application.namespace`, both of letters and digits, or `*`")]
pub struct AllowedCallerError(String);

impl FromStr for AllowedCaller {
    type Err = AllowedCallerError;

    fn from_str(text: &str) -> Result<Self, AllowedCallerError> {
        if text == "*" {
            return Ok(Self::Everybody);
        }
        let is_name = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_namespace = |part: &str| match part.split_once('-') {
            Some((namespace, organization)) => {
                is_name(namespace) && organization.parse::<OrganizationId>().is_ok()
            }
            None => is_name(part),
        };
        match text.split_once('.') {
            Some((name, namespace)) if is_name(name) && is_namespace(namespace) => {
                Ok(Self::Application(ApplicationName {
                    name: name.to_owned(),
                    namespace: namespace.to_owned(),
                }))
            }
            Some(_) | None => Err(AllowedCallerError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for AllowedCaller {
    type Error = AllowedCallerError;

    fn try_from(text: String) -> Result<Self, AllowedCallerError> {
        text.parse()
    }
}

impl From<AllowedCaller> for String {
    fn from(caller: AllowedCaller) -> Self {
        caller.to_string()
    }
}

/// Whom a service lets connect to it beside its own application.
pub type AllowedCallers = BTreeSet<AllowedCaller>;

/// Whether instances of `caller` may connect to those of a service of `callee` that allows `allowed`.
#[must_use]
pub fn may_connect(caller: &ApplicationName, callee: &ApplicationName, allowed: &AllowedCallers) -> bool {
    caller == callee
        || allowed.iter().any(|one| match one {
            AllowedCaller::Everybody => true,
            AllowedCaller::Application(name) => name == caller,
        })
}

/// Which services there are and whom they let connect: finds for each of them those it has to do with, as [`may_connect`]
/// says.
#[derive(Debug, Default)]
pub struct Allowances {
    applications: BTreeMap<ApplicationName, BTreeSet<ServiceId>>,
    application_of: BTreeMap<ServiceId, ApplicationName>,
    /// Of those that let others connect; and who lets each of them, or everybody.
    allowed: BTreeMap<ServiceId, Arc<AllowedCallers>>,
    open_to: BTreeMap<ApplicationName, BTreeSet<ServiceId>>,
    open_to_everybody: BTreeSet<ServiceId>,
}

impl Allowances {
    /// There is such a service. It keeps its application.
    pub fn include(&mut self, id: ServiceId, names: &ServiceNames) {
        self.application_of.entry(id).or_insert_with(|| {
            let application = ApplicationName::from(names);
            self.applications.entry(application.clone()).or_default().insert(id);
            application
        });
    }

    /// Whom a service lets connect beside its own application. Gives the services that have to do with others than
    /// before; none when nothing is different, and itself otherwise.
    pub fn allow(&mut self, id: ServiceId, callers: &Arc<AllowedCallers>) -> BTreeSet<ServiceId> {
        if self.allowed.get(&id).map_or(callers.is_empty(), |before| before == callers) {
            return BTreeSet::new();
        }
        let before = self.callers_of(id);
        self.close(id);
        for caller in &**callers {
            match caller {
                AllowedCaller::Everybody => self.open_to_everybody.insert(id),
                AllowedCaller::Application(name) => self.open_to.entry(name.clone()).or_default().insert(id),
            };
        }
        if !callers.is_empty() {
            self.allowed.insert(id, Arc::clone(callers));
        }
        let mut concerned = &before ^ &self.callers_of(id);
        concerned.insert(id);
        concerned
    }

    /// There is no such service any more.
    pub fn forget(&mut self, id: ServiceId) {
        self.close(id);
        if let Some(application) = self.application_of.remove(&id) {
            remove(&mut self.applications, &application, id);
        }
    }

    fn close(&mut self, id: ServiceId) {
        for caller in self.allowed.remove(&id).iter().flat_map(|callers| &**callers) {
            match caller {
                AllowedCaller::Everybody => drop(self.open_to_everybody.remove(&id)),
                AllowedCaller::Application(name) => remove(&mut self.open_to, name, id),
            }
        }
    }

    /// Whether a service lets other applications connect.
    #[must_use]
    pub fn is_open(&self, id: ServiceId) -> bool {
        self.allowed.contains_key(&id)
    }

    /// Whether a service lets every application connect.
    #[must_use]
    pub fn is_open_to_everybody(&self, id: ServiceId) -> bool {
        self.open_to_everybody.contains(&id)
    }

    /// The application a service is of.
    #[must_use]
    pub fn application_of(&self, id: ServiceId) -> Option<&ApplicationName> {
        self.application_of.get(&id)
    }

    /// Services whose instances may connect to those of one or the other way round, itself among them. Whoever has an
    /// instance of it must know of all of these: a call takes the address of who is called, and the answer that of the
    /// caller.
    #[must_use]
    pub fn beside(&self, id: ServiceId) -> BTreeSet<ServiceId> {
        let Some(application) = self.application_of.get(&id) else { return BTreeSet::new() };
        self.callees_of(application).chain(self.callers_of(id)).collect()
    }

    /// The same of several together: those of one application are looked at once.
    #[must_use]
    pub fn beside_any(&self, ids: impl Iterator<Item = ServiceId>) -> BTreeSet<ServiceId> {
        let (mut applications, mut beside) = (BTreeSet::new(), BTreeSet::new());
        for id in ids {
            applications.extend(self.application_of.get(&id));
            if self.is_open(id) {
                beside.extend(self.callers_of(id));
            }
        }
        beside.extend(applications.into_iter().flat_map(|application| self.callees_of(application)));
        beside
    }

    /// Services an instance of the application may connect to: those of its own, and those that let it.
    pub fn callees_of(&self, application: &ApplicationName) -> impl Iterator<Item = ServiceId> + '_ {
        let own = self.applications.get(application).into_iter().flatten().copied();
        own.chain(self.open_to(application))
    }

    /// Services that let the application connect, or everybody.
    pub fn open_to(&self, application: &ApplicationName) -> impl Iterator<Item = ServiceId> + '_ {
        let open = self.open_to.get(application).into_iter().flatten();
        open.chain(&self.open_to_everybody).copied()
    }

    /// Services of other applications that one lets connect.
    #[must_use]
    pub fn callers_of(&self, id: ServiceId) -> BTreeSet<ServiceId> {
        let mut callers = BTreeSet::new();
        for caller in self.allowed.get(&id).into_iter().flat_map(|allowed| &**allowed) {
            match caller {
                AllowedCaller::Everybody => callers.extend(self.application_of.keys()),
                AllowedCaller::Application(name) => {
                    callers.extend(self.applications.get(name).into_iter().flatten());
                }
            }
        }
        callers
    }
}

fn remove<K: Ord>(map: &mut BTreeMap<K, BTreeSet<ServiceId>>, key: &K, id: ServiceId) {
    if let Some(services) = map.get_mut(key) {
        services.remove(&id);
        if services.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn application(name: &str, namespace: &str) -> ApplicationName {
        ApplicationName { name: name.to_owned(), namespace: namespace.to_owned() }
    }

    fn allowed(texts: &[&str]) -> AllowedCallers {
        texts.iter().map(|text| text.parse().expect("a caller")).collect()
    }

    #[test]
    fn applications_are_apart_unless_a_service_allows_one() {
        let (shop, till) = (application("shop", "prod"), application("till", "prod"));
        assert!(may_connect(&shop, &shop, &allowed(&[])), "its own");
        assert!(!may_connect(&till, &shop, &allowed(&[])));
        assert!(may_connect(&till, &shop, &allowed(&["bank.prod", "till.prod"])));
        assert!(!may_connect(&till, &shop, &allowed(&["till.test", "shop.prod"])), "another namespace");
        assert!(may_connect(&till, &shop, &allowed(&["*"])));
    }

    #[test]
    fn a_caller_is_written_as_it_is_read() {
        for text in ["*", "shop.prod", "shop.prod-0123456789abcdef01234567"] {
            assert_eq!(text.parse::<AllowedCaller>().map(|caller| caller.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["", "shop", "shop.", ".prod", "shop.prod.web", "*.prod", "sh op.prod", "**", "shop.prod-acme"]
        {
            assert_eq!(text.parse::<AllowedCaller>(), Err(AllowedCallerError(text.to_owned())), "{text}");
        }
    }

    fn service(number: u8) -> ServiceId {
        ServiceId::from_bytes([number; 12])
    }

    /// Two services of each of three applications.
    fn names(number: u8) -> ServiceNames {
        ServiceNames {
            application: format!("app{}", number / 2),
            application_namespace: "test".to_owned(),
            service: format!("service{}", number % 2),
            service_namespace: "test".to_owned(),
        }
    }

    proptest! {
        /// Whatever comes and goes, who has to do with whom is what the rule says of those there are.
        #[test]
        fn who_is_beside_whom_is_what_the_rule_says(
            steps in proptest::collection::vec((0_u8..6, proptest::option::of(0_u8..16)), 0..40),
        ) {
            let mut known = Allowances::default();
            let mut there: BTreeMap<u8, Arc<AllowedCallers>> = BTreeMap::new();
            for (number, open) in steps {
                let Some(open) = open else {
                    known.forget(service(number));
                    there.remove(&number);
                    continue;
                };
                let callers = ["app0.test", "app1.test", "app2.test", "*"].into_iter().enumerate();
                let callers = callers.filter(|(bit, _)| open >> bit & 1 == 1);
                let callers: Arc<AllowedCallers> =
                    Arc::new(callers.map(|(_, text)| text.parse().expect("a caller")).collect());
                known.include(service(number), &names(number));
                let before = there.insert(number, Arc::clone(&callers)).unwrap_or_default();
                let own = ApplicationName::from(&names(number));
                let concerned = there.keys().filter(|other| {
                    let other = ApplicationName::from(&names(**other));
                    own != other && may_connect(&other, &own, &before) != may_connect(&other, &own, &callers)
                });
                let mut concerned: BTreeSet<ServiceId> = concerned.map(|other| service(*other)).collect();
                concerned.extend((before != callers).then_some(service(number)));
                let told = known.allow(service(number), &callers);
                // Those of its own application may be named too.
                prop_assert!(told.is_superset(&concerned), "{told:?}, not {concerned:?}");
                prop_assert!(before != callers || told.is_empty());
            }
            for (number, allowed) in &there {
                let own = ApplicationName::from(&names(*number));
                let beside = there.iter().filter(|(other, callers)| {
                    let other = ApplicationName::from(&names(**other));
                    may_connect(&own, &other, callers) || may_connect(&other, &own, allowed)
                });
                let beside: BTreeSet<ServiceId> = beside.map(|(other, _)| service(*other)).collect();
                prop_assert_eq!(known.beside(service(*number)), beside);
            }
            let several = || there.keys().filter(|number| *number % 3 != 1).map(|number| service(*number));
            let beside: BTreeSet<ServiceId> = several().flat_map(|one| known.beside(one)).collect();
            prop_assert_eq!(known.beside_any(several()), beside);
        }
    }
}
