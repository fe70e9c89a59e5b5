//! What somebody without a certificate may say to have one: a token, and a request in PEM or what it holds; and the
//! certificate that may come back.
#![no_main]

use data_encoding::BASE64;
use link::{JoinToken, key_fingerprint, record_of};

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
    for pem in [&*text, &request] {
        if let Ok(fingerprint) = key_fingerprint(pem) {
            let _id = link::device_uuid(&fingerprint);
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
