//! What a neighbour says and must not.

use super::*;

#[test]
fn what_a_neighbour_may_not_say_is_left_out_and_named() {
    let mut site = Site::new();
    let stranger = ServiceId::from_bytes([3; 12]);
    let direct = Peer { way: Way::Direct { underlay: ADDRESS }, ..peer(1, 7) };
    let news = said(
        true,
        &[(stranger, vec![away(5, AWAY, 1, true)]), (SERVICE, vec![away(1, AWAY, 1, true)])],
        &[(AWAY, peer(2, 5)), (AWAY + 1, Peer { lease: block(), ..peer(1, 6) }), (AWAY + 2, direct)],
    );
    assert_eq!(
        site.hears(1, news.clone()),
        [
            Unacceptable::Ranges(worker(AWAY)),
            Unacceptable::Ranges(worker(AWAY + 1)),
            Unacceptable::Way(worker(AWAY + 2)),
            Unacceptable::Service(stranger),
        ]
    );
    assert_eq!(site.peers(), []);
    assert!(!known_names(&site, stranger));
    assert_eq!(site.hears(2, news).len(), 5, "nothing at all is shared with that one");
}

#[test]
fn a_device_that_two_clusters_claim_or_that_has_the_key_of_another_is_not_led_to() {
    let mut site = Site::new();
    site.named(1, named(false, &[(1, Some(7)), (2, Some(8))]));
    site.hears(1, said(true, &[(SERVICE, vec![away(1, AWAY, 1, true)])], &[(AWAY, peer(1, 5))]));
    assert_eq!(site.peers(), [worker(AWAY)]);
    let rival = |key| said(true, &[(SERVICE, vec![away(2, AWAY, 1, true)])], &[(AWAY, peer(2, key))]);
    site.hears(2, rival(6));
    assert_eq!(site.peers(), []);
    // With another name, and the key of the device here.
    site.hears(2, said(true, &[(SERVICE, vec![away(2, AWAY + 1, 1, true)])], &[(AWAY + 1, peer(2, 1))]));
    assert_eq!(site.peers(), [worker(AWAY)]);
}
