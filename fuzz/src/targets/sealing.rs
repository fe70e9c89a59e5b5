//! What a child may name as the key that values of secrets are sealed for, and what a parent may send as sealed.

use std::sync::LazyLock;

use daemon::StateDirectory;
use link::{SealingKey, SealingPublicKey, SecretValue};
use model::{Sealed, SecretId, SecretVersionId};

use crate::shared;

const VALUE: &[u8] = b"hunter2";
const VERSION: SecretVersionId = SecretVersionId { secret: SecretId::from_bytes([7; 12]), number: 1 };

static KEY: LazyLock<SealingKey> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = StateDirectory::open(folder.path()).expect("usable");
    SealingKey::load_or_generate(&directory).expect("a key")
});

pub(crate) fn take(data: &[u8]) {
    let value = SecretValue::new(VALUE.to_vec());
    // Whatever a key is taken for, nobody else reads what is sealed for it.
    if let Some(key) = SealingPublicKey::from_wire(data.get(..32).unwrap_or(data)) {
        let sealed = key.seal(VERSION, &value);
        assert!(!sealed.0.windows(VALUE.len()).any(|bytes| bytes == VALUE));
        assert!(KEY.open(VERSION, &sealed).is_err() || key.to_wire() == KEY.public().to_wire());
    }
    assert!(KEY.open(VERSION, &Sealed(data.to_vec())).is_err(), "nobody sealed it");
    let genuine = KEY.public().seal(VERSION, &value);
    let changed = shared::changed(&genuine.0, data);
    if let Ok(opened) = KEY.open(VERSION, &Sealed(changed.clone())) {
        assert_eq!((opened.reveal(), changed), (VALUE, genuine.0));
    }
}
