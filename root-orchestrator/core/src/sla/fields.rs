//! Every field an SLA may have, once: what is parsed, refused, suggested and documented follows from these tables.

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It changes what runs.
    Honoured,
    /// It changes nothing and is kept for those who read it back.
    Kept,
    /// The root sets it; a copy that a client sends back is ignored.
    ServerSet,
    /// It asks for something that is not there yet: accepted while it asks for nothing, else refused by name.
    NotYet,
}

impl Support {
    /// The word used in the field reference.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Kept => "kept",
            Self::ServerSet => "set by the root",
            Self::NotYet => "not yet",
        }
    }
}

/// What the value of an honoured or kept field looks like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A string of a bounded number of characters.
    Text,
    /// A string that may be long and may hold any character: a file.
    Content,
    /// 1 to [`super::MAX_NAME_LENGTH`] ASCII letters and digits.
    Name,
    /// A string that must be empty.
    EmptyText,
    /// A whole number from 0 to the given one.
    Integer(u32),
    /// `true` or `false`.
    Flag,
    /// A list of strings.
    Texts,
    /// A list of at most so many objects.
    Objects(usize),
    /// An object with fields of its own.
    Nested(&'static Level),
    /// Anything; what is in it is not looked at.
    Any,
}

/// One known field.
#[derive(Debug)]
pub struct Field {
    /// The name in Oakestra's schema.
    pub name: &'static str,
    /// Other spellings that Oakestra's documents and clients use.
    pub aliases: &'static [&'static str],
    /// What becomes of it.
    pub support: Support,
    /// Whether it must be there.
    pub required: bool,
    /// What it does, or what it would do.
    pub about: &'static str,
    pub(super) kind: Kind,
}

/// The fields of one kind of object.
#[derive(Debug)]
pub struct Level {
    /// What the object is, with its article.
    pub noun: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

/// One of the values a field may take.
#[derive(Debug)]
pub struct Choice {
    /// The value.
    pub name: &'static str,
    /// What becomes of it.
    pub support: Support,
    /// What it means.
    pub about: &'static str,
}

const MAX_MEBIBYTES: u32 = u32::MAX;
/// Processor time is counted in thousandths of a core.
const MAX_CORES: u32 = u32::MAX / 1000;
const MAX_PORT: u32 = 65_535;

/// The whole document.
pub static DOCUMENT: Level = Level {
    noun: "an SLA",
    fields: &[
        honoured("sla_version", Kind::Text, "The version of the format: `v2.0`.").required(),
        kept("customerID", Kind::Text, "Who asks. The owner is who is logged in."),
        honoured("applications", Kind::Objects(super::MAX_APPLICATIONS), "What to create, at least one.")
            .required(),
        not_yet("args", "arguments for all applications"),
    ],
};

/// One entry of `applications`.
pub static APPLICATION: Level = Level {
    noun: "an application",
    fields: &[
        honoured("application_name", Kind::Name, "Unique in its namespace for each organisation.").required(),
        honoured("application_namespace", Kind::Name, "Tells deployments of one application apart.")
            .required(),
        honoured("applicationID", Kind::Text, "Which application to add services to; empty for a new one."),
        kept("application_desc", Kind::Text, "A description for people."),
        honoured("microservices", Kind::Objects(super::MAX_SERVICES), "Its services; may be empty.")
            .required(),
        server_set("_id"),
        server_set("userId"),
    ],
};

/// One entry of `microservices`.
pub static SERVICE: Level = Level {
    noun: "a microservice",
    fields: &[
        honoured("microservice_name", Kind::Name, "Unique in its namespace in the application.").required(),
        honoured("microservice_namespace", Kind::Name, "Tells deployments of one service apart.").required(),
        honoured("virtualization", Kind::Text, "How it is run: `container` (or `docker`).").required(),
        honoured("code", Kind::Text, "OCI image reference.").required().or(&["image"]),
        honoured("memory", Kind::Integer(MAX_MEBIBYTES), "Main memory of each instance, MiB."),
        honoured("vcpus", Kind::Integer(MAX_CORES), "Processor cores of each instance.").or(&["vcpu"]),
        honoured("vgpus", Kind::Integer(u32::MAX), "Graphics processors of each instance.").or(&["vgpu"]),
        honoured("storage", Kind::Integer(MAX_MEBIBYTES), "Disk space of each instance, MiB."),
        honoured("cmd", Kind::Texts, "Replaces the image's command."),
        honoured("environment", Kind::Texts, "Variables, each `NAME=value`.").or(&["env", "enviroment"]),
        honoured("port", Kind::Text, "Device ports: `host[:container][/tcp or /udp]`, joined by `;`."),
        honoured("one_shot", Kind::Flag, "Ends by itself; exit code 0 is success and is not restarted."),
        honoured("privileged", Kind::Flag, "Runs with all privileges on its device."),
        honoured(
            "added_files",
            Kind::Objects(super::MAX_LIST_ENTRIES),
            "Files put into each instance before it starts.",
        ),
        honoured(
            "secrets",
            Kind::Objects(super::secrets::MAX_SECRETS),
            "Secrets of the organisation that each instance is given.",
        ),
        honoured("image_pull_secret", Kind::Text, "A secret of kind registry, to fetch the image with."),
        CONSTRAINTS,
        ARCHITECTURES,
        honoured(
            "on_partition",
            Kind::Text,
            "When its worker is cut off: `replace_after(10s)`, `keep` or `stop_after(30s)`; by default \
             `replace_after(0s)`, as soon as the worker counts as lost.",
        ),
        honoured(
            "on_rejoin",
            Kind::Text,
            "Which copy stays when a lost worker or cluster returns: `keep_replacement` (the default) or \
             `keep_original`.",
        ),
        honoured(
            "cluster_lost_after",
            Kind::Text,
            "After how much silence of its cluster another one gets it: a time such as `60s` (the default), or `never`.",
        ),
        honoured("health", Kind::Nested(&HEALTH), "How it is found out whether an instance works."),
        honoured(
            "drain",
            Kind::Text,
            "How long connections to an instance that is to be removed may take to end, at most `1h`; `0s` by default.",
        ),
        honoured("update", Kind::Nested(&UPDATE), "How instances give way when the service is changed."),
        honoured(
            "allowed_callers",
            Kind::Texts,
            "Applications whose instances may connect to its instances, each `application.namespace`, or `*` for all; \
             its own always may.",
        ),
        kept("description", Kind::Text, "A description for people."),
        honoured("microserviceID", Kind::EmptyText, "Empty: the root gives services their ids."),
        not_yet("vtpus", "reserves tensor processors, which no worker reports"),
        not_yet("vram", "reserves memory of graphics processors, which no worker reports"),
        not_yet("bandwidth_in", "reserves incoming bandwidth, which no worker reports"),
        not_yet("bandwidth_out", "reserves outgoing bandwidth, which no worker reports"),
        not_yet("state", "fetches the state to start from"),
        not_yet("args", "arguments beside `cmd`"),
        not_yet("sla_violation_strategy", "what to do when a constraint is violated"),
        not_yet("target_node", "names the worker; use a constraint of type `direct` with `node`"),
        honoured("addresses", Kind::Nested(&ADDRESSES), "Addresses that are chosen instead of given."),
        not_yet("RR_ip", "a chosen IPv4 service address"),
        not_yet("RR_ip_v6", "a chosen IPv6 service address"),
        not_yet("connectivity", "constraints on the connection to other services"),
        not_yet("volumes", "mounts volumes of storage drivers, which no worker has"),
        not_yet("platform", "chooses the platform of the image; `arch` chooses the processor architecture"),
        not_yet("vm_images", "disk images of a virtual machine"),
        server_set("_id"),
        server_set("job_name"),
        server_set("applicationID"),
        server_set("application_name"),
        server_set("application_namespace"),
        server_set("app_name"),
        server_set("app_ns"),
        server_set("service_name"),
        server_set("service_ns"),
        server_set("next_instance_progressive_number"),
        server_set("revision"),
        server_set("rollout"),
        server_set("instance_list"),
        server_set("service_ip_list"),
        server_set("status"),
        server_set("status_detail"),
        server_set("last_modified_timestamp"),
        server_set("disk"),
    ],
};

/// The object `addresses` of a microservice.
pub static ADDRESSES: Level = Level {
    noun: "`addresses`",
    fields: &[
        honoured(
            "rr_ip",
            Kind::Text,
            "The address that leads to each instance in turn, from 10.30.0.1 to 10.31.255.254; the IPv6 one follows from it.",
        ),
        not_yet("rr_ip_v6", "a chosen IPv6 address that balances round robin"),
        not_yet("closest_ip", "a chosen IPv4 address of the closest instance"),
        not_yet("closest_ip_v6", "a chosen IPv6 address of the closest instance"),
        not_yet("instances", "chosen addresses of single instances"),
    ],
};

const CONSTRAINTS: Field =
    honoured("constraints", Kind::Objects(super::MAX_LIST_ENTRIES), "Where it may run; all must hold.");
const ARCHITECTURES: Field =
    honoured("arch", Kind::Texts, "Processor architectures, such as `amd64`, any of which will do.");

/// What of a service says where something else may run.
pub static PLACEMENT: Level = Level { noun: "a placement", fields: &[CONSTRAINTS, ARCHITECTURES] };

/// One entry of `constraints`.
pub static CONSTRAINT: Level = Level {
    noun: "a constraint",
    fields: &[
        honoured("type", Kind::Text, "The kind of constraint: `direct`, `clusters` or `geo`.").required(),
        honoured("cluster", Kind::Text, "`direct`: names of clusters, joined by `;`, any of which will do."),
        honoured("node", Kind::Text, "`direct`: names of workers, joined by `;`, any of which will do."),
        honoured("allowed", Kind::Texts, "`clusters`: names of clusters, any of which will do."),
        honoured("location", Kind::Text, "`geo`: a place, `longitude;latitude` in degrees."),
        honoured("threshold", Kind::Any, "`geo`: at most so many kilometres from there."),
        kept("rigidness", Kind::Any, "`geo`: how often it may be farther, from 0 to 1. It never is."),
        kept("convergence_time", Kind::Any, "`geo`: for how many seconds it may be farther. It never is."),
        not_yet("area", "the area a latency is measured to"),
        not_yet("needs", "names of addons that must be there"),
    ],
};

/// One entry of `added_files`. Oakestra knows the field and gives it no effect, so the form is Mangrove's.
pub static ADDED_FILE: Level = Level {
    noun: "an added file",
    fields: &[
        honoured("path", Kind::Text, "Absolute path inside the instance.").required(),
        honoured("content", Kind::Content, "What is written there.").required(),
        honoured("mode", Kind::Text, "Permission bits in octal, such as `0644` (the default)."),
    ],
};

/// One entry of `secrets`.
pub static SECRET: Level = Level {
    noun: "a secret",
    fields: &[
        honoured("name", Kind::Text, "Its name, as in `mangrove secret list`.").required(),
        honoured(
            "file",
            Kind::Text,
            "Where it is inside the instance; a relative path is below `/run/secrets`, and that with its name is the \
             default.",
        ),
        honoured(
            "env",
            Kind::Text,
            "Instead of a file, the variable it is the value of; the container engine shows that, and keeps it on its \
             disk.",
        ),
        honoured("mode", Kind::Text, "Permission bits of the file in octal: `0400` (the default) or `0444`."),
    ],
};

/// The object `health` of a microservice.
pub static HEALTH: Level = Level {
    noun: "`health`",
    fields: &[
        honoured(
            "start",
            Kind::Nested(&PROBE),
            "Until it succeeds once after a start, the others wait; when it fails, the instance is restarted.",
        ),
        honoured("ready", Kind::Nested(&PROBE), "While it fails, the instance is not counted on."),
        honoured("live", Kind::Nested(&PROBE), "When it fails, the instance is restarted."),
    ],
};

/// One of the probes of `health`.
pub static PROBE: Level = Level {
    noun: "a probe",
    fields: &[
        honoured("http", Kind::Nested(&HTTP_CHECK), "Succeeds when `GET` is answered with 200 to 399."),
        honoured("tcp", Kind::Nested(&TCP_CHECK), "Succeeds when the port accepts a connection."),
        honoured("exec", Kind::Texts, "Succeeds when this command ends with code 0 inside the instance."),
        honoured("interval", Kind::Text, "Time between two attempts, at least `100ms`; `1s` by default."),
        honoured("timeout", Kind::Text, "An answer that takes longer is a failure; `1s` by default."),
        honoured(
            "failures",
            Kind::Integer(u32::MAX),
            "So many failures in a row count, at least 1; 3 by default.",
        ),
    ],
};

/// The check `http` of a probe.
pub static HTTP_CHECK: Level = Level {
    noun: "an http check",
    fields: &[
        honoured("port", Kind::Integer(MAX_PORT), "Port inside the instance.").required(),
        honoured("path", Kind::Text, "What is asked for, beginning with `/` (the default)."),
    ],
};

/// The check `tcp` of a probe.
pub static TCP_CHECK: Level = Level {
    noun: "a tcp check",
    fields: &[honoured("port", Kind::Integer(MAX_PORT), "Port inside the instance.").required()],
};

/// The object `update` of a microservice.
pub static UPDATE: Level = Level {
    noun: "`update`",
    fields: &[
        honoured(
            "max_unavailable",
            Kind::Integer(super::MAX_INSTANCES),
            "So many instances may be missing meanwhile; 0 by default.",
        ),
        honoured(
            "max_surge",
            Kind::Integer(super::MAX_INSTANCES),
            "So many more than wanted may exist meanwhile; 1 by default.",
        ),
        honoured(
            "ready_within",
            Kind::Text,
            "A change that gets no further for this long has failed, at least `1s`; `120s` by default.",
        ),
        honoured("rollback", Kind::Flag, "A change that failed is taken back; true by default."),
    ],
};

/// Every kind of object, from the outside in.
pub static LEVELS: [&Level; 12] = [
    &DOCUMENT,
    &APPLICATION,
    &SERVICE,
    &ADDRESSES,
    &CONSTRAINT,
    &ADDED_FILE,
    &SECRET,
    &HEALTH,
    &PROBE,
    &HTTP_CHECK,
    &TCP_CHECK,
    &UPDATE,
];

/// The values of `virtualization`.
pub static VIRTUALIZATIONS: [Choice; 9] = [
    choice("container", Support::Honoured, "an OCI container"),
    choice("docker", Support::Honoured, "the same as `container`"),
    choice("unikernel", Support::NotYet, "a unikernel"),
    choice("wasm", Support::NotYet, "a WebAssembly module"),
    choice("vm", Support::NotYet, "a virtual machine"),
    choice("crosvm", Support::NotYet, "a virtual machine run by crosvm"),
    choice("runsc", Support::NotYet, "a container run by gVisor"),
    choice("runu", Support::NotYet, "a container run by runu"),
    choice("urunc", Support::NotYet, "a container run by urunc"),
];

/// The values of a constraint's `type`.
pub static CONSTRAINT_TYPES: [Choice; 5] = [
    choice("direct", Support::Honoured, "chosen clusters and workers"),
    choice("clusters", Support::Honoured, "allowed clusters"),
    choice("geo", Support::Honoured, "a bounded distance to a place"),
    choice("addons", Support::NotYet, "addons that must be there, and no cluster has any"),
    choice("latency", Support::NotYet, "a bounded latency to an area, which nobody measures"),
];

impl Field {
    fn is_called(&self, spelling: &str) -> bool {
        self.name == spelling || self.aliases.contains(&spelling)
    }

    const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }
}

impl Level {
    /// The field of that name or alias.
    #[must_use]
    pub fn find(&self, spelling: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.is_called(spelling))
    }

    /// The name of the field that `spelling` was probably meant for, among those a user may set.
    #[must_use]
    pub fn nearest(&self, spelling: &str) -> Option<&'static str> {
        let settable = self.fields.iter().filter(|field| field.support != Support::ServerSet);
        let spellings = settable.flat_map(|field| {
            std::iter::once(field.name).chain(field.aliases.iter().copied()).map(|known| (known, field.name))
        });
        nearest(spelling, spellings)
    }

    /// The names of the fields that change what runs.
    pub(super) fn honoured(&self) -> String {
        let names = self.fields.iter().filter(|field| field.support == Support::Honoured);
        names.map(|field| field.name).collect::<Vec<_>>().join(", ")
    }
}

/// The value that `text` was probably meant for, among `choices`.
pub(super) fn nearest_choice(text: &str, choices: &[Choice]) -> Option<&'static str> {
    nearest(text, choices.iter().map(|choice| (choice.name, choice.name)))
}

/// Of pairs (spelling, what it stands for), what the spelling most like `text` stands for, if any is like it.
fn nearest(text: &str, known: impl Iterator<Item = (&'static str, &'static str)>) -> Option<&'static str> {
    /// 0.80 takes `tag` for `target_node` and `entrypoint` for `environment`.
    const ALIKE: f64 = 0.85;
    /// No field is half as long, and the measure takes time in proportion to the length.
    const LONGEST: usize = 64;

    if text.len() > LONGEST {
        return None;
    }
    let text = text.to_lowercase();
    known
        .map(|(spelling, stands_for)| (strsim::jaro_winkler(&text, &spelling.to_lowercase()), stands_for))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, stands_for)| stands_for)
}

const fn honoured(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, aliases: &[], support: Support::Honoured, required: false, about, kind }
}

const fn kept(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, aliases: &[], support: Support::Kept, required: false, about, kind }
}

const fn not_yet(name: &'static str, about: &'static str) -> Field {
    Field { name, aliases: &[], support: Support::NotYet, required: false, about, kind: Kind::Any }
}

const fn server_set(name: &'static str) -> Field {
    let about = "Set by the root.";
    Field { name, aliases: &[], support: Support::ServerSet, required: false, about, kind: Kind::Any }
}

const fn choice(name: &'static str, support: Support, about: &'static str) -> Choice {
    Choice { name, support, about }
}
