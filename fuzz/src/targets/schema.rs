//! What users may define as a type of custom resources, and what they may want to keep by it: the first part of an input is
//! a schema, those after it are documents.

use model::{OrganizationId, ResourceTypeId};
use root_core::{ResourceType, State};
use serde_json::Value;

use crate::shared;

const ORGANIZATION: OrganizationId = OrganizationId::from_bytes([3; 12]);

pub(crate) fn take(data: &[u8]) {
    let mut parts = shared::parts(data).map(|(_, bytes)| serde_json::from_slice::<Value>(bytes));
    let Some(Ok(schema)) = parts.next() else { return };
    let mut state = State::of(ORGANIZATION);
    let id = ResourceTypeId::from_bytes([4; 12]);
    let wanted =
        ResourceType { id, organization: ORGANIZATION, name: "device".to_owned(), schema: Some(schema) };
    match state.create_resource_type(wanted.clone()) {
        Ok(((), changes)) => shared::settle(&mut state, changes, shared::BEGINNING),
        Err(rejected) => {
            assert!(!rejected.to_string().is_empty(), "every \"no\" says why");
            return;
        }
    }
    let check = state.check_for(&wanted).expect("it is there");
    for document in parts.flatten() {
        let Value::Object(content) = document else { continue };
        // The same is the same again.
        assert_eq!(check.check(content.clone()).is_ok(), check.check(content).is_ok());
    }
}
