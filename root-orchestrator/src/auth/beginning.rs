//! Who is there at the first start: the user `Admin` in the organisation `root`. A store from before there were
//! organisations gets the organisation, with every user it has in all roles: there was `Admin` alone.

use std::collections::BTreeSet;

use model::UserId;
use root_core::{Organization, Quota, User, access::Role};
use store::{Store, decode, put};

use super::passwords;
use crate::{
    api::date,
    documents::{ORGANIZATIONS, Settings, USERS},
};

const ADMIN: &str = "Admin";
/// The first organisation, as clients of Oakestra name it at login.
pub(crate) const ROOT_ORGANIZATION: &str = "root";

/// Makes who is missing. To be called before the brain reads the store.
pub(crate) async fn begin(
    store: &dyn Store,
    settings: &Settings,
    admin_password: Option<String>,
) -> anyhow::Result<()> {
    let mut writes = Vec::new();
    let mut users: Vec<UserId> = Vec::new();
    for document in store.list(USERS).await? {
        users.push(decode::<User>(&document)?.id);
    }
    if users.is_empty() {
        let admin = first_user(admin_password)?;
        users.push(admin.id);
        writes.push(put(USERS, admin.id, &admin));
    }
    if store.list(ORGANIZATIONS).await?.is_empty() {
        let all = BTreeSet::from(Role::ALL);
        let root = Organization {
            id: settings.organization,
            name: ROOT_ORGANIZATION.to_owned(),
            members: users.into_iter().map(|user| (user, all.clone())).collect(),
            quota: Quota::default(),
        };
        writes.push(put(ORGANIZATIONS, root.id, &root));
    }
    if !writes.is_empty() {
        store.commit(writes).await?;
    }
    Ok(())
}

fn first_user(password: Option<String>) -> anyhow::Result<User> {
    let given = password.filter(|password| !password.is_empty());
    let password = given.clone().unwrap_or_else(daemon::random_hex::<12>);
    match given.as_deref() {
        None => tracing::warn!(
            user = ADMIN,
            password,
            "first start: this password is shown once; log in with it and change it with `mangrove password`"
        ),
        Some(ADMIN) => tracing::warn!(
            "the password of `Admin` is `Admin`, which everybody knows; keep the API on loopback"
        ),
        Some(_) => {}
    }
    Ok(User {
        id: daemon::fresh_user_id(),
        name: ADMIN.to_owned(),
        email: String::new(),
        created_at: date(daemon::now()),
        password_hash: passwords::hash(&password)?,
        epoch: 0,
        reset: None,
        provider: None,
    })
}
