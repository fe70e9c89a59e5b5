//! What a parent, or somebody in its place, may send as a certificate: to who joins, who renews and who is lent an
//! authority.

use std::sync::LazyLock;

use daemon::StateDirectory;
use link::{Authority, Identity, Intermediate, KeyPair, Subject, record_of};
use model::ClusterId;
use prost::Message;
use proto::v1;
use uuid::Uuid;

use crate::shared::{self, pem};

const ROOT: Uuid = Uuid::from_bytes([1; 16]);
const CLUSTER: Subject = Subject::Cluster { root: ROOT, cluster: ClusterId::new(Uuid::from_bytes([2; 16])) };

/// A cluster, with what it was certified by.
struct Cluster {
    _folder: tempfile::TempDir,
    state: StateDirectory,
    key: KeyPair,
    identity: Identity,
    /// Genuine certificates (DER): its own, and that of the authority it is lent.
    genuine: [Vec<u8>; 2],
}

static CLUSTER_THERE: LazyLock<Cluster> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let [root, state] =
        ["root", "cluster"].map(|name| StateDirectory::open(&folder.path().join(name)).expect("usable"));
    let now = link::present_since_build();
    let authority = Authority::load_or_create(&root, ROOT, now).expect("an authority");
    let key = KeyPair::load_or_generate(&state).expect("a key");
    let certificate =
        authority.certify(&key.certificate_request().expect("one"), CLUSTER, now).expect("issued");
    let identity = Identity::new(&key, &certificate, authority.certificate_pem()).expect("its own");
    let request = Intermediate::request(&state).expect("one");
    let lent = authority.certify_intermediate(&request, CLUSTER, now).expect("issued");
    let genuine = [certificate, lent].map(|pem| shared::from_pem(&pem));
    Cluster { _folder: folder, state, key, identity, genuine }
});

pub(crate) fn take(data: &[u8]) {
    let message = v1::Certificate::decode(data).unwrap_or_default();
    believe(&message.certificate_pem, &message.ca_certificate_pem);
    let text = String::from_utf8_lossy(data);
    believe(&text, &text);
    for genuine in &CLUSTER_THERE.genuine {
        let changed = pem("CERTIFICATE", &shared::changed(genuine, data));
        believe(&changed, &CLUSTER_THERE.identity.authority_pem());
    }
    let certificate = pem("CERTIFICATE", data);
    believe(&certificate, &certificate);
}

/// What is believed is for this cluster and its key.
fn believe(certificate: &str, authority: &str) {
    let Cluster { state, key, identity, .. } = &*CLUSTER_THERE;
    if let Ok(record) = record_of(certificate) {
        assert!(record.lifetime.renew_at(100) <= record.lifetime.renew_at(0), "never later by chance");
    }
    if let Ok(joined) = Identity::new(key, certificate, authority) {
        assert_eq!(joined.subject().to_string().parse(), Ok(joined.subject()));
    }
    if let Ok(renewed) = identity.renewed(key, certificate) {
        assert_eq!(renewed.subject(), CLUSTER);
    }
    if let Ok(lent) = Intermediate::install(state, identity, certificate) {
        let kept = Intermediate::load(state, identity).expect("what was installed").expect("it is there");
        assert_eq!(kept.lifetime(), lent.lifetime());
    }
}
