//! Secrets on this device: kept sealed in the last assignment, and opened only when a container is made or started or an
//! image is fetched. Files with values are in memory, where nobody but root gets to them, and go with their instance.
//!
//! The key, and how values are sealed, are in `crates/link` (`sealing.rs`).

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use link::{SealingKey, SecretValue, UnsealError};
use model::{Generation, InstanceId, RegistryCredentials, SecretTarget, SecretUse};
use node_core::{SealedSecret, StartOrder};
use rustix::mount::MountFlags;

/// What the kernel calls a file system that is in memory (`statfs(2)`: `TMPFS_MAGIC`).
const IN_MEMORY: i64 = 0x0102_1994;

/// What an instance cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The cluster sent no value.
    #[error(
        "secret `{name}` did not come with the assignment: its cluster or the root could not seal it, and their logs say why"
    )]
    Missing {
        /// Its name.
        name: String,
    },
    /// It is not for this device.
    #[error("secret `{name}`: {reason}")]
    Sealed {
        /// Its name.
        name: String,
        /// Why.
        reason: UnsealError,
    },
    /// Bytes that no variable can have.
    #[error(
        "secret `{name}` is no text, so it cannot be the variable `{variable}`; use `file` instead of `env`"
    )]
    NotText {
        /// Its name.
        name: String,
        /// The variable.
        variable: String,
    },
    /// The directory or a file in it.
    #[error(
        "secrets cannot be put into memory at {}: {reason}; is it a directory that NodeEngine, as root, can mount a tmpfs \
         at? --secrets-dir names another",
        path.display()
    )]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// Not what a secret of kind registry holds.
    #[error(
        "the image pull secret holds no login; make it with `mangrove secret create NAME --registry SERVER`"
    )]
    NoLogin,
    /// Not of the registry the image is from.
    #[error("the image pull secret is for registry `{of}`, and image `{image}` is from `{from}`")]
    OtherRegistry {
        /// Whose login it is.
        of: String,
        /// Which image.
        image: String,
        /// Where that is.
        from: String,
    },
}

/// What a container is given.
#[derive(Default)]
pub(crate) struct Given {
    /// Files on the device, and where they are inside.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Each `NAME=value`.
    pub(crate) variables: Vec<String>,
}

/// Opens what is sealed for this device.
#[derive(Debug, Clone)]
pub struct Secrets {
    key: SealingKey,
    directory: PathBuf,
}

impl Secrets {
    /// Files are put into `directory`, which becomes one in memory if it is none.
    #[must_use]
    pub const fn new(key: SealingKey, directory: PathBuf) -> Self {
        Self { key, directory }
    }

    /// Puts in place what a container mounts, and says what it is given. The same for one instance and generation, so that
    /// a container finds its files again at its next start.
    pub(crate) fn give(&self, order: &StartOrder) -> Result<Given, SecretError> {
        let mut given = Given::default();
        if order.spec.secrets.is_empty() {
            return Ok(given);
        }
        let own = self.directory.join(own_name(order.instance, order.generation));
        for (index, secret) in order.spec.secrets.iter().enumerate() {
            let value = self.value(order, secret)?;
            match &secret.target {
                SecretTarget::Variable(name) => {
                    let not_text =
                        || SecretError::NotText { name: secret.name.clone(), variable: name.clone() };
                    let text = std::str::from_utf8(value.reveal()).ok().filter(|text| !text.contains('\0'));
                    given.variables.push(format!("{name}={}", text.ok_or_else(not_text)?));
                }
                SecretTarget::File { path, mode } => {
                    let source = own.join(index.to_string());
                    self.put(&own, &source, &value, *mode)
                        .map_err(|reason| SecretError::File { path: source.clone(), reason })?;
                    given.files.push((source, path.clone()));
                }
            }
        }
        Ok(given)
    }

    /// The login for an image.
    pub(crate) fn login(
        &self,
        image: &str,
        secret: &SealedSecret,
    ) -> Result<RegistryCredentials, SecretError> {
        let opened = self.key.open(secret.version, &secret.sealed);
        let value =
            opened.map_err(|reason| SecretError::Sealed { name: "image_pull_secret".to_owned(), reason })?;
        let login: RegistryCredentials =
            serde_json::from_slice(value.reveal()).map_err(|_| SecretError::NoLogin)?;
        let from = registry_of(image);
        // A password is for one registry and told to no other.
        if canonical(&login.server) != from {
            let (of, image, from) = (login.server, image.to_owned(), from.to_owned());
            return Err(SecretError::OtherRegistry { of, image, from });
        }
        Ok(login)
    }

    /// Removes the files of an instance up to a generation.
    pub(crate) fn forget(&self, instance: InstanceId, newest: Generation) {
        let prefix = own_name(instance, Generation(0));
        let prefix = prefix.trim_end_matches('0');
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let generation = name.to_str().and_then(|name| name.strip_prefix(prefix)).map(str::parse::<u64>);
            if let Some(Ok(generation)) = generation
                && generation <= newest.0
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::error!(directory = %entry.path().display(), %error, "secrets of an instance stay behind");
            }
        }
    }

    fn value(&self, order: &StartOrder, secret: &SecretUse) -> Result<SecretValue, SecretError> {
        let name = || secret.name.clone();
        let sealed =
            order.secrets.get(&secret.version).ok_or_else(|| SecretError::Missing { name: name() })?;
        self.key.open(secret.version, sealed).map_err(|reason| SecretError::Sealed { name: name(), reason })
    }

    fn put(&self, own: &Path, path: &Path, value: &SecretValue, mode: u32) -> io::Result<()> {
        use io::Write;
        in_memory(&self.directory)?;
        fs::create_dir_all(own)?;
        if fs::read(path).is_ok_and(|there| there == value.reveal()) {
            return Ok(());
        }
        let temporary = path.with_extension("new");
        let mut file =
            fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(value.reveal())?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&temporary, path)
    }
}

/// Makes sure that a directory is in memory and only root gets into it.
fn in_memory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if rustix::fs::statfs(directory)?.f_type != IN_MEMORY {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("mangrove-secrets", directory, "tmpfs", flags, c"mode=0700")?;
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
}

fn own_name(instance: InstanceId, generation: Generation) -> String {
    let mut name = String::new();
    write!(name, "{}.{}.{generation}", instance.service, instance.number)
        .expect("writing to a string cannot fail");
    name
}

/// The registry that an image reference means: Docker's own unless its first part looks like a host.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => canonical(host),
        Some(_) | None => "docker.io",
    }
}

/// Docker's own registry has several names.
fn canonical(server: &str) -> &str {
    match server {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use daemon::StateDirectory;
    use model::{SecretId, SecretVersionId};

    use super::*;
    use crate::runtime::docker::order_for_test as order;

    fn version(number: u32) -> SecretVersionId {
        SecretVersionId { secret: SecretId::from_bytes([1; 12]), number }
    }

    fn secrets() -> (tempfile::TempDir, Secrets) {
        // In memory on every system that Mangrove runs on.
        let parent = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let state = StateDirectory::open(&parent.path().join("state")).expect("a directory");
        let key = SealingKey::load_or_generate(&state).expect("usable");
        let secrets = Secrets::new(key, parent.path().join("secrets"));
        (parent, secrets)
    }

    /// An order whose service uses the value, in each of these ways.
    fn using(secrets: &Secrets, value: &[u8], targets: &[SecretTarget]) -> StartOrder {
        let sealed = secrets.key.public().seal(version(1), &SecretValue::new(value.to_vec()));
        let mut order = order("web");
        order.secrets = Arc::new(BTreeMap::from([(version(1), sealed)]));
        let uses = targets.iter().map(|target| SecretUse {
            name: "database".to_owned(),
            version: version(1),
            target: target.clone(),
        });
        Arc::make_mut(&mut order.spec).secrets = uses.collect();
        order
    }

    fn file(path: &str) -> SecretTarget {
        SecretTarget::File { path: path.to_owned(), mode: 0o400 }
    }

    #[test]
    fn a_file_is_in_memory_readable_by_root_alone_and_goes_with_its_instance() {
        let (_parent, secrets) = secrets();
        let order = using(&secrets, b"hunter2", &[file("/run/secrets/database")]);
        let given = secrets.give(&order).expect("it is sealed for this device");
        let [(source, target)] = &given.files[..] else { panic!("one file, not {:?}", given.files) };
        assert_eq!(target, "/run/secrets/database");
        assert_eq!(fs::read(source).expect("there"), b"hunter2");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(source), mode(&secrets.directory)), (0o400, 0o700));
        assert_eq!(secrets.give(&order).expect("again").files, given.files, "a restart finds the same");

        secrets.forget(order.instance, Generation(order.generation.0 - 1));
        assert!(source.exists(), "it is of a newer generation");
        secrets
            .forget(InstanceId { number: order.instance.number + 1, ..order.instance }, Generation(u64::MAX));
        assert!(source.exists(), "it is of another instance");
        secrets.forget(order.instance, order.generation);
        assert_eq!(fs::read_dir(&secrets.directory).expect("there").count(), 0);
    }

    #[test]
    fn a_directory_on_a_disk_becomes_one_in_memory() {
        let parent = tempfile::tempdir_in("/var/lib").expect("these tests run as root");
        let directory = parent.path().join("secrets");
        in_memory(&directory).expect("these tests run as root");
        assert_eq!(rustix::fs::statfs(&directory).expect("there").f_type, IN_MEMORY);
        in_memory(&directory).expect("and stays so");
        rustix::mount::unmount(&directory, rustix::mount::UnmountFlags::empty()).expect("mounted once");
        assert_ne!(rustix::fs::statfs(&directory).expect("there").f_type, IN_MEMORY);
    }

    #[test]
    fn a_variable_is_text_and_what_is_not_is_refused_by_name() {
        let (_parent, secrets) = secrets();
        let target = [SecretTarget::Variable("PASSWORD".to_owned())];
        let given = secrets.give(&using(&secrets, b"hunter2", &target)).expect("text");
        assert_eq!((given.files, given.variables), (vec![], vec!["PASSWORD=hunter2".to_owned()]));
        let refused = secrets.give(&using(&secrets, b"\xff", &target)).map(drop).expect_err("no text");
        assert!(refused.to_string().starts_with("secret `database` is no text"), "{refused}");
    }

    #[test]
    fn what_did_not_come_or_is_for_another_device_is_refused_by_name() {
        let (_parent, own) = secrets();
        let (_other_parent, other) = secrets();
        let mut order = using(&other, b"hunter2", &[file("/a")]);
        let refused = own.give(&order).map(drop).expect_err("for another").to_string();
        assert!(refused.starts_with("secret `database`: version "), "{refused}");
        order.secrets = Arc::default();
        let refused = own.give(&order).map(drop).expect_err("not there").to_string();
        assert!(refused.starts_with("secret `database` did not come"), "{refused}");
    }

    #[test]
    fn a_login_is_told_to_its_own_registry_only() {
        let (_parent, secrets) = secrets();
        let login = |server: &str, image: &str| {
            let credentials = RegistryCredentials {
                server: server.to_owned(),
                username: "robot".to_owned(),
                password: "hunter2".to_owned(),
            };
            let value = serde_json::to_vec(&credentials).expect("texts");
            let sealed = secrets.key.public().seal(version(1), &SecretValue::new(value));
            let secret = SealedSecret { version: version(1), sealed };
            secrets.login(image, &secret).map(|login| login.password)
        };
        for (server, image) in [
            ("registry.example:5000", "registry.example:5000/a/b:1"),
            ("localhost", "localhost/a"),
            ("docker.io", "nginx"),
            ("index.docker.io", "docker.io/library/nginx"),
        ] {
            assert_eq!(login(server, image).expect("its own"), "hunter2", "{server} {image}");
        }
        let refused = login("registry.example", "other.example/a").expect_err("another's").to_string();
        assert_eq!(
            refused,
            "the image pull secret is for registry `registry.example`, and image `other.example/a` is from `other.example`"
        );
    }
}
