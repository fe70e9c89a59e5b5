//! `mangrove hook`: programs that are told when something of an organisation changes.

use serde_json::{Value, json};

use crate::{
    args::{Format, HookEvent, HookUpdateArguments, HookWhat},
    client::Client,
    commands::get,
    error::Error,
    objects::{self, Hook, Listed},
    output::{Output, clean},
    resolve, sla,
};

const PATH: &str = "/api/v1/hooks";

/// Creates, lists, changes or deletes hooks.
pub(crate) async fn run(client: &Client, output: &Output, what: HookWhat) -> Result<(), Error> {
    match what {
        HookWhat::Create { name, url, entity, on, secret_file } => {
            let mut body =
                json!({"hook_name": name, "webhook_url": url, "entity": entity, "events": words(&on)});
            if let Some(file) = &secret_file {
                body["secret"] = json!(secret(file)?);
            }
            client.post(PATH, Some(&body)).await?;
            output.note(&format!("hook {name} is told from now on"));
            Ok(())
        }
        HookWhat::List(listing) => list(client, output, listing.output).await,
        HookWhat::Update(update) => change(client, output, &update).await,
        HookWhat::Delete { names } => delete(client, output, &names).await,
    }
}

fn words(events: &[HookEvent]) -> Vec<&'static str> {
    events.iter().map(|event| event.word()).collect()
}

/// The first line of a file.
fn secret(file: &str) -> Result<String, Error> {
    let (name, content) = sla::content(file)?;
    let text = String::from_utf8(content).map_err(|_| Error::NoText(name.to_owned()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

async fn list(client: &Client, output: &Output, format: Format) -> Result<(), Error> {
    let mut hooks: Vec<Listed<Hook>> = objects::list(client, PATH).await?;
    hooks.sort_by_key(|hook| hook.object.full_name());
    let columns = get::Columns {
        headings: &["NAME", "ENTITY", "EVENTS", "WAITING", "FAILURES", "URL", "SIGNED", "ORGANIZATION", "ID"],
        narrow: 6,
        row: &|hook: &Hook| {
            let events: Vec<&str> =
                hook.events.iter().map(|event| event.trim_start_matches("post_")).collect();
            vec![
                hook.name.clone(),
                hook.entity.clone(),
                events.join(","),
                hook.pending.to_string(),
                hook.failures.to_string(),
                hook.url.clone(),
                get::yes_or_no(hook.signed),
                hook.organization.clone(),
                hook.id.clone(),
            ]
        },
        name: &|hook: &Hook| hook.name.clone(),
        nothing: "there are no hooks; `mangrove hook create NAME --url URL --entity jobs` makes one",
    };
    get::print(output, format, &hooks, &columns)?;
    if format != Format::Json {
        for Listed { object: hook, .. } in hooks.iter().filter(|hook| hook.object.failures > 0) {
            let reason = hook.last_error.as_ref().map_or("", |error| error.reason.as_str());
            output.note(&clean(&format!("hook {} is not taken: {reason}", hook.name)));
        }
    }
    Ok(())
}

async fn change(client: &Client, output: &Output, update: &HookUpdateArguments) -> Result<(), Error> {
    let HookUpdateArguments { name, rename, url, entity, on, secret_file, unsigned } = update;
    let mut body = json!({});
    let given = [("hook_name", rename), ("webhook_url", url), ("entity", entity)];
    for (field, value) in given.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
        body[field] = json!(value);
    }
    if !on.is_empty() {
        body["events"] = json!(words(on));
    }
    if let Some(file) = secret_file {
        body["secret"] = json!(secret(file)?);
    } else if *unsigned {
        body["secret"] = json!("");
    }
    let hooks: Vec<Listed<Hook>> = objects::list(client, PATH).await?;
    let hook = find(&hooks, name)?;
    let changed = client.patch(&format!("{PATH}/{}", hook.id), &body).await?;
    let said = match changed["pending"].as_u64() {
        None | Some(0) => "and nothing waits".to_owned(),
        Some(pending) => format!("and told at once of what waits ({pending})"),
    };
    output.note(&format!("hook {} is as you said, {said}", rename.as_ref().unwrap_or(&hook.name)));
    Ok(())
}

async fn delete(client: &Client, output: &Output, names: &[String]) -> Result<(), Error> {
    let hooks: Vec<Listed<Hook>> = objects::list(client, PATH).await?;
    let mut failed = 0;
    for name in names {
        let deleted = match find(&hooks, name) {
            Ok(hook) => client.delete(&format!("{PATH}/{}", hook.id)).await.map(|_: Value| ()),
            Err(error) => Err(error),
        };
        match deleted {
            Ok(()) => output.note(&format!("deleted hook {name}")),
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => {
                failed += 1;
                output.failure(&error);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(Error::Partly { failed, all: names.len() }) }
}

fn find<'a>(hooks: &'a [Listed<Hook>], name: &str) -> Result<&'a Hook, Error> {
    resolve::hook(hooks.iter().map(|hook| &hook.object), name)
}
