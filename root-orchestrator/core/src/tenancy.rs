//! How applications of several organisations are told apart by those who know them by their names only.
//!
//! Name and namespace of an application are unique in its organisation. Clusters and devices compare names, and so do the
//! rules of the kernel. So applications of other organisations than `root` are told with the organisation's id behind
//! their namespace: `prod-0123456789abcdef01234567`. Users can write no `-`, so nobody can name what is another
//! organisation's; the namespace fits into a label of the domain name system. Services keep the names they are told by;
//! the API shows those their users wrote.

use model::{AllowedCaller, AllowedCallers, ApplicationName, OrganizationId, ServiceNames};

use crate::{Application, Service, State};

/// Between a namespace and an organisation.
const SEPARATOR: char = '-';

impl State {
    /// Whether an organisation is the first one, whose administrators are those of the platform.
    #[must_use]
    pub fn is_root(&self, organization: OrganizationId) -> bool {
        self.root_organization == Some(organization)
    }

    /// The namespace of an application as it is told.
    pub(crate) fn told_namespace(&self, application: &Application) -> String {
        if self.is_root(application.organization) {
            application.namespace.clone()
        } else {
            format!("{}{SEPARATOR}{}", application.namespace, application.organization)
        }
    }
}

impl Service {
    /// Its names as its user wrote them.
    #[must_use]
    pub fn written_names(&self) -> ServiceNames {
        let namespace = written(&self.names.application_namespace).to_owned();
        ServiceNames { application_namespace: namespace, ..ServiceNames::clone(&self.names) }
    }

    /// Whom it lets connect, as its user wrote them.
    pub fn written_callers(&self) -> impl Iterator<Item = AllowedCaller> + '_ {
        let callers = self.allowed_callers.iter();
        callers.map(|caller| in_namespace(caller, |namespace| written(namespace).to_owned()))
    }
}

/// Whom a service lets connect, as it is told: those its user names are of the service's organisation.
pub(crate) fn told_callers(written: &AllowedCallers, names: &ServiceNames) -> AllowedCallers {
    let organization =
        names.application_namespace.split_once(SEPARATOR).map(|(_, organization)| organization);
    let told = |namespace: &str| match organization {
        Some(organization) => format!("{namespace}{SEPARATOR}{organization}"),
        None => namespace.to_owned(),
    };
    written.iter().map(|caller| in_namespace(caller, told)).collect()
}

fn written(namespace: &str) -> &str {
    namespace.split_once(SEPARATOR).map_or(namespace, |(namespace, _)| namespace)
}

fn in_namespace(caller: &AllowedCaller, namespace: impl Fn(&str) -> String) -> AllowedCaller {
    match caller {
        AllowedCaller::Everybody => AllowedCaller::Everybody,
        AllowedCaller::Application(application) => AllowedCaller::Application(ApplicationName {
            name: application.name.clone(),
            namespace: namespace(&application.namespace),
        }),
    }
}
