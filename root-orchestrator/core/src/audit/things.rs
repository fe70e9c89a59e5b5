//! What records show of each kind of thing. Every field of a thing is named here, so that a new one is shown or not by
//! somebody's decision. Passwords, hashes, keys, values and whatever users write freely into services are not.

use std::collections::BTreeSet;

use ::audit::{MOST_OBJECTS, Object, View, rfc3339};
use model::{
    AddedFile, CertificateRecord, Desired, ImagePullSecret, OrganizationId, Resources, SecretTarget,
    SecretUse, ServiceId, ServiceSpec, Timestamp,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    ApiToken, Application, Change, Cluster, CustomResource, EndedSession, Hook, Instance, Organization,
    PeopleChange, ResourceType, Revision, Revocation, RevokedId, Secret, Service, State, Token, User,
    oidc::OfProvider,
};

impl State {
    /// What changes do to things as they are now, and how many they do something to beyond those that are shown.
    pub(super) fn changed_things(&self, changes: &[Change], now: Timestamp) -> (Vec<Object>, u64) {
        let looked_at = changes.len().min(2 * MOST_OBJECTS);
        // Of several changes to one thing the last counts.
        let mut seen = BTreeSet::new();
        let mut objects: Vec<Object> = changes[..looked_at]
            .iter()
            .rev()
            .filter_map(|change| self.changed_thing(change, changes, now))
            .filter(|object| seen.insert((object.kind.clone(), object.id.clone())))
            .collect();
        objects.reverse();
        (objects, (changes.len() - looked_at) as u64)
    }

    fn changed_thing(&self, change: &Change, all: &[Change], now: Timestamp) -> Option<Object> {
        match change {
            Change::Application(id, after) => {
                let before = self.applications.get(id);
                let known = after.as_ref().or(before)?;
                let object = of("application", id, before, after.as_ref(), application)?;
                Some(named(object, &known.name, Some(known.organization)))
            }
            Change::Service(id, after) => {
                // One that its user has deleted is gone.
                let is_there = |service: &&Service| !service.deleted;
                let before = self.services.get(id).filter(is_there);
                let known = after.as_ref().or(before)?;
                let object = of("service", id, before, after.as_ref().filter(is_there), service)?;
                Some(named(object, &known.written_names().to_string(), self.owner_of(known, all)))
            }
            Change::Instance(id, after) => {
                let is_wanted = |instance: &&Instance| instance.desired != Desired::Removed;
                let before = self.instances.get(id).filter(is_wanted);
                let after = after.as_ref().filter(is_wanted);
                let number = format!("{}/{}", id.service, id.number);
                let object = Object::of("instance", number, before.map(instance), after.map(instance))?;
                let service = self.known_service(id.service, all);
                let name =
                    service.map(|it| format!("{}/{}", it.written_names(), id.number)).unwrap_or_default();
                Some(named(object, &name, service.and_then(|it| self.owner_of(it, all))))
            }
            Change::Cluster(id, after) => {
                let before = self.clusters.get(id);
                let name = after.as_ref().or(before)?.name.clone();
                Some(named(of("cluster", id, before, after.as_ref(), cluster)?, &name, None))
            }
            Change::Token(id, after) => of("join-token", id, self.tokens.get(id), after.as_ref(), token),
            Change::Secret(id, after) => {
                let before = self.secrets.get(id);
                let known = after.as_ref().or(before)?;
                let object = of("secret", id, before, after.as_ref(), secret)?;
                Some(named(object, &known.name, Some(known.organization)))
            }
            Change::People(change) => self.changed_people(change, now),
            Change::Certificate(holder, after) => {
                let before = self.certificates.get(holder);
                of("certificate", holder, before, after.as_ref(), certificate)
            }
            Change::Revocation(id, after) => {
                let before = self.revocations.get(id);
                let RevokedId { cluster, worker } = id;
                let worker = worker.map(|worker| format!("/{worker}")).unwrap_or_default();
                of("revocation", &format!("{cluster}{worker}"), before, after.as_ref(), revocation)
            }
            Change::Hook(id, after) => {
                let before = self.hooks.get(id);
                let known = after.as_ref().or(before)?;
                let object = of("hook", id, before, after.as_ref(), hook)?;
                Some(named(object, &known.name, Some(known.organization)))
            }
            Change::ResourceType(id, after) => {
                let before = self.resources.get_type(*id);
                let known = after.as_ref().or(before)?;
                let object = of("resource-type", id, before, after.as_ref(), resource_type)?;
                Some(named(object, &known.name, Some(known.organization)))
            }
            Change::Resource(id, after) => {
                let before = self.resources.get(*id);
                let known = self.resources.get_type(after.as_ref().or(before)?.of)?;
                let object = of("custom-resource", id, before, after.as_ref(), custom_resource)?;
                Some(named(object, &known.name, Some(known.organization)))
            }
            Change::Object(key, after) => {
                let before = self.objects.get(key).map(|seen| &*seen.content);
                let object = of("object", key, before, after.as_ref().map(|it| &*it.content), object)?;
                Some(named(object, &key.name, key.organization))
            }
            // What a hook is still to be told goes with the hook.
            Change::Delivery(..)
            | Change::Workflow(_)
            | Change::Blocks(_)
            | Change::AuditRecord(..)
            | Change::AuditEnds(_)
            | Change::AuditMark(..) => None,
        }
    }

    fn changed_people(&self, change: &PeopleChange, now: Timestamp) -> Option<Object> {
        match change {
            PeopleChange::User(id, after) => {
                let before = self.user(*id);
                let name = after.as_ref().or(before)?.name.clone();
                Some(named(of("user", id, before, after.as_ref(), user)?, &name, None))
            }
            PeopleChange::Organization(id, after) => {
                let before = self.organization(*id);
                let name = after.as_ref().or(before)?.name.clone();
                let object = of("organization", id, before, after.as_ref(), organization)?;
                Some(named(object, &name, Some(*id)))
            }
            PeopleChange::ApiToken(id, after) => {
                let before = self.api_token(*id);
                let known = after.as_ref().or(before)?;
                let object = of("api-token", id, before, after.as_ref(), api_token)?;
                Some(named(object, &known.name, Some(known.organization)))
            }
            PeopleChange::EndedSession(_, Some(EndedSession { id: _, expires_at })) if *expires_at > now => {
                let ended = View::default().show("would_have_ended", date(*expires_at));
                Object::of("login", "ended".to_owned(), Some(ended), None)
            }
            // It would have ended by now anyway.
            PeopleChange::EndedSession(..) => None,
            // What the provider is asked with is a secret, and nothing else is in it.
            PeopleChange::ProviderLogin(..) => None,
        }
    }

    fn known_service<'a>(&'a self, id: ServiceId, all: &'a [Change]) -> Option<&'a Service> {
        let made = |change: &'a Change| {
            if let Change::Service(made, Some(service)) = change
                && *made == id
            {
                Some(service)
            } else {
                None
            }
        };
        self.services.get(&id).or_else(|| all.iter().find_map(made))
    }

    fn owner_of(&self, service: &Service, all: &[Change]) -> Option<OrganizationId> {
        let is_its = |change: &Change| {
            if let Change::Application(id, Some(made)) = change
                && *id == service.application
            {
                Some(made.organization)
            } else {
                None
            }
        };
        let known = self.applications.get(&service.application).map(|application| application.organization);
        known.or_else(|| all.iter().find_map(is_its))
    }
}

fn of<T>(
    kind: &str,
    id: &impl ToString,
    before: Option<&T>,
    after: Option<&T>,
    view: impl Fn(&T) -> View,
) -> Option<Object> {
    Object::of(kind, id.to_string(), before.map(&view), after.map(&view))
}

fn named(object: Object, name: &str, organization: Option<OrganizationId>) -> Object {
    Object { name: name.to_owned(), organization: organization.map(|id| id.to_string()), ..object }
}

fn application(application: &Application) -> View {
    let Application { id: _, organization, owner, name, namespace, description, notes: _ } = application;
    View::default()
        .show("organization", organization.to_string())
        .show("owner", owner.as_str())
        .show("name", name.as_str())
        .show("namespace", namespace.as_str())
        .show("description", description.as_str())
}

fn service(service: &Service) -> View {
    let Service {
        id: _,
        application,
        names: _,
        revision,
        revisions: _,
        addresses: _,
        allowed_callers: _,
        update,
        rollout: _,
        next_number: _,
        deleted: _,
        attempt: _,
        notes: _,
    } = service;
    // What the user sent is all in the specification, where it is known what may be shown.
    let Revision { number: _, spec, document: _, created: _, failed } = service.current();
    let callers: Vec<Value> = service.written_callers().map(|caller| value(&caller)).collect();
    let view = View::default()
        .show("application", application.to_string())
        .show("revision", *revision)
        .show("failed", failed.is_some())
        .show("allowed_callers", callers)
        .show("update", value(update));
    specification(view, spec)
}

fn specification(view: View, spec: &ServiceSpec) -> View {
    let ServiceSpec {
        image,
        virtualization,
        resources: Resources { cpu, memory, storage, gpus },
        entry_point,
        command,
        environment,
        ports,
        one_shot,
        single_attempt,
        privileged,
        added_files,
        constraints,
        distances,
        architectures,
        survival,
        health,
        drain,
        secrets,
        image_pull_secret,
    } = spec;
    let mut view = view
        .show("image", image.as_str())
        .show("virtualization", value(virtualization))
        .show("millicores", cpu.0)
        .show("memory", memory.0)
        .show("storage", storage.0)
        .show("gpus", *gpus)
        // Passwords are passed in commands, also in those of probes.
        .hide("entry_point", value(entry_point))
        .hide("command", value(command))
        .hide("health", value(health))
        .show("environment", environment.keys().cloned().collect::<Vec<_>>())
        .show("ports", ports.iter().map(ToString::to_string).collect::<Vec<_>>())
        .show("one_shot", *one_shot)
        .show("single_attempt", *single_attempt)
        .show("privileged", *privileged)
        .show("added_files", added_files.iter().map(|file| file.path.clone()).collect::<Vec<_>>())
        .show("constraints", value(constraints))
        .show("distances", value(distances))
        .show("architectures", value(architectures))
        .show("survival", value(survival))
        .show("drain", drain.to_string())
        .show("secrets", secrets.iter().map(secret_use).collect::<Vec<_>>())
        .show("image_pull_secret", image_pull_secret.as_ref().map(pull_secret));
    for (name, content) in environment {
        view = view.hide(&format!("environment.{name}"), content.as_str());
    }
    for AddedFile { path, content, mode } in added_files {
        view = view.hide(&format!("added_files.{path}"), json!([content, mode]));
    }
    view
}

fn secret_use(secret: &SecretUse) -> Value {
    let SecretUse { name, version, target } = secret;
    let target = match target {
        SecretTarget::File { path, mode: _ } => path.clone(),
        SecretTarget::Variable(variable) => format!("${variable}"),
    };
    format!("{name}, version {}, as {target}", version.number).into()
}

fn pull_secret(secret: &ImagePullSecret) -> String {
    let ImagePullSecret { name, version } = secret;
    format!("{name}, version {}", version.number)
}

fn instance(instance: &Instance) -> View {
    let Instance { id: _, revision, tenure: _, address: _, desired: _, report: _ } = instance;
    View::default().show("revision", *revision)
}

fn cluster(cluster: &Cluster) -> View {
    let Cluster { id: _, name, location: _, generation: _ } = cluster;
    View::default().show("name", name.as_str())
}

fn token(token: &Token) -> View {
    let Token { id: _, kind, secret_hash: _, uses_left, expires_at, used_by: _ } = token;
    View::default()
        .show("for", value(kind))
        .show("uses_left", *uses_left)
        .show("expires_at", date(*expires_at))
}

fn secret(secret: &Secret) -> View {
    let Secret { id: _, organization: _, name, kind, versions } = secret;
    View::default()
        .show("name", name.as_str())
        .show("kind", kind.as_str())
        .show("versions", versions.iter().map(|version| version.number).collect::<Vec<_>>())
}

fn hook(hook: &Hook) -> View {
    let Hook { id: _, organization: _, name, url, entity, events, secret, next: _, status: _ } = hook;
    // Some receivers are known by a path that nobody is to know.
    let origin = url.split('/').take(3).collect::<Vec<_>>().join("/");
    View::default()
        .show("name", name.as_str())
        .show("origin", origin)
        .hide("url", url.as_str())
        .show("entity", entity.as_str())
        .show("events", value(events))
        .show("secret", secret.as_ref().map(|secret| secret.number))
}

fn resource_type(kind: &ResourceType) -> View {
    let ResourceType { id: _, organization: _, name, schema } = kind;
    View::default().show("name", name.as_str()).hide("schema", value(schema))
}

fn custom_resource(resource: &CustomResource) -> View {
    let CustomResource { id: _, of: _, content } = resource;
    View::default().hide("content", value(content))
}

fn object(content: &Value) -> View {
    let mut hidden = content.clone();
    // Follow from the rest.
    if let Some(metadata) = hidden["metadata"].as_object_mut() {
        metadata.retain(|name, _| name != "managedFields" && name != "generation");
    }
    View::default()
        .show("generation", content["metadata"]["generation"].clone())
        .show("deletion", content["metadata"]["deletionTimestamp"].clone())
        .hide("content", hidden)
}

fn user(user: &User) -> View {
    let User { id: _, name, email, created_at: _, password_hash, epoch: _, reset, provider } = user;
    let view = View::default()
        .show("name", name.as_str())
        .show("email", email.as_str())
        .hide("password", password_hash.as_str());
    let view = match provider {
        // When it was last asked is told by the calls themselves.
        Some(OfProvider { identity, confirmed_at: _ }) => view.show("provider", value(identity)),
        None => view,
    };
    match reset {
        Some(reset) => view.hide("reset_token", reset.secret_hash.as_str()),
        None => view,
    }
}

fn organization(organization: &Organization) -> View {
    let Organization { id: _, name, members, quota } = organization;
    let view = View::default().show("name", name.as_str()).show("quota", value(quota));
    // One field each, so that of a change only those are shown whom it is about.
    members.iter().fold(view, |view, (user, roles)| view.show(&format!("member.{user}"), value(roles)))
}

fn api_token(token: &ApiToken) -> View {
    let ApiToken { id: _, user, organization: _, name, scopes, secret_hash: _, created: _, expires_at } =
        token;
    View::default()
        .show("user", user.to_string())
        .show("name", name.as_str())
        .show("scopes", value(scopes))
        .show("expires_at", date(*expires_at))
}

fn certificate(record: &CertificateRecord) -> View {
    let CertificateRecord { serial, lifetime } = record;
    View::default().show("serial", serial.as_str()).show("expires_at", date(lifetime.expires))
}

fn revocation(revocation: &Revocation) -> View {
    let Revocation { id: _, at: _, until } = revocation;
    View::default().show("until", date(*until))
}

fn date(at: Timestamp) -> String {
    rfc3339(at.0)
}

/// What has no JSON is shown as nothing; all that is passed has.
fn value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
