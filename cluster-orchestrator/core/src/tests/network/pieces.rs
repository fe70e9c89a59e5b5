//! What NetManagers are told in pieces, against what one is told at once.

use super::*;

type Step<'a> = &'a dyn Fn(&mut Cluster, &mut Vec<AssignedInstance>);

/// Whatever happens, what a NetManager was told in pieces is what one is told that connects now.
#[test]
fn pieces_amount_to_the_whole() {
    let mut cluster = two_workers();
    let mut heard: BTreeMap<WorkerId, Surroundings> = BTreeMap::new();
    let mut wanted = vec![addressed(0, Desired::Running), addressed(1, Desired::Running)];
    let mut session = 2;
    for number in [1, 2] {
        cluster.state.network_connected(worker(number), session, Some(reach(number)));
    }
    for (worker, news) in told(&mut cluster) {
        heard.entry(worker).or_default().take(news);
    }
    let steps: [Step<'_>; 9] = [
        &|_, _| {},
        &|cluster, _| say(cluster, 0, Phase::Running),
        &|cluster, _| {
            say(cluster, 1, Phase::Running);
            say(cluster, 0, Phase::Dead);
        },
        &|cluster, wanted| {
            wanted.push(addressed(2, Desired::Running));
            cluster.connect(3, 4, 4000);
            cluster.state.network_connected(worker(3), 1, Some(reach(3)));
            cluster.assign(small(), wanted.clone());
        },
        &|cluster, _| say(cluster, 0, Phase::Running),
        &|cluster, _| {
            let holder = cluster.holder(2).expect("it is placed");
            assert_eq!(holder, worker(3), "the only one with room");
            cluster.say(3, 2, Phase::Running);
        },
        &|cluster, wanted| {
            wanted[1].desired = Desired::Removed;
            cluster.assign(small(), wanted.clone());
        },
        &|cluster, _| say(cluster, 1, Phase::Removed),
        &|cluster, _| cluster.say(3, 2, Phase::Failed),
    ];
    for step in steps {
        step(&mut cluster, &mut wanted);
        for (worker, news) in told(&mut cluster) {
            heard.entry(worker).or_default().take(news);
        }
        session += 1;
        for number in [1, 2, 3] {
            cluster.state.network_connected(worker(number), session, Some(reach(number)));
        }
        for (worker, news) in told(&mut cluster) {
            assert!(news.whole);
            let mut whole = Surroundings::default();
            whole.take(news);
            assert_eq!(heard.get(&worker), Some(&whole), "{worker} after so many connections: {session}");
        }
    }
}
