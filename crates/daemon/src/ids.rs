//! Fresh ids and keys. Randomness enters the system here and in `link` only.

use model::{ApplicationId, HookId, OrganizationId, ResourceId, ResourceTypeId, SecretId, ServiceId, UserId};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use uuid::Uuid;

use crate::now;

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes on every supported system");
    bytes
}

/// Four bytes of seconds, then eight random ones: sorted by age, as clients of Oakestra's API are used to.
fn object_id() -> [u8; 12] {
    let mut bytes = [0; 12];
    let seconds = u32::try_from(now().0 / 1000).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    bytes[4..].copy_from_slice(&random_bytes::<8>());
    bytes
}

/// An application id nobody has.
#[must_use]
pub fn fresh_application_id() -> ApplicationId {
    ApplicationId::from_bytes(object_id())
}

/// A service id nobody has.
#[must_use]
pub fn fresh_service_id() -> ServiceId {
    ServiceId::from_bytes(object_id())
}

/// A user id nobody has.
#[must_use]
pub fn fresh_user_id() -> UserId {
    UserId::from_bytes(object_id())
}

/// An organisation id nobody has.
#[must_use]
pub fn fresh_organization_id() -> OrganizationId {
    OrganizationId::from_bytes(object_id())
}

/// A secret id nobody has.
#[must_use]
pub fn fresh_secret_id() -> SecretId {
    SecretId::from_bytes(object_id())
}

/// A hook id nobody has.
#[must_use]
pub fn fresh_hook_id() -> HookId {
    HookId::from_bytes(object_id())
}

/// A resource type id nobody has.
#[must_use]
pub fn fresh_resource_type_id() -> ResourceTypeId {
    ResourceTypeId::from_bytes(object_id())
}

/// A custom resource id nobody has.
#[must_use]
pub fn fresh_resource_id() -> ResourceId {
    ResourceId::from_bytes(object_id())
}

/// A random UUID (version 4).
#[must_use]
pub fn fresh_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(random_bytes()).into_uuid()
}

/// `bytes` random bytes as lower-case hexadecimal digits.
#[must_use]
pub fn random_hex<const BYTES: usize>() -> String {
    random_bytes::<BYTES>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new key for signatures by ECDSA over P-256, as PKCS#8 in DER.
#[must_use]
pub fn fresh_signing_key() -> Vec<u8> {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    key.expect("the kernel gives random bytes on every supported system").as_ref().to_vec()
}
