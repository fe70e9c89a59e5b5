//! What a container is asked while it runs, and how one is stopped and read after its end.

use std::{net::IpAddr, time::Duration};

use bollard::{
    Docker,
    exec::{StartExecOptions, StartExecResults},
    models::{ExecConfig, HealthConfig, MountPoint},
    query_parameters::{InspectContainerOptions, LogsOptionsBuilder, StopContainerOptionsBuilder},
};
use futures_util::StreamExt;
use model::{Generation, InstanceId, Output, Timestamp};
use node_core::{ContainerId, ContainerSeen, StartOrder};
use tokio::io::AsyncReadExt;

use super::{
    DockerRuntime,
    create::{OUTPUT, TERMINATION_LOG},
    errors::{failure, gone_if_missing, status, unless_missing},
    lock, observe,
};
use crate::runtime::{Executed, LastWords, RuntimeError};

/// Enough of a command's output to tell what went wrong.
const OUTPUT_BYTES: usize = 256;
/// As much of a termination log is read, as Kubernetes does.
const LOG_BYTES: u64 = 4096;

/// Whether a HEALTHCHECK is one: an image may switch off that of the image it is made from.
pub(super) fn is_carried_out(check: &HealthConfig) -> bool {
    let test = check.test.as_deref().unwrap_or_default();
    test.first().is_some_and(|word| !word.is_empty() && word != "NONE")
}

impl DockerRuntime {
    pub(super) async fn has_health_check(&self, order: &StartOrder) -> bool {
        if !order.spec.health.is_empty() {
            return false;
        }
        let Ok(docker) = self.docker() else { return false };
        // An image that is gone since its container was made: the engine tells of its HEALTHCHECK by and by.
        self.image_command(&docker, &order.spec.image).await.is_ok_and(|image| image.checked)
    }

    pub(super) async fn stop(
        &self,
        container: &ContainerId,
        grace_seconds: u16,
    ) -> Result<ContainerSeen, RuntimeError> {
        let docker = self.docker()?;
        let grace = StopContainerOptionsBuilder::default().t(i32::from(grace_seconds)).build();
        let stopped = docker.stop_container(&container.0, Some(grace)).await;
        stopped.or_else(unless_missing).map_err(failure)?;
        let inspected = docker.inspect_container(&container.0, None::<InspectContainerOptions>).await;
        let gone = || RuntimeError::Gone { container: container.clone() };
        let inspected = inspected.map_err(|error| match status(&error) {
            Some(404) => gone(),
            Some(_) | None => failure(error),
        })?;
        observe::seen(inspected, self.gates.is_some()).ok_or_else(gone)
    }

    pub(super) async fn address(&self, container: &ContainerId) -> Result<Option<IpAddr>, RuntimeError> {
        if let Some(known) = lock(&self.addresses).get(container) {
            return Ok(Some(*known));
        }
        let docker = self.docker()?;
        let inspected = docker.inspect_container(&container.0, None::<InspectContainerOptions>).await;
        let inspected = inspected.map_err(|error| gone_if_missing(failure(error), container))?;
        let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let mut named: Vec<_> = networks.into_iter().collect();
        named.sort_by(|(one, _), (other, _)| one.cmp(other));
        let addresses = named.into_iter().filter_map(|(_, network)| network.ip_address?.parse().ok());
        let found: Option<IpAddr> = { addresses }.next();
        if let Some(address) = found {
            lock(&self.addresses).insert(container.clone(), address);
        }
        Ok(found)
    }

    pub(super) async fn exec(
        &self,
        container: &ContainerId,
        command: &[String],
        timeout: Duration,
    ) -> Result<Executed, RuntimeError> {
        let docker = self.docker()?;
        let config = ExecConfig {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let made = docker.create_exec(&container.0, config).await;
        let exec = made.map_err(|error| gone_if_missing(failure(error), container))?.id;
        let Ok(output) = tokio::time::timeout(timeout, output_of(&docker, &exec)).await else {
            kill(&docker, &exec).await;
            return Ok(Executed::TimedOut);
        };
        let output = output?;
        let ended = docker.inspect_exec(&exec).await.map_err(failure)?;
        Ok(Executed::Ended { code: ended.exit_code.unwrap_or(-1), output })
    }

    /// The engine's interface takes whole seconds only, within which the next run may have begun to write; so every
    /// line is asked for with its date.
    pub(super) async fn last_words(
        &self,
        container: &ContainerId,
        after: Option<Timestamp>,
        until: Timestamp,
        lines: u32,
    ) -> Result<LastWords, RuntimeError> {
        let docker = self.docker()?;
        if let Some(said) = self.said(&docker, container).await? {
            return Ok(LastWords::Said(said));
        }
        let tail = lines.to_string();
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).tail(&tail).build();
        let mut words = Vec::new();
        let mut entries = docker.logs(&container.0, Some(options));
        while let Some(entry) = entries.next().await {
            let entry = entry.map_err(failure)?.into_bytes();
            let Some(blank) = entry.iter().position(|byte| *byte == b' ') else { continue };
            let date = std::str::from_utf8(&entry[..blank]).ok().and_then(observe::timestamp);
            if date.is_some_and(|date| date <= until && after.is_none_or(|after| date > after)) {
                words.extend_from_slice(&entry[blank + 1..]);
            }
        }
        Ok(LastWords::Printed(words))
    }

    /// The file is found without the engine, which may be away and forget containers.
    pub(super) async fn output(&self, instance: InstanceId, generation: Generation) -> Option<Output> {
        let file = self.gates.as_ref()?.file(instance, generation, OUTPUT.name);
        let reading = async {
            let opened = tokio::fs::File::open(&file).await?;
            let bytes = opened.metadata().await?.len();
            let mut content = Vec::new();
            opened.take(Output::MAX_BYTES as u64 + 1).read_to_end(&mut content).await?;
            Ok::<_, std::io::Error>((content, bytes))
        };
        match reading.await {
            Ok((content, bytes)) => Output::read(content, bytes),
            // Its container was made by a NodeEngine that had none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "an output cannot be read");
                Some(Output::Withheld(format!("cannot be read on its device: {error}")))
            }
        }
    }

    /// What a container wrote to its termination log, if it has one and wrote anything.
    async fn said(&self, docker: &Docker, container: &ContainerId) -> Result<Option<Vec<u8>>, RuntimeError> {
        if self.gates.is_none() {
            return Ok(None);
        }
        let inspected = docker.inspect_container(&container.0, None::<InspectContainerOptions>).await;
        let inspected = inspected.map_err(|error| gone_if_missing(failure(error), container))?;
        let is_log = |mount: &MountPoint| mount.destination.as_deref() == Some(TERMINATION_LOG.target);
        let log = inspected.mounts.into_iter().flatten().find(is_log).and_then(|mount| mount.source);
        let Some(log) = log else { return Ok(None) };
        let mut said = Vec::new();
        let read = tokio::fs::File::open(&log).await.map(|file| file.take(LOG_BYTES));
        let read = match read {
            Ok(mut file) => file.read_to_end(&mut said).await,
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            tracing::warn!(file = %log, %error, "a termination log cannot be read");
        }
        Ok((!said.is_empty()).then_some(said))
    }
}

/// Carries out what was prepared, to its end.
async fn output_of(docker: &Docker, exec: &str) -> Result<String, RuntimeError> {
    let attached = StartExecOptions { detach: false, tty: false, output_capacity: None };
    let mut kept = Vec::new();
    match docker.start_exec(exec, Some(attached)).await.map_err(failure)? {
        StartExecResults::Attached { mut output, .. } => {
            while let Some(piece) = output.next().await {
                let piece = piece.map_err(failure)?.into_bytes();
                let room = OUTPUT_BYTES.saturating_sub(kept.len()).min(piece.len());
                kept.extend_from_slice(&piece[..room]);
            }
        }
        StartExecResults::Detached => {}
    }
    Ok(String::from_utf8_lossy(&kept).trim().to_owned())
}

/// A command that hangs would be joined by another with every further attempt.
async fn kill(docker: &Docker, exec: &str) {
    let running = docker.inspect_exec(exec).await.ok().filter(|exec| exec.running == Some(true));
    let pid = running.and_then(|exec| exec.pid).and_then(|pid| i32::try_from(pid).ok());
    let Some(process) = pid.and_then(rustix::process::Pid::from_raw) else { return };
    if let Err(error) = rustix::process::kill_process(process, rustix::process::Signal::KILL) {
        tracing::warn!(%error, "the command of a probe that took too long stays behind");
    }
}
