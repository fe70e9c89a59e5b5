//! `mangrove kubeconfig`: what `kubectl` and other clients of Kubernetes need to use the root.

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::{
    args::KubeconfigArguments,
    client::Client,
    error::Error,
    output::{Output, Tone},
};

/// What cluster, user and context are called in the file.
const NAME: &str = "mangrove";
/// Who is believed to be the root, if it is not an authority this machine believes anyway.
const AUTHORITY: &str = "SSL_CERT_FILE";

/// Makes an API token and prints a kubeconfig with it.
pub(crate) async fn run(
    client: &Client,
    output: &Output,
    arguments: KubeconfigArguments,
) -> Result<(), Error> {
    let root = client.root();
    if !root.starts_with("https://") {
        return Err(Error::NotEncrypted { root: root.to_owned() });
    }
    let authority = match std::env::var_os(AUTHORITY).filter(|path| !path.is_empty()) {
        Some(path) => {
            let failed = |source| Error::File { file: path.to_string_lossy().into_owned(), source };
            Some(std::fs::read(&path).map_err(failed)?)
        }
        None => None,
    };
    let mut request = json!({"name": arguments.name});
    if !arguments.scopes.is_empty() {
        request["scopes"] = json!(arguments.scopes);
    }
    if let Some(ttl) = arguments.ttl {
        request["ttl_seconds"] = json!(ttl.as_secs());
    }
    let created = client.post("/api/auth/tokens", Some(&request)).await?;
    let token = client.field(&created, "token", "POST /api/auth/tokens")?;
    let namespace = client.organization().unwrap_or_else(|| "root".to_owned());
    output.data(&written(root, token, &namespace, authority.as_deref()))?;
    let end = created["expires_at"].as_str().unwrap_or_default();
    let advice = format!(
        "Keep it to yourself, and name it to kubectl by KUBECONFIG. The API token in it can be used until {end}; \
         `mangrove auth token revoke` ends it."
    );
    output.note(&output.painted(Tone::Quiet, &advice));
    Ok(())
}

/// As YAML: texts are written as in JSON, which YAML reads.
fn written(root: &str, token: &str, namespace: &str, authority: Option<&[u8]>) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let authority = authority
        .map(|pem| format!("\n    certificate-authority-data: {}", BASE64.encode(pem)))
        .unwrap_or_default();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {NAME}\n\
         clusters:\n- name: {NAME}\n  cluster:\n    server: {}{authority}\n\
         users:\n- name: {NAME}\n  user:\n    token: {}\n\
         contexts:\n- name: {NAME}\n  context:\n    cluster: {NAME}\n    user: {NAME}\n    namespace: {}",
        text(root.trim_end_matches('/')),
        text(token),
        text(namespace),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_names_root_token_and_namespace() {
        let file = written("https://root.example:10000/", "mga1.a.b", "acme: x", Some(b"PEM"));
        let lines: Vec<&str> = file.lines().map(str::trim).collect();
        for line in [
            "server: \"https://root.example:10000\"",
            "certificate-authority-data: UEVN",
            "token: \"mga1.a.b\"",
            "namespace: \"acme: x\"",
        ] {
            assert!(lines.contains(&line), "{line} is missing in\n{file}");
        }
        assert!(!written("https://r", "t", "root", None).contains("authority"), "believed anyway");
    }
}
