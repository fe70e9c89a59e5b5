//! Turns what a user calls a thing into the one thing meant, or says why it cannot.

use crate::{
    error::Error,
    objects::{Application, Hook, Service},
};

/// Less alike than this, a suggestion is a guess: `hallo` and `hello` are 0.88, `hello` and `help` 0.85,
/// `hello` and `shop` 0.48.
const ALIKE: f64 = 0.75;

/// The application `name`: its id, its name or `name.namespace`.
pub(crate) fn application<'a>(
    applications: impl IntoIterator<Item = &'a Application>,
    name: &str,
) -> Result<&'a Application, Error> {
    let applications: Vec<&Application> = applications.into_iter().collect();
    let spellings = |application: &Application| {
        vec![application.id.clone(), application.full_name(), application.name.clone()]
    };
    one_of("application", &applications, name, None, spellings, Application::full_name)
}

/// The service `name`: its id, `application.namespace.service.namespace`, `application.service` or `service`;
/// of `application` only, if one is given.
pub(crate) fn service<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    name: &str,
    application: Option<&str>,
) -> Result<&'a Service, Error> {
    let belongs = |service: &&Service| application.is_none_or(|name| is_application_of(service, name));
    let services: Vec<&Service> = services.into_iter().filter(belongs).collect();
    let spellings = |service: &Service| {
        vec![
            service.id.clone(),
            service.full_name(),
            format!("{}.{}", service.application_name, service.name),
            service.name.clone(),
        ]
    };
    one_of("service", &services, name, application, spellings, Service::full_name)
}

/// The hook `name`: its id, `organization/name` or its name.
pub(crate) fn hook<'a>(hooks: impl IntoIterator<Item = &'a Hook>, name: &str) -> Result<&'a Hook, Error> {
    let hooks: Vec<&Hook> = hooks.into_iter().collect();
    let spellings = |hook: &Hook| vec![hook.id.clone(), hook.full_name(), hook.name.clone()];
    one_of("hook", &hooks, name, None, spellings, Hook::full_name)
}

/// Whether `name` is the id, the name or `name.namespace` of the application that `service` belongs to.
pub(crate) fn is_application_of(service: &Service, name: &str) -> bool {
    [&service.application_id, &service.application(), &service.application_name]
        .into_iter()
        .any(|spelling| spelling == name)
}

/// A service and the number of an instance, from `SERVICE/N`.
pub(crate) fn split_instance(text: &str) -> Result<(&str, u64), Error> {
    let wrong = || Error::NotAnInstance(text.to_owned());
    let (service, number) = text.rsplit_once('/').ok_or_else(wrong)?;
    Ok((service, number.parse().map_err(|_| wrong())?))
}

/// The one of `objects` that answers to `name`. The first spelling that any object has decides, so that an id
/// or a full name always means what it says.
fn one_of<'a, T>(
    kind: &'static str,
    objects: &[&'a T],
    name: &str,
    application: Option<&str>,
    spellings: impl Fn(&T) -> Vec<String>,
    full_name: impl Fn(&T) -> String,
) -> Result<&'a T, Error> {
    let spelt: Vec<(&'a T, Vec<String>)> =
        objects.iter().map(|object| (*object, spellings(object))).collect();
    let kinds_of_spelling = spelt.first().map_or(0, |(_, spellings)| spellings.len());
    for index in 0..kinds_of_spelling {
        let matching: Vec<&T> = spelt
            .iter()
            .filter(|(_, spellings)| spellings[index] == name)
            .map(|(object, _)| *object)
            .collect();
        match matching[..] {
            [] => {}
            [one] => return Ok(one),
            _ => {
                let mut candidates: Vec<String> = matching.into_iter().map(full_name).collect();
                candidates.sort();
                return Err(Error::Ambiguous { kind, name: name.to_owned(), candidates });
            }
        }
    }
    // Ids are left out: nobody mistypes a name into an id.
    let known = spelt.iter().flat_map(|(_, spellings)| &spellings[1..]);
    let application = application.map(str::to_owned);
    Err(Error::Unknown { kind, name: name.to_owned(), application, nearest: nearest(known, name) })
}

/// The known name most like `name`, if any is alike enough; the first in alphabetical order among equals.
pub(crate) fn nearest<'a>(known: impl IntoIterator<Item = &'a String>, name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let mut best: Option<(f64, &String)> = None;
    for candidate in known {
        let likeness = strsim::jaro_winkler(&lower, &candidate.to_lowercase());
        let better =
            best.is_none_or(|(so_far, known)| likeness > so_far || (likeness >= so_far && candidate < known));
        if likeness >= ALIKE && better {
            best = Some((likeness, candidate));
        }
    }
    best.map(|(_, candidate)| candidate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize as _;
    use serde_json::json;

    fn a_service(id: &str, application: &str, namespace: &str, name: &str) -> Service {
        Service::deserialize(&json!({
            "microserviceID": id, "applicationID": format!("id of {application}"), "app_name": application,
            "app_ns": namespace, "service_name": name, "service_ns": "default", "instance_list": null,
        }))
        .unwrap()
    }

    fn services() -> [Service; 4] {
        [
            a_service("1", "shop", "default", "web"),
            a_service("2", "shop", "test", "web"),
            a_service("3", "blog", "default", "web"),
            a_service("4", "blog", "default", "database"),
        ]
    }

    fn found(name: &str, application: Option<&str>) -> Result<String, String> {
        let services = services();
        match service(&services, name, application) {
            Ok(service) => Ok(service.id.clone()),
            Err(error) => Err(format!("{error}; {}", error.hint().unwrap_or_default())),
        }
    }

    #[test]
    fn a_service_is_found_by_every_name_it_has() {
        assert_eq!(found("4", None), Ok("4".to_owned()));
        assert_eq!(found("database", None), Ok("4".to_owned()));
        assert_eq!(found("blog.web", None), Ok("3".to_owned()));
        assert_eq!(found("shop.test.web.default", None), Ok("2".to_owned()));
        assert_eq!(found("web", Some("blog")), Ok("3".to_owned()));
        assert_eq!(found("web", Some("shop.test")), Ok("2".to_owned()));
        assert_eq!(found("database", Some("id of blog")), Ok("4".to_owned()));
    }

    #[test]
    fn an_ambiguous_name_lists_what_it_may_mean() {
        assert_eq!(
            found("shop.web", None),
            Err("`shop.web` may be any of 2 services: shop.default.web.default, shop.test.web.default; \
                 use one of these names, or the id"
                .to_owned())
        );
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        assert_eq!(
            found("databse", None),
            Err("there is no service `databse`; did you mean `database`?".to_owned())
        );
        assert_eq!(
            found("zzz", Some("blog")),
            Err("there is no service `zzz` in application `blog`; `mangrove get services` lists what there is"
                .to_owned())
        );
    }

    #[test]
    fn an_instance_is_a_service_and_a_number() {
        assert_eq!(split_instance("shop.web/3").unwrap(), ("shop.web", 3));
        for text in ["web", "web/", "web/-1", "web/x"] {
            assert!(split_instance(text).is_err(), "{text}");
        }
    }
}
