//! Documents of a brain in the store: one collection per kind.

use model::Brain;
use serde::{Serialize, de::DeserializeOwned};
use store::{Store, StoreError, Write, decode, put, remove};

/// The write that makes a document this, or removes it.
#[must_use]
pub fn document<T: Serialize>(collection: &'static str, key: impl ToString, value: Option<&T>) -> Write {
    match value {
        Some(value) => put(collection, key, value),
        None => remove(collection, key),
    }
}

/// Applies every document of a collection to a brain that is being loaded.
///
/// # Errors
/// When the store fails or a document cannot be understood.
pub async fn load_all<B: Brain, T: DeserializeOwned>(
    store: &dyn Store,
    brain: &mut B,
    collection: &str,
    change: impl Fn(T) -> B::Change,
) -> Result<(), StoreError> {
    for document in store.list(collection).await? {
        brain.apply(change(decode(&document)?));
    }
    Ok(())
}
