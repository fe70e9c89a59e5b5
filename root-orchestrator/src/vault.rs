//! Values of secrets as they are stored: each under a data key of its own, and that under the root's key.
//!
//! ```text
//!   MANGROVE_SECRETS_KEY, a file, or secrets.key ──► Vault ── wraps ──► data key ── seals ──► value
//! ```
//!
//! ChaCha20-Poly1305. What is sealed is bound to its version of its secret: put in another's place, it does not open. A
//! stolen store is worth nothing without the key. How values travel, `crates/link/src/sealing.rs` says; the API, the
//! only way in, is `api/secrets.rs`.

use std::{fmt, fs, path::PathBuf};

use anyhow::Context;
use clap::Args;
use daemon::StateDirectory;
use link::SecretValue;
use model::{Sealed, SecretVersionId};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
    rand::{SecureRandom, SystemRandom},
};
use root_core::{Envelope, Hook};
use store::Store;
use zeroize::Zeroizing;

use crate::documents;

const KEY_FILE: &str = "secrets.key";
const KEY_BYTES: usize = 32;
/// Enough to tell keys apart.
const NAME_BYTES: usize = 8;

/// Where the key comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct SecretsKeyConfig {
    /// The key that secrets are kept under: 64 hexadecimal digits, as of `openssl rand -hex 32`. Without it and
    /// --secrets-key-file one is made and kept in the state directory, as `secrets.key`. Every user of the machine can see
    /// arguments, so give it by the variable.
    #[arg(long, env = "MANGROVE_SECRETS_KEY", hide_env_values = true, conflicts_with = "secrets_key_file")]
    pub secrets_key: Option<KeyText>,

    /// A file with that key, of which copies of the state directory then tell nothing.
    #[arg(long, env = "MANGROVE_SECRETS_KEY_FILE")]
    pub secrets_key_file: Option<PathBuf>,

    /// The key before, once: what is under it is brought under the new one at this start.
    #[arg(long, env = "MANGROVE_SECRETS_KEY_PREVIOUS", hide_env_values = true)]
    pub secrets_key_previous: Option<KeyText>,

    /// A file with the key before.
    #[arg(long, env = "MANGROVE_SECRETS_KEY_FILE_PREVIOUS", conflicts_with = "secrets_key_previous")]
    pub secrets_key_file_previous: Option<PathBuf>,
}

/// What somebody gave as a key; not looked at until it is used, and printed nowhere.
#[derive(Clone)]
pub struct KeyText(Zeroizing<String>);

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText")
    }
}

impl From<String> for KeyText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// One key, with the name it is known by in envelopes: the beginning of its hash.
struct Key {
    name: String,
    key: LessSafeKey,
}

impl Key {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let hash = digest::digest(&digest::SHA256, &[b"mangrove secrets key", &bytes[..]].concat());
        Self { name: data_encoding::HEXLOWER.encode(&hash.as_ref()[..NAME_BYTES]), key: cipher(bytes) }
    }

    fn parse(text: &str, source: &str) -> anyhow::Result<Self> {
        let bytes =
            data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok().map(Zeroizing::new);
        let bytes = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(&bytes[..]).ok()).map(Zeroizing::new);
        let bytes = bytes.with_context(|| {
            format!("{source} is not a key: 64 hexadecimal digits are needed, as of `openssl rand -hex 32`")
        })?;
        Ok(Self::new(&bytes))
    }
}

fn cipher(bytes: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("a key of this cipher has 32 bytes"))
}

/// Seals values for the store and opens them.
pub(crate) struct Vault {
    key: Key,
    random: SystemRandom,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.key.name)
    }
}

impl Vault {
    /// Finds the key and makes sure that all stored secrets are under it: those under the key before are brought there, in
    /// one commit.
    ///
    /// # Errors
    /// When there is no usable key, or a secret that it does not open.
    pub(crate) async fn open(
        config: &SecretsKeyConfig,
        directory: &StateDirectory,
        store: &dyn Store,
    ) -> anyhow::Result<Self> {
        let key = match given(
            config.secrets_key.as_ref(),
            config.secrets_key_file.as_ref(),
            "MANGROVE_SECRETS_KEY",
        )? {
            Some(key) => key,
            None => load_or_create(directory)?,
        };
        let previous = given(
            config.secrets_key_previous.as_ref(),
            config.secrets_key_file_previous.as_ref(),
            "MANGROVE_SECRETS_KEY_PREVIOUS",
        )?;
        let vault = Self { key, random: SystemRandom::new() };
        let mut moved = documents::Sealed::default();
        for mut secret in documents::secrets(store).await? {
            let what = format!("secret `{}`", secret.name);
            let id = secret.id;
            let versions = secret.versions.iter_mut();
            let versions =
                versions.map(|it| (SecretVersionId { secret: id, number: it.number }, &mut it.envelope));
            if vault.take_over(&what, versions, previous.as_ref())? {
                moved.secrets.push(secret);
            }
        }
        for mut hook in documents::hooks(store).await? {
            let what = format!("the secret of hook `{}`", hook.name);
            let id = hook.id;
            let versions = hook.secret.iter_mut();
            let versions = versions.map(|it| (Hook::secret_version(id, it.number), &mut it.envelope));
            if vault.take_over(&what, versions, previous.as_ref())? {
                moved.hooks.push(hook);
            }
        }
        let count = moved.count();
        if count > 0 {
            documents::replace_sealed(store, moved).await.context("store secrets under the new key")?;
            tracing::info!(
                count,
                key = vault.key.name,
                "secrets are under the new key; the one before is needed no more"
            );
        }
        Ok(vault)
    }

    /// Brings the data keys of a secret under the key; says whether any was under the one before.
    fn take_over<'a>(
        &self,
        what: &str,
        versions: impl Iterator<Item = (SecretVersionId, &'a mut Envelope)>,
        previous: Option<&Key>,
    ) -> anyhow::Result<bool> {
        let mut moved = false;
        for (bound, envelope) in versions {
            let known =
                [Some(&self.key), previous].into_iter().flatten().find(|key| key.name == envelope.key);
            let under = known.with_context(|| {
                format!(
                    "{what} is under key {}, and the key given is {}: give the right one as MANGROVE_SECRETS_KEY \
                     or MANGROVE_SECRETS_KEY_FILE, or, to change it, the old one as MANGROVE_SECRETS_KEY_PREVIOUS or \
                     MANGROVE_SECRETS_KEY_FILE_PREVIOUS ({KEY_FILE} in the state directory, if none was given before)",
                    envelope.key, self.key.name
                )
            })?;
            let data_key = unseal(&under.key, bound, &envelope.data_key).with_context(|| {
                format!("version {} of {what} was changed in the store; restore a backup", bound.number)
            })?;
            if under.name != self.key.name {
                envelope.data_key = self.seal_under(&self.key.key, bound, data_key.reveal());
                envelope.key.clone_from(&self.key.name);
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Seals a value as that version of a secret.
    pub(crate) fn seal(&self, version: SecretVersionId, value: &SecretValue) -> Envelope {
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        self.random.fill(&mut data_key[..]).expect("the kernel gives random bytes on every supported system");
        Envelope {
            key: self.key.name.clone(),
            data_key: self.seal_under(&self.key.key, version, &data_key[..]),
            value: self.seal_under(&cipher(&data_key), version, value.reveal()),
        }
    }

    /// Opens what was sealed as that version; `None` when it was not, or was changed since.
    pub(crate) fn unseal(&self, version: SecretVersionId, envelope: &Envelope) -> Option<SecretValue> {
        let data_key = unseal(&self.key.key, version, &envelope.data_key)?;
        let data_key = Zeroizing::new(<[u8; KEY_BYTES]>::try_from(data_key.reveal()).ok()?);
        unseal(&cipher(&data_key), version, &envelope.value)
    }

    /// Seals what is no secret of a user, for one purpose. After a change of the key it opens no more.
    pub(crate) fn seal_for(&self, purpose: &str, value: &SecretValue) -> Sealed {
        self.seal_under(&self.key.key, purpose, value.reveal())
    }

    /// Opens what was sealed for that purpose; `None` when it was not, or was changed since.
    pub(crate) fn unseal_for(&self, purpose: &str, sealed: &Sealed) -> Option<SecretValue> {
        unseal(&self.key.key, purpose, sealed)
    }

    /// A nonce, then what is sealed.
    fn seal_under(&self, key: &LessSafeKey, bound: impl ToString, plain: &[u8]) -> Sealed {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).expect("the kernel gives random bytes on every supported system");
        let mut content = Vec::with_capacity(plain.len() + CHACHA20_POLY1305.tag_len());
        content.extend_from_slice(plain);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound_to(bound), &mut content)
            .expect("a value of a few KiB can be sealed");
        Sealed([&nonce[..], &content].concat())
    }
}

fn unseal(key: &LessSafeKey, bound: impl ToString, sealed: &Sealed) -> Option<SecretValue> {
    let (nonce, content) = sealed.0.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut content = Zeroizing::new(content.to_vec());
    let plain = key.open_in_place(nonce, bound_to(bound), &mut content).ok()?;
    Some(SecretValue::new(plain.to_vec()))
}

fn bound_to(what: impl ToString) -> Aad<Vec<u8>> {
    Aad::from(what.to_string().into_bytes())
}

fn given(text: Option<&KeyText>, file: Option<&PathBuf>, variable: &str) -> anyhow::Result<Option<Key>> {
    match (text, file) {
        (Some(text), _) => Key::parse(&text.0, variable).map(Some),
        (None, Some(path)) => {
            let shown = path.display();
            let text =
                fs::read_to_string(path).with_context(|| format!("read the key for secrets in {shown}"))?;
            Key::parse(&Zeroizing::new(text), &format!("what {shown} holds")).map(Some)
        }
        (None, None) => Ok(None),
    }
}

fn load_or_create(directory: &StateDirectory) -> anyhow::Result<Key> {
    if let Some(kept) = directory.read_file(KEY_FILE).context("read the key for secrets")? {
        let kept = Zeroizing::new(String::from_utf8_lossy(&kept).into_owned());
        return Key::parse(&kept, &format!("what {KEY_FILE} in the state directory holds"));
    }
    let text = Zeroizing::new(daemon::random_hex::<KEY_BYTES>());
    directory.replace_file(KEY_FILE, text.as_bytes()).context("keep the key for secrets")?;
    Key::parse(&text, KEY_FILE)
}

#[cfg(test)]
mod tests {
    use model::{HookId, OrganizationId, SecretId, Timestamp};
    use root_core::{HookSecret, HookStatus, Secret, SecretKind, SecretVersion};
    use store::{History, SqliteStore};
    use tempfile::TempDir;

    use super::*;

    const VALUE: &[u8] = b"marker-hunter2";
    const HOOK: HookId = HookId::from_bytes([3; 12]);

    fn id(number: u32) -> SecretVersionId {
        SecretVersionId { secret: SecretId::from_bytes([1; 12]), number }
    }

    fn of_hook() -> SecretVersionId {
        Hook::secret_version(HOOK, 1)
    }

    fn value() -> SecretValue {
        SecretValue::new(VALUE.to_vec())
    }

    fn all() -> [Option<Vec<u8>>; 3] {
        [(); 3].map(|()| Some(VALUE.to_vec()))
    }

    fn text(key: &str) -> Option<KeyText> {
        Some(KeyText::from(key.repeat(32)))
    }

    fn with(key: &str, previous: Option<&str>) -> SecretsKeyConfig {
        let previous = previous.and_then(text);
        SecretsKeyConfig {
            secrets_key: text(key),
            secrets_key_previous: previous,
            ..SecretsKeyConfig::default()
        }
    }

    struct Root {
        parent: TempDir,
        store: SqliteStore,
    }

    impl Root {
        fn new() -> Self {
            let parent = tempfile::tempdir().expect("a temporary directory");
            let store =
                SqliteStore::open(&parent.path().join("store.sqlite"), History::USUAL).expect("a store");
            Self { parent, store }
        }

        async fn open(&self, config: &SecretsKeyConfig) -> anyhow::Result<Vault> {
            let directory = StateDirectory::open(self.parent.path()).expect("released");
            Vault::open(config, &directory, &self.store).await
        }

        async fn keep(&self, vault: &Vault) {
            let version = |number| {
                let envelope = vault.seal(id(number), &value());
                SecretVersion { number, created: Timestamp(1), envelope }
            };
            let secret = Secret {
                id: id(1).secret,
                organization: OrganizationId::from_bytes([2; 12]),
                name: "database".to_owned(),
                kind: SecretKind::Opaque,
                versions: vec![version(1), version(2)],
            };
            let hook = Hook {
                id: HOOK,
                organization: OrganizationId::from_bytes([2; 12]),
                name: "told".to_owned(),
                url: "https://hooks.example".to_owned(),
                entity: "jobs".to_owned(),
                events: [].into(),
                secret: Some(HookSecret { number: 1, envelope: vault.seal(of_hook(), &value()) }),
                next: 1,
                status: HookStatus::default(),
            };
            let sealed = documents::Sealed { secrets: vec![secret], hooks: vec![hook] };
            documents::replace_sealed(&self.store, sealed).await.expect("stored");
        }

        async fn opened(&self, vault: &Vault) -> Vec<Option<Vec<u8>>> {
            let secrets = documents::secrets(&self.store).await.expect("readable");
            let opened = |version: &SecretVersion| {
                vault.unseal(id(version.number), &version.envelope).map(|value| value.reveal().to_vec())
            };
            let hooks = documents::hooks(&self.store).await.expect("readable");
            let secret = hooks[0].secret.as_ref().expect("it has one");
            let of_hook = vault.unseal(of_hook(), &secret.envelope).map(|value| value.reveal().to_vec());
            secrets.iter().flat_map(|secret| &secret.versions).map(opened).chain([of_hook]).collect()
        }
    }

    #[tokio::test]
    async fn a_key_is_made_kept_and_found_again() {
        use std::os::unix::fs::PermissionsExt;

        let root = Root::new();
        let vault = root.open(&SecretsKeyConfig::default()).await.expect("a key is made");
        root.keep(&vault).await;
        let mode = fs::metadata(root.parent.path().join(KEY_FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = root.open(&SecretsKeyConfig::default()).await.expect("it is found");
        assert_eq!(root.opened(&again).await, all());
        let stored = fs::read(root.parent.path().join("store.sqlite")).expect("readable");
        let log = fs::read(root.parent.path().join("store.sqlite-wal")).unwrap_or_default();
        assert!(![stored, log].concat().windows(6).any(|bytes| bytes == b"marker"));
    }

    #[tokio::test]
    async fn a_new_key_takes_over_with_the_one_before_and_then_without() {
        let root = Root::new();
        let before = root.open(&with("0a", None)).await.expect("usable");
        root.keep(&before).await;
        let after = root.open(&with("0b", Some("0a"))).await.expect("both are given");
        assert_eq!(root.opened(&after).await, all());
        assert_eq!(root.opened(&before).await, [None, None, None], "the key before opens nothing any more");
        root.open(&with("0b", None)).await.expect("the key before is needed no more");
    }

    #[tokio::test]
    async fn a_wrong_key_is_refused_with_what_to_do_and_changes_nothing() {
        let root = Root::new();
        let vault = root.open(&with("0a", None)).await.expect("usable");
        root.keep(&vault).await;
        for wrong in [with("0b", None), with("0b", Some("0c")), SecretsKeyConfig::default()] {
            let error = root.open(&wrong).await.expect_err("another key").to_string();
            assert!(error.starts_with("secret `database` is under key "), "{error}");
            assert!(error.contains("MANGROVE_SECRETS_KEY_PREVIOUS"), "{error}");
        }
        root.open(&with("0a", None)).await.expect("as before");
    }

    #[tokio::test]
    async fn what_is_no_key_is_refused_and_not_shown() {
        let root = Root::new();
        let wrong =
            SecretsKeyConfig { secrets_key: Some("marker".to_owned().into()), ..SecretsKeyConfig::default() };
        assert!(!format!("{wrong:?}").contains("marker"));
        let error = format!("{:#}", root.open(&wrong).await.expect_err("no key"));
        assert!(error.contains("MANGROVE_SECRETS_KEY is not a key: 64 hexadecimal digits"), "{error}");
        assert!(!error.contains("marker"), "{error}");
        let path = root.parent.path().join("key");
        fs::write(&path, format!("{}\n", "0a".repeat(32))).expect("writable");
        let file = SecretsKeyConfig { secrets_key_file: Some(path), ..SecretsKeyConfig::default() };
        let vault = root.open(&file).await.expect("a file may end its line");
        assert_eq!(vault.key.name, root.open(&with("0a", None)).await.expect("the same").key.name);
    }

    #[tokio::test]
    async fn what_is_put_in_the_place_of_another_does_not_open() {
        let root = Root::new();
        let vault = root.open(&with("0a", None)).await.expect("usable");
        let envelope = vault.seal(id(1), &SecretValue::new(VALUE.to_vec()));
        assert!(vault.unseal(id(2), &envelope).is_none());
        let mut changed = envelope.clone();
        changed.value.0[NONCE_LEN] ^= 1;
        assert!(vault.unseal(id(1), &changed).is_none());
        assert!(vault.unseal(id(1), &envelope).is_some());
    }
}
