//! What anybody may send as a login of this root: a text, or a token of the root's that was changed.

// Without all of the root, which takes minutes to build.
#[path = "../../../root-orchestrator/src/auth/checked.rs"]
mod checked;
#[path = "../../../root-orchestrator/src/auth/keys.rs"]
#[expect(dead_code, reason = "nobody asks for the public half here")]
mod keys;

use std::sync::LazyLock;

use keys::{Keys, Purpose, Subject};
use model::{OrganizationId, UserId};
use root_core::Session;

use crate::shared;

/// As in `root-orchestrator/src/auth.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AuthError {
    Invalid,
    Expired,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::open(&Keys::generate()).expect("its own key"));

pub(crate) fn take(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert!(KEYS.check(&text).is_err(), "nobody has the key");

    let session = Session {
        id: text.chars().take(40).collect(),
        user: UserId::from_bytes([1; 12]),
        organization: OrganizationId::from_bytes([2; 12]),
        epoch: 3,
    };
    let subject =
        Subject { name: &text, roles: vec![text.to_string()], session: session.clone(), ends: None };
    let token = KEYS.sign(&subject, Purpose::Refresh);
    let claims = KEYS.check(&token).expect("its own token");
    assert_eq!((claims.session(), claims.purpose()), (session, Purpose::Refresh));

    let changed = shared::changed(token.as_bytes(), data);
    if let Ok(changed) = std::str::from_utf8(&changed)
        && let Ok(other) = KEYS.check(changed)
    {
        assert_eq!(other, claims, "it may be written otherwise and says the same");
    }
}
