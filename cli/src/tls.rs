//! TLS to a root: believed is who shows a certificate of an authority that this machine believes, or that `SSL_CERT_FILE`
//! names.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// For a root at an `https` address. Without one nobody is believed, and no files are read.
pub(crate) fn config(is_encrypted: bool) -> Result<ClientConfig, rustls::Error> {
    let mut believed = RootCertStore::empty();
    if is_encrypted {
        // What cannot be read is believed by nobody; if none is left, the connection says so.
        believed.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(believed).with_no_client_auth())
}
