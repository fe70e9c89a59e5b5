//! Everything that can go wrong, as the user reads it: what, where and why, and what to do about it.

use std::{fmt, io, path::PathBuf};

use crate::{objects::Reason, sla::JsonMistake};

/// A failure of a command. `Display` says what and why in one line; [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing listens there, or it cannot be reached.
    #[error("the root at {root} does not answer: {cause}")]
    Unreachable { root: String, cause: String },
    /// Who answers shows no certificate that is believed.
    #[error("{root} is not believed: {cause}")]
    NotBelieved { root: String, cause: String },
    /// It answered, and the answer ended early or took too long.
    #[error("the root at {root} did not finish its answer to {request}: {cause}")]
    Unfinished { root: String, request: String, cause: String },
    /// It answered with an error of its own.
    #[error("the root refused {request}: {message} ({status})")]
    Refused { request: String, status: u16, code: String, message: String },
    /// It answered, and not as a root does.
    #[error("{root} answered {request} with something no Mangrove root says: {detail}")]
    Incomprehensible { root: String, request: String, detail: String },
    /// The address of the root is no address.
    #[error("`{given}` is not the address of a root: {problem}")]
    RootAddress { given: String, problem: &'static str },
    /// There is no login for this root.
    #[error("not logged in to {root}")]
    NotLoggedIn { root: String },
    /// There was one, and the root takes it no longer.
    #[error("the login to {root} has expired")]
    LoginExpired { root: String },
    /// The root knows no such user or password.
    #[error("{root} does not let `{username}` in: {message}")]
    LoginRefused { root: String, username: String, message: String },
    /// Nobody logged in with a browser.
    #[error("nobody logged in at the identity provider within {seconds} s")]
    LoginUnfinished { seconds: u64 },
    /// There is nowhere to ask for a password.
    #[error("no password given, and there is no terminal to ask on")]
    NoPassword,
    /// What was typed the second time is something else.
    #[error("the two passwords are not the same; nothing was changed")]
    NotTheSame,
    /// An answer that is a no.
    #[error("you may not {action}: {reason}")]
    MayNot { action: String, reason: String },
    /// Clients of Kubernetes send tokens over TLS only.
    #[error("{root} speaks plain HTTP, over which kubectl sends no tokens")]
    NotEncrypted { root: String },
    /// Something destructive, unconfirmed.
    #[error("{what} needs a confirmation, and there is no terminal to ask on")]
    Unconfirmed { what: String },
    /// The saved login cannot be read or written.
    #[error("cannot {action} the saved login in {}: {cause}", path.display())]
    Config { action: &'static str, path: PathBuf, cause: String },
    /// Neither `XDG_CONFIG_HOME` nor `HOME` says where the saved login is.
    #[error("there is no place for the saved login: neither XDG_CONFIG_HOME nor HOME is set")]
    NoConfigFolder,
    /// The SLA file cannot be read.
    #[error("cannot read {file}: {source}")]
    File { file: String, source: io::Error },
    /// A password is to be a text.
    #[error("what {0} holds is no text, and a password is one")]
    NoText(String),
    /// The SLA file is no JSON.
    #[error("{0}")]
    Json(JsonMistake),
    /// The SLA file is JSON, and no SLA.
    #[error("{file} is not an SLA: {problem}")]
    NotAnSla { file: String, problem: String },
    /// The application exists and is not what the file says.
    #[error("application `{application}` already exists and differs from {file}: {}", differences.join("; "))]
    Differs {
        application: String,
        file: String,
        differences: Vec<String>,
        /// Services that can be changed to what the file says.
        changed: Vec<String>,
    },
    /// No object of that name.
    #[error("there is no {kind} `{name}`{}", in_application(application.as_deref()))]
    Unknown { kind: &'static str, name: String, application: Option<String>, nearest: Option<String> },
    /// Several objects of that name.
    #[error("`{name}` may be any of {} {kind}s: {}", candidates.len(), candidates.join(", "))]
    Ambiguous { kind: &'static str, name: String, candidates: Vec<String> },
    /// The text is no instance.
    #[error("`{0}` is not an instance: expected a service, `/` and a number, such as `hello/0`")]
    NotAnInstance(String),
    /// The service has no instance, or none of that number.
    #[error("service `{service}` has no instance{}; {}", number_text(*number), existing_text(existing))]
    NoInstance { service: String, number: Option<u64>, existing: Vec<u64> },
    /// Instances found no place.
    #[error("{}", unplaced_text(instances))]
    Unplaced {
        application: String,
        instances: Vec<String>,
        /// The command that does without them.
        give_up: String,
    },
    /// Instances did not come to run in time.
    #[error("not everything runs after {seconds} s:{}", Lines(states))]
    TooSlow { application: String, seconds: u64, states: Vec<String> },
    /// A change got no further and is left as it is.
    #[error("the change of `{service}` gets no further: {reason}")]
    Stalled { service: String, reason: String },
    /// A change failed and was taken back.
    #[error(
        "the change of `{service}` failed and was taken back, it is of revision {revision} again: {reason}"
    )]
    RolledBack { service: String, revision: u64, reason: String },
    /// Somebody else changed it meanwhile.
    #[error("`{service}` was changed to revision {revision} before it was of revision {wanted}")]
    Overtaken { service: String, wanted: u64, revision: u64 },
    /// The file says nothing of the service.
    #[error("{file} does not describe service `{service}`; {}", described_text(described))]
    NotInFile { file: String, service: String, described: Vec<String> },
    /// The text is no worker.
    #[error("`{0}` is not a worker: expected a cluster, `/` and a worker, such as `munich/edge-1`")]
    NotAWorker(String),
    /// Instances are left on a worker.
    #[error("worker {worker} has {left} left after {seconds} s", left = instances_text(*left))]
    NotDrained { worker: String, cluster: String, left: u64, seconds: u64 },
    /// Somebody else lets it take instances again.
    #[error("the drain was ended before it was done: worker {worker} takes instances again and has {}", instances_text(*left))]
    DrainEnded { worker: String, left: u64 },
    /// It was deleted while it was watched.
    #[error("{what} was deleted before it ran")]
    DeletedMeanwhile { what: String },
    /// The user has seen enough.
    #[error("interrupted; {0}")]
    Interrupted(String),
    /// Some of several deletions or revocations failed; each was told of already.
    #[error("{failed} of {all} failed")]
    Partly { failed: usize, all: usize },
    /// Records of who changed what that are not as they were written.
    #[error("the records of {of} are not whole; record {sequence} is the first that is broken: {reason}")]
    BrokenRecords { of: String, sequence: u64, reason: String },
    /// Stdout cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
}

impl Error {
    /// What the user can do, where there is something.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some(
                "start it with `scripts/up`, or name another one with --root or MANGROVE_ROOT".to_owned(),
            ),
            Self::NotBelieved { .. } => Some(
                "if its certificate is of an authority of your own, name a file with that authority's certificate: \
                 SSL_CERT_FILE=authority.pem"
                    .to_owned(),
            ),
            Self::Unfinished { .. } => {
                Some("try again; if it stays so, the root's own log says more".to_owned())
            }
            Self::Refused { status: 403, .. } => {
                Some("log in as somebody who may do this: `mangrove login --username NAME`".to_owned())
            }
            Self::Incomprehensible { .. } => Some("check that --root names a Mangrove root".to_owned()),
            Self::RootAddress { .. } => Some("write it like http://127.0.0.1:10000".to_owned()),
            Self::NotLoggedIn { root } | Self::LoginExpired { root } => {
                Some(format!("run `mangrove login --root {root}`"))
            }
            Self::LoginUnfinished { .. } => Some("run `mangrove login --oidc` again".to_owned()),
            Self::NoPassword => Some("set MANGROVE_PASSWORD or pass --password-stdin".to_owned()),
            Self::Unconfirmed { .. } => Some("pass --yes".to_owned()),
            Self::NotEncrypted { .. } => Some(
                "give the root a certificate (--api-certificate, --api-key) and log in at its https:// address".to_owned(),
            ),
            Self::Config { action: "understand", .. } => {
                Some("run `mangrove login` to write it anew".to_owned())
            }
            Self::Differs { file, changed, .. } if !changed.is_empty() => {
                let commands: Vec<String> =
                    changed.iter().map(|service| format!("`mangrove update {service} -f {file}`")).collect();
                Some(format!("deploy changes nothing that exists: run {}", commands.join(" and ")))
            }
            Self::Differs { application, .. } => Some(format!(
                "deploy changes nothing that exists: run `mangrove delete app {application}` first, \
                 or give the application another name or namespace"
            )),
            Self::Unknown { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::Unknown {
                kind: kind @ ("user" | "organization" | "secret" | "hook"),
                nearest: None,
                ..
            } => {
                Some(format!("`mangrove {kind} list` lists what there is"))
            }
            Self::Unknown { kind: "certificate", nearest: None, .. } => {
                Some("`mangrove certs` lists what there is".to_owned())
            }
            Self::Unknown { kind, nearest: None, .. } => {
                let list = if *kind == "application" { "app" } else { kind };
                Some(format!("`mangrove get {list}s` lists what there is"))
            }
            Self::Ambiguous { .. } => Some("use one of these names, or the id".to_owned()),
            Self::NoInstance { service, existing, .. } if existing.is_empty() => {
                Some(format!("`mangrove deploy` with the SLA of `{service}` gives it one"))
            }
            Self::Unplaced { application, give_up, .. } => Some(format!(
                "it stays pending and is placed when capacity appears: `mangrove get instances --app \
                 {application}` shows it, `{give_up}` gives it up"
            )),
            Self::TooSlow { application, .. } => Some(format!(
                "it is still being tried: `mangrove get instances -o wide --app {application}` shows it, \
                 `mangrove logs` what it wrote"
            )),
            Self::Stalled { service, .. } => Some(format!(
                "it is still being tried: `mangrove rollback {service}` takes it back, `mangrove logs {service}` \
                 shows what it wrote"
            )),
            Self::RolledBack { service, .. } => Some(format!(
                "`mangrove history {service}` lists its revisions; change the file and update again"
            )),
            Self::Overtaken { service, .. } => {
                Some(format!("`mangrove history {service}` lists its revisions"))
            }
            Self::NotDrained { worker, cluster, .. } => Some(format!(
                "nothing else can take them, or they take long to start: `mangrove get workers {cluster}` shows what \
                 is free, `mangrove uncordon {worker}` ends the drain"
            )),
            Self::NotAnSla { .. } => Some("examples/hello/hello.sla.json is a small example".to_owned()),
            Self::BrokenRecords { .. } => Some(
                "what comes from there on proves nothing: compare with an export from before, or with a backup of the \
                 root's state directory"
                    .to_owned(),
            ),
            Self::Refused { .. }
            | Self::LoginRefused { .. }
            | Self::NotTheSame
            | Self::MayNot { .. }
            | Self::Config { .. }
            | Self::NoConfigFolder
            | Self::File { .. }
            | Self::NoText(_)
            | Self::Json(_)
            | Self::NotAnInstance(_)
            | Self::NoInstance { .. }
            | Self::NotInFile { .. }
            | Self::NotAWorker(_)
            | Self::DrainEnded { .. }
            | Self::DeletedMeanwhile { .. }
            | Self::Interrupted(_)
            | Self::Partly { .. }
            | Self::Output(_) => None,
        }
    }

    /// Whether trying again can help.
    pub(crate) fn is_passing(&self) -> bool {
        if let Self::Refused { status, .. } = self {
            return *status >= 500 || *status == 429;
        }
        matches!(self, Self::Unreachable { .. } | Self::Unfinished { .. })
    }

    /// The exit code of the process, as `mangrove --help` documents it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::RootAddress { .. }
            | Self::NoPassword
            | Self::NotTheSame
            | Self::Unconfirmed { .. }
            | Self::File { .. }
            | Self::NoText(_)
            | Self::Json(_)
            | Self::NotAnSla { .. }
            | Self::NotInFile { .. }
            | Self::NotAWorker(_)
            | Self::NotAnInstance(_) => 2,
            Self::Interrupted(_) => 130,
            // Whoever read our output (`head`, a pager) has what it wanted.
            Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Unreachable { .. }
            | Self::NotBelieved { .. }
            | Self::Unfinished { .. }
            | Self::Refused { .. }
            | Self::Incomprehensible { .. }
            | Self::NotLoggedIn { .. }
            | Self::LoginExpired { .. }
            | Self::LoginRefused { .. }
            | Self::LoginUnfinished { .. }
            | Self::MayNot { .. }
            | Self::NotEncrypted { .. }
            | Self::Config { .. }
            | Self::NoConfigFolder
            | Self::Differs { .. }
            | Self::Unknown { .. }
            | Self::Ambiguous { .. }
            | Self::NoInstance { .. }
            | Self::Unplaced { .. }
            | Self::TooSlow { .. }
            | Self::Stalled { .. }
            | Self::RolledBack { .. }
            | Self::Overtaken { .. }
            | Self::NotDrained { .. }
            | Self::DrainEnded { .. }
            | Self::DeletedMeanwhile { .. }
            | Self::Partly { .. }
            | Self::BrokenRecords { .. }
            | Self::Output(_) => 1,
        }
    }
}

struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

fn in_application(application: Option<&str>) -> String {
    application.map(|name| format!(" in application `{name}`")).unwrap_or_default()
}

fn number_text(number: Option<u64>) -> String {
    number.map(|number| format!(" {number}")).unwrap_or_default()
}

fn existing_text(existing: &[u64]) -> String {
    if existing.is_empty() {
        return "it has none at all".to_owned();
    }
    let numbers: Vec<String> = existing.iter().map(u64::to_string).collect();
    format!("it has {}", numbers.join(", "))
}

fn described_text(described: &[String]) -> String {
    if described.is_empty() {
        "it describes none".to_owned()
    } else {
        format!("it describes {}", described.join(", "))
    }
}

fn instances_text(number: u64) -> String {
    if number == 1 { "1 instance".to_owned() } else { format!("{number} instances") }
}

fn unplaced_text(instances: &[String]) -> String {
    match instances {
        [one] => format!("nothing can take instance {one}"),
        several => format!("nothing can take {} instances: {}", several.len(), several.join(", ")),
    }
}

/// A refusal in lines: the code with its summary, then one verdict per candidate.
pub(crate) fn refusal_lines(reason: &Reason) -> Vec<String> {
    let headline = format!("{}: {}", reason.code, reason.summary);
    let verdicts =
        reason.candidates.iter().map(|verdict| format!("  {}: {}", verdict.candidate, verdict.reason));
    std::iter::once(headline).chain(verdicts).collect()
}
