//! What somebody may say to have a certificate: a token, a request in PEM or what it holds, and the messages that bring
//! them, from who has none and from who has one.

use std::sync::LazyLock;

use daemon::StateDirectory;
use link::{Authority, Intermediate, JoinToken, KeyPair, Subject, key_fingerprint, record_of};
use model::{ClusterId, Span, TokenId, WorkerId};
use prost::Message;
use proto::v1;
use uuid::Uuid;

use crate::shared::{self, pem};

const ROOT: Uuid = Uuid::from_bytes([1; 16]);
const CLUSTER_ID: ClusterId = ClusterId::new(Uuid::from_bytes([2; 16]));
const CLUSTER: Subject = Subject::Cluster { root: ROOT, cluster: CLUSTER_ID };
const LIFE: Span = Span::from_secs(86_400);

/// Those who certify, and a genuine request (DER).
struct Certifiers {
    root: Authority,
    cluster: Intermediate,
    request: Vec<u8>,
}

static CERTIFIERS: LazyLock<Certifiers> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let [of_root, of_cluster] =
        ["root", "cluster"].map(|name| StateDirectory::open(&folder.path().join(name)).expect("usable"));
    let now = link::present_since_build();
    let root = Authority::load_or_create(&of_root, ROOT, now).expect("an authority");
    let key = KeyPair::load_or_generate(&of_cluster).expect("a key");
    let request = key.certificate_request().expect("one");
    let certificate = root.certify(&request, CLUSTER, now).expect("issued");
    let identity = link::Identity::new(&key, &certificate, root.certificate_pem()).expect("its own");
    let lent = Intermediate::request(&of_cluster).expect("one");
    let lent = root.certify_intermediate(&lent, CLUSTER, now).expect("issued");
    let cluster = Intermediate::install(&of_cluster, &identity, &lent).expect("its own");
    Certifiers { root, cluster, request: shared::from_pem(&request) }
});

pub(crate) fn take(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(token) = text.parse::<JoinToken>() {
        let again: JoinToken = token.reveal().parse().expect("its own text");
        assert_eq!((again.id(), again.secret()), (token.id(), token.secret()));
    }
    let joining = v1::EnrolRequest::decode(data).unwrap_or_default();
    if let Ok(id) = joining.token_id.parse::<TokenId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let renewing = v1::CertificateRequest::decode(data).unwrap_or_default();
    let of_network = v1::CertifyNetworkRequest::decode(data).unwrap_or_default();
    if let Ok(id) = of_network.worker.parse::<WorkerId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let changed = shared::changed(&CERTIFIERS.request, data);
    let [request, changed] = [data, &changed].map(|der| pem("CERTIFICATE REQUEST", der));
    let sent = [
        &*text,
        &request,
        &changed,
        &joining.certificate_request_pem,
        &renewing.certificate_request_pem,
        &of_network.certificate_request_pem,
    ];
    sent.into_iter().for_each(certify);
}

/// Whatever a request asks for, what is issued can be read and is good.
fn certify(request_pem: &str) {
    let Certifiers { root, cluster, .. } = &*CERTIFIERS;
    let worker =
        key_fingerprint(request_pem).map(|fingerprint| WorkerId::new(link::device_uuid(&fingerprint)));
    let worker = worker.unwrap_or(WorkerId::new(ROOT));
    let worker = Subject::Worker { root: ROOT, cluster: CLUSTER_ID, worker };
    let now = link::present_since_build();
    let issued = [
        root.certify(request_pem, CLUSTER, now),
        root.certify_intermediate(request_pem, CLUSTER, now),
        cluster.certify(request_pem, worker, LIFE, now),
    ];
    for issued in issued.into_iter().flatten() {
        let record = record_of(&issued).expect("its own certificate");
        assert!(!record.lifetime.has_ended(now), "it is good now");
    }
}
