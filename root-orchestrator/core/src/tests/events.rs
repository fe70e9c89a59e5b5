//! What is told to have happened.

use super::*;
use crate::MOST_EVENTS;

/// Reason, what it is about, how often, and whether somebody should look.
fn told(root: &Root) -> Vec<(&str, &str, u32, bool)> {
    let events = root.state.events();
    events.map(|event| (&*event.reason, event.name.as_str(), event.count, event.is_warning)).collect()
}

fn listening() -> Root {
    let mut root = Root::new();
    root.state.loaded(root.now);
    root
}

#[test]
fn what_happens_to_an_instance_is_told_and_what_happens_again_counts() {
    let mut root = listening();
    let cluster = root.cluster(1, "one", &[resources(4, 1000)]);
    root.reconcile();
    let service = root.service(small());
    let id = root.deploy(service);
    root.reconcile();
    let name = format!("{}-0", root.state.service(service).expect("there").written_names());
    let same = root.state.aggregate(cluster).0;
    for phase in [Phase::Running, Phase::Failed, Phase::Running] {
        let said = root.said(id, phase);
        root.report(cluster, same.clone(), vec![said]);
        root.now.date = root.now.date.plus_millis(1000);
        root.reconcile();
    }
    let expected = [
        ("Joined", "one", 1, false),
        ("Scheduled", &*name, 1, false),
        ("Failed", &*name, 1, true),
        ("Started", &*name, 2, false),
    ];
    assert_eq!(told(&root), expected);
    let started = root.state.events().next_back().expect("the last").clone();
    assert_eq!(started.last.millis_since(started.first), 2000);
    assert_eq!(started.revision, None, "nothing is durable yet");
    root.state.committed(&[], 7);
    assert!(root.state.events().all(|event| event.revision == Some(7)));
}

#[test]
fn a_cluster_that_falls_silent_and_returns_is_told_of() {
    let mut root = listening();
    let cluster = root.cluster(1, "one", &[resources(4, 1000)]);
    root.reconcile();
    root.disconnect(cluster);
    root.wait(60_000);
    let location = Location { latitude: 0.0, longitude: 0.0, radius_metres: 0.0 };
    root.sessions += 1;
    let changes =
        root.state.cluster_connected(cluster, root.sessions, location, Generation::default(), root.now);
    root.apply(changes);
    root.report(cluster, aggregate(&[resources(4, 1000)]), vec![]);
    root.wait(1000);
    assert_eq!(
        told(&root),
        [("Joined", "one", 1, false), ("Silent", "one", 1, true), ("Heard", "one", 1, false)]
    );
}

#[test]
fn an_organisation_has_so_many_events_and_none_for_longer_than_an_hour() {
    let mut root = listening();
    let service = root.service(small());
    for _ in 0..=MOST_EVENTS {
        let id = root.deploy(service);
        root.apply(vec![Change::Instance(id, None)]);
    }
    root.reconcile();
    assert_eq!(root.state.events().count(), MOST_EVENTS);
    let first = root.state.events().next().expect("there are some").name.clone();
    assert!(first.ends_with("-1"), "the oldest goes: {first}");
    root.wait(3_601_000);
    assert_eq!(told(&root), []);
}

#[test]
fn what_was_read_did_not_happen_now() {
    let mut root = Root::new();
    let service = root.service(small());
    root.deploy(service);
    root.state.loaded(root.now);
    let changes = root.state.undeploy_all(service, root.now.date);
    let gone: Vec<_> = changes.into_iter().filter(|change| matches!(change, Change::Instance(..))).collect();
    root.apply(gone);
    root.reconcile();
    let reasons: Vec<_> = told(&root).into_iter().map(|(reason, ..)| reason).collect();
    assert_eq!(reasons, ["Removed"]);
}
