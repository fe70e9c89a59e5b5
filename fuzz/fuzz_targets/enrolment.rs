//! What somebody without a certificate may say to have one: a token, a request in PEM or what it holds, and the message
//! that brings both; and the certificate that may come back.
#![no_main]

use std::sync::LazyLock;

use daemon::StateDirectory;
use data_encoding::BASE64;
use link::{Authority, JoinToken, Subject, key_fingerprint, record_of};
use model::{ClusterId, TokenId};
use prost::Message;
use proto::v1;
use uuid::Uuid;

const ROOT: Uuid = Uuid::from_bytes([1; 16]);
const CLUSTER: Subject = Subject::Cluster { root: ROOT, cluster: ClusterId::new(Uuid::from_bytes([2; 16])) };

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = StateDirectory::open(folder.path()).expect("usable");
    Authority::load_or_create(&directory, ROOT, link::present_since_build()).expect("an authority")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Ok(token) = text.parse::<JoinToken>() {
        let again: JoinToken = token.reveal().parse().expect("its own text");
        assert_eq!((again.id(), again.secret()), (token.id(), token.secret()));
    }
    let request = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        BASE64.encode(data)
    );
    let message = v1::EnrolRequest::decode(data).unwrap_or_default();
    if let Ok(id) = message.token_id.parse::<TokenId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    for pem in [&*text, &request, &message.certificate_request_pem] {
        if let Ok(fingerprint) = key_fingerprint(pem) {
            let _id = link::device_uuid(&fingerprint);
        }
        // Whatever a request asks for, what is issued can be read and is good.
        let now = link::present_since_build();
        for issued in
            [AUTHORITY.certify(pem, CLUSTER, now), AUTHORITY.certify_intermediate(pem, CLUSTER, now)]
        {
            let Ok(issued) = issued else { continue };
            let record = record_of(&issued).expect("its own certificate");
            assert!(!record.lifetime.has_ended(now), "it is good now");
        }
    }
    let certificate =
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(data));
    for pem in [&*text, &certificate] {
        if let Ok(record) = record_of(pem) {
            assert!(record.lifetime.renew_at(100) <= record.lifetime.renew_at(0), "never later by chance");
        }
    }
});
