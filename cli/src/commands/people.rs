//! `mangrove user` and `mangrove organization`: who may log in, and to what.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    args::{Limit, Limits, Listing, OrganizationWhat, UserWhat},
    client::{Client, path_segment},
    commands::{
        get::{Columns, print},
        passwords::{self, Lines},
    },
    error::Error,
    objects::{self, Listed, Organization, User},
    output::Output,
    resolve,
};

/// Does something to users.
pub(crate) async fn users(client: &Client, output: &Output, what: UserWhat) -> Result<(), Error> {
    match what {
        UserWhat::List(listing) => list_users(client, output, listing).await,
        UserWhat::Create { name, roles, email, password_stdin } => {
            let password = if password_stdin {
                Lines::read()?.next()
            } else {
                passwords::ask_new(&format!("Password of {name}: ")).await?
            };
            let request = json!({"name": name, "password": password, "email": email, "roles": roles});
            client.post("/api/auth/register", Some(&request)).await?;
            output.note(&format!("created user {name}"));
            Ok(())
        }
        UserWhat::Roles { name, roles } => {
            client.put(&path_of(&name)?, &json!({"roles": roles})).await?;
            output.note(&format!("user {name} is {}", in_words(&roles)));
            Ok(())
        }
        UserWhat::ResetPassword { name } => {
            let request = format!("{}/reset", path_of(&name)?);
            let made = client.post(&request, None).await?;
            output.data(client.field(&made, "token", &format!("POST {request}"))?)?;
            let end = made["expires_at"].as_str().unwrap_or_default();
            output.note(&format!(
                "Hand it over to {name}, who sets another password until {end} with\n  \
                 mangrove password --reset-token TOKEN"
            ));
            Ok(())
        }
        UserWhat::Delete { names, yes } => delete_users(client, output, &names, yes).await,
    }
}

async fn list_users(client: &Client, output: &Output, listing: Listing) -> Result<(), Error> {
    let mut users: Vec<Listed<User>> = objects::list(client, "/api/users/").await?;
    users.sort_by_key(|item| item.object.name.clone());
    let columns = Columns {
        headings: &["NAME", "ROLES", "EMAIL", "CREATED", "ID"],
        narrow: 3,
        row: &|user: &User| {
            let User { id, name, email, created_at, roles } = user;
            vec![name.clone(), roles.join(", "), email.clone(), created_at.clone(), id.oid.clone()]
        },
        name: &|user: &User| user.name.clone(),
        nothing: "there are no users you may look at",
    };
    print(output, listing.output, &users, &columns)
}

async fn delete_users(client: &Client, output: &Output, names: &[String], yes: bool) -> Result<(), Error> {
    let mut failed = 0;
    for name in names {
        let path = path_of(name)?;
        if !yes && !output.confirm(&format!("delete user {name}"))? {
            output.note(&format!("user {name} stays"));
            continue;
        }
        match client.delete(&path).await {
            Ok(_) => output.note(&format!("deleted user {name}")),
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => {
                failed += 1;
                output.failure(&error);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(Error::Partly { failed, all: names.len() }) }
}

/// Does something to organisations.
pub(crate) async fn organizations(
    client: &Client,
    output: &Output,
    what: OrganizationWhat,
) -> Result<(), Error> {
    match what {
        OrganizationWhat::List(listing) => list_organizations(client, output, listing).await,
        OrganizationWhat::Create { name } => {
            client.post("/api/organization/", Some(&json!({"name": name, "member": []}))).await?;
            output.note(&format!(
                "created organisation {name}; `mangrove organization enlist` gives it members"
            ));
            Ok(())
        }
        OrganizationWhat::Enlist { organization, user, roles } => {
            let (organization, id) = (find(client, &organization).await?, user_id(client, &user).await?);
            let others = organization.members.iter().filter(|member| member["user_id"] != id.as_str());
            let member = json!({"user_id": id, "roles": roles});
            let members = others.cloned().chain([member]).collect();
            set_members(client, &organization, members).await?;
            output.note(&format!("in {} user {user} is {}", organization.name, in_words(&roles)));
            Ok(())
        }
        OrganizationWhat::Expel { organization, user } => {
            let (organization, id) = (find(client, &organization).await?, user_id(client, &user).await?);
            let is_other = |member: &&Value| member["user_id"] != id.as_str();
            let members = organization.members.iter().filter(is_other).cloned().collect();
            set_members(client, &organization, members).await?;
            output.note(&format!("user {user} is no member of {}", organization.name));
            Ok(())
        }
        OrganizationWhat::Quota { organization, limits } => {
            let organization = find(client, &organization).await?;
            quota(client, output, &organization, &limits).await
        }
        OrganizationWhat::Delete { organization, yes } => {
            let organization = find(client, &organization).await?;
            if !yes && !output.confirm(&format!("delete organisation {}", organization.name))? {
                output.note(&format!("organisation {} stays", organization.name));
                return Ok(());
            }
            client.delete(&format!("/api/organization/{}", organization.id.oid)).await?;
            output.note(&format!("deleted organisation {}", organization.name));
            Ok(())
        }
    }
}

async fn list_organizations(client: &Client, output: &Output, listing: Listing) -> Result<(), Error> {
    let mut organizations: Vec<Listed<Organization>> = objects::list(client, "/api/organization/").await?;
    organizations.sort_by_key(|item| item.object.name.clone());
    let users: Vec<Listed<User>> = objects::list(client, "/api/users/").await?;
    let names: BTreeMap<&str, &str> =
        users.iter().map(|item| (&*item.object.id.oid, &*item.object.name)).collect();
    let name_of = |member: &Value| {
        let id = member["user_id"].as_str().unwrap_or_default();
        names.get(id).copied().unwrap_or(id).to_owned()
    };
    let columns = Columns {
        headings: &["NAME", "MEMBERS", "ID"],
        narrow: 2,
        row: &|organization: &Organization| {
            let members: Vec<String> = organization.members.iter().map(name_of).collect();
            vec![organization.name.clone(), members.join(", "), organization.id.oid.clone()]
        },
        name: &|organization: &Organization| organization.name.clone(),
        nothing: "there are no organisations you may look at",
    };
    print(output, listing.output, &organizations, &columns)
}

/// What is taken of what, a line each.
async fn quota(
    client: &Client,
    output: &Output,
    organization: &Organization,
    limits: &Limits,
) -> Result<(), Error> {
    let path = format!("/api/organization/{}/quota", organization.id.oid);
    let mut shown = client.get(&path).await?;
    let Limits { instances, vcpus, memory, storage } = limits;
    let given = [("instances", instances), ("vcpus", vcpus), ("memory", memory), ("storage", storage)];
    if given.iter().any(|(_, limit)| limit.is_some()) {
        let mut wanted = shown["quota"].clone();
        for (amount, limit) in given {
            if let Some(Limit(limit)) = limit {
                wanted[amount] = json!(limit);
            }
        }
        shown = client.put(&path, &wanted).await?;
    }
    let row = |(amount, unit): (&str, &str)| {
        let of = |kind: &str| shown[kind][amount].as_u64().map(|number| number.to_string());
        let limit = of("quota").unwrap_or_else(|| "no limit".to_owned());
        vec![format!("{amount}{unit}"), of("usage").unwrap_or_default(), limit]
    };
    let amounts = [("instances", ""), ("vcpus", ""), ("memory", " (MiB)"), ("storage", " (MiB)")];
    output.table(&["AMOUNT", "TAKEN", "QUOTA"], amounts.into_iter().map(row).collect())
}

async fn set_members(client: &Client, organization: &Organization, members: Vec<Value>) -> Result<(), Error> {
    let path = format!("/api/organization/{}", organization.id.oid);
    client.put(&path, &json!({"member": members})).await.map(drop)
}

/// An organisation by its name or id.
async fn find(client: &Client, name: &str) -> Result<Organization, Error> {
    let known: Vec<Listed<Organization>> = objects::list(client, "/api/organization/").await?;
    let mut known = known.into_iter().map(|item| item.object).collect::<Vec<_>>();
    match known.iter().position(|one| one.id.oid == name || one.name == name) {
        Some(index) => Ok(known.swap_remove(index)),
        None => Err(Error::Unknown {
            kind: "organization",
            name: name.to_owned(),
            application: None,
            nearest: resolve::nearest(known.iter().map(|one| &one.name), name),
        }),
    }
}

async fn user_id(client: &Client, name: &str) -> Result<String, Error> {
    let path = path_of(name)?;
    let user = client.get(&path).await?;
    let user: Vec<Listed<User>> =
        objects::read_list(client.root(), &format!("GET {path}"), Value::Array(vec![user]))?;
    Ok(user.into_iter().map(|item| item.object.id.oid).next().unwrap_or_default())
}

/// A name becomes part of a path and must not lead elsewhere.
fn path_of(name: &str) -> Result<String, Error> {
    let unknown = || Error::Unknown { kind: "user", name: name.to_owned(), application: None, nearest: None };
    Ok(format!("/api/user/{}", path_segment(name).ok_or_else(unknown)?))
}

fn in_words(roles: &[String]) -> String {
    if roles.is_empty() { "a member without a role".to_owned() } else { roles.join(", ") }
}
