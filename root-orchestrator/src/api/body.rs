//! Bodies of requests: JSON, read after it is known that the caller may do what is asked for, and refused in our own words.

use axum::{extract::rejection::BytesRejection, http::StatusCode};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::error::Error;

/// The body of a request, or why there is none.
pub(crate) type Body = Result<Bytes, BytesRejection>;

/// Reads a small document; the error names the field.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    read(body, ToString::to_string)
}

/// The same without a word of what was sent: what serde says of a value of another type would show it.
pub(super) fn parse_unshown<T: DeserializeOwned>(body: &[u8], expected: &str) -> Result<T, Error> {
    read(body, |error| format!("see line {} column {}: {expected}", error.line(), error.column()))
}

fn read<T: DeserializeOwned>(
    body: &[u8],
    told: impl FnOnce(&serde_json::Error) -> String,
) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| {
        let (status, code) = match error.classify() {
            Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value"),
            Category::Io | Category::Syntax | Category::Eof => (StatusCode::BAD_REQUEST, "invalid_json"),
        };
        Error::new(status, code, format!("the body is not what is expected here: {}", told(&error)))
    })
}
