//! The arguments that concern users, organisations and what one logs in with.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Listing, TokenFormat, duration};

/// Arguments of `mangrove login`.
#[derive(Debug, Args)]
pub struct LoginArguments {
    /// Who logs in
    #[arg(long, short, default_value = "Admin")]
    pub username: String,
    /// The organisation to log in to, of which you are a member [default: root]
    #[arg(long, value_name = "NAME")]
    pub organization: Option<String>,
    /// Read the password from standard input instead of MANGROVE_PASSWORD or a prompt
    #[arg(long)]
    pub password_stdin: bool,
    /// Log in at the identity provider of the root: prints where to go with a browser, and waits
    #[arg(long, conflicts_with_all = ["username", "password_stdin"])]
    pub oidc: bool,
}

/// What `mangrove user` does.
#[derive(Debug, Subcommand)]
pub enum UserWhat {
    /// List the members of the organisation; for an administrator of the platform all users
    List(Listing),
    /// Create a user who is a member of the organisation
    Create {
        /// Its name
        name: String,
        /// What it is in the organisation; may be given several times
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Its address
        #[arg(long, default_value = "")]
        email: String,
        /// Read its password from standard input instead of asking for it
        #[arg(long)]
        password_stdin: bool,
    },
    /// Set what a user is in the organisation; without a role it is a member who may do nothing
    Roles {
        /// Its name
        name: String,
        /// Admin, Organization_Admin, Application_Provider, Infrastructure_Provider or, for one cluster, Infrastructure_Provider@CLUSTER
        #[arg(value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Create a token by which a user sets another password, once and within an hour; hand it over
    ResetPassword {
        /// Its name
        name: String,
    },
    /// Delete users with their logins and API tokens
    Delete {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// What `mangrove organization` does.
#[derive(Debug, Subcommand)]
pub enum OrganizationWhat {
    /// List the organisation; for an administrator of the platform all of them
    List(Listing),
    /// Create an organisation without members
    Create {
        /// Its name, which its members give when they log in
        name: String,
    },
    /// Make a user a member, or another kind of member
    Enlist {
        /// The organisation's name or id
        organization: String,
        /// The user's name
        user: String,
        /// What it is there; may be given several times
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Make a member one no more
    Expel {
        /// The organisation's name or id
        organization: String,
        /// The user's name
        user: String,
    },
    /// Show what the applications of an organisation may take, or set it
    Quota {
        /// The organisation's name or id
        organization: String,
        /// What is set; what is not named stays as it is
        #[command(flatten)]
        limits: Limits,
    },
    /// Delete an organisation that has no applications
    Delete {
        /// Its name or id
        organization: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// What the applications of an organisation may take.
#[derive(Debug, Args)]
pub struct Limits {
    /// Instances, or `none` for as many as they like
    #[arg(long, value_name = "N", value_parser = limit)]
    pub instances: Option<Limit>,
    /// Processor cores, or `none`
    #[arg(long, value_name = "N", value_parser = limit)]
    pub vcpus: Option<Limit>,
    /// Memory in MiB, or `none`
    #[arg(long, value_name = "MIB", value_parser = limit)]
    pub memory: Option<Limit>,
    /// Storage in MiB, or `none`
    #[arg(long, value_name = "MIB", value_parser = limit)]
    pub storage: Option<Limit>,
}

/// A limit, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    let wrong = |_| format!("`{text}` is no limit: expected a number, or `none`");
    text.parse().map(|number| Limit(Some(number))).map_err(wrong)
}

/// Arguments of `mangrove password`.
#[derive(Debug, Args)]
pub struct PasswordArguments {
    /// Set the password by this token, which an administrator has made, instead of the old password
    #[arg(long, value_name = "TOKEN")]
    pub reset_token: Option<String>,
    /// Read the old password (unless there is a reset token) and the new one from standard input, a line each
    #[arg(long)]
    pub password_stdin: bool,
}

/// What `mangrove auth` does.
#[derive(Debug, Subcommand)]
pub enum AuthWhat {
    /// Ask whether you may do something: `mangrove auth can-i create application`
    CanI {
        /// get, create, update or delete
        verb: String,
        /// application, service, secret, hook, custom-resource, user, organization, quota, cluster, worker, join-token or api-token
        resource: String,
        /// Name or id of a cluster, to ask about that one alone
        #[arg(long)]
        cluster: Option<String>,
    },
    /// Create, list and revoke the API tokens by which programs do what you may
    Token {
        /// What to do with them.
        #[command(subcommand)]
        what: ApiTokenWhat,
    },
}

/// What `mangrove auth token` does.
#[derive(Debug, Subcommand)]
pub enum ApiTokenWhat {
    /// Create a token: printed alone on stdout, and never again
    Create(ApiTokenArguments),
    /// List your tokens
    List(Listing),
    /// Make tokens useless at once
    Revoke {
        /// Ids, as `mangrove auth token list` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Arguments of `mangrove kubeconfig`.
#[derive(Debug, Args)]
pub struct KubeconfigArguments {
    /// Name of the API token that is made for it
    #[arg(long, default_value = "kubeconfig")]
    pub name: String,
    /// Limit it to what a role may, or to a verb and a kind such as `get:custom-resource`; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// How long it can be used [default: ninety days]
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub ttl: Option<Duration>,
}

/// Arguments of `mangrove auth token create`.
#[derive(Debug, Args)]
pub struct ApiTokenArguments {
    /// What it is for
    pub name: String,
    /// Limit it to what a role may, or to a verb and a kind such as `get:service`; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// How long it can be used [default: ninety days]
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub ttl: Option<Duration>,
    /// Print the whole answer of the root instead of the token alone
    #[arg(long, short, value_name = "FORMAT")]
    pub output: Option<TokenFormat>,
}
