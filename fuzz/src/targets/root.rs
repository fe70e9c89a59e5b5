//! What clusters may say to the root.

use model::{
    ApplicationId, ClusterAnswer, ClusterId, ClusterReport, Generation, Location, Now, OrganizationId,
    ServiceId,
};
use prost::Message;
use proto::v1::{self, cluster_to_root as from_cluster};
use root_core::{Author, Change, Cluster, FreshIds, State, sla};
use uuid::Uuid;

use crate::shared;

const WANTED: &[u8] = include_bytes!("../../../examples/hello/hello.sla.json");
const CLUSTERS: u8 = 2;

struct Ids;

impl FreshIds for Ids {
    fn application(&mut self) -> ApplicationId {
        ApplicationId::from_bytes([1; 12])
    }

    fn service(&mut self) -> ServiceId {
        ServiceId::from_bytes([2; 12])
    }
}

/// With two clusters and three instances of one service.
fn root() -> State {
    let organization = OrganizationId::from_bytes([3; 12]);
    let author = Author { organization, name: "user".to_owned() };
    let mut state = State::of(organization);
    for number in 0..CLUSTERS {
        let id = ClusterId::new(Uuid::from_bytes([number; 16]));
        let cluster =
            Cluster { id, name: format!("c{number}"), location: None, generation: Generation::default() };
        shared::settle(&mut state, vec![Change::Cluster(id, Some(cluster))], shared::BEGINNING);
    }
    let wanted = sla::parse(WANTED).expect("the example").applications;
    let (_, changes) =
        state.create_applications(&author, wanted, &mut Ids, shared::BEGINNING.date).expect("new");
    shared::settle(&mut state, changes, shared::BEGINNING);
    for _ in 0..3 {
        let service = state.services().next().expect("its service").clone();
        let (_, changes) = state.deploy(&service, shared::BEGINNING.date).expect("no quota");
        shared::settle(&mut state, changes, shared::BEGINNING);
    }
    state
}

pub(crate) fn take(data: &[u8]) {
    let mut state = root();
    let mut now = shared::BEGINNING;
    let mut sessions = 0;
    for (choice, bytes) in shared::parts(data) {
        now = shared::later(now, choice);
        let cluster = ClusterId::new(Uuid::from_bytes([choice & 1; 16]));
        let changes = says(&mut state, &mut sessions, cluster, bytes, now);
        shared::settle(&mut state, changes.unwrap_or_default(), now);
        for cluster in state.clusters() {
            let _wire = v1::Assignment::from(&state.assignment(cluster));
        }
    }
}

/// `None` for what is not understood.
fn says(
    state: &mut State,
    sessions: &mut u64,
    cluster: ClusterId,
    bytes: &[u8],
    now: Now,
) -> Option<Vec<Change>> {
    match v1::ClusterToRoot::decode(bytes).ok()?.message? {
        from_cluster::Message::Hello(hello) => {
            let location: Location = hello.location.parse().ok()?;
            *sessions += 1;
            Some(state.cluster_connected(
                cluster,
                *sessions,
                location,
                Generation(hello.observed_generation),
                now,
            ))
        }
        from_cluster::Message::Report(report) => {
            let report = ClusterReport::try_from(report).ok()?;
            // Of whichever connection of it is the newest.
            let reported = |session| state.cluster_reported(cluster, session, report.clone(), now);
            Some((0..=*sessions).flat_map(reported).collect())
        }
        from_cluster::Message::ToNeighbour(told) => {
            let (to, epoch, news) = told.read().ok()?;
            (0..=*sessions)
                .for_each(|session| state.neighbour_told(cluster, session, to, epoch, news.clone()));
            None
        }
        from_cluster::Message::Answer(answer) => {
            let _for_whom_it_waits = ClusterAnswer::try_from(answer).ok()?;
            None
        }
        from_cluster::Message::LogChunk(_) | from_cluster::Message::LogEnd(_) => None,
    }
}
