//! What a cluster may say to a NodeEngine.

use model::{Assignment, InstanceId, Now};
use node_core::{Before, Node, Observation, Settings};
use prost::Message;
use proto::v1::{self, cluster_to_worker as from_cluster};

use crate::shared;

pub(crate) fn take(data: &[u8]) {
    let mut now: Now = shared::BEGINNING;
    let mut node = Node::new(Settings { overlay: true }, Before::default(), now);
    node.observe(now, Observation::EngineConnected);
    for (choice, bytes) in shared::parts(data) {
        now = shared::later(now, choice);
        let Some(assignment) = says(bytes) else { continue };
        // As it is kept, and read again after a restart.
        let kept = Assignment::try_from(v1::Assignment::from(&assignment)).expect("what was understood once");
        assert_eq!(kept, assignment);
        if let Ok(accepted) = node.accept(assignment) {
            node.apply(accepted, now);
        }
        node.reconcile(now);
        let again = node.reconcile(now);
        assert!(again.submissions.is_empty(), "a second pass without news finds something to do");
        let _wire = v1::WorkerReport::from(&node.report());
    }
}

/// The only message that changes what runs; the others are passed on as they are.
fn says(bytes: &[u8]) -> Option<Assignment> {
    match v1::ClusterToWorker::decode(bytes).ok()?.message? {
        from_cluster::Message::Assignment(assignment) => Assignment::try_from(assignment).ok(),
        from_cluster::Message::LogRequest(asked) => {
            let _whose = InstanceId::from(asked.instance?);
            None
        }
        from_cluster::Message::LogCancel(_)
        | from_cluster::Message::Beats(_)
        | from_cluster::Message::Echo(_)
        | from_cluster::Message::ReportRequest(_) => None,
    }
}
