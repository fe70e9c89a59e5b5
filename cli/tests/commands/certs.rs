//! Listing and revoking certificates.

use serde_json::{Value, json};

use crate::{Home, done, failed, fake_root::FakeRoot};

fn certificate(owner: &str, kind: &str, serial: &str, state: &str) -> Value {
    json!({
        "owner": owner, "id": if owner == "root" { String::new() } else { format!("id-{owner}") },
        "kind": kind, "serial": serial,
        "issued_at": "2026-11-22T08:00:00Z", "expires_at": "2020-01-01T00:00:00Z", "state": state,
    })
}

#[test]
fn those_of_the_root_and_of_all_workers_are_listed_and_what_is_missing_is_told() {
    let root = FakeRoot::start();
    root.state().certificates = vec![
        certificate("root", "authority", "01", "valid"),
        certificate("north", "cluster", "02", "revoked"),
        certificate("north", "intermediate", "04", "valid"),
        certificate("south", "cluster", "05", "valid"),
    ];
    root.state().workers = [
        (200, json!([certificate("north/edge-1", "worker", "03", "expired")])),
        (503, json!({"message": "the cluster is not connected"})),
    ]
    .into();
    let home = Home::logged_in_to(&root);
    assert_eq!(
        home.run(&["certs"]),
        done(
            "OWNER          KIND           STATE     ISSUED                 EXPIRES IN   SERIAL\n\
             root           authority      valid     2026-11-22T08:00:00Z   expired      01\n\
             north          cluster        revoked   2026-11-22T08:00:00Z   expired      02\n\
             north          intermediate   valid     2026-11-22T08:00:00Z   expired      04\n\
             south          cluster        valid     2026-11-22T08:00:00Z   expired      05\n\
             north/edge-1   worker         expired   2026-11-22T08:00:00Z   expired      03\n",
            "those of the workers of south are missing here: the root refused GET \
             /api/cluster/id-south/certificates: the cluster is not connected (503)\n"
        )
    );
    assert_eq!(
        root.requests(),
        [
            "GET /api/certificates",
            "GET /api/cluster/id-north/certificates",
            "GET /api/cluster/id-south/certificates",
        ]
    );
}

#[test]
fn those_of_a_cluster_or_of_a_worker_are_revoked_when_that_is_meant() {
    let root = FakeRoot::start();
    let home = Home::logged_in_to(&root);
    assert_eq!(home.run(&["certs", "revoke", "north", "--yes"]), done("", "they are revoked\n"));
    assert_eq!(home.run(&["certs", "revoke", "north/edge-1", "-y"]), done("", "they are revoked\n"));
    assert_eq!(
        root.requests(),
        ["DELETE /api/certificates/north", "DELETE /api/cluster/north/certificates/edge-1"]
    );
    // Nobody is there to be asked.
    let refused = home.run(&["certs", "revoke", "north"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{refused:?}");
    assert_eq!(root.requests(), [""; 0]);
    let leads_elsewhere = home.run(&["certs", "revoke", "north/..", "-y"]);
    assert_eq!(
        leads_elsewhere,
        failed(
            1,
            "error: there is no certificate `north/..`\n  hint: `mangrove certs` lists what there is\n"
        )
    );
    assert_eq!(root.requests(), [""; 0]);
}
