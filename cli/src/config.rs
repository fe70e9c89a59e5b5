//! The saved login: which root, who, and the tokens it gave. Readable by its owner alone.

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What is remembered between two commands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SavedLogin {
    /// Base address of the root.
    pub(crate) root: String,
    /// Who logged in.
    pub(crate) username: String,
    /// To which organisation; `None` is `root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) organization: Option<String>,
    /// The access token, good for minutes; `None` after `mangrove logout`.
    pub(crate) token: Option<String>,
    /// Buys new access tokens, good for days.
    pub(crate) refresh_token: Option<String>,
}

/// Where the saved login is kept.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    path: PathBuf,
}

impl ConfigFile {
    /// `$XDG_CONFIG_HOME/mangrove/config.json`, else `$HOME/.config/mangrove/config.json`.
    pub(crate) fn of_this_user() -> Result<Self, Error> {
        let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = folder("XDG_CONFIG_HOME")
            .or_else(|| folder("HOME").map(|home| home.join(".config")))
            .ok_or(Error::NoConfigFolder)?;
        Ok(Self { path: base.join("mangrove").join("config.json") })
    }

    /// The saved login; an absent file is an empty one.
    pub(crate) fn load(&self) -> Result<SavedLogin, Error> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SavedLogin::default()),
            Err(error) => return Err(self.failed("read", &error)),
        };
        serde_json::from_slice(&text).map_err(|error| self.failed("understand", &error))
    }

    /// Replaces the saved login as a whole: a reader sees the old or the new one, never half of it.
    pub(crate) fn save(&self, login: &SavedLogin) -> Result<(), Error> {
        self.replace(login).map_err(|error| self.failed("write", &error))
    }

    fn replace(&self, login: &SavedLogin) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // The process id keeps two commands that refresh at once out of each other's file.
        let unfinished = folder.join(format!(".config.json.{}", std::process::id()));
        let written = write_private(&unfinished, &serde_json::to_vec_pretty(login)?)
            .and_then(|()| fs::rename(&unfinished, &self.path));
        if written.is_err() {
            // Best effort: the failure itself is what the user must hear of.
            drop(fs::remove_file(&unfinished));
        }
        written
    }

    fn failed(&self, action: &'static str, cause: &dyn ToString) -> Error {
        Error::Config { action, path: self.path.clone(), cause: cause.to_string() }
    }
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_saved_login_is_read_back_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = ConfigFile { path: folder.path().join("new/mangrove/config.json") };
        assert_eq!(file.load().unwrap(), SavedLogin::default());
        let login = SavedLogin {
            root: "http://[::1]:10000".to_owned(),
            username: "Admin".to_owned(),
            organization: Some("acme".to_owned()),
            token: Some("a".to_owned()),
            refresh_token: Some("r".to_owned()),
        };
        file.save(&login).unwrap();
        file.save(&login).unwrap();
        assert_eq!(file.load().unwrap(), login);
        assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(file.path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["config.json"]);
    }

    #[test]
    fn a_damaged_file_is_named_and_the_way_out_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = ConfigFile { path: folder.path().join("config.json") };
        fs::write(&file.path, "{").unwrap();
        let error = file.load().expect_err("half a file is no login");
        assert_eq!(error.hint().as_deref(), Some("run `mangrove login` to write it anew"));
        assert!(error.to_string().contains("config.json"), "{error}");
    }
}
