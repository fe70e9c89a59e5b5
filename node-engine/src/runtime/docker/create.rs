//! What a container of an instance looks like to Docker.

use std::{collections::HashMap, path::PathBuf};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, PortBinding,
    RestartPolicy, RestartPolicyNameEnum,
};
use model::{AddedFile, Output};
use node_core::StartOrder;

use super::name_files::name_files;
use crate::{
    gate::{self, GateError, Gates},
    runtime::{GENERATION_LABEL, INSTANCE_LABEL, RuntimeError, SERVICE_LABEL},
    secrets::Given,
};

/// A file that a container writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// What it is kept as.
    pub(super) name: &'static str,
    /// Its place in the container.
    pub(super) target: &'static str,
}

/// What a container with a single attempt has to say to those who come after it; Kubernetes has it there.
pub(super) const TERMINATION_LOG: Written =
    Written { name: "termination-log", target: "/dev/termination-log" };

/// What it gives to them as JSON.
pub(super) const OUTPUT: Written = Written { name: "output", target: Output::FILE };
/// What a container with a single attempt may write to.
pub(super) const WRITTEN: [Written; 2] = [TERMINATION_LOG, OUTPUT];

/// The added files that a container behind a gate mounts, and may only read, with what they are kept as: those of a single
/// attempt, which are of the root. To mount one costs nothing, while the engine takes half as long to copy files into a
/// container as to start it; but what others add may be written to by their containers.
pub(super) fn mounted_files(order: &StartOrder) -> impl Iterator<Item = (String, &AddedFile)> {
    let files = order.spec.added_files.iter().filter(|_| order.spec.single_attempt);
    files.enumerate().map(|(index, file)| (format!("added-{index}"), file))
}

/// What an image runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ImageCommand {
    pub(super) entrypoint: Vec<String>,
    pub(super) command: Vec<String>,
    /// The image has a HEALTHCHECK.
    pub(super) checked: bool,
}

/// A container on the engine's own network, its ports published by the engine.
pub(super) fn on_the_engines_network(order: &StartOrder, given: Given) -> ContainerCreateBody {
    let mut body = common(order, given);
    let ports = &order.spec.ports;
    let inside = |port: &model::PortMapping| format!("{}/{}", port.container, port.protocol);
    if !ports.is_empty() {
        let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
        for port in ports {
            let binding = PortBinding { host_port: Some(port.host.to_string()), ..PortBinding::default() };
            bindings.entry(inside(port)).or_default().get_or_insert_default().push(binding);
        }
        let mut exposed: Vec<_> = bindings.keys().cloned().collect();
        exposed.sort();
        body.exposed_ports = Some(exposed);
        body.host_config.get_or_insert_default().port_bindings = Some(bindings);
    }
    if !order.spec.entry_point.is_empty() {
        body.entrypoint = Some(order.spec.entry_point.clone());
    }
    if !order.spec.command.is_empty() {
        body.cmd = Some(order.spec.command.clone());
    }
    body
}

/// A container whose network is none of the engine's business, waiting at its gate for NetManager to give it one.
pub(super) fn behind_a_gate(
    order: &StartOrder,
    gates: &Gates,
    image: ImageCommand,
    given: Given,
) -> Result<ContainerCreateBody, RuntimeError> {
    let (entry_point, command) = what_runs(&order.spec, image);
    if entry_point.is_empty() && command.is_empty() {
        let detail =
            format!("image `{}` does not say what to run; give the service a `cmd`", order.spec.image);
        return Err(RuntimeError::Refused { detail });
    }
    let (instance, generation) = (order.instance, order.generation);
    let mut mounts =
        vec![mount(gates.program(), gate::PROGRAM), mount(gates.pipe(instance, generation), gate::PIPE)];
    let files = name_files(order).into_iter();
    mounts.extend(files.map(|file| mount(gates.file(instance, generation, file.name), file.target)));
    if order.spec.single_attempt {
        mounts.extend(WRITTEN.map(|file| {
            let source = gates.file(instance, generation, file.name);
            Mount { read_only: Some(false), ..mount(source, file.target) }
        }));
    }
    let added = mounted_files(order);
    mounts.extend(added.map(|(name, file)| mount(gates.file(instance, generation, &name), &file.path)));
    let mut body = common(order, given);
    body.entrypoint = Some([vec![gate::PROGRAM.to_owned()], entry_point, command].concat());
    // The runtime alone makes the network namespace, in half the time that the engine needs for `none`. An engine that
    // does not know this makes one of those.
    body.network_disabled = Some(true);
    let host = body.host_config.get_or_insert_default();
    host.network_mode = Some("none".to_owned());
    host.mounts.get_or_insert_default().extend(mounts);
    Ok(body)
}

/// Entry point and command, as the engine would put them together: a command is one for a certain entry point, so that of the
/// image does not count beside another.
fn what_runs(spec: &model::ServiceSpec, image: ImageCommand) -> (Vec<String>, Vec<String>) {
    if !spec.entry_point.is_empty() {
        return (spec.entry_point.clone(), spec.command.clone());
    }
    let command = if spec.command.is_empty() { image.command } else { spec.command.clone() };
    (image.entrypoint, command)
}

/// A file of the device that the container may only read.
fn mount(source: PathBuf, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    }
}

fn common(order: &StartOrder, given: Given) -> ContainerCreateBody {
    let spec = &order.spec;
    let log = HashMap::from([("max-size", "10m"), ("max-file", "3")]);
    let positive = |amount: i64| (amount > 0).then_some(amount);
    let host_config = HostConfig {
        nano_cpus: positive(i64::from(spec.resources.cpu.0) * 1_000_000),
        memory: positive(i64::try_from(spec.resources.memory.bytes()).unwrap_or(i64::MAX)),
        privileged: spec.privileged.then_some(true),
        // NodeEngine starts again what ended, so that the cluster hears of it.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        }),
        mounts: (!given.files.is_empty())
            .then(|| given.files.into_iter().map(|(source, target)| mount(source, &target)).collect()),
        ..HostConfig::default()
    };
    let labels = [
        (INSTANCE_LABEL, order.instance.to_string()),
        (GENERATION_LABEL, order.generation.to_string()),
        (SERVICE_LABEL, order.names.to_string()),
    ];
    let variables = spec.environment.iter().map(|(name, value)| format!("{name}={value}"));
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        hostname: Some(host_name(order)),
        env: Some(variables.chain(given.variables).collect()),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        host_config: Some(host_config),
        // Where the service's own probes count, the image's would be asked for nothing.
        healthcheck: (!spec.health.is_empty())
            .then(|| HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        ..ContainerCreateBody::default()
    }
}

/// The readable name, and the unmistakable one for when another container has that: two services may bear one name in
/// turn, and the old one's container may still be on its way out.
pub(super) fn container_names(order: &StartOrder) -> [String; 2] {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
    let readable: String = format!("mangrove.{}.{}", order.names, order.instance.number)
        .chars()
        .map(|letter| if allowed(letter) { letter } else { '-' })
        .collect();
    let unmistakable = format!("{readable}.{}.{}", order.instance.service, order.generation);
    [readable, unmistakable]
}

/// `<service>-<number>` in the letters a host name may have.
pub(super) fn host_name(order: &StartOrder) -> String {
    let suffix = format!("-{}", order.instance.number);
    let mut name: String = order
        .names
        .service
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .collect();
    // 63 bytes fit into a label of the domain name system.
    name.truncate(63 - suffix.len());
    format!("{}{suffix}", name.trim_matches('-'))
}

/// A reference as the engine's API wants it for a pull: a tag, `latest` when there is none, or a digest.
pub(super) fn name_and_tag(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    match image.rsplit_once(':') {
        // A colon before a slash belongs to the registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        Some(_) | None => (image, "latest"),
    }
}

/// Puts in place what a container behind a gate mounts.
pub(super) fn prepare(gates: &Gates, order: &StartOrder) -> Result<(), GateError> {
    gates.close(order.instance, order.generation)?;
    if order.spec.single_attempt {
        WRITTEN.into_iter().try_for_each(|file| gates.keep(order.instance, order.generation, file.name))?;
    }
    mounted_files(order)
        .try_for_each(|(name, file)| gates.put(order.instance, order.generation, &name, &file.content))?;
    name_files(order)
        .into_iter()
        .try_for_each(|file| gates.put(order.instance, order.generation, file.name, &file.content))
}

#[cfg(test)]
pub(super) mod tests {
    use model::{Generation, InstanceId, ServiceId, ServiceNames, ServiceSpec};

    use super::*;

    pub(crate) fn order(service: &str) -> StartOrder {
        let names = ServiceNames {
            application: "shop".into(),
            application_namespace: "prod".into(),
            service: service.into(),
            service_namespace: "front".into(),
        };
        let instance = InstanceId { service: ServiceId::from_bytes([0xab; 12]), number: 3 };
        StartOrder {
            instance,
            generation: Generation(2),
            names: names.into(),
            spec: ServiceSpec::container("image").into(),
            address: None,
            secrets: std::sync::Arc::default(),
        }
    }

    #[test]
    fn only_what_has_a_single_attempt_may_write_to_files_that_are_read() {
        let gates = Gates::for_test("/gates");
        let written = |order: &StartOrder| {
            let image = ImageCommand { command: vec!["/tool".to_owned()], ..ImageCommand::default() };
            let body = behind_a_gate(order, &gates, image, Given::default()).expect("it says what to run");
            let mounts = body.host_config.and_then(|host| host.mounts).unwrap_or_default().into_iter();
            let writable = mounts.filter(|mount| mount.read_only != Some(true));
            writable.filter_map(|mount| Some((mount.source?, mount.target?))).collect::<Vec<_>>()
        };
        let mut order = order("web");
        assert_eq!(written(&order), []);
        std::sync::Arc::make_mut(&mut order.spec).single_attempt = true;
        let source = |name: &str| format!("/gates/{}.3.2.{name}", "ab".repeat(12));
        let expected = [("termination-log", "/dev/termination-log"), ("output", "/mangrove/output.json")];
        assert_eq!(written(&order), expected.map(|(name, target)| (source(name), target.to_owned())));
    }

    #[test]
    fn what_has_a_single_attempt_reads_its_added_files_where_they_are() {
        let gates = Gates::for_test("/gates");
        let image = ImageCommand { command: vec!["/tool".to_owned()], ..ImageCommand::default() };
        let mut order = order("web");
        let spec = std::sync::Arc::make_mut(&mut order.spec);
        let file = |path: &str| AddedFile { path: path.into(), content: "x".into(), mode: 0o444 };
        (spec.single_attempt, spec.added_files) = (true, vec![file("/a"), file("/b/c")]);
        let body = behind_a_gate(&order, &gates, image, Given::default()).expect("it says what to run");
        let mounts = body.host_config.and_then(|host| host.mounts).unwrap_or_default();
        let added =
            ["/a", "/b/c"].map(|path| mounts.iter().find(|mount| mount.target.as_deref() == Some(path)));
        let added = added.map(|mount| mount.and_then(|it| Some((it.source.as_deref()?, it.read_only?))));
        let source = |index| format!("/gates/{}.3.2.added-{index}", "ab".repeat(12));
        assert_eq!(added, [Some((source(0).as_str(), true)), Some((source(1).as_str(), true))]);
    }

    #[test]
    fn names_are_readable_first_and_unmistakable_second() {
        let [readable, unmistakable] = container_names(&order("wéb"));
        assert_eq!(readable, "mangrove.shop.prod.w-b.front.3");
        assert_eq!(unmistakable, format!("{readable}.{}.2", "ab".repeat(12)));
        assert_eq!(host_name(&order("Web_1")), "web-1-3");
        assert_eq!(host_name(&order(&"x".repeat(80))).len(), 63);
    }

    #[test]
    fn image_references_are_split_as_the_engine_wants_them() {
        assert_eq!(name_and_tag("web"), ("web", "latest"));
        assert_eq!(name_and_tag("host:5000/web"), ("host:5000/web", "latest"));
        assert_eq!(name_and_tag("host:5000/web:1"), ("host:5000/web", "1"));
        assert_eq!(name_and_tag("web:1@sha256:00"), ("web:1", "sha256:00"));
    }

    #[test]
    fn without_a_limit_none_is_set() {
        let host = on_the_engines_network(&order("web"), Given::default()).host_config.expect("always there");
        assert_eq!((host.nano_cpus, host.memory, host.privileged), (None, None, None));
    }

    #[test]
    fn only_behind_a_gate_the_engine_makes_no_network() {
        let image = ImageCommand { command: vec!["run".into()], ..ImageCommand::default() };
        let network = |body: &ContainerCreateBody| {
            let mode = body.host_config.as_ref().and_then(|host| host.network_mode.clone());
            (body.network_disabled, mode)
        };
        let secret = ("/memory/0".into(), "/run/secrets/database".to_owned());
        let given = Given { files: vec![secret], variables: vec!["PASSWORD=hunter2".to_owned()] };
        let body = behind_a_gate(&order("web"), &Gates::for_test("/state/gate"), image, given)
            .expect("it says what to run");
        assert_eq!(network(&body), (Some(true), Some("none".to_owned())));
        let file = format!("/state/gate/{}.3.2", "ab".repeat(12));
        let mounts = body.host_config.and_then(|host| host.mounts).unwrap_or_default();
        let mounts: Vec<_> = mounts
            .into_iter()
            .map(|mount| {
                (mount.source.unwrap_or_default(), mount.target.unwrap_or_default(), mount.read_only)
            })
            .collect();
        let expected = [
            ("/memory/0".to_owned(), "/run/secrets/database"),
            ("/state/gate/gate".to_owned(), gate::PROGRAM),
            (file.clone(), gate::PIPE),
            (format!("{file}.hosts"), "/etc/hosts"),
            (format!("{file}.resolv.conf"), "/etc/resolv.conf"),
        ];
        assert_eq!(mounts, expected.map(|(source, target)| (source, target.to_owned(), Some(true))));
        assert_eq!(network(&on_the_engines_network(&order("web"), Given::default())), (None, None));
    }

    #[test]
    fn the_gate_stands_in_front_of_entrypoint_and_command() {
        let gates = Gates::for_test("/state/gate");
        let image = ImageCommand {
            entrypoint: vec!["/entry".into()],
            command: vec!["default".into()],
            checked: false,
        };
        let mut order = order("web");
        let entrypoint = |order: &StartOrder, image: &ImageCommand| {
            behind_a_gate(order, &gates, image.clone(), Given::default())
                .map(|body| body.entrypoint.unwrap_or_default())
        };
        assert_eq!(
            entrypoint(&order, &image),
            Ok(vec![gate::PROGRAM.into(), "/entry".into(), "default".into()])
        );
        assert!(entrypoint(&order, &ImageCommand::default()).is_err());
        std::sync::Arc::make_mut(&mut order.spec).command = vec!["mine".into()];
        assert_eq!(
            entrypoint(&order, &image),
            Ok(vec![gate::PROGRAM.into(), "/entry".into(), "mine".into()])
        );
        std::sync::Arc::make_mut(&mut order.spec).entry_point = vec!["/other".into()];
        assert_eq!(
            entrypoint(&order, &image),
            Ok(vec![gate::PROGRAM.into(), "/other".into(), "mine".into()])
        );
        std::sync::Arc::make_mut(&mut order.spec).command.clear();
        assert_eq!(entrypoint(&order, &image), Ok(vec![gate::PROGRAM.into(), "/other".into()]));
        let body = on_the_engines_network(&order, Given::default());
        assert_eq!((body.entrypoint, body.cmd), (Some(vec!["/other".into()]), None));
    }
}
