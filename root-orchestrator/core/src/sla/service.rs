//! One entry of `microservices` to what every tier understands.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use model::{
    AddedFile, AddressKind, AllowedCallers, Mebibytes, Millicores, PortMapping, Resources, ServiceSpec,
    StableAddress, Virtualization,
};
use serde_json::{Map, Value};

use super::{
    MAX_ADDED_FILES_BYTES, MAX_IMAGE_LENGTH, MAX_NAME_LENGTH, SlaService, constraints,
    error::{Problems, SlaErrorCode, shown},
    fields::{ADDED_FILE, ADDRESSES, Choice, Kind, SERVICE, Support, VIRTUALIZATIONS, nearest_choice},
    policy,
    read::{Fields, child, item},
    secrets,
};

/// Permission bits of an added file that says none: its owner writes, all read.
const DEFAULT_MODE: u32 = 0o644;

/// Reads the service at `path`. What it returns next to a problem is a placeholder.
pub(super) fn service(path: &str, object: &Map<String, Value>, problems: &mut Problems) -> SlaService {
    let fields = Fields::read(&SERVICE, path, object, problems);
    let (constraints, distances) = constraints::read(&fields, problems);
    let spec = ServiceSpec {
        image: image(&fields, problems),
        virtualization: virtualization(&fields, problems),
        resources: Resources {
            cpu: Millicores::from_cores(fields.integer("vcpus")),
            memory: Mebibytes(fields.integer("memory")),
            storage: Mebibytes(fields.integer("storage")),
            gpus: fields.integer("vgpus"),
        },
        entry_point: Vec::new(),
        command: command(&fields),
        environment: environment(&fields, problems),
        ports: ports(&fields, problems),
        one_shot: fields.flag("one_shot"),
        single_attempt: false,
        privileged: fields.flag("privileged"),
        added_files: added_files(&fields, problems),
        constraints,
        distances,
        architectures: architectures(&fields, problems),
        survival: policy::survival(&fields, problems),
        health: policy::health(&fields, problems),
        drain: policy::drain(&fields, problems),
        // Those that `secrets` below asks for, once they are found.
        secrets: Vec::new(),
        image_pull_secret: None,
    };
    let secrets = secrets::wishes(&fields, &spec.environment, &spec.added_files, problems);
    let update = policy::update(&fields, problems);
    if !spec.ports.is_empty() && spec.drain >= update.ready_within {
        let is_wrong = format!(
            "is {}, and an instance of another revision may wait so long for its port: let it be less than \
             `update.ready_within`, {}",
            spec.drain, update.ready_within
        );
        problems.add(SlaErrorCode::Conflict, &fields.path_of("drain"), &is_wrong);
    }
    SlaService {
        name: fields.text("microservice_name").to_owned(),
        namespace: fields.text("microservice_namespace").to_owned(),
        spec,
        secrets,
        update,
        allowed_callers: allowed_callers(&fields, problems),
        round_robin: round_robin(&fields, problems),
        document: document(object),
    }
}

/// Who may connect beside the service's own application; whether there are such applications is not asked.
fn allowed_callers(fields: &Fields<'_>, problems: &mut Problems) -> AllowedCallers {
    let path = fields.path_of("allowed_callers");
    let mut allowed = AllowedCallers::new();
    for (index, text) in fields.texts("allowed_callers").into_iter().enumerate() {
        // Only the root names applications of other organisations, with `-`.
        let is_written = text.split('.').all(|name| name.len() <= MAX_NAME_LENGTH && !name.contains('-'));
        match text.parse() {
            Ok(caller) if is_written => {
                allowed.insert(caller);
            }
            Ok(_) | Err(_) => {
                let is_wrong = format!(
                    "must be an application as `application.namespace`, each of 1 to {MAX_NAME_LENGTH} letters or \
                     digits, or `*` for all, but is \"{}\"",
                    shown(text)
                );
                problems.add(SlaErrorCode::InvalidValue, &item(&path, index), &is_wrong);
            }
        }
    }
    allowed
}

/// The address that a user chooses; whether it is free is for the caller.
fn round_robin(fields: &Fields<'_>, problems: &mut Problems) -> Option<Ipv4Addr> {
    let (path, object) = fields.object("addresses")?;
    let fields = Fields::read(&ADDRESSES, &path, object, problems);
    let text = fields.text("rr_ip");
    if text.is_empty() {
        return None;
    }
    let address = text.parse().ok().filter(|v4| StableAddress::of(AddressKind::RoundRobin, *v4).is_some());
    if address.is_none() {
        let is_wrong =
            format!("must be an IPv4 address from 10.30.0.1 to 10.31.255.254, but is \"{}\"", shown(text));
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of("rr_ip"), &is_wrong);
    }
    address
}

/// The object as it was sent, without what the root sets itself.
fn document(object: &Map<String, Value>) -> Map<String, Value> {
    let is_the_users = |name: &str| {
        let field = SERVICE.find(name);
        field.is_some_and(|field| {
            field.support != Support::ServerSet && !matches!(field.kind, Kind::EmptyText)
        })
    };
    let kept = object.iter().filter(|(name, _)| is_the_users(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn image(fields: &Fields<'_>, problems: &mut Problems) -> String {
    let image = fields.text("code");
    let reason = if !fields.has("code") {
        None
    } else if image.is_empty() {
        Some("is empty".to_owned())
    } else if image.len() > MAX_IMAGE_LENGTH {
        Some(format!("has {} characters, more than {MAX_IMAGE_LENGTH}", image.len()))
    } else if image.contains("://") {
        Some(format!("is the URL \"{}\"", shown(image)))
    } else if !image.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some(format!("is \"{}\", with characters no reference has", shown(image)))
    } else {
        None
    };
    if let Some(reason) = reason {
        let is_wrong =
            format!("must be an OCI image reference such as `docker.io/library/nginx:latest`, but {reason}");
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of("code"), &is_wrong);
    }
    image.to_owned()
}

fn virtualization(fields: &Fields<'_>, problems: &mut Problems) -> Virtualization {
    if fields.has("virtualization") {
        let path = fields.path_of("virtualization");
        choose(fields.text("virtualization"), &VIRTUALIZATIONS, &path, problems);
    }
    Virtualization::Container
}

/// Whether `text` is an honoured one of `choices`; if not, that is noted.
pub(super) fn choose(text: &str, choices: &[Choice], path: &str, problems: &mut Problems) -> bool {
    let honoured: Vec<String> = choices
        .iter()
        .filter(|choice| choice.support == Support::Honoured)
        .map(|choice| format!("`{}`", choice.name))
        .collect();
    let honoured = honoured.join(" or ");
    match choices.iter().find(|choice| choice.name == text) {
        Some(choice) if choice.support == Support::Honoured => return true,
        Some(choice) => {
            let is_wrong = format!(
                "is `{}` ({}), which is not supported yet: use {honoured}",
                choice.name, choice.about
            );
            problems.add(SlaErrorCode::NotSupported, path, &is_wrong);
        }
        None => {
            let hint = nearest_choice(text, choices)
                .map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
            let is_wrong = format!("must be {honoured}, but is \"{}\"{hint}", shown(text));
            problems.add(SlaErrorCode::InvalidValue, path, &is_wrong);
        }
    }
    false
}

/// The names are those of container images; whether a worker has such a processor is seen when one is chosen.
pub(super) fn architectures(fields: &Fields<'_>, problems: &mut Problems) -> BTreeSet<String> {
    let path = fields.path_of("arch");
    let mut architectures = BTreeSet::new();
    for (index, name) in fields.texts("arch").into_iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if name.len() <= MAX_NAME_LENGTH && name.bytes().all(fits) {
            architectures.insert(name.to_owned());
        } else {
            let is_wrong = format!(
                "must be a processor architecture as images name it, such as `amd64` or `arm64`, but is \"{}\"",
                shown(name)
            );
            problems.add(SlaErrorCode::InvalidValue, &item(&path, index), &is_wrong);
        }
    }
    architectures
}

/// A list of nothing but empty strings is a form that nobody filled in.
fn command(fields: &Fields<'_>) -> Vec<String> {
    let words = fields.texts("cmd");
    if words.iter().all(|word| word.is_empty()) {
        return Vec::new();
    }
    words.into_iter().map(str::to_owned).collect()
}

fn environment(fields: &Fields<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let path = fields.path_of("environment");
    let mut environment = BTreeMap::new();
    for (index, entry) in fields.texts("environment").into_iter().enumerate() {
        if entry.is_empty() {
            continue;
        }
        let entry_path = item(&path, index);
        let Some((name, value)) = entry.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            let is_wrong = format!("must be of the form `NAME=value`, but is \"{}\"", shown(entry));
            problems.add(SlaErrorCode::InvalidValue, &entry_path, &is_wrong);
            continue;
        };
        if environment.insert(name.to_owned(), value.to_owned()).is_some() {
            let is_wrong = format!("sets the variable `{}` a second time: keep one", shown(name));
            problems.add(SlaErrorCode::Duplicate, &entry_path, &is_wrong);
        }
    }
    environment
}

fn ports(fields: &Fields<'_>, problems: &mut Problems) -> Vec<PortMapping> {
    let path = fields.path_of("port");
    let ports = match PortMapping::parse_list(fields.text("port")) {
        Ok(ports) => ports,
        Err(error) => {
            let is_wrong = format!("is not a list of port mappings joined by `;`: {error}");
            problems.add(SlaErrorCode::InvalidValue, &path, &is_wrong);
            return Vec::new();
        }
    };
    let mut claimed = BTreeSet::new();
    if let Some(second) = ports.iter().find(|port| !claimed.insert((port.host, port.protocol))) {
        let is_wrong =
            format!("maps the device port {}/{} twice: keep one mapping of it", second.host, second.protocol);
        problems.add(SlaErrorCode::Conflict, &path, &is_wrong);
    }
    ports
}

fn added_files(fields: &Fields<'_>, problems: &mut Problems) -> Vec<AddedFile> {
    let mut files: Vec<AddedFile> = Vec::new();
    let mut paths = BTreeSet::new();
    for (place, object) in fields.objects("added_files") {
        let file = added_file(&place, object, problems);
        // A path that was refused reads as empty and is no duplicate of another.
        if !file.path.is_empty() && !paths.insert(file.path.clone()) {
            let is_wrong = format!("is \"{}\", as for another added file: keep one", shown(&file.path));
            problems.add(SlaErrorCode::Duplicate, &child(&place, "path"), &is_wrong);
        }
        files.push(file);
    }
    let list_path = fields.path_of("added_files");
    for (index, file) in files.iter().enumerate().filter(|(_, file)| !file.path.is_empty()) {
        let inside = format!("{}/", file.path);
        let next = paths.range(inside.clone()..).next().filter(|next| next.starts_with(&inside));
        if let Some(next) = next {
            let is_wrong =
                format!("is \"{}\", a file, but \"{}\" lies inside it", shown(&file.path), shown(next));
            problems.add(SlaErrorCode::Conflict, &child(&item(&list_path, index), "path"), &is_wrong);
        }
    }
    let bytes: usize = files.iter().map(|file| file.content.len()).sum();
    if bytes > MAX_ADDED_FILES_BYTES {
        let is_wrong = format!(
            "must hold at most {MAX_ADDED_FILES_BYTES} bytes in all, but holds {bytes}: put large files into the image"
        );
        problems.add(SlaErrorCode::TooLarge, &list_path, &is_wrong);
    }
    files
}

fn added_file(place: &str, object: &Map<String, Value>, problems: &mut Problems) -> AddedFile {
    let fields = Fields::read(&ADDED_FILE, place, object, problems);
    let path = fields.text("path");
    if fields.has("path") && !names_a_file(path) {
        let is_wrong = format!(
            "must be the absolute path of a file, without empty parts, `.` or `..`, but is \"{}\"",
            shown(path)
        );
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of("path"), &is_wrong);
    }
    let mode = match fields.text("mode") {
        "" => DEFAULT_MODE,
        text => octal_mode(text).unwrap_or_else(|| {
            let is_wrong =
                format!("must be three or four octal digits such as `0644`, but is \"{}\"", shown(text));
            problems.add(SlaErrorCode::InvalidValue, &fields.path_of("mode"), &is_wrong);
            DEFAULT_MODE
        }),
    };
    AddedFile { path: path.to_owned(), content: fields.text("content").to_owned(), mode }
}

pub(super) fn names_a_file(path: &str) -> bool {
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !part.is_empty() && part != "." && part != ".."))
}

pub(super) fn octal_mode(text: &str) -> Option<u32> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    u32::from_str_radix(text, 8).ok().filter(|_| is_octal)
}
