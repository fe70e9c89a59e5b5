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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use store::{History, SqliteStore};

    use super::*;
    use crate::{auth::Passwords, documents};

    /// What is logged on this thread while that is done.
    async fn logged(done: impl Future<Output = anyhow::Result<()>>) -> String {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);

        impl std::io::Write for Log {
            fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("no panic").extend_from_slice(line);
                Ok(line.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let listening = tracing::subscriber::set_default(subscriber);
        done.await.expect("it begins");
        drop(listening);
        String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text")
    }

    async fn admin(store: &SqliteStore) -> User {
        let users = store.list(USERS).await.expect("readable");
        let [user] = &users[..] else { panic!("{} users", users.len()) };
        decode(user).expect("a user")
    }

    #[tokio::test]
    async fn a_password_nobody_gave_is_random_told_once_and_kept_as_a_hash() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.sqlite");
        let store = SqliteStore::open(&path, History::USUAL).expect("a store");
        let settings = documents::load_or_create_settings(&store, false).await.expect("new");
        let log = logged(begin(&store, &settings, None)).await;
        let (_, told) = log.split_once("password=\"").expect("the log tells it");
        let (password, _) = told.split_once('"').expect("to its end");
        assert!(password.len() == 24 && password.bytes().all(|byte| byte.is_ascii_hexdigit()), "{password}");

        let made = admin(&store).await;
        assert!(made.password_hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{}", made.password_hash);
        let passwords = Passwords::new();
        assert!(passwords.matches(password.to_owned(), Some(made.password_hash.clone())).await);
        assert!(!passwords.matches(ADMIN.to_owned(), Some(made.password_hash.clone())).await);

        let log = logged(begin(&store, &settings, Some("another".to_owned()))).await;
        assert_eq!(log, "", "it is shown once");
        assert_eq!(admin(&store).await.password_hash, made.password_hash, "and stays");
    }

    #[tokio::test]
    async fn a_password_that_was_given_is_not_told_and_one_everybody_knows_is_warned_of() {
        for (given, is_warned) in [("correct horse", false), (ADMIN, true)] {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("store.sqlite");
            let store = SqliteStore::open(&path, History::USUAL).expect("a store");
            let settings = documents::load_or_create_settings(&store, false).await.expect("new");
            let log = logged(begin(&store, &settings, Some(given.to_owned()))).await;
            assert!(!log.contains("correct horse"), "{log}");
            assert_eq!(log.contains("WARN") && log.contains("which everybody knows"), is_warned, "{log}");
            let hash = admin(&store).await.password_hash;
            assert!(Passwords::new().matches(given.to_owned(), Some(hash)).await);
        }
    }
}
