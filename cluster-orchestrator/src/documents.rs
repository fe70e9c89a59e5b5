//! The cluster's documents in the store: one collection per kind.

use cluster_core::{Change, Instance, State, Worker};
use control::{document, load_all};
use store::{Store, StoreError, Write, put};

const HELD: &str = "held";
const INSTANCES: &str = "instances";
const WORKERS: &str = "workers";
const PLANS: &str = "plans";
const BLOCKS: &str = "blocks";
const SUBNETS: &str = "subnets";
const ASSIGNMENT: &str = "assignment";
const ENROLMENTS: &str = "enrolments";
const TOKENS: &str = "tokens";
const SHARED: &str = "shared";
const ELSEWHERE: &str = "elsewhere";
const PEERS_ELSEWHERE: &str = "peers_elsewhere";
const CERTIFICATES: &str = "certificates";
const REVOKED: &str = "revoked";
const REVOKED_WORKERS: &str = "workers";

/// The stored form of a change.
pub(crate) fn write(change: &Change) -> Write {
    match change {
        Change::Held(held) => put(HELD, ASSIGNMENT, held),
        Change::Instance(id, instance) => document(INSTANCES, id, instance.as_ref()),
        Change::Worker(id, worker) => document(WORKERS, id, worker.as_ref()),
        Change::Blocks(blocks) => put(PLANS, BLOCKS, blocks),
        Change::Subnet(lent) => put(SUBNETS, lent.subnet.v4, lent),
        Change::Enrolments(enrolments) => put(ENROLMENTS, TOKENS, enrolments),
        Change::Shared(id, application) => {
            document(SHARED, id, application.as_ref().map(|it| (id, it)).as_ref())
        }
        Change::Elsewhere(from, id, instances) => {
            let document_of = instances.as_ref().map(|it| (from, id, it));
            document(ELSEWHERE, format!("{from}/{id}"), document_of.as_ref())
        }
        Change::PeerElsewhere(from, id, peer) => {
            let document_of = peer.as_ref().map(|it| (from, id, it));
            document(PEERS_ELSEWHERE, format!("{from}/{id}"), document_of.as_ref())
        }
        Change::Certificate(holder, record) => {
            document(CERTIFICATES, holder, record.as_ref().map(|it| (holder, it)).as_ref())
        }
        Change::Revoked(workers) => put(REVOKED, REVOKED_WORKERS, workers),
    }
}

/// The brain with everything that is stored, whose workers beat so often.
pub(crate) async fn load(store: &dyn Store, beat_interval_millis: u64) -> Result<State, StoreError> {
    let mut state = State::default();
    state.beat_every(beat_interval_millis);
    load_all(store, &mut state, HELD, Change::Held).await?;
    load_all(store, &mut state, WORKERS, |it: Worker| Change::Worker(it.id, Some(it))).await?;
    load_all(store, &mut state, INSTANCES, |it: Instance| Change::Instance(it.id, Some(it))).await?;
    load_all(store, &mut state, PLANS, Change::Blocks).await?;
    load_all(store, &mut state, SUBNETS, Change::Subnet).await?;
    load_all(store, &mut state, ENROLMENTS, Change::Enrolments).await?;
    load_all(store, &mut state, SHARED, |(id, application)| Change::Shared(id, Some(application))).await?;
    load_all(store, &mut state, PEERS_ELSEWHERE, |(from, id, peer)| {
        Change::PeerElsewhere(from, id, Some(peer))
    })
    .await?;
    load_all(store, &mut state, ELSEWHERE, |(from, id, instances)| {
        Change::Elsewhere(from, id, Some(instances))
    })
    .await?;
    load_all(store, &mut state, CERTIFICATES, |(holder, record)| Change::Certificate(holder, Some(record)))
        .await?;
    load_all(store, &mut state, REVOKED, Change::Revoked).await?;
    state.loaded(daemon::present());
    Ok(state)
}
