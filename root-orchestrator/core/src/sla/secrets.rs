//! The secrets a service asks for: by name, and how its instances are given them. Which versions those are, and whether
//! there are any, is found out by `secrets.rs` of the brain.

use std::collections::{BTreeMap, BTreeSet};

use model::{AddedFile, SECRETS_DIRECTORY, SecretTarget};
use serde_json::{Map, Value};

use super::{
    MAX_ADDED_FILES_BYTES, MAX_SECRET_NAME_LENGTH,
    error::{Problems, SlaErrorCode, shown},
    fields::SECRET,
    read::Fields,
    service::{names_a_file, octal_mode},
};

/// Permission bits of a secret that says none: only root inside the instance reads it.
const DEFAULT_MODE: u32 = 0o400;
/// Where NodeEngine itself puts files.
const RESERVED: [&str; 3] = ["/.mangrove", "/etc/hosts", "/etc/resolv.conf"];

/// What a service says of secrets, until its names are found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretWishes {
    /// Names, and how instances are given them.
    pub uses: Vec<(String, SecretTarget)>,
    /// The name of what its image is fetched with.
    pub image_pull: Option<String>,
}

/// Whether this may be the name of a secret, which may be the name of a file.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter))
        && name.len() <= MAX_SECRET_NAME_LENGTH
}

pub(super) fn wishes(
    fields: &Fields<'_>,
    environment: &BTreeMap<String, String>,
    added_files: &[AddedFile],
    problems: &mut Problems,
) -> SecretWishes {
    let mut variables: BTreeSet<String> = environment.keys().cloned().collect();
    let mut paths: BTreeSet<String> = added_files.iter().map(|file| file.path.clone()).collect();
    let mut uses = Vec::new();
    for (place, object) in fields.objects("secrets") {
        let Some((name, target)) = secret(&place, object, problems) else { continue };
        let (field, given, is_new) = match &target {
            SecretTarget::File { path, .. } => ("file", path, is_apart(path, &paths)),
            SecretTarget::Variable(variable) => ("env", variable, !variables.contains(variable)),
        };
        if is_new {
            match &target {
                SecretTarget::File { path, .. } => paths.insert(path.clone()),
                SecretTarget::Variable(variable) => variables.insert(variable.clone()),
            };
        } else {
            let is_wrong = format!(
                "is \"{}\", which another file, variable or secret of the service has, or lies in: choose another",
                shown(given)
            );
            problems.add(SlaErrorCode::Conflict, &super::read::child(&place, field), &is_wrong);
        }
        uses.push((name, target));
    }
    let image_pull = Some(fields.text("image_pull_secret")).filter(|name| !name.is_empty());
    if let Some(name) = image_pull.filter(|name| !is_secret_name(name)) {
        refuse_name(&fields.path_of("image_pull_secret"), name, problems);
    }
    SecretWishes { uses, image_pull: image_pull.map(str::to_owned) }
}

/// `None` next to a problem.
fn secret(
    place: &str,
    object: &Map<String, Value>,
    problems: &mut Problems,
) -> Option<(String, SecretTarget)> {
    let fields = Fields::read(&SECRET, place, object, problems);
    let name = fields.text("name");
    if !is_secret_name(name) {
        if fields.has("name") {
            refuse_name(&fields.path_of("name"), name, problems);
        }
        return None;
    }
    let (file, variable, mode) = (fields.text("file"), fields.text("env"), fields.text("mode"));
    if variable.is_empty() {
        let path = match file {
            "" => format!("{SECRETS_DIRECTORY}/{name}"),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => format!("{SECRETS_DIRECTORY}/{relative}"),
        };
        if !names_a_file(&path) || RESERVED.iter().any(|reserved| lies_in(&path, reserved)) {
            let is_wrong = format!(
                "must be the path of a file, absolute or below {SECRETS_DIRECTORY}, without empty parts, `.` or `..`, \
                 and none of NodeEngine's own, but is \"{}\"",
                shown(file)
            );
            problems.add(SlaErrorCode::InvalidValue, &fields.path_of("file"), &is_wrong);
            return None;
        }
        let mode = if mode.is_empty() { Some(DEFAULT_MODE) } else { octal_mode(mode) };
        // A file that anybody could write would be no secret's, and one that changes its user no file of data.
        let mode = mode.filter(|mode| mode & !0o555 == 0);
        if mode.is_none() {
            let is_wrong = format!(
                "must be octal digits that allow to read, such as `0400` (the default) or `0444`, but is \"{}\"",
                shown(fields.text("mode"))
            );
            problems.add(SlaErrorCode::InvalidValue, &fields.path_of("mode"), &is_wrong);
        }
        return Some((name.to_owned(), SecretTarget::File { path, mode: mode? }));
    }
    if !file.is_empty() || !mode.is_empty() {
        let is_wrong = "is given beside `file` or `mode`: a secret is a file or a variable, so keep one; for both, name it \
                        twice";
        problems.add(SlaErrorCode::Conflict, &fields.path_of("env"), is_wrong);
        return None;
    }
    if variable.contains('=') {
        let is_wrong = format!("must be the name of a variable, without `=`, but is \"{}\"", shown(variable));
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of("env"), &is_wrong);
        return None;
    }
    Some((name.to_owned(), SecretTarget::Variable(variable.to_owned())))
}

fn refuse_name(path: &str, name: &str, problems: &mut Problems) {
    let is_wrong = format!(
        "must be the name of a secret, {MAX_SECRET_NAME_LENGTH} letters, digits, `-`, `_` and `.` at most and a letter \
         or digit first, but is \"{}\"",
        shown(name)
    );
    problems.add(SlaErrorCode::InvalidValue, path, &is_wrong);
}

/// Whether none of the paths is this one, or in it, or around it.
fn is_apart(path: &str, others: &BTreeSet<String>) -> bool {
    !others.iter().any(|other| lies_in(path, other) || lies_in(other, path))
}

fn lies_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Values of one service travel together, as its files do.
pub(super) const MAX_SECRETS: usize = MAX_ADDED_FILES_BYTES / super::MAX_SECRET_BYTES;
