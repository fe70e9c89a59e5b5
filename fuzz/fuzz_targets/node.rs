//! What a cluster may say to a NodeEngine.
#![no_main]

use model::{Assignment, Now};
use node_core::{Before, Node, Observation, Settings};
use proto::v1;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut now: Now = fuzz::BEGINNING;
    let mut node = Node::new(Settings { overlay: true }, Before::default(), now);
    node.observe(now, Observation::EngineConnected);
    for (choice, bytes) in fuzz::parts(data) {
        now = fuzz::later(now, choice);
        let Some(assignment) = fuzz::read::<v1::Assignment, Assignment>(bytes) else { continue };
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
});
