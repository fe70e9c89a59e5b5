//! `mangrove deploy`: creates what an SLA names, gives every service its instances and watches until they run.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time;

use crate::{
    args::DeployArguments,
    client::Client,
    commands::{
        counted, summary,
        watch::{Report, Watch},
    },
    error::Error,
    objects::{self, Application, Listed, Service},
    output::Output,
    progress::{Entry, Progress},
    rollout::{Rollout, Verdict},
    sla::{Sla, SlaApplication, short_name},
    terminal,
};

/// How often the clock in the headline moves.
const TICK: Duration = Duration::from_secs(1);

/// An application of the file, as the root has it.
struct Deployed {
    application: Application,
    existed: bool,
}

/// Deploys a file.
pub(crate) async fn run(
    client: &Arc<Client>,
    output: &Output,
    arguments: DeployArguments,
) -> Result<(), Error> {
    let begun = Instant::now();
    let sla = Sla::read(&arguments.file)?;
    let deployed = create(client, output, &sla).await?;
    let mut rollout = Rollout::default();
    let mut services = Vec::new();
    for one in &deployed {
        let path = format!("/api/services/{}", one.application.id);
        let found: Vec<Listed<Service>> = objects::list(client, &path).await?;
        if one.existed {
            refuse_differences(&sla, &one.application, &found)?;
        }
        services.push((one, found));
    }
    for (one, found) in &services {
        let added = add_instances(client, &mut rollout, found, arguments.instances.get()).await?;
        let name = one.application.full_name();
        output.note(&match (one.existed, added) {
            (true, 0) => format!("{name} already exists; unchanged"),
            (true, added) => format!("{name} already exists; {} added", counted(added, "instance")),
            (false, _) => format!("{name} created with {}", counted(found.len(), "service")),
        });
    }
    let names: Vec<String> = deployed.iter().map(|one| one.application.full_name()).collect();
    if arguments.detach {
        output.note(&format!("not waiting; `mangrove get instances --app {}` shows how it goes", names[0]));
        return Ok(());
    }
    let watching = Watching { client, output, arguments: &arguments, names, begun };
    watching.until_settled(&deployed, &mut rollout).await?;
    watching.summarise(&rollout)
}

/// Creates the applications that do not exist yet and finds all of them.
async fn create(client: &Client, output: &Output, sla: &Sla) -> Result<Vec<Deployed>, Error> {
    let request = "POST /api/application/";
    match client.post("/api/application/", Some(&sla.document)).await {
        Ok(answer) => {
            let listed = objects::read_list(client.root(), request, answer)?;
            return find_all(client, sla, &own(client, listed), |_| false);
        }
        Err(Error::Refused { status: 409, .. }) => {}
        Err(error) => return Err(error),
    }
    let existing = own(client, objects::list(client, "/api/applications/").await?);
    let is_new = |application: &SlaApplication| find(&existing, application).is_none();
    if !sla.applications.iter().any(is_new) {
        return find_all(client, sla, &existing, |_| true);
    }
    output.note("some applications of the file already exist; creating the others");
    let answer = client.post("/api/application/", Some(&sla.limited_to(is_new))).await?;
    let listed = own(client, objects::read_list(client.root(), request, answer)?);
    find_all(client, sla, &listed, |application| !is_new(application))
}

/// Of the applications of several organisations, those of the one that is logged in to; of a root that knows of none, the
/// user's.
fn own(client: &Client, applications: Vec<Listed<Application>>) -> Vec<Application> {
    let username = client.username();
    let organization = client.organization().unwrap_or_else(|| "root".to_owned());
    let is_own = |application: &Application| {
        if !application.organization.is_empty() {
            return application.organization == organization;
        }
        application.owner.is_empty() || username.as_ref().is_none_or(|name| *name == application.owner)
    };
    applications.into_iter().map(|item| item.object).filter(is_own).collect()
}

fn find<'a>(known: &'a [Application], wanted: &SlaApplication) -> Option<&'a Application> {
    known
        .iter()
        .find(|application| application.name == wanted.name && application.namespace == wanted.namespace)
}

fn find_all(
    client: &Client,
    sla: &Sla,
    known: &[Application],
    existed: impl Fn(&SlaApplication) -> bool,
) -> Result<Vec<Deployed>, Error> {
    let deployed = |wanted: &SlaApplication| match find(known, wanted) {
        Some(application) => Ok(Deployed { application: application.clone(), existed: existed(wanted) }),
        None => Err(Error::Incomprehensible {
            root: client.root().to_owned(),
            request: "POST /api/application/".to_owned(),
            detail: format!("application `{}` is not among those it lists", wanted.full_name()),
        }),
    };
    sla.applications.iter().map(deployed).collect()
}

/// Deploying does not change what exists, so a file that says something else must not seem deployed.
fn refuse_differences(sla: &Sla, application: &Application, found: &[Listed<Service>]) -> Result<(), Error> {
    let wanted = sla.applications.iter().find(|wanted| wanted.full_name() == application.full_name());
    let wanted = wanted.map_or(&[][..], SlaApplication::services);
    let mut differences = Vec::new();
    let mut changed = Vec::new();
    for service in wanted {
        let name = short_name(service);
        match found.iter().find(|item| item.object.short_name() == name) {
            None => differences.push(format!("service {name} is not deployed")),
            Some(item) => {
                let fields = field_differences(&name, service, &item.json);
                if !fields.is_empty() {
                    changed.push(item.object.full_name());
                }
                differences.extend(fields);
            }
        }
    }
    for item in found {
        let name = item.object.short_name();
        if !wanted.iter().any(|service| short_name(service) == name) {
            differences.push(format!("service {name} is not in the file"));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::Differs { application: application.full_name(), file: sla.file.clone(), differences, changed })
}

/// What the root sets or rewrites itself; a file made from its answers has them too, and they mean nothing there.
const NOT_COMPARED: [&str; 18] = [
    "_id",
    "RR_ip",
    "RR_ip_v6",
    "app_name",
    "app_ns",
    "applicationID",
    "image",
    "instance_list",
    "job_name",
    "microserviceID",
    "next_instance_progressive_number",
    "revision",
    "rollout",
    "service_name",
    "service_ns",
    "status",
    "status_detail",
    "virtualization",
];

/// Fields of the file that say something else than the root does, or something it does not say.
fn field_differences(name: &str, wanted: &Value, found: &Value) -> Vec<String> {
    let Some(fields) = wanted.as_object() else { return Vec::new() };
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    };
    // The root shows the image under one name, whichever it was sent under.
    let deployed = |key: &str| found.get(key).or_else(|| found.get("image").filter(|_| key == "code"));
    fields
        .iter()
        .filter(|(key, _)| !NOT_COMPARED.contains(&key.as_str()))
        .map(|(key, value)| (key, value, deployed(key).unwrap_or(&Value::Null)))
        .filter(|(_, value, deployed)| value != deployed && !(says_nothing(value) && says_nothing(deployed)))
        .map(|(key, value, deployed)| match deployed {
            Value::Null => format!("`{key}` of service {name} is not set, the file says {value}"),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                format!("`{key}` of service {name} is {deployed}, the file says {value}")
            }
        })
        .collect()
}

/// Gives every service `wanted` instances at least; returns how many were asked for.
async fn add_instances(
    client: &Client,
    rollout: &mut Rollout,
    services: &[Listed<Service>],
    wanted: u32,
) -> Result<usize, Error> {
    let mut added = 0;
    for Listed { object: service, .. } in services {
        rollout.expect(service, service.staying().map(|instance| instance.number));
        for _ in service.staying().count()..wanted as usize {
            let path = format!("/api/service/{}/instance", service.id);
            let answer = client.post(&path, None).await?;
            rollout.expect(service, answer["instance_number"].as_u64());
            added += 1;
        }
    }
    Ok(added)
}

/// The part of a deployment that can be interrupted without changing it.
struct Watching<'a> {
    client: &'a Arc<Client>,
    output: &'a Output,
    arguments: &'a DeployArguments,
    names: Vec<String>,
    begun: Instant,
}

impl Watching<'_> {
    async fn until_settled(&self, deployed: &[Deployed], rollout: &mut Rollout) -> Result<(), Error> {
        let ids = deployed.iter().map(|one| one.application.id.clone());
        let mut watch = Watch::of(self.client, ids);
        let mut progress = Progress::new(io::stderr(), self.output.repaints, self.output.colours);
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        let deadline = self.begun + self.arguments.timeout;
        loop {
            self.show(&mut progress, rollout);
            let now = Instant::now();
            let wake = match rollout.verdict(now) {
                Verdict::Done => return Ok(()),
                Verdict::Refused => return Err(self.unplaced(rollout)),
                Verdict::Deleted => {
                    return Err(Error::DeletedMeanwhile { what: self.names.join(", ") });
                }
                Verdict::Waiting(_) if now >= deadline => return Err(self.too_slow(rollout)),
                Verdict::Waiting(wake) => wake.unwrap_or(deadline).min(deadline).min(now + TICK),
            };
            tokio::select! {
                report = watch.next() => match report {
                    Some(Report::Service(service)) => rollout.observe(*service, Instant::now()),
                    Some(Report::Deleted(id)) => rollout.deleted(&id),
                    Some(Report::Lost(problem)) => progress.note(&format!("{problem}; trying again")),
                    Some(Report::Failed(error)) => return Err(error),
                    None => time::sleep_until(wake.into()).await,
                },
                () = time::sleep_until(wake.into()) => {}
                _ = &mut interrupted => return Err(Error::Interrupted(format!(
                    "the deployment goes on: `mangrove get instances --app {}` shows it, \
                     `mangrove deploy -f {}` watches it again",
                    self.names[0], self.arguments.file
                ))),
            }
        }
    }

    fn show(&self, progress: &mut Progress<io::Stderr>, rollout: &Rollout) {
        let entries: Vec<Entry> =
            rollout.instances().into_iter().map(|(service, instance)| Entry::of(service, instance)).collect();
        let seconds = self.begun.elapsed().as_secs();
        let headline = format!("deploying {}  {seconds} s", self.names.join(", "));
        progress.show(&headline, &entries, terminal::size());
    }

    fn unplaced(&self, rollout: &Rollout) -> Error {
        let instances = rollout
            .unsettled()
            .into_iter()
            .map(|(service, instance)| format!("{}/{}", service.full_name(), instance.number))
            .collect();
        let application = self.names[0].clone();
        Error::Unplaced { give_up: format!("mangrove delete app {application}"), application, instances }
    }

    fn too_slow(&self, rollout: &Rollout) -> Error {
        let mut states: Vec<String> = rollout
            .unsettled()
            .into_iter()
            .flat_map(|(service, instance)| Entry::of(service, instance).lines())
            .collect();
        if rollout.unseen() > 0 {
            states.push(format!("the root has not reported {}", counted(rollout.unseen(), "instance")));
        }
        let seconds = self.arguments.timeout.as_secs();
        Error::TooSlow { application: self.names[0].clone(), seconds, states }
    }

    /// Where everything is reached, as data.
    fn summarise(&self, rollout: &Rollout) -> Result<(), Error> {
        for (service, instance) in rollout.instances() {
            self.output.data(&summary(service, instance))?;
        }
        Ok(())
    }
}
