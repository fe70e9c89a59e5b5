//! A container engine by its HTTP interface, as far as benchmarks use it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bench::http::{Address, Body, Connection, Method};

/// Where an engine listens unless `DOCKER_HOST` says otherwise.
const USUAL_SOCKET: &str = "/var/run/docker.sock";

/// A container engine on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) socket: PathBuf,
}

impl Engine {
    /// The engine of this machine.
    ///
    /// # Errors
    /// `DOCKER_HOST` names one that is reached in another way than by a unix socket.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let host = env::var("DOCKER_HOST").unwrap_or_else(|_| format!("unix://{USUAL_SOCKET}"));
        let socket = host.strip_prefix("unix://").unwrap_or(&host);
        ensure!(
            socket.starts_with('/'),
            "DOCKER_HOST is `{host}`: only engines behind a unix socket are measured; unset it"
        );
        Ok(Self { socket: socket.into() })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(Address::Unix(self.socket.clone()), None).await
    }

    /// Its version.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn version(&self) -> Result<String> {
        let answer = self.connect().await?.ask(Method::GET, "/version", Body::Empty).await?;
        Ok(answer["Version"].as_str().unwrap_or("unknown").to_owned())
    }

    /// Makes an image that runs one static program; gives its id.
    pub(crate) async fn import(&self, image: &str, program: &Path) -> Result<String> {
        let name = program.file_name().context("a program has a name")?.to_string_lossy();
        let folder = program.parent().context("a program is in a folder")?;
        let tar = Command::new("tar")
            .args(["--create", "--owner=0", "--group=0", "--directory"])
            .arg(folder)
            .arg(&*name)
            .output()
            .context("start `tar`")?;
        ensure!(tar.status.success(), "`tar` fails: {}", String::from_utf8_lossy(&tar.stderr).trim());
        let (repository, tag) = image.split_once(':').context("an image has a tag")?;
        let entrypoint = encoded(&format!("ENTRYPOINT [\"/{name}\"]"));
        let path =
            format!("/images/create?fromSrc=-&repo={}&tag={tag}&changes={entrypoint}", encoded(repository));
        let mut connection = self.connect().await?;
        let answer = connection.ask(Method::POST, &path, Body::Tar(tar.stdout)).await;
        let answer = answer.with_context(|| format!("import image {image}"))?;
        Ok(answer["status"].as_str().context("the engine names no image")?.to_owned())
    }

    /// Removes an image; one that is not there is removed.
    pub(crate) async fn remove_image(&self, image: &str) -> Result<()> {
        let mut connection = self.connect().await?;
        if connection.ask(Method::GET, &format!("/images/{image}/json"), Body::Empty).await.is_err() {
            return Ok(());
        }
        connection.ask(Method::DELETE, &format!("/images/{image}?force=1"), Body::Empty).await.map(drop)
    }

    /// Ids of all containers, running or not, with a label (`name=value`).
    pub(crate) async fn containers(&self, label: Option<&str>) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Listed {
            #[serde(rename = "Id")]
            id: String,
        }
        let filters = encoded(&json!({"label": Vec::from_iter(label)}).to_string());
        let path = format!("/containers/json?all=1&filters={filters}");
        let listed = self.connect().await?.ask(Method::GET, &path, Body::Empty).await?;
        let listed: Vec<Listed> = serde_json::from_value(listed).context("read the list of containers")?;
        Ok(listed.into_iter().map(|container| container.id).collect())
    }

    /// A container as one there is, by its id: of the same image, in the same network, with as much memory.
    pub(crate) async fn like(&self, container: &str) -> Result<Value> {
        let path = format!("/containers/{container}/json");
        let told = self.connect().await?.ask(Method::GET, &path, Body::Empty).await?;
        Ok(json!({
            "Image": told["Config"]["Image"],
            "NetworkDisabled": told["Config"]["NetworkDisabled"],
            "HostConfig": {
                "NetworkMode": told["HostConfig"]["NetworkMode"],
                "Memory": told["HostConfig"]["Memory"],
            },
        }))
    }

    /// Removes all containers of an image.
    pub(crate) async fn remove_containers_of(&self, image: &str) -> Result<()> {
        let filters = encoded(&json!({"ancestor": [image]}).to_string());
        let path = format!("/containers/json?all=1&filters={filters}");
        let mut connection = self.connect().await?;
        let listed = connection.ask(Method::GET, &path, Body::Empty).await?;
        for container in listed.as_array().into_iter().flatten() {
            remove(&mut connection, container["Id"].as_str().context("a container has no id")?).await?;
        }
        Ok(())
    }

    /// Removes all containers with a label.
    pub(crate) async fn remove_containers(&self, label: &str) -> Result<()> {
        let mut connection = self.connect().await?;
        for container in self.containers(Some(label)).await? {
            remove(&mut connection, &container).await?;
        }
        Ok(())
    }
}

/// Creates and starts a container; returns once the engine says that it is started.
pub(crate) async fn create_and_start(connection: &mut Connection, container: &Value) -> Result<String> {
    let made = connection.ask(Method::POST, "/containers/create", Body::Json(container.clone())).await?;
    let id = made["Id"].as_str().context("the engine gives the container no id")?.to_owned();
    connection.ask(Method::POST, &format!("/containers/{id}/start"), Body::Empty).await?;
    Ok(id)
}

pub(crate) async fn remove(connection: &mut Connection, container: &str) -> Result<()> {
    connection.ask(Method::DELETE, &format!("/containers/{container}?force=1"), Body::Empty).await.map(drop)
}

/// For a query: everything but letters and digits is escaped.
pub(crate) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_escaped() {
        assert_eq!(encoded("ENTRYPOINT [\"/a\"]"), "ENTRYPOINT%20%5B%22%2Fa%22%5D");
    }
}
