//! `mangrove delete`: asks first, then tells the root. What is deleted goes once its devices confirm it.

use crate::{
    args::DeleteWhat,
    client::Client,
    commands::counted,
    error::Error,
    objects::{self, Application, Listed, Service},
    output::Output,
    resolve,
};

/// Something to delete: how the user reads it and where the API has it.
struct Target {
    description: String,
    path: String,
}

/// Deletes what is named. Nothing is deleted unless every name is known.
pub(crate) async fn run(client: &Client, output: &Output, what: DeleteWhat) -> Result<(), Error> {
    let (targets, yes) = match what {
        DeleteWhat::App { targets, yes } => (applications(client, &targets).await?, yes),
        DeleteWhat::Service { targets, app, yes } => (services(client, &targets, app.as_deref()).await?, yes),
        DeleteWhat::Instance { targets, app, yes } => {
            (instances(client, &targets, app.as_deref()).await?, yes)
        }
    };
    let mut failed = 0;
    for target in &targets {
        let Target { description, path } = target;
        if !yes && !output.confirm(&format!("delete {description}"))? {
            output.note(&format!("{description} stays"));
            continue;
        }
        match client.delete(path).await {
            Ok(_) => output.note(&format!("deleted {description}")),
            Err(error) if targets.len() == 1 => return Err(error),
            Err(error) => {
                failed += 1;
                output.failure(&error);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(Error::Partly { failed, all: targets.len() }) }
}

async fn applications(client: &Client, names: &[String]) -> Result<Vec<Target>, Error> {
    let applications: Vec<Listed<Application>> = objects::list(client, "/api/applications/").await?;
    let target = |name: &String| {
        let application = resolve::application(applications.iter().map(|item| &item.object), name)?;
        let services = counted(application.microservices.len(), "service");
        Ok(Target {
            description: format!("application {} with {services}", application.full_name()),
            path: format!("/api/application/{}", application.id),
        })
    };
    names.iter().map(target).collect()
}

async fn services(client: &Client, names: &[String], app: Option<&str>) -> Result<Vec<Target>, Error> {
    let services: Vec<Listed<Service>> = objects::list(client, "/api/services/").await?;
    let target = |name: &String| {
        let service = resolve::service(services.iter().map(|item| &item.object), name, app)?;
        let instances = counted(service.staying().count(), "instance");
        Ok(Target {
            description: format!("service {} with {instances}", service.full_name()),
            path: format!("/api/service/{}", service.id),
        })
    };
    names.iter().map(target).collect()
}

async fn instances(client: &Client, names: &[String], app: Option<&str>) -> Result<Vec<Target>, Error> {
    let split: Vec<(&str, u64)> =
        names.iter().map(|name| resolve::split_instance(name)).collect::<Result<_, _>>()?;
    let services: Vec<Listed<Service>> = objects::list(client, "/api/services/").await?;
    let target = |(name, number): (&str, u64)| {
        let service = resolve::service(services.iter().map(|item| &item.object), name, app)?;
        let existing: Vec<u64> = service.instances.iter().map(|instance| instance.number).collect();
        if !existing.contains(&number) {
            return Err(Error::NoInstance { service: service.full_name(), number: Some(number), existing });
        }
        Ok(Target {
            description: format!("instance {}/{number}", service.full_name()),
            path: format!("/api/service/{}/instance/{number}", service.id),
        })
    };
    split.into_iter().map(target).collect()
}
