//! Typed documents: serde on one side, JSON bytes on the other.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Document, Expect, StoreError, Write};

/// A write of `value`, whatever was there before.
///
/// # Panics
/// Never for the types stored here: they have text keys and serialise without error.
#[must_use]
pub fn put<T: Serialize>(collection: &'static str, key: impl ToString, value: &T) -> Write {
    Write {
        collection,
        key: key.to_string(),
        value: Some(serde_json::to_vec(value).expect("stored types serialise to JSON")),
        expect: Expect::Anything,
    }
}

/// A deletion, whether or not there is anything to delete.
#[must_use]
pub fn remove(collection: &'static str, key: impl ToString) -> Write {
    Write { collection, key: key.to_string(), value: None, expect: Expect::Anything }
}

/// The value of a document.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not what was expected.
pub fn decode<T: DeserializeOwned>(document: &Document) -> Result<T, StoreError> {
    serde_json::from_slice(&document.value).map_err(|source| StoreError::Corrupt {
        collection: document.collection.clone(),
        key: document.key.clone(),
        source,
    })
}
