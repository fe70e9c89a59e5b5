//! Custom resources: whose they are, what they must be, how many there may be, and who hears of them.

use serde_json::{Map, Value, json};

use super::*;
use crate::{
    CheckedResource, CustomResource, Envelope, HookEvent, HookRejected, HookWish, MAX_RESOURCE_BYTES,
    MOST_RESOURCE_BYTES, MOST_RESOURCE_TYPES, MOST_RESOURCES, ResourceRejected, ResourceType,
};
use model::{HookId, ResourceId, ResourceTypeId, SecretVersionId};

fn kind(number: u8, organization: OrganizationId, name: &str, schema: Option<Value>) -> ResourceType {
    ResourceType { id: ResourceTypeId::from_bytes([number; 12]), organization, name: name.to_owned(), schema }
}

fn id(number: u32) -> ResourceId {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    ResourceId::from_bytes(bytes)
}

fn content(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

impl Root {
    fn kind(&mut self, wanted: ResourceType) -> ResourceType {
        let ((), changes) = self.state.create_resource_type(wanted.clone()).expect("it can be");
        self.apply(changes);
        wanted
    }

    fn checked(&self, of: &ResourceType, value: Value) -> Result<CheckedResource, ResourceRejected> {
        self.state.check_for(of).expect("there").check(content(value))
    }

    fn resource(&mut self, number: u32, of: &ResourceType, value: Value) -> CustomResource {
        let checked = self.checked(of, value).expect("valid");
        let (made, changes) = self.state.create_resource(id(number), checked).expect("there is room");
        self.apply(changes);
        made
    }
}

#[test]
fn a_resource_is_what_its_type_says_when_it_is_made_and_when_it_is_changed() {
    let mut root = Root::new();
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let device = root.kind(kind(1, ACME, "device", Some(schema)));
    let wrong = root.checked(&device, json!({"a": 1})).expect_err("not a text");
    assert_eq!(wrong.to_string(), "`a`: it must be of type string");
    let made = root.resource(1, &device, json!({"a": "x"}));
    assert_eq!(root.state.custom_resource(&device, &made.id.to_string()), Ok(&made));
    let changed = root.checked(&device, json!({"a": "y"})).expect("valid");
    let (changed, changes) = root.state.update_resource(&made, changed).expect("as it was");
    root.apply(changes);
    // Whoever looked before has to look again.
    let late = root.checked(&device, json!({"a": "z"})).expect("valid");
    assert_eq!(root.state.update_resource(&made, late), Err(ResourceRejected::Changed));
    assert_eq!(root.state.custom_resources_of(device.id).collect::<Vec<_>>(), [&changed]);
    // It could not be read again after a restart.
    let deep = (0..110).fold(json!(1), |within, _| json!([within]));
    let deep = root.checked(&device, json!({"a": "x", "deep": deep})).expect_err("nobody reads so deep");
    assert_eq!(deep.to_string(), "values are nested deeper than 100");
    let own = root.checked(&device, json!({"a": "x", "_id": "1"})).expect_err("ids are given");
    assert_eq!(own.to_string(), "`_id`: _id is given by the root; leave it out");
}

#[test]
fn a_type_is_its_organisations_alone_and_goes_with_its_resources() {
    let mut root = Root::new();
    let ours = root.kind(kind(1, ACME, "device", None));
    let theirs = root.kind(kind(2, ROOT, "device", None));
    let made = root.resource(1, &ours, json!({"any": "thing"}));
    assert_eq!(root.state.resource_type(ACME, "device"), Ok(&ours));
    assert!(root.state.custom_resource(&theirs, &made.id.to_string()).is_err());
    let again = root.state.create_resource_type(kind(3, ACME, "device", None));
    assert_eq!(again, Err(ResourceRejected::TypeExists("device".to_owned())));
    let stale = root.checked(&ours, json!({})).expect("valid");
    let changes = root.state.delete_resource_type(ours.id);
    root.apply(changes);
    assert_eq!(root.state.custom_resources_of(ours.id).count(), 0);
    assert!(matches!(root.state.resource_type(ACME, "device"), Err(ResourceRejected::NoType(_))));
    assert!(matches!(root.state.create_resource(id(2), stale), Err(ResourceRejected::NoType(_))));
    assert_eq!(root.state.resource_types_of(ROOT).collect::<Vec<_>>(), [&theirs]);
}

#[test]
fn a_type_that_cannot_be_says_why() {
    let root = Root::new();
    let refused = |name: &str, schema: Option<Value>| {
        root.state.create_resource_type(kind(1, ACME, name, schema)).expect_err("it cannot be")
    };
    for name in ["", "-a", "a/b", "a b", "jobs", "applications", &"x".repeat(64)] {
        let ResourceRejected::Type(problem) = refused(name, None) else { unreachable!("{name}") };
        assert_eq!(problem.field, "resource_type", "{name}");
    }
    let ResourceRejected::Type(problem) = refused("a", Some(json!({"if": {}}))) else {
        unreachable!("a schema")
    };
    assert_eq!(problem.field, "schema.if");
    let large = json!({"description": "x".repeat(65_536)});
    assert!(refused("a", Some(large)).to_string().starts_with("schema must have at most"));
}

#[test]
fn an_organisation_has_so_many_and_no_more() {
    let mut root = Root::new();
    for number in 1..=u8::try_from(MOST_RESOURCE_TYPES).expect("few") {
        root.kind(kind(number, ACME, &format!("type{number}"), None));
    }
    let more = root.state.create_resource_type(kind(200, ACME, "more", None));
    assert!(matches!(more, Err(ResourceRejected::TooMuch(_))));
    let device = root.kind(kind(201, ROOT, "device", None));
    let large = json!({"a": "x".repeat(MAX_RESOURCE_BYTES)});
    assert!(matches!(root.checked(&device, large), Err(ResourceRejected::Invalid(_))));
    for number in 1..=u32::try_from(MOST_RESOURCES).expect("few") {
        root.resource(number, &device, json!({}));
    }
    let one_more = root.checked(&device, json!({})).expect("valid");
    assert!(matches!(
        root.state.create_resource(id(u32::MAX), one_more.clone()),
        Err(ResourceRejected::TooMuch(_))
    ));
    root.apply(vec![Change::Resource(id(1), None)]);
    assert!(root.state.create_resource(id(u32::MAX), one_more).is_ok());
    let changes = root.state.delete_resource_type(device.id);
    root.apply(changes);

    // Room that was given back is there again.
    let device = root.kind(kind(202, ROOT, "device", None));
    let full = json!({"a": "x".repeat(MAX_RESOURCE_BYTES - 100)});
    let fitting = u32::try_from(MOST_RESOURCE_BYTES / MAX_RESOURCE_BYTES).expect("few");
    let made: Vec<CustomResource> =
        (0..fitting).map(|number| root.resource(number, &device, full.clone())).collect();
    let one_more = root.checked(&device, full).expect("valid");
    assert!(matches!(root.state.create_resource(id(u32::MAX), one_more), Err(ResourceRejected::TooMuch(_))));
    let smaller = root.checked(&device, json!({"a": "x"})).expect("valid");
    assert!(root.state.update_resource(&made[0], smaller).is_ok());
}

#[test]
fn hooks_hear_of_the_resources_of_a_type_there_is() {
    let mut root = Root::new();
    let wish = |entity: &str| HookWish {
        name: "devices".to_owned(),
        url: "https://hooks.example/".to_owned(),
        entity: entity.to_owned(),
        events: HookEvent::ALL.into(),
    };
    let hook = HookId::from_bytes([7; 12]);
    let unsigned: Option<fn(SecretVersionId) -> Envelope> = None;
    let device = root.kind(kind(1, ACME, "device", None));
    for (organization, entity) in [(ACME, "divece"), (ROOT, "device")] {
        let refused = root.state.create_hook(hook, organization, wish(entity), unsigned);
        assert!(matches!(refused, Err(HookRejected::Field { field: "entity", .. })), "{refused:?}");
    }
    let (_, changes) = root.state.create_hook(hook, ACME, wish("device"), unsigned).expect("there is one");
    root.apply(changes);
    let made = root.resource(1, &device, json!({"a": 1}));
    root.reconcile();
    let changed = root.checked(&device, json!({"a": 2})).expect("valid");
    let (_, changes) = root.state.update_resource(&made, changed).expect("as it was");
    root.apply(changes);
    root.reconcile();
    let changes = root.state.delete_resource_type(device.id);
    root.apply(changes);
    root.reconcile();
    let told: Vec<(HookEvent, String)> =
        root.state.deliveries_of(hook).map(|it| (it.event, it.entity_id.clone())).collect();
    assert_eq!(told, HookEvent::ALL.map(|event| (event, made.id.to_string())));
}
