//! `mangrove certs`: who has which certificate until when, and whose count no more.

use std::collections::BTreeSet;

use crate::{
    args::{CertsArguments, CertsWhat, Listing},
    client::{Client, path_segment},
    commands::get::{self, Columns},
    error::Error,
    objects::{self, Certificate, Listed},
    output::{Output, clean},
};

/// Lists or revokes certificates.
pub(crate) async fn run(client: &Client, output: &Output, arguments: CertsArguments) -> Result<(), Error> {
    match arguments.what {
        None => list(client, output, arguments.listing).await,
        Some(CertsWhat::Revoke { id, yes }) => revoke(client, output, &id, yes).await,
    }
}

/// Those of the root and the clusters, then those of the workers of each of these clusters, which it tells of itself. Clusters
/// that cannot are named. Who looks after one cluster is told of that one alone.
async fn list(client: &Client, output: &Output, listing: Listing) -> Result<(), Error> {
    let mut certificates: Vec<Listed<Certificate>> = objects::list(client, "/api/certificates").await?;
    let of_clusters = certificates.iter().map(|item| &item.object).filter(|it| !it.id.is_empty());
    let clusters: BTreeSet<(String, String)> =
        of_clusters.map(|it| (it.owner.clone(), it.id.clone())).collect();
    for (name, id) in clusters {
        match objects::list::<Certificate>(client, &format!("/api/cluster/{id}/certificates")).await {
            Ok(of_workers) => certificates.extend(of_workers),
            Err(error) => {
                output.note(&format!(
                    "those of the workers of {name} are missing here: {}",
                    clean(&error.to_string())
                ));
            }
        }
    }
    let now = jiff::Timestamp::now();
    let columns = Columns {
        headings: &["OWNER", "KIND", "STATE", "ISSUED", "EXPIRES IN", "SERIAL", "ID", "EXPIRES"],
        narrow: 6,
        row: &|certificate: &Certificate| {
            vec![
                certificate.owner.clone(),
                certificate.kind.clone(),
                certificate.state.clone(),
                certificate.issued_at.clone(),
                get::time_left(&certificate.expires_at, now),
                certificate.serial.clone(),
                certificate.id.clone(),
                certificate.expires_at.clone(),
            ]
        },
        name: &|certificate: &Certificate| certificate.serial.clone(),
        nothing: "the root tells of no certificates",
    };
    get::print(output, listing.output, &certificates, &columns)
}

/// Revokes those of a cluster, or of a worker: `CLUSTER/WORKER`.
async fn revoke(client: &Client, output: &Output, id: &str, yes: bool) -> Result<(), Error> {
    let unknown =
        || Error::Unknown { kind: "certificate", name: id.to_owned(), application: None, nearest: None };
    let segment = |part: &str| path_segment(part).ok_or_else(unknown);
    let path = match id.split_once('/') {
        Some((cluster, worker)) => {
            format!("/api/cluster/{}/certificates/{}", segment(cluster)?, segment(worker)?)
        }
        None => format!("/api/certificates/{}", segment(id)?),
    };
    if !yes && !output.confirm(&format!("revoke the certificates of {id} for good"))? {
        output.note(&format!("the certificates of {id} stay good"));
        return Ok(());
    }
    let answer = client.delete(&path).await?;
    output.note(&clean(answer["message"].as_str().unwrap_or("revoked")));
    Ok(())
}
