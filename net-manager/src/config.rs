//! `netcfg.json` in Oakestra's form, and what is made of it together with the command line.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Keys of Oakestra's file and what they mean here.
const KEYS: [(&str, Meaning); 9] = [
    ("ClusterUrl", Meaning::Cluster),
    ("Debug", Meaning::Switch("set MANGROVE_LOG=debug in the environment to log more")),
    (
        "ClusterMqttPort",
        Meaning::Superseded("there is no message broker; NodeEngine says where the cluster is"),
    ),
    ("DefaultInterface", Meaning::Superseded("traffic leaves by whatever route the kernel has")),
    ("MqttCert", Meaning::Superseded("the cluster is reached with a certificate it issued itself")),
    ("MqttKey", Meaning::Superseded("the key is made on this device and never leaves it")),
    ("NodePublicAddress", Meaning::Underlay),
    ("NodePublicPort", Meaning::TunnelPort),
    ("PublicIPNetworking", Meaning::Superseded("set NodePublicAddress to an address of this device")),
];

#[derive(Debug, Clone, Copy)]
enum Meaning {
    /// A host; 0.0.0.0 and empty stand for "not set", as in the file that is shipped.
    Cluster,
    /// An IP address; 0.0.0.0 and empty as above.
    Underlay,
    /// On or off; off is as good as absent, on is answered with the sentence.
    Switch(&'static str),
    /// A port, as a number or, as in the file that is shipped, a text.
    TunnelPort,
    /// Accepted for the sake of existing files; the reason is told.
    Superseded(&'static str),
}

/// What `netcfg.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkConfig {
    /// Host of the cluster, in place of the one NodeEngine names.
    pub cluster_url: Option<String>,
    /// Where other devices of the site reach this one, in place of the address it speaks to the cluster from.
    pub underlay: Option<IpAddr>,
    /// The UDP port of encrypted links.
    pub tunnel_port: Option<u16>,
    /// One sentence for each key that is set and means nothing here.
    pub warnings: Vec<String>,
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is there and cannot be read.
    #[error("configuration file {} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("configuration file {} is not JSON at line {}, column {}: {source}", path.display(), source.line(), source.column())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// It is not an object.
    #[error("configuration file {} must hold one JSON object, such as {{\"Debug\": true}}", path.display())]
    NotAnObject {
        /// Which.
        path: PathBuf,
    },
    /// A key nobody knows.
    #[error("configuration file {}, line {line}: unknown key `{key}`; did you mean `{nearest}`?", path.display())]
    UnknownKey {
        /// Which.
        path: PathBuf,
        /// Where the key is.
        line: usize,
        /// The key.
        key: String,
        /// The known key most like it.
        nearest: &'static str,
    },
    /// A value of the wrong kind.
    #[error("configuration file {}, line {line}: `{key}` must be {expected}, not {found}", path.display())]
    WrongValue {
        /// Which.
        path: PathBuf,
        /// Where the key is.
        line: usize,
        /// The key.
        key: String,
        /// What it takes.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

impl NetworkConfig {
    /// Reads the file; a missing one is no configuration at all.
    ///
    /// # Errors
    /// When it is there and cannot be used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::info!(path = %path.display(), "there is no configuration file; defaults are used");
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let syntax = |source| ConfigError::Syntax { path: path.to_owned(), source };
        let Value::Object(entries) = serde_json::from_str(text).map_err(syntax)? else {
            return Err(ConfigError::NotAnObject { path: path.to_owned() });
        };
        let mut config = Self::default();
        for (key, value) in entries {
            let line = line_of(text, &key);
            let Some((known, meaning)) = KEYS.iter().find(|(known, _)| *known == key) else {
                let nearest = nearest_key(&key);
                return Err(ConfigError::UnknownKey { path: path.to_owned(), line, key, nearest });
            };
            let wrong = |expected| ConfigError::WrongValue {
                path: path.to_owned(),
                line,
                key: (*known).to_owned(),
                expected,
                found: value.to_string(),
            };
            match meaning {
                Meaning::Switch(advice) => {
                    if value.as_bool().ok_or_else(|| wrong("true or false"))? {
                        config.warnings.push(format!("`{key}` has no effect: {advice}"));
                    }
                }
                Meaning::Cluster => {
                    let host = value.as_str().ok_or_else(|| wrong("a host name or address in quotes"))?;
                    config.cluster_url = (!is_unset(host)).then(|| host.to_owned());
                }
                Meaning::Underlay => {
                    let text = value.as_str().ok_or_else(|| wrong("an IP address in quotes"))?;
                    let address = (!is_unset(text)).then(|| text.parse()).transpose();
                    config.underlay = address.map_err(|_| wrong("an IP address in quotes"))?;
                }
                Meaning::TunnelPort => {
                    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
                    let port = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
                    config.tunnel_port = Some(port.ok_or_else(|| wrong("a port number from 1 to 65535"))?);
                }
                Meaning::Superseded(reason) => {
                    config.warnings.push(format!("`{key}` has no effect: {reason}"))
                }
            }
        }
        Ok(config)
    }
}

fn is_unset(text: &str) -> bool {
    text.is_empty() || text == "0.0.0.0"
}

fn line_of(text: &str, key: &str) -> usize {
    let quoted = format!("\"{key}\"");
    // The same text may be a value further up.
    let is_key = |line: &str| line.split(&quoted).skip(1).any(|rest| rest.trim_start().starts_with(':'));
    text.lines().position(is_key).map_or(1, |index| index + 1)
}

fn nearest_key(key: &str) -> &'static str {
    let wanted = key.to_lowercase();
    let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &wanted);
    let (nearest, _) = KEYS
        .iter()
        .max_by(|(left, _), (right, _)| likeness(left).total_cmp(&likeness(right)))
        .expect("there are keys");
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NetworkConfig, String> {
        NetworkConfig::parse(Path::new("netcfg.json"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_oakestra_ships_is_accepted_and_keys_without_meaning_are_named() {
        let shipped = r#"{
            "NodePublicAddress": "0.0.0.0", "NodePublicPort": "50103", "ClusterUrl": "0.0.0.0",
            "ClusterMqttPort": "10003", "DefaultInterface": "", "Debug": false, "MqttCert": "", "MqttKey": "",
            "PublicIPNetworking": false
        }"#;
        let config = parse(shipped).expect("Oakestra's file");
        assert_eq!(config.cluster_url, None);
        assert_eq!(config.tunnel_port, Some(50103));
        assert_eq!(config.warnings.len(), 5, "{:?}", config.warnings);
        assert_eq!(
            config.warnings[0],
            "`ClusterMqttPort` has no effect: there is no message broker; NodeEngine says where the cluster is"
        );
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_known_one() {
        assert_eq!(
            parse("{\n  \"Debug\": false,\n  \"clusterURL\": \"x\"\n}"),
            Err("configuration file netcfg.json, line 3: unknown key `clusterURL`; did you mean `ClusterUrl`?".to_owned())
        );
    }

    #[test]
    fn a_wrong_value_and_broken_json_say_where() {
        assert_eq!(
            parse("{\"Debug\": \"yes\"}"),
            Err("configuration file netcfg.json, line 1: `Debug` must be true or false, not \"yes\""
                .to_owned())
        );
        assert_eq!(
            parse("{\"NodePublicAddress\": \"example.org\"}"),
            Err("configuration file netcfg.json, line 1: `NodePublicAddress` must be an IP address in quotes, not \
                 \"example.org\""
                .to_owned())
        );
        let broken = parse("{\n\"Debug\" true}").expect_err("no colon");
        assert!(
            broken.starts_with("configuration file netcfg.json is not JSON at line 2, column 9"),
            "{broken}"
        );
        assert_eq!(
            parse("{\n\"MqttCert\": \"NodePublicPort\",\n\"NodePublicPort\": \"0\"\n}"),
            Err("configuration file netcfg.json, line 3: `NodePublicPort` must be a port number from 1 to 65535, not \
                 \"0\""
                .to_owned())
        );
        assert_eq!(
            parse("{\"ClusterUrl\": 7}"),
            Err("configuration file netcfg.json, line 1: `ClusterUrl` must be a host name or address in quotes, not 7"
                .to_owned())
        );
        assert_eq!(
            parse("[]"),
            Err("configuration file netcfg.json must hold one JSON object, such as {\"Debug\": true}"
                .to_owned())
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let error = NetworkConfig::load(directory.path()).expect_err("a directory is no file");
        let expected = format!("configuration file {} cannot be read", directory.path().display());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_missing_file_is_no_configuration() {
        let nowhere = Path::new("/nonexistent/netcfg.json");
        assert_eq!(NetworkConfig::load(nowhere).expect("defaults"), NetworkConfig::default());
    }
}
