//! The objects of the root's API, as far as the client uses their fields. Parsed here and nowhere else; the
//! answer itself is kept beside it, for `-o json`.

use std::{fmt, net::IpAddr};

use model::Phase;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use crate::{client::Client, error::Error};

mod audit;
mod certificate;
mod change;
mod hook;
mod people;
mod secret;
mod worker;

pub(crate) use audit::AuditRecord;
pub(crate) use certificate::Certificate;
pub(crate) use change::{Revision, RolloutState};
pub(crate) use hook::Hook;
pub(crate) use people::{ApiToken, Organization, User};
pub(crate) use secret::Secret;
pub(crate) use worker::Worker;

/// An object with the JSON it was read from.
#[derive(Debug, Clone)]
pub(crate) struct Listed<T> {
    pub(crate) object: T,
    pub(crate) json: Value,
}

/// Fetches a list.
pub(crate) async fn list<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Vec<Listed<T>>, Error> {
    read_list(client.root(), &format!("GET {path}"), client.get(path).await?)
}

/// Reads the list that answers `request`.
pub(crate) fn read_list<T: DeserializeOwned>(
    root: &str,
    request: &str,
    answer: Value,
) -> Result<Vec<Listed<T>>, Error> {
    let incomprehensible = |detail: String| Error::Incomprehensible {
        root: root.to_owned(),
        request: request.to_owned(),
        detail,
    };
    let Value::Array(items) = answer else {
        return Err(incomprehensible("it is not a list".to_owned()));
    };
    let read = |json: Value| match T::deserialize(&json) {
        Ok(object) => Ok(Listed { object, json }),
        Err(error) => Err(incomprehensible(error.to_string())),
    };
    items.into_iter().map(read).collect()
}

/// An application.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Application {
    #[serde(rename = "applicationID")]
    pub(crate) id: String,
    #[serde(rename = "application_name")]
    pub(crate) name: String,
    #[serde(rename = "application_namespace")]
    pub(crate) namespace: String,
    #[serde(rename = "application_desc", default, deserialize_with = "or_default")]
    pub(crate) description: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) microservices: Vec<Value>,
    #[serde(rename = "userId", default, deserialize_with = "or_default")]
    pub(crate) owner: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) organization: String,
}

impl Application {
    /// `name.namespace`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

/// A service with its instances.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Service {
    #[serde(rename = "microserviceID")]
    pub(crate) id: String,
    #[serde(rename = "applicationID")]
    pub(crate) application_id: String,
    #[serde(rename = "app_name")]
    pub(crate) application_name: String,
    #[serde(rename = "app_ns")]
    pub(crate) application_namespace: String,
    #[serde(rename = "service_name")]
    pub(crate) name: String,
    #[serde(rename = "service_ns")]
    pub(crate) namespace: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) image: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) port: String,
    #[serde(default)]
    pub(crate) memory: Option<f64>,
    #[serde(default)]
    pub(crate) vcpus: Option<f64>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) revision: Option<u64>,
    #[serde(default)]
    pub(crate) rollout: Option<RolloutState>,
    #[serde(rename = "instance_list", default, deserialize_with = "or_default")]
    pub(crate) instances: Vec<Instance>,
}

impl Service {
    /// `application.namespace`.
    pub(crate) fn application(&self) -> String {
        format!("{}.{}", self.application_name, self.application_namespace)
    }

    /// `service.namespace`.
    pub(crate) fn short_name(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }

    /// `application.namespace.service.namespace`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.application(), self.short_name())
    }

    /// Instances that are not on their way out.
    pub(crate) fn staying(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|instance| instance.stage() != Stage::Leaving)
    }
}

/// One copy of a service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Instance {
    #[serde(rename = "instance_number")]
    pub(crate) number: u64,
    #[serde(default, deserialize_with = "or_default")]
    status: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) status_detail: String,
    #[serde(default)]
    phase: Option<String>,
    #[serde(default)]
    pub(crate) since: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) addresses: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) ports: Vec<String>,
    #[serde(default)]
    pub(crate) published_at: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) restarts: u64,
    #[serde(default)]
    pub(crate) revision: Option<u64>,
    /// `None` of a root that does not tell.
    #[serde(default)]
    pub(crate) ready: Option<bool>,
    #[serde(default)]
    pub(crate) last_exit: Option<LastExit>,
    #[serde(default)]
    pub(crate) reason: Option<Reason>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) cluster_id: String,
}

/// How a container last ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct LastExit {
    pub(crate) code: i64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) at: String,
}

/// What a phase means to somebody who waits for a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Something is being done about it.
    Underway,
    /// It runs.
    Running,
    /// It runs and cannot be counted on, or not yet.
    Unready,
    /// It ran to its end, as it should.
    Completed,
    /// Nothing can take it for now.
    Refused,
    /// It did not start or did not stay; it is tried again.
    Failing,
    /// It is being removed.
    Leaving,
}

impl Instance {
    /// The word for where it is in its life.
    pub(crate) fn phase(&self) -> String {
        match &self.phase {
            Some(phase) if !phase.is_empty() => phase.to_lowercase(),
            Some(_) | None if self.status.is_empty() => "requested".to_owned(),
            Some(_) | None => self.status.to_lowercase(),
        }
    }

    /// What that means to somebody who waits.
    pub(crate) fn stage(&self) -> Stage {
        let word = self.phase();
        match Phase::deserialize(Value::String(word.clone())) {
            Ok(Phase::Requested | Phase::ClusterScheduled | Phase::NodeScheduled | Phase::Creating) => {
                Stage::Underway
            }
            Ok(Phase::Running) if self.ready == Some(false) => Stage::Unready,
            Ok(Phase::Running) => Stage::Running,
            Ok(Phase::Completed) => Stage::Completed,
            Ok(Phase::Refused) => Stage::Refused,
            Ok(Phase::Failed | Phase::Dead | Phase::Lost) => Stage::Failing,
            Ok(Phase::Undeploying | Phase::Removed) => Stage::Leaving,
            // Words of a status without a phase, and those of newer roots.
            Err(_) if word == "undeployed" => Stage::Leaving,
            Err(_) if self.reason.is_some() => Stage::Refused,
            Err(_) => Stage::Underway,
        }
    }

    /// The same as people read it: whether it can be counted on is said when it cannot.
    pub(crate) fn phase_in_words(&self) -> String {
        if self.stage() == Stage::Unready { format!("{}, not ready", self.phase()) } else { self.phase() }
    }

    /// Whether there is nothing left to wait for.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.stage(), Stage::Running | Stage::Completed)
    }

    /// Where its published ports are reached, in the order of the ports.
    pub(crate) fn published(&self) -> Vec<String> {
        let Some(host) = &self.published_at else { return Vec::new() };
        self.ports.iter().filter_map(|port| port.parse().ok()).map(|port| published(host, port)).collect()
    }

    /// Where it is reached at all: its published ports, else its own addresses.
    pub(crate) fn reached_at(&self) -> Vec<String> {
        let published = self.published();
        if published.is_empty() { self.addresses.clone() } else { published }
    }

    /// Why it is as it is, in one line; empty when there is nothing to add.
    pub(crate) fn detail(&self) -> String {
        match (&self.reason, self.stage()) {
            (Some(reason), Stage::Refused) => reason.to_string(),
            (Some(_) | None, Stage::Running) => String::new(),
            (Some(_) | None, _) => self.status_detail.clone(),
        }
    }
}

/// Container ports that speak HTTP by custom, so that their address can be clicked on.
fn published(host: &str, port: model::PortMapping) -> String {
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{host}]"),
        Ok(IpAddr::V4(_)) | Err(_) => host.to_owned(),
    };
    let outside = port.host;
    match (port.protocol, port.container) {
        (model::Protocol::Tcp, 443 | 8443) => format!("https://{host}:{outside}"),
        (model::Protocol::Tcp, 80 | 3000 | 5000 | 8000..=8999) => format!("http://{host}:{outside}"),
        (model::Protocol::Tcp, _) => format!("{host}:{outside}"),
        (model::Protocol::Udp, _) => format!("{host}:{outside}/udp"),
    }
}

/// Why an instance has no place. Like [`model::Refusal`], with codes this version may not know yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Reason {
    pub(crate) code: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) summary: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) candidates: Vec<Verdict>,
}

/// Why one candidate was not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) candidate: String,
    pub(crate) reason: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if !self.summary.is_empty() {
            write!(f, ": {}", self.summary)?;
        }
        self.candidates
            .iter()
            .try_for_each(|verdict| write!(f, "; {}: {}", verdict.candidate, verdict.reason))
    }
}

/// A cluster, as an aggregate.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Cluster {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    #[serde(rename = "cluster_name")]
    pub(crate) name: String,
    #[serde(rename = "cluster_location", default, deserialize_with = "or_default")]
    pub(crate) location: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) active: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) active_nodes: u64,
    #[serde(rename = "aggregated_cpu_percent", default, deserialize_with = "or_default")]
    pub(crate) cpu_percent: f64,
    #[serde(rename = "total_cpu_cores", default, deserialize_with = "or_default")]
    pub(crate) vcpus: f64,
    #[serde(rename = "memory_in_mb", default, deserialize_with = "or_default")]
    pub(crate) memory: f64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) virtualization: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) supported_addons: Vec<String>,
}

/// A join token, without its secret.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) cluster: String,
    #[serde(default)]
    pub(crate) uses: Option<u64>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) expires_at: String,
}

/// Reads `null` as the default.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn instance(json: Value) -> Instance {
        Instance::deserialize(&json).unwrap()
    }

    #[test]
    fn an_instance_is_reached_at_its_published_ports_else_at_its_addresses() {
        let published = instance(json!({
            "instance_number": 0, "published_at": "fd00::1", "addresses": ["10.30.0.2"],
            "ports": ["8080:80/tcp", "53:53/udp", "5432:5432/tcp", "443:443/tcp", "junk"],
        }));
        assert_eq!(
            published.reached_at(),
            ["http://[fd00::1]:8080", "[fd00::1]:53/udp", "[fd00::1]:5432", "https://[fd00::1]:443"]
        );
        let inside =
            instance(json!({"instance_number": 0, "published_at": null, "addresses": ["10.30.0.2"]}));
        assert_eq!(inside.reached_at(), ["10.30.0.2"]);
    }

    #[test]
    fn every_phase_and_every_status_has_a_stage() {
        let stage = |key: &str, word: &str| instance(json!({"instance_number": 0, key: word})).stage();
        for (word, expected) in [
            ("requested", Stage::Underway),
            ("cluster_scheduled", Stage::Underway),
            ("node_scheduled", Stage::Underway),
            ("creating", Stage::Underway),
            ("running", Stage::Running),
            ("completed", Stage::Completed),
            ("dead", Stage::Failing),
            ("lost", Stage::Failing),
            ("failed", Stage::Failing),
            ("refused", Stage::Refused),
            ("undeploying", Stage::Leaving),
            ("removed", Stage::Leaving),
            ("invented_later", Stage::Underway),
        ] {
            assert_eq!(stage("phase", word), expected, "{word}");
        }
        assert_eq!(stage("status", "RUNNING"), Stage::Running);
        let unready = json!({"instance_number": 0, "phase": "running", "ready": false});
        assert_eq!(instance(unready).stage(), Stage::Unready);
        assert_eq!(stage("status", "UNDEPLOYED"), Stage::Leaving);
        assert_eq!(instance(json!({"instance_number": 0})).stage(), Stage::Underway);
    }

    #[test]
    fn a_reason_with_an_unknown_code_is_still_a_refusal() {
        let refused = instance(json!({
            "instance_number": 0, "status": "NO_WORKER_CAPACITY",
            "reason": {"code": "Later", "summary": "s", "candidates": [{"candidate": "c", "reason": "r"}]},
        }));
        assert_eq!(refused.stage(), Stage::Refused);
        assert_eq!(refused.detail(), "Later: s; c: r");
    }
}
