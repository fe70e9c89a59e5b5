//! `mangrove run` and `mangrove ignitor`: what follows from tasks, over the resource API of the root.

use std::sync::Arc;

use serde_json::{Value, json};

use super::logs;
use crate::{
    args::{IgnitorWhat, RunWhat},
    client::{Client, path_segment},
    error::Error,
    objects::{self, Listed, Service},
    output::{Output, clean},
};

const VERSION: &str = "sirocco.cloud/v1alpha1";
/// What is printed where there is nothing.
const NOTHING: &str = "-";
/// Others may write to an object meanwhile; so often it is read again.
const ATTEMPTS: usize = 5;
/// Somebody was faster.
const CONFLICT: u16 = 409;

/// Shows a run, prints its logs, has it tried again or stops it.
pub(crate) async fn run(client: &Arc<Client>, output: &Output, what: RunWhat) -> Result<(), Error> {
    match what {
        RunWhat::Graph { run } => graph(client, output, run).await,
        RunWhat::Logs { run, task } => print_logs(client, output, run, task.as_deref()).await,
        RunWhat::Retry { run } => {
            let again = |run: &mut Value| {
                let retries = run["spec"]["retries"].as_u64().unwrap_or_default();
                run["spec"]["retries"] = Value::from(retries + 1);
                run["spec"]["cancel"] = Value::from(false);
            };
            edit(client, &path(client, "runs", &run.to_string())?, again).await?;
            output.note(&format!("what failed in run {run} is tried again"));
            Ok(())
        }
        RunWhat::Cancel { run } => {
            let stop = |run: &mut Value| run["spec"]["cancel"] = Value::from(true);
            edit(client, &path(client, "runs", &run.to_string())?, stop).await?;
            output.note(&format!("run {run} is being stopped"));
            Ok(())
        }
    }
}

/// Has an ignitor fire, suspends it, or shows when it fires next.
pub(crate) async fn ignitor(client: &Client, output: &Output, what: IgnitorWhat) -> Result<(), Error> {
    match what {
        IgnitorWhat::Fire { name, data } => {
            let mut spec = json!({"ignitor": name});
            if let Some(data) = data {
                spec["data"] = Value::from(data);
            }
            let run = json!({"apiVersion": VERSION, "kind": "Run", "spec": spec});
            let made = client.post(&folder(client, "runs")?, Some(&run)).await?;
            output.data(text(&made["metadata"]["name"]))
        }
        IgnitorWhat::Suspend { name, off } => {
            let suspend = |ignitor: &mut Value| ignitor["spec"]["suspend"] = Value::from(!off);
            edit(client, &path(client, "ignitors", &name)?, suspend).await?;
            let how = if off { "by itself again" } else { "by hand only" };
            output.note(&format!("ignitor {} fires {how}", clean(&name)));
            Ok(())
        }
        IgnitorWhat::Next { name } => {
            let ignitor = client.get(&path(client, "ignitors", &name)?).await?;
            let next = ignitor["status"]["next"].as_array().map_or(&[][..], Vec::as_slice);
            if next.is_empty() {
                output.note(&format!("ignitor {} does not fire by itself", clean(&name)));
            }
            next.iter().try_for_each(|at| output.data(text(at)))
        }
    }
}

/// One line for each task that was started, in the order in which they were.
async fn graph(client: &Client, output: &Output, run: u64) -> Result<(), Error> {
    let run = client.get(&path(client, "runs", &run.to_string())?).await?;
    let tasks = run["status"]["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    let row = |task: &Value| {
        let after = task["after"].as_array().map_or(&[][..], Vec::as_slice);
        let after: Vec<String> = after.iter().map(cause).collect();
        let number =
            |field: &str| task[field].as_i64().map_or_else(|| NOTHING.to_owned(), |it| it.to_string());
        vec![
            clean(&named(task)),
            clean(text(&task["phase"])),
            clean(&after.join(", ")),
            number("attempts"),
            number("exitCode"),
            clean(task["detail"].as_str().unwrap_or(NOTHING)),
        ]
    };
    let headings = ["TASK", "PHASE", "AFTER", "ATTEMPTS", "EXIT CODE", "DETAIL"];
    output.table(&headings, tasks.iter().map(row).collect())?;
    tasks.iter().filter_map(of_actions).for_each(|told| output.note(&clean(&told)));
    let reason = run["status"]["message"].as_str().map(|message| format!(": {message}")).unwrap_or_default();
    output.note(&clean(&format!("{}{reason}", text(&run["status"]["phase"]))));
    Ok(())
}

/// What there is to say of the actions of a task that were not taken.
fn of_actions(task: &Value) -> Option<String> {
    let actions = &task["actions"];
    let count = |field: &str| actions[field].as_u64().unwrap_or_default();
    let (waiting, given_up) = (count("waiting"), count("givenUp"));
    if waiting + given_up == 0 {
        return None;
    }
    let why = actions["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
    Some(format!("actions of {}: {waiting} wait, {given_up} were given up{why}", named(task)))
}

/// A task with the round of it, if it is not the first.
fn named(task: &Value) -> String {
    let name = text(if task["name"].is_null() { &task["task"] } else { &task["name"] });
    match task["round"].as_u64() {
        None | Some(0 | 1) => name.to_owned(),
        Some(round) => format!("{name}#{round}"),
    }
}

fn cause(of: &Value) -> String {
    match of["ignitor"].as_str() {
        Some(ignitor) => format!("{ignitor} fired"),
        None => format!("{} {}", named(of), text(&of["result"])),
    }
}

async fn print_logs(
    client: &Arc<Client>,
    output: &Output,
    run: u64,
    task: Option<&str>,
) -> Result<(), Error> {
    // Asked for first: of a run that is not there is to be told, too.
    client.get(&path(client, "runs", &run.to_string())?).await?;
    let services: Vec<Listed<Service>> = objects::list(client, "/api/services/").await?;
    let mut attempts: Vec<(String, String)> = services
        .iter()
        .map(|item| &item.object)
        .filter(|service| is_attempt_of(service, run, task))
        .flat_map(|service| {
            let path = |number: u64| format!("/api/service/{}/instance/{number}/logs", service.id);
            service.instances.iter().map(move |it| (service.name.clone(), path(it.number)))
        })
        .collect();
    attempts.sort();
    if attempts.is_empty() {
        output.note(&format!("run {run} has no containers"));
        return Ok(());
    }
    logs::merge(client, output, &attempts, false).await
}

/// Attempts are called `RUN-TASK-ROUND-ITEM-ATTEMPT`.
fn is_attempt_of(service: &Service, run: u64, task: Option<&str>) -> bool {
    let behind = service.name.strip_prefix(&format!("{run}-"));
    let of = behind.and_then(|behind| behind.rsplitn(4, '-').nth(3));
    service.application_name == "task-runs" && of.is_some_and(|of| task.is_none_or(|task| task == of))
}

/// Writes an object as `change` has it.
async fn edit(client: &Client, path: &str, change: impl Fn(&mut Value)) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        let mut object = client.get(path).await?;
        let before = object.clone();
        change(&mut object);
        if object == before {
            return Ok(());
        }
        match client.put(path, &object).await {
            Err(Error::Refused { status: CONFLICT, message, .. })
                if attempt < ATTEMPTS && message.contains("has been modified") =>
            {
                attempt += 1;
            }
            written => return written.map(drop),
        }
    }
}

fn folder(client: &Client, plural: &str) -> Result<String, Error> {
    let namespace = client.organization().unwrap_or_else(|| "root".to_owned());
    let namespace = path_segment(&namespace).ok_or_else(|| unknown("organization", &namespace))?;
    Ok(format!("/apis/{VERSION}/namespaces/{namespace}/{plural}"))
}

fn path(client: &Client, plural: &'static str, name: &str) -> Result<String, Error> {
    let segment = path_segment(name).ok_or_else(|| unknown(plural, name))?;
    Ok(format!("{}/{segment}", folder(client, plural)?))
}

fn unknown(kind: &'static str, name: &str) -> Error {
    Error::Unknown { kind, name: name.to_owned(), application: None, nearest: None }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
