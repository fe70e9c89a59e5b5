//! `mangrove secret`: what services are given and nobody is shown.

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::counted;
use crate::{
    args::{Format, SecretValueArguments, SecretWhat},
    client::{Client, path_segment},
    commands::get,
    error::Error,
    objects::{self, Listed, Secret},
    output::Output,
    sla,
};

const PATH: &str = "/api/v1/secrets";

/// Creates, lists, rotates or deletes secrets.
pub(crate) async fn run(client: &Client, output: &Output, what: SecretWhat) -> Result<(), Error> {
    match what {
        SecretWhat::Create { name, value } => {
            let mut body = body(&value)?;
            body["name"] = json!(name);
            client.post(PATH, Some(&body)).await?;
            output.note(&format!("secret {name} is stored"));
            Ok(())
        }
        SecretWhat::List(listing) => list(client, output, listing.output).await,
        SecretWhat::Rotate { name, value } => rotate(client, output, &name, &value).await,
        SecretWhat::Delete { names } => delete(client, output, &names).await,
        SecretWhat::Users { name } => {
            let secrets: Vec<Listed<Secret>> = objects::list(client, PATH).await?;
            let found = secrets.into_iter().find(|secret| secret.object.name == name);
            let users = found.ok_or_else(|| unknown(&name))?.object.users;
            if users.is_empty() {
                output.note(&format!("no service uses secret {name}"));
            }
            users.iter().try_for_each(|user| output.data(user))
        }
    }
}

/// The value with what it is, as the root takes it.
fn body(arguments: &SecretValueArguments) -> Result<Value, Error> {
    let (name, value) = sla::content(&arguments.file)?;
    let (Some(server), Some(username)) = (&arguments.registry, &arguments.username) else {
        return Ok(json!({"kind": "opaque", "data": BASE64.encode(&value)}));
    };
    let password = String::from_utf8(value).map_err(|_| Error::NoText(name.to_owned()))?;
    let password = password.strip_suffix('\n').unwrap_or(&password);
    let password = password.strip_suffix('\r').unwrap_or(password);
    Ok(json!({
        "kind": "registry",
        "registry": {"server": server, "username": username, "password": password},
    }))
}

async fn list(client: &Client, output: &Output, format: Format) -> Result<(), Error> {
    let secrets: Vec<Listed<Secret>> = objects::list(client, PATH).await?;
    let now = jiff::Timestamp::now();
    let columns = get::Columns {
        headings: &["NAME", "KIND", "VERSION", "CHANGED", "USERS", "ID"],
        narrow: 5,
        row: &|secret: &Secret| {
            vec![
                secret.name.clone(),
                secret.kind.clone(),
                secret.version.to_string(),
                format!("{} ago", get::age(&secret.updated_at, now)),
                secret.users.len().to_string(),
                secret.id.clone(),
            ]
        },
        name: &|secret: &Secret| secret.name.clone(),
        nothing: "there are no secrets; `mangrove secret create NAME` makes one",
    };
    get::print(output, format, &secrets, &columns)
}

async fn rotate(
    client: &Client,
    output: &Output,
    name: &str,
    value: &SecretValueArguments,
) -> Result<(), Error> {
    let rotated = client.put(&path_of(name)?, &body(value)?).await?;
    let version = rotated["version"].as_u64().unwrap_or_default();
    let users: Vec<&str> =
        rotated["users"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    output.note(&format!("secret {name} is of version {version}"));
    if !users.is_empty() {
        let services = counted(users.len(), "service");
        output.note(&format!("{services} being updated to it: {}", users.join(", ")));
    }
    Ok(())
}

async fn delete(client: &Client, output: &Output, names: &[String]) -> Result<(), Error> {
    let mut failed = 0;
    for name in names {
        match client.delete(&path_of(name)?).await {
            Ok(_) => output.note(&format!("deleted secret {name}")),
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => {
                failed += 1;
                output.failure(&error);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(Error::Partly { failed, all: names.len() }) }
}

fn path_of(name: &str) -> Result<String, Error> {
    path_segment(name).map(|name| format!("{PATH}/{name}")).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Error {
    Error::Unknown { kind: "secret", name: name.to_owned(), application: None, nearest: None }
}
