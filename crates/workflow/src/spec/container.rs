//! The container of a task: the parts of a Kubernetes pod template that mean something here.

use std::collections::BTreeMap;

use model::{Mebibytes, Millicores};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CauseReason, Causes,
    object::{Object, cut, shown, text},
};

/// Bytes of an image reference.
const MOST_IMAGE_BYTES: usize = 512;
/// Entries of a command, its arguments or the variables.
const MOST_ENTRIES: usize = 1000;
/// Bytes of one of them: Linux starts no process with a longer one.
const MOST_ENTRY_BYTES: usize = (128 << 10) - 1;
/// Given by us.
const OUR_PREFIXES: [&str; 2] = ["ORCA_", "MANGROVE_"];

/// What runs, once for each attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// For people.
    pub name: String,
    /// OCI image reference.
    pub image: String,
    /// Replaces the image's entry point when not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments when not empty.
    pub args: Vec<String>,
    /// Variables besides those that every task is given.
    pub environment: BTreeMap<String, String>,
    /// What it reserves.
    pub cpu: Millicores,
    /// See `cpu`.
    pub memory: Mebibytes,
}

/// The container of `template`, a pod template.
pub(super) fn container(spec: &mut Object<'_>, causes: &mut Causes) -> Option<Container> {
    if !spec.has("template") {
        causes.required(&spec.path_of("template"), "say what runs: template.spec.containers");
    }
    let mut template = spec.object("template", causes)?;
    // Labels and annotations of pods; there are none here.
    template.take("metadata");
    let pod = template.object("spec", causes);
    if !template.has("spec") {
        causes.required(&template.path_of("spec"), "say what runs: containers");
    }
    template.finish(causes);
    let mut pod = pod?;
    let policy = pod.text("restartPolicy", 32, causes);
    if policy.is_some_and(|policy| policy != "Never") {
        let message = "must be Never: a task runs to its end, and `retry` says how often it is tried";
        causes.add(CauseReason::NotSupported, &pod.path_of("restartPolicy"), message);
    }
    let mut containers = pod.list("containers", MOST_ENTRIES, causes).into_iter();
    let first = containers.next();
    if first.is_none() && !pod.has("containers") {
        causes.required(&pod.path_of("containers"), "a task has one container");
    } else if first.is_none() {
        causes.invalid(&pod.path_of("containers"), "a task has one container");
    }
    for (path, _) in containers {
        causes.add(
            CauseReason::NotSupported,
            &path,
            "a task has one container; make another task of this one",
        );
    }
    pod.finish(causes);
    let (path, first) = first?;
    read(Object::of(&path, first, causes)?, causes)
}

fn read(mut object: Object<'_>, causes: &mut Causes) -> Option<Container> {
    let name = object.text("name", 253, causes).unwrap_or_default().to_owned();
    let image = object.needed_text("image", MOST_IMAGE_BYTES, "say which image runs", causes);
    let command = texts(&mut object, "command", causes);
    let args = texts(&mut object, "args", causes);
    let environment = environment(&mut object, causes);
    let (cpu, memory) = resources(&mut object, causes);
    // Images that are on a device are used as they are; others are fetched.
    object.choice("imagePullPolicy", &[("IfNotPresent", ())], causes);
    object.finish(causes);
    let image = image?.to_owned();
    Some(Container { name, image, command, args, environment, cpu, memory })
}

fn texts(object: &mut Object<'_>, field: &'static str, causes: &mut Causes) -> Vec<String> {
    let entries = object.list(field, MOST_ENTRIES, causes);
    let read = entries.into_iter().filter_map(|(path, value)| text(&path, value, MOST_ENTRY_BYTES, causes));
    read.map(str::to_owned).collect()
}

fn environment(object: &mut Object<'_>, causes: &mut Causes) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (path, value) in object.list("env", MOST_ENTRIES, causes) {
        let Some(mut entry) = Object::of(&path, value, causes) else { continue };
        let name = entry.needed_text("name", 256, "name the variable", causes);
        let value = entry.text("value", MOST_ENTRY_BYTES, causes).unwrap_or_default();
        let path = entry.path_of("name");
        entry.finish(causes);
        let Some(name) = name else { continue };
        if name.contains('=') {
            causes.invalid(&path, "must not contain `=`");
        } else if OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            causes.invalid(&path, &format!("`{}` is one of those that every task is given", cut(name)));
        } else if variables.insert(name.to_owned(), value.to_owned()).is_some() {
            causes.add(CauseReason::Duplicate, &path, &format!("`{}` is there twice", cut(name)));
        }
    }
    variables
}

/// What it reserves: what it requests, or else its limits.
fn resources(object: &mut Object<'_>, causes: &mut Causes) -> (Millicores, Mebibytes) {
    let mut reserved = (Millicores::default(), Mebibytes::default());
    let Some(mut resources) = object.object("resources", causes) else { return reserved };
    for field in ["limits", "requests"] {
        let Some(mut amounts) = resources.object(field, causes) else { continue };
        if let Some(millis) = amount(&mut amounts, "cpu", 1000, causes) {
            reserved.0 = Millicores(millis);
        }
        if let Some(bytes_as_mebibytes) = amount(&mut amounts, "memory", 1, causes) {
            reserved.1 = Mebibytes(bytes_as_mebibytes);
        }
        amounts.finish(causes);
    }
    resources.finish(causes);
    reserved
}

/// A quantity of Kubernetes: processors as thousandths, memory as mebibytes, rounded up.
fn amount(object: &mut Object<'_>, field: &'static str, scale: u32, causes: &mut Causes) -> Option<u32> {
    let value = object.take(field)?;
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    };
    let thousandths = quantity(&text);
    let amount = thousandths.and_then(|amount| match scale {
        1 => u32::try_from(amount.div_ceil(1000 << 20)).ok(),
        _ => u32::try_from(amount).ok(),
    });
    if amount.is_none() {
        let example = if scale == 1 { "64Mi" } else { "500m" };
        let message = format!("must be a quantity such as \"{example}\", but is {}", shown(value));
        causes.invalid(&object.path_of(field), &message);
    }
    amount
}

/// Thousandths of a quantity, rounded up.
fn quantity(text: &str) -> Option<u128> {
    const SUFFIXES: [(&str, u128); 12] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
        ("", 1),
    ];
    if let Some(digits) = text.strip_suffix('m') {
        return whole(digits);
    }
    let (digits, unit) =
        SUFFIXES.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
    let (units, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok().filter(|length| *length <= 9)?);
    let amount = whole(units)?.checked_mul(scale)?.checked_add(whole(fraction)?)?;
    Some(amount.checked_mul(unit * 1000)?.div_ceil(scale))
}

fn whole(digits: &str) -> Option<u128> {
    let is_number =
        !digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, thousandths) in [
            ("2", 2000),
            ("500m", 500),
            ("0.5", 500),
            ("0.0001", 1),
            ("1k", 1_000_000),
            ("64Mi", (64 << 20) * 1000),
            ("1.5Gi", (3 << 29) * 1000),
        ] {
            assert_eq!(quantity(text), Some(thousandths), "{text}");
        }
        for text in ["", "m", "1.", ".5", "-1", "1e3", "1 Mi", "1mi", "99999999999999999999", "1.0000000001"]
        {
            assert_eq!(quantity(text), None, "{text}");
        }
    }
}
