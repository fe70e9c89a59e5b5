//! What the root is told of an identity provider.

use std::path::PathBuf;

use clap::Args;
use root_core::oidc::Grant;

/// Where users log in, if not here.
#[derive(Debug, Clone, Default, Args)]
pub struct OidcConfig {
    /// An identity provider (OpenID Connect) where users may log in: its issuer, as https://id.example/realms/acme.
    #[arg(long, env = "MANGROVE_OIDC_ISSUER", requires = "oidc_client_id")]
    pub oidc_issuer: Option<String>,

    /// What the provider knows this root as.
    #[arg(long, env = "MANGROVE_OIDC_CLIENT_ID", requires = "oidc_issuer")]
    pub oidc_client_id: Option<String>,

    /// A file with what this root shows the provider to be that client, if it must.
    #[arg(long, env = "MANGROVE_OIDC_CLIENT_SECRET_FILE", requires = "oidc_issuer")]
    pub oidc_client_secret_file: Option<PathBuf>,

    /// Where the provider sends browsers back to, as https://mangrove.example/api/auth/oidc/callback. Without it, logging
    /// in is possible by `mangrove login --oidc` only.
    #[arg(long, env = "MANGROVE_OIDC_REDIRECT_URL", requires = "oidc_issuer")]
    pub oidc_redirect_url: Option<String>,

    /// What to ask the provider for, separated by spaces. Without it `openid profile`, and `email`, `groups` and
    /// `offline_access` if it says that it knows them.
    #[arg(long, env = "MANGROVE_OIDC_SCOPES", requires = "oidc_issuer")]
    pub oidc_scopes: Option<String>,

    /// The claim that has the name users get here.
    #[arg(long, env = "MANGROVE_OIDC_USERNAME_CLAIM", default_value = "preferred_username")]
    pub oidc_username_claim: String,

    /// CLAIM=VALUE:ORGANIZATION:ROLE[,ROLE…]: gives those roles in that organisation to users of whom the provider says
    /// that, as groups=operators:root:Admin. May be given several times; in the variable separated by semicolons. Who is
    /// given nothing cannot log in.
    #[arg(
        long = "oidc-grant",
        env = "MANGROVE_OIDC_GRANTS",
        value_delimiter = ';',
        requires = "oidc_issuer"
    )]
    pub oidc_grants: Vec<Grant>,

    /// A file with the certificates (PEM) of the authorities that vouch for the provider, in place of those of the system.
    #[arg(long, env = "MANGROVE_OIDC_CA_FILE", requires = "oidc_issuer")]
    pub oidc_ca_file: Option<PathBuf>,

    /// Let the provider be reached by plain HTTP on this machine's loopback; for trying and developing.
    #[arg(long, env = "MANGROVE_OIDC_ALLOW_HTTP")]
    pub oidc_allow_http: bool,
}
