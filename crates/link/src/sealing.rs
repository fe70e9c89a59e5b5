//! Values of secrets on their way down: sealed for one daemon, which keeps them so and opens them when it must.
//!
//! ```text
//!   root ── seal for the cluster ──► cluster: kept sealed ── open, seal for the worker ──► worker: kept sealed ──► open
//! ```
//!
//! A daemon makes its own key and tells its parent the public half over their connection, where its certificate says who
//! it is. Values are sealed by HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305), each for one version of one
//! secret: what is put in another's place does not open. How they are kept at the root, `root-orchestrator/src/vault.rs`
//! says.

use std::{collections::BTreeMap, fmt, sync::Arc};

use daemon::{Remembered, StateDirectory};
use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256, setup_sender, single_shot_open, single_shot_seal,
};
use model::{Sealed, SecretVersionId};
use zeroize::Zeroizing;

use crate::{IdentityError, identity::invalid};

const KEY_FILE: &str = "sealing.key";
/// Tells these messages from whatever else is sealed by the same keys some day.
const INFO: &[u8] = b"mangrove: the value of a secret, 1";
const PUBLIC_BYTES: usize = 32;

type Kem = X25519HkdfSha256;
type Private = <Kem as hpke::Kem>::PrivateKey;
type Public = <Kem as hpke::Kem>::PublicKey;

/// The value of a secret. Cleared when it is dropped, and printed nowhere.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for whoever has to use them.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue")
    }
}

/// A value that was not sealed for this daemon, or as another version, or was changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "version {0} of a secret cannot be opened by this daemon: it was sealed for another, or changed on the way; is its \
     sealing.key that of another state directory?"
)]
pub struct UnsealError(SecretVersionId);

/// The private half, which stays in the state directory. Cheap to clone.
#[derive(Clone)]
pub struct SealingKey(Arc<Private>);

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    /// The key of the state directory, made and kept if there is none.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn load_or_generate(state: &StateDirectory) -> Result<Self, IdentityError> {
        let file = |source| IdentityError::File { file: KEY_FILE, source };
        if let Some(kept) = state.read_file(KEY_FILE).map_err(file)? {
            let kept = Zeroizing::new(kept);
            let key = Private::from_bytes(&kept).map_err(|error| invalid("the sealing key", error))?;
            return Ok(Self(Arc::new(key)));
        }
        let (key, _) = Kem::gen_keypair(&mut rand::rng());
        state.replace_file(KEY_FILE, &Zeroizing::new(key.to_bytes().to_vec())).map_err(file)?;
        Ok(Self(Arc::new(key)))
    }

    /// The half that others are told.
    #[must_use]
    pub fn public(&self) -> SealingPublicKey {
        SealingPublicKey(Kem::sk_to_pk(&self.0))
    }

    /// Opens what was sealed for this daemon as that version of a secret.
    ///
    /// # Errors
    /// When it was not, or has been changed.
    pub fn open(&self, version: SecretVersionId, sealed: &Sealed) -> Result<SecretValue, UnsealError> {
        let wrong = |_| UnsealError(version);
        let (encapsulated, content) = sealed.0.split_at_checked(PUBLIC_BYTES).ok_or(UnsealError(version))?;
        let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(encapsulated).map_err(wrong)?;
        let value = single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeR::Base,
            &self.0,
            &encapsulated,
            INFO,
            content,
            version.to_string().as_bytes(),
        );
        value.map(SecretValue::new).map_err(wrong)
    }
}

/// Whom values are sealed for.
#[derive(Clone)]
pub struct SealingPublicKey(Public);

impl fmt::Debug for SealingPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingPublicKey")
    }
}

impl SealingPublicKey {
    /// As it is on the wire; `None` for what nothing can be sealed for: what is no key, as from a child that cannot open
    /// anything, and points of small order, with which everybody has the same secret.
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        let key = Public::from_bytes(bytes).ok()?;
        // Whether a point is of small order shows when it is multiplied, by whatever.
        setup_sender::<ChaCha20Poly1305, HkdfSha256, Kem, _>(&OpModeS::Base, &key, INFO, &mut rand::rng())
            .ok()?;
        Some(Self(key))
    }

    /// For the wire.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }

    /// Seals a value as that version of a secret.
    ///
    /// # Panics
    /// Never: a value is far shorter than what the cipher takes, and the key was tried.
    #[must_use]
    pub fn seal(&self, version: SecretVersionId, value: &SecretValue) -> Sealed {
        let (encapsulated, content) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Kem, _>(
            &OpModeS::Base,
            &self.0,
            INFO,
            value.reveal(),
            version.to_string().as_bytes(),
            &mut rand::rng(),
        )
        .expect("a value of a few KiB can be sealed for a key that was tried");
        let mut sealed = encapsulated.to_bytes().to_vec();
        sealed.extend_from_slice(&content);
        Sealed(sealed)
    }
}

/// Bytes of one generation of what was sealed, of which there are two.
const REMEMBERED_BYTES: usize = 4 << 20;

/// Seals for children what their assignments refer to, each version for each child once while it is in use: an assignment is
/// sent whole after every change, and each value takes two multiplications on the curve.
#[derive(Debug)]
pub struct Sealer(Remembered<(SecretVersionId, [u8; PUBLIC_BYTES]), Sealed>);

impl Default for Sealer {
    fn default() -> Self {
        Self(Remembered::new(REMEMBERED_BYTES))
    }
}

impl Sealer {
    /// Of what `open` has no value for the child is told nothing: its services that need it say so. A version never has
    /// another value, so `open` is not asked for what was sealed for the child lately.
    pub fn seal_all(
        &mut self,
        child: &SealingPublicKey,
        wanted: impl IntoIterator<Item = SecretVersionId>,
        mut open: impl FnMut(SecretVersionId) -> Option<SecretValue>,
    ) -> BTreeMap<SecretVersionId, Sealed> {
        let mut key = [0; PUBLIC_BYTES];
        key.copy_from_slice(&child.0.to_bytes());
        let sealed = |version| {
            if let Some(sealed) = self.0.get(&(version, key)) {
                return Some((version, sealed));
            }
            let sealed = child.seal(version, &open(version)?);
            self.0.put((version, key), sealed.clone(), sealed.0.len());
            Some((version, sealed))
        };
        wanted.into_iter().filter_map(sealed).collect()
    }
}

#[cfg(test)]
mod tests {
    use model::SecretId;

    use super::*;

    fn version(number: u32) -> SecretVersionId {
        SecretVersionId { secret: SecretId::from_bytes([7; 12]), number }
    }

    fn key() -> (tempfile::TempDir, SealingKey) {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::open(parent.path()).expect("a directory");
        let key = SealingKey::load_or_generate(&directory).expect("usable");
        (parent, key)
    }

    fn value() -> SecretValue {
        SecretValue::new(b"hunter2".to_vec())
    }

    #[test]
    fn only_the_holder_of_the_key_opens_and_only_as_what_it_is() {
        let (_directory, own) = key();
        let (_other_directory, other) = key();
        let sealed = own.public().seal(version(1), &value());
        assert_eq!(own.open(version(1), &sealed).expect("its own").reveal(), b"hunter2");
        assert_eq!(other.open(version(1), &sealed).map(drop), Err(UnsealError(version(1))));
        assert_eq!(own.open(version(2), &sealed).map(drop), Err(UnsealError(version(2))));
        for at in [0, sealed.0.len() - 1] {
            let mut changed = sealed.clone();
            changed.0[at] ^= 1;
            assert_eq!(own.open(version(1), &changed).map(drop), Err(UnsealError(version(1))));
        }
        assert!(own.open(version(1), &Sealed(vec![1; 5])).is_err());
    }

    #[test]
    fn what_would_give_everybody_the_same_secret_is_no_key() {
        let (_directory, own) = key();
        assert!(SealingPublicKey::from_wire(&own.public().to_wire()).is_some());
        assert!(SealingPublicKey::from_wire(&[]).is_none(), "it can open nothing");
        let one = |first: u8, others: u8, last: u8| {
            let mut bytes = [others; 32];
            (bytes[0], bytes[31]) = (first, last);
            bytes
        };
        // Zero, one, and the prime less one, itself and plus one: points of small order.
        let small =
            [one(0, 0, 0), one(1, 0, 0), one(0xec, 0xff, 0x7f), one(0xed, 0xff, 0x7f), one(0xee, 0xff, 0x7f)];
        for bytes in small {
            assert!(SealingPublicKey::from_wire(&bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn a_key_is_the_same_after_a_restart_and_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;

        let (parent, before) = key();
        let sealed = before.public().seal(version(1), &value());
        let directory = StateDirectory::open(parent.path()).expect("released");
        let after = SealingKey::load_or_generate(&directory).expect("kept");
        assert_eq!(after.open(version(1), &sealed).expect("the same key").reveal(), b"hunter2");
        let mode = std::fs::metadata(parent.path().join(KEY_FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        directory.replace_file(KEY_FILE, b"short").expect("writable");
        assert!(SealingKey::load_or_generate(&directory).is_err());
    }

    #[test]
    fn a_value_is_never_printed_nor_seen_in_what_is_sealed() {
        let (_directory, own) = key();
        let sealed = own.public().seal(version(1), &value());
        assert!(!sealed.0.windows(7).any(|bytes| bytes == b"hunter2"));
        let printed = format!("{:?} {:?} {:?} {sealed:?}", value(), own, own.public());
        assert_eq!(printed, "SecretValue SealingKey SealingPublicKey Sealed(55 bytes)");
    }

    #[test]
    fn what_there_is_no_value_of_is_left_out() {
        let (_directory, own) = key();
        let known = |asked: SecretVersionId| (asked.number == 1).then(value);
        let sealed = Sealer::default().seal_all(&own.public(), [version(1), version(2)], known);
        assert_eq!(sealed.keys().copied().collect::<Vec<_>>(), [version(1)]);
        assert_eq!(own.open(version(1), &sealed[&version(1)]).expect("its own").reveal(), b"hunter2");
    }

    #[test]
    fn a_value_is_sealed_once_for_each_child_while_it_is_in_use() {
        let ((_directory, one), (_other_directory, other)) = (key(), key());
        let mut sealer = Sealer::default();
        let mut opened = 0;
        let mut seal = |child: &SealingKey| {
            let open = |_| {
                opened += 1;
                Some(value())
            };
            sealer.seal_all(&child.public(), [version(1)], open)
        };
        let (first, second, others) = (seal(&one), seal(&one), seal(&other));
        assert_eq!((&first, opened), (&second, 2));
        assert_eq!(one.open(version(1), &second[&version(1)]).expect("its own").reveal(), b"hunter2");
        assert_eq!(other.open(version(1), &others[&version(1)]).expect("its own").reveal(), b"hunter2");
        assert!(one.open(version(1), &others[&version(1)]).is_err());
    }
}
