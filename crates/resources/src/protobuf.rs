//! Bodies in protobuf: clients that are made for a kind send it so for the few kinds that Kubernetes has too. Answers are JSON,
//! which they accept. What is not asked for here is passed over.

use serde_json::{Map, Value};

use crate::status::Status;

/// The content type.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// How each body begins.
const MAGIC: &[u8] = b"k8s\0";

/// What a field is.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Text,
    Texts,
    Flag,
    /// Texts by texts.
    Map,
    Message(Message),
}

/// The fields of a message that are read: number, name, what it is.
type Message = &'static [(u64, &'static str, Shape)];

const METADATA: Message = &[
    (1, "name", Shape::Text),
    (2, "generateName", Shape::Text),
    (3, "namespace", Shape::Text),
    (6, "resourceVersion", Shape::Text),
    (11, "labels", Shape::Map),
    (12, "annotations", Shape::Map),
    (14, "finalizers", Shape::Texts),
];
const RESOURCE: Message = &[
    (1, "namespace", Shape::Text),
    (2, "verb", Shape::Text),
    (3, "group", Shape::Text),
    (4, "version", Shape::Text),
    (5, "resource", Shape::Text),
    (6, "subresource", Shape::Text),
    (7, "name", Shape::Text),
];
const NON_RESOURCE: Message = &[(1, "path", Shape::Text), (2, "verb", Shape::Text)];
const PRECONDITIONS: Message = &[(1, "uid", Shape::Text), (2, "resourceVersion", Shape::Text)];
/// By kind.
const KINDS: [(&str, Message); 5] = [
    ("Namespace", &[(1, "metadata", Shape::Message(METADATA))]),
    (
        "SelfSubjectAccessReview",
        &[(
            2,
            "spec",
            Shape::Message(&[
                (1, "resourceAttributes", Shape::Message(RESOURCE)),
                (2, "nonResourceAttributes", Shape::Message(NON_RESOURCE)),
            ]),
        )],
    ),
    ("SelfSubjectRulesReview", &[(2, "spec", Shape::Message(&[(1, "namespace", Shape::Text)]))]),
    ("SelfSubjectReview", &[]),
    (
        "DeleteOptions",
        &[
            (2, "preconditions", Shape::Message(PRECONDITIONS)),
            (3, "orphanDependents", Shape::Flag),
            (4, "propagationPolicy", Shape::Text),
            (5, "dryRun", Shape::Texts),
        ],
    ),
];

/// The object of a body.
///
/// # Errors
/// When it is none, or of a kind that is not read in this form.
pub(crate) fn read(body: &[u8]) -> Result<Value, Status> {
    let broken =
        || Status::bad_request("the body is not protobuf as Kubernetes writes it; send application/json");
    let body = body.strip_prefix(MAGIC).ok_or_else(broken)?;
    let envelope: Message =
        &[(1, "type", Shape::Message(&[(1, "apiVersion", Shape::Text), (2, "kind", Shape::Text)]))];
    let named = message(body, envelope).ok_or_else(broken)?;
    let raw = fields(body).ok_or_else(broken)?.into_iter().find_map(|(number, value)| match value {
        Wire::Bytes(raw) if number == 2 => Some(raw),
        Wire::Bytes(_) | Wire::Number(_) => None,
    });
    let kind = named["type"]["kind"].as_str().unwrap_or_default();
    let known = KINDS.into_iter().find(|(known, _)| *known == kind);
    let (_, described) = known.ok_or_else(|| {
        Status::bad_request(format!(
            "objects of the kind `{kind}` are not read in protobuf; send application/json"
        ))
    })?;
    let mut object = message(raw.unwrap_or_default(), described).ok_or_else(broken)?;
    object["apiVersion"] = named["type"]["apiVersion"].clone();
    object["kind"] = Value::from(kind);
    Ok(object)
}

/// A value as it is written.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn message(bytes: &[u8], described: Message) -> Option<Value> {
    let mut object = Map::new();
    for (number, value) in fields(bytes)? {
        let Some((_, name, shape)) = described.iter().find(|(known, ..)| *known == number) else { continue };
        let name = (*name).to_owned();
        match (shape, value) {
            (Shape::Text, Wire::Bytes(text)) => {
                let text = text_of(text)?;
                // Empty is absent.
                if !text.is_empty() {
                    object.insert(name, Value::from(text));
                }
            }
            (Shape::Texts, Wire::Bytes(text)) => {
                let texts = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                texts.as_array_mut()?.push(Value::from(text_of(text)?));
            }
            (Shape::Flag, Wire::Number(number)) => drop(object.insert(name, Value::from(number != 0))),
            (Shape::Map, Wire::Bytes(entry)) => {
                let entry = message(entry, &[(1, "key", Shape::Text), (2, "value", Shape::Text)])?;
                let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                let key = entry["key"].as_str().unwrap_or_default().to_owned();
                let value = entry["value"].as_str().unwrap_or_default();
                map.as_object_mut()?.insert(key, Value::from(value));
            }
            (Shape::Message(within), Wire::Bytes(bytes)) => {
                drop(object.insert(name, message(bytes, within)?));
            }
            (Shape::Text | Shape::Texts | Shape::Map | Shape::Message(_), Wire::Number(_))
            | (Shape::Flag, Wire::Bytes(_)) => return None,
        }
    }
    Some(Value::Object(object))
}

fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The fields of a message, in order.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Wire<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (tag, rest) = varint(bytes)?;
        let (value, rest) = match tag & 7 {
            0 => {
                let (number, rest) = varint(rest)?;
                (Wire::Number(number), rest)
            }
            1 => (Wire::Number(0), rest.get(8..)?),
            2 => {
                let (length, rest) = varint(rest)?;
                let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Wire::Bytes(value), rest)
            }
            5 => (Wire::Number(0), rest.get(4..)?),
            _ => return None,
        };
        fields.push((tag >> 3, value));
        bytes = rest;
    }
    Some(fields)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f).checked_shl(u32::try_from(index * 7).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}
