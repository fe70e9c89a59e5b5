//! A REST API that speaks TLS with a certificate of its own, and clients that believe it. How the root reads it is in
//! `root-orchestrator/src/api/tls.rs`.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use reqwest::{Certificate, Client, Identity};
use root_orchestrator::ApiTlsConfig;

use crate::Root;

const CERTIFICATE: &str = "api.pem";
const KEY: &str = "api.key";

impl Root {
    /// The certificate of its REST API, if that speaks TLS.
    #[must_use]
    pub fn api_certificate(&self) -> Option<PathBuf> {
        let certificate = self.state().with_file_name(CERTIFICATE);
        certificate.exists().then_some(certificate)
    }
}

/// Puts a certificate for an address, with its key, into a directory.
pub(crate) fn certify(directory: &Path, address: IpAddr) {
    let made = rcgen::generate_simple_self_signed([address.to_string()]).expect("made");
    fs::write(directory.join(CERTIFICATE), made.cert.pem()).expect("written");
    fs::write(directory.join(KEY), made.signing_key.serialize_pem()).expect("written");
}

/// TLS where a certificate is in the directory, and plain HTTP where none is.
pub(crate) fn config(directory: &Path) -> ApiTlsConfig {
    let [certificate, key] = [CERTIFICATE, KEY].map(|name| directory.join(name));
    if certificate.exists() {
        return ApiTlsConfig { api_certificate: Some(certificate), api_key: Some(key), api_plain: false };
    }
    // Some tests have an address that is not a loopback one.
    ApiTlsConfig { api_plain: true, ..ApiTlsConfig::default() }
}

/// How the address of such an API begins.
pub(crate) fn scheme(directory: &Path) -> &'static str {
    if directory.join(CERTIFICATE).exists() { "https" } else { "http" }
}

/// A client that believes nobody but the certificate in the directory, if there is one. To whom asks for a certificate it
/// shows that of the daemon with this state directory.
pub(crate) fn client(directory: &Path, shown: Option<&Path>) -> Client {
    // Who is built for TLS wants to know by what. It is no matter who says so first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let Ok(believed) = fs::read(directory.join(CERTIFICATE)) else { return Client::new() };
    let believed = Certificate::from_pem(&believed).expect("a certificate");
    let mut client = Client::builder().tls_certs_only([believed]);
    if let Some(state) = shown {
        let files = ["identity.pem", "identity.key"].map(|name| fs::read(state.join(name)).expect("joined"));
        client = client.identity(Identity::from_pem(&files.concat()).expect("a certificate with its key"));
    }
    client.build().expect("usable")
}
