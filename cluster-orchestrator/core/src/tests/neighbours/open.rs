//! A service that is open to everybody: its devices hear of all that come and go, each by itself.

use super::*;

#[test]
fn devices_of_an_open_service_hear_of_applications_elsewhere_that_come_and_go() {
    let mut site = Site::new();
    site.allow(&["*"]);
    site.turn();
    let before = site.known[&worker(1)].clone();
    let come = |news| Neighbours {
        whole: false,
        applications: BTreeMap::from([(TILL, news)]),
        clusters: BTreeMap::new(),
    };
    // What runs there is known in the very pass in which its service is.
    let changes = site.cluster.state.neighbours_named(1, come(Some(till(&[1], &[]))));
    site.take(changes);
    let news = said(false, &[(FOREIGN, vec![away(3, AWAY, 1, true)])], &[(AWAY, peer(1, 5))]);
    assert_eq!(site.hears(1, news), []);
    assert_eq!(site.callable(FOREIGN), [(3, worker(AWAY), true)]);
    assert_eq!(site.peers(), [worker(AWAY)]);

    site.named(1, come(None));
    assert_eq!(site.known[&worker(1)], before, "as if it had never been");
}
