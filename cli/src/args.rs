//! The arguments of `mangrove`, their help and their small grammars.

mod audit;
mod certs;
mod hook;
mod people;
mod secret;
mod worker;
mod workflow;

use std::{num::NonZeroU32, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

pub use audit::{AuditExportArguments, AuditFilterArguments, AuditListArguments, AuditWhat};
pub use certs::{CertsArguments, CertsWhat};
pub use hook::{HookEvent, HookUpdateArguments, HookWhat};
pub use people::{
    ApiTokenArguments, ApiTokenWhat, AuthWhat, KubeconfigArguments, Limit, Limits, LoginArguments,
    OrganizationWhat, PasswordArguments, UserWhat,
};
pub use secret::{SecretValueArguments, SecretWhat};
pub use worker::{DrainArguments, ForgetArguments, WorkerArguments};
pub use workflow::{IgnitorWhat, RunWhat};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    it failed; stderr says what, why and what to do
  2    the arguments or the file given are wrong; nothing was changed
  130  interrupted; what was begun keeps going

Environment:
  MANGROVE_ROOT      the root to talk to, as --root
  MANGROVE_PASSWORD  the password for `mangrove login`
  SSL_CERT_FILE      authorities that a root at https:// is believed by, in place of those of this machine
  NO_COLOR           no colours, whatever the terminal can do";

/// Deploys and watches applications on the clusters of a Mangrove root.
#[derive(Debug, Parser)]
#[command(name = "mangrove", version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// The root to talk to [default: the one logged in to, else http://127.0.0.1:10000]
    #[arg(long, global = true, env = "MANGROVE_ROOT", hide_env = true, value_name = "URL")]
    pub root: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs of the command line.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Log in to a root and remember it
    Login(LoginArguments),
    /// End the saved login and forget it
    Logout,
    /// Change your password; ends your other logins and revokes your API tokens
    Password(PasswordArguments),
    /// Ask what you may do, and manage API tokens for programs
    Auth {
        /// What to do.
        #[command(subcommand)]
        what: AuthWhat,
    },
    /// Print a kubeconfig, so that kubectl and other clients of Kubernetes use the root
    Kubeconfig(KubeconfigArguments),
    /// Create, list and delete users, and set what they may do
    User {
        /// What to do with users.
        #[command(subcommand)]
        what: UserWhat,
    },
    /// Create, list and delete organisations, and set who is in them
    Organization {
        /// What to do with organisations.
        #[command(subcommand)]
        what: OrganizationWhat,
    },
    /// Create the applications of an SLA file, deploy their services and follow them until they run
    ///
    /// Safe to repeat: what already exists is left as it is, and services without instances get theirs.
    /// Interrupting only stops the watching, never the deployment.
    Deploy(DeployArguments),
    /// List applications, services, instances, clusters, workers or join tokens
    Get {
        /// What to list.
        #[command(subcommand)]
        what: GetWhat,
    },
    /// Set how many instances a service has, and follow them
    ///
    /// Interrupting only stops the watching, never the change.
    Scale(ScaleArguments),
    /// Change what a service is to what a file says, and follow its instances as they give way
    ///
    /// A change whose instances do not become ready is taken back, unless the SLA's `update` says otherwise; the
    /// command then fails with the reason. Interrupting only stops the watching, never the change.
    Update(UpdateArguments),
    /// Change a service back to an earlier revision
    Rollback(RollbackArguments),
    /// List what a service was and is
    History(HistoryArguments),
    /// Move the instances of a worker to others, and wait until nothing is left on it
    ///
    /// Interrupting only stops the waiting: `mangrove uncordon` ends the drain.
    Drain(DrainArguments),
    /// Let a worker take no more instances; it keeps those it has
    Cordon(WorkerArguments),
    /// Let a worker take instances again; ends a drain
    Uncordon(WorkerArguments),
    /// Move instances of a cluster from full workers to empty ones
    Rebalance {
        /// The cluster's name or id
        cluster: String,
    },
    /// Forget a worker that will not return; what it had is started elsewhere
    Forget(ForgetArguments),
    /// Print what the instances of a service wrote
    Logs(LogsArguments),
    /// Delete applications, services or instances
    Delete {
        /// What to delete.
        #[command(subcommand)]
        what: DeleteWhat,
    },
    /// Create, list and revoke the tokens that clusters and workers join with
    Token {
        /// What to do with tokens.
        #[command(subcommand)]
        what: TokenWhat,
    },
    /// Store what services are given and nobody is shown: passwords, keys, logins at registries
    Secret {
        /// What to do with secrets.
        #[command(subcommand)]
        what: SecretWhat,
    },
    /// Have programs told when something of the organisation changes
    Hook {
        /// What to do with hooks.
        #[command(subcommand)]
        what: HookWhat,
    },
    /// Show the runs of tasks, print their logs, try them again or stop them
    Run {
        /// What to do with runs.
        #[command(subcommand)]
        what: RunWhat,
    },
    /// Have ignitors fire, suspend them, or show when they fire next
    Ignitor {
        /// What to do with ignitors.
        #[command(subcommand)]
        what: IgnitorWhat,
    },
    /// List certificates, or revoke those of a cluster or a worker
    Certs(CertsArguments),
    /// List who changed what, export the records of it, and check that they are whole
    Audit {
        /// What to do with the records.
        #[command(subcommand)]
        what: AuditWhat,
    },
    /// Print the completions for a shell, such as `mangrove completions bash > /etc/bash_completion.d/mangrove`
    Completions {
        /// The shell to complete in.
        shell: Shell,
    },
    /// Print the version of this command
    Version,
}

/// Arguments of `mangrove deploy`.
#[derive(Debug, Args)]
pub struct DeployArguments {
    /// The SLA to deploy; `-` is standard input
    #[arg(long, short, value_name = "FILE")]
    pub file: String,
    /// Return as soon as the root has accepted it
    #[arg(long, short, visible_alias = "no-wait")]
    pub detach: bool,
    /// How long to wait until everything runs
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,
    /// How many instances each service should have at least
    #[arg(long, default_value = "1", value_name = "N")]
    pub instances: NonZeroU32,
}

/// Whether and how long a command waits for what it began.
#[derive(Debug, Args)]
pub struct Waiting {
    /// Return as soon as it is accepted
    #[arg(long, short = 'd', visible_alias = "detach")]
    pub no_wait: bool,
    /// How long to wait until it is done
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,
}

/// Arguments of `mangrove scale`.
#[derive(Debug, Args)]
pub struct ScaleArguments {
    /// The service: its id, `service` or `application.service`
    pub service: String,
    /// How many instances it shall have
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub instances: u32,
    /// The application the service belongs to, when several have one of that name
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Waiting.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `mangrove update`.
#[derive(Debug, Args)]
pub struct UpdateArguments {
    /// The service: its id, `service` or `application.service`
    pub service: String,
    /// An SLA in which the service is described, or the microservice alone; `-` is standard input
    #[arg(long, short, value_name = "FILE")]
    pub file: String,
    /// The application the service belongs to, when several have one of that name
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Waiting.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `mangrove rollback`.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// The service: its id, `service` or `application.service`
    pub service: String,
    /// The revision to go back to [default: the newest one before that has not failed]
    #[arg(long, value_name = "N")]
    pub to: Option<NonZeroU32>,
    /// The application the service belongs to, when several have one of that name
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Waiting.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `mangrove history`.
#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// The service: its id, `service` or `application.service`
    pub service: String,
    /// The application the service belongs to, when several have one of that name
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// How to print it.
    #[command(flatten)]
    pub listing: Listing,
}

/// What `mangrove get` lists.
#[derive(Debug, Subcommand)]
pub enum GetWhat {
    /// List applications
    #[command(visible_aliases = ["app", "applications"])]
    Apps(FilteredListing),
    /// List services
    #[command(visible_aliases = ["service", "svc"])]
    Services(FilteredListing),
    /// List instances and where they are reached
    #[command(visible_alias = "instance")]
    Instances(FilteredListing),
    /// List clusters
    #[command(visible_alias = "cluster")]
    Clusters(Listing),
    /// List the workers of a cluster, as it tells of them now
    #[command(visible_alias = "worker")]
    Workers {
        /// The cluster's name or id
        cluster: String,
        /// How to print them.
        #[command(flatten)]
        listing: Listing,
    },
    /// List join tokens
    #[command(visible_alias = "token")]
    Tokens(Listing),
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Listing {
    /// How to print it
    #[arg(long, short, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
}

/// How a list is printed, and which application it is limited to.
#[derive(Debug, Args)]
pub struct FilteredListing {
    /// Only those of this application: its id, `name` or `name.namespace`
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// How to print it.
    #[command(flatten)]
    pub listing: Listing,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns that fit a terminal
    Table,
    /// More columns
    Wide,
    /// The JSON array of the root's API
    Json,
    /// One name a line, as other commands take it
    Name,
}

/// Arguments of `mangrove logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// A service (its id, `service` or `application.service`), and `/N` for one instance of it
    #[arg(value_name = "SERVICE[/N]")]
    pub target: String,
    /// Keep printing what is written from now on
    #[arg(long, short)]
    pub follow: bool,
    /// Begin with the last N lines only
    #[arg(long, value_name = "N")]
    pub tail: Option<NonZeroU32>,
    /// The application the service belongs to, when several have one of that name
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
}

/// What `mangrove delete` deletes.
#[derive(Debug, Subcommand)]
pub enum DeleteWhat {
    /// Delete applications with all their services
    App {
        /// Applications: ids, `name` or `name.namespace`
        #[arg(required = true, value_name = "NAME|ID")]
        targets: Vec<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Delete services with all their instances
    #[command(visible_alias = "svc")]
    Service {
        /// Services: ids, `service` or `application.service`
        #[arg(required = true, value_name = "SERVICE")]
        targets: Vec<String>,
        /// The application they belong to
        #[arg(long, value_name = "NAME")]
        app: Option<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Delete single instances
    Instance {
        /// Instances: a service as above, `/` and the number
        #[arg(required = true, value_name = "SERVICE/N")]
        targets: Vec<String>,
        /// The application they belong to
        #[arg(long, value_name = "NAME")]
        app: Option<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// What `mangrove token` does.
#[derive(Debug, Subcommand)]
pub enum TokenWhat {
    /// Create a token: printed alone on stdout, with how to use it on stderr
    Create(TokenArguments),
    /// List the tokens that can still be used
    List(Listing),
    /// Make tokens useless at once; who has joined with them stays
    Revoke {
        /// Ids, as `mangrove token list` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Arguments of `mangrove token create`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("kind").required(true).args(["cluster", "worker"]))]
pub struct TokenArguments {
    /// For a cluster of this name
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// For workers
    #[arg(long)]
    pub worker: bool,
    /// Let the workers join this cluster only
    #[arg(long, requires = "worker", conflicts_with = "cluster", value_name = "NAME")]
    pub for_cluster: Option<String>,
    /// How often it can be used [default: once]
    #[arg(long, value_name = "N")]
    pub uses: Option<NonZeroU32>,
    /// How long it can be used [default: one hour]
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub ttl: Option<Duration>,
    /// Print the whole answer of the root instead of the token alone
    #[arg(long, short, value_name = "FORMAT")]
    pub output: Option<TokenFormat>,
}

/// How a new token is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenFormat {
    /// The JSON object of the root's API
    Json,
}

/// The shells `mangrove completions` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// Fish
    Fish,
}

/// Reads `90`, `90s`, `5m`, `1h` or `7d`; a number alone counts seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: expected a number and s, m, h or d, such as `5m`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let seconds_per_unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    // A century is for ever, and keeps every later addition to a clock in range.
    const LONGEST: u64 = 100 * 365 * 24 * 60 * 60;
    match number.checked_mul(seconds_per_unit) {
        Some(seconds @ 1..=LONGEST) => Ok(Duration::from_secs(seconds)),
        Some(_) | None => Err(format!("`{text}` is out of range: expected one second to 100 years")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_of_the_arguments_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_take_a_number_and_a_unit() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for text in ["", "m", "5 m", "-5m", "5w", "1.5h", "0", "99999999999999999d", "é"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_for_a_cluster_or_for_workers() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
        assert!(parse("mangrove token create --cluster north"));
        assert!(parse("mangrove token create --worker --for-cluster north"));
        assert!(!parse("mangrove token create"));
        assert!(!parse("mangrove token create --cluster north --worker"));
        assert!(!parse("mangrove token create --cluster north --for-cluster north"));
    }
}
