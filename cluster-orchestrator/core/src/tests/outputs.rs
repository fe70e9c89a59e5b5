//! What attempts wrote: told once over a connection, and kept.

use model::{LastExit, Output};

use super::*;

/// A worker says that the instance has ended at `at` and wrote this.
fn ends(cluster: &mut Cluster, at: u64, output: Option<Output>) -> bool {
    let exit = LastExit { output, ..LastExit::new(0, Timestamp(at)) };
    let said = InstanceReport::new(instance(0), Generation(1), Phase::Completed, Timestamp(at));
    cluster.hear(1, InstanceReport { last_exit: Some(exit), ..said })
}

fn known(cluster: &Cluster) -> Option<Output> {
    cluster.reported(0).and_then(|report| report.last_exit).and_then(|exit| exit.output)
}

fn text(text: &str) -> Option<Output> {
    Some(Output::Text(text.into()))
}

fn withheld() -> Option<Output> {
    Some(Output::Withheld("is not on the device any more".to_owned()))
}

fn beginning() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(
        ServiceSpec { one_shot: true, single_attempt: true, ..small() },
        vec![wanted(0, Desired::Running)],
    );
    cluster.reconcile();
    cluster
}

#[test]
fn an_output_that_was_told_stays_known_for_the_same_end() {
    let mut cluster = beginning();
    assert!(ends(&mut cluster, 1, text("{}")));
    for later in [Some(Output::AsTold), withheld(), None] {
        assert!(!ends(&mut cluster, 1, later.clone()), "{later:?} is no news");
        assert_eq!(known(&cluster), text("{}"));
    }
    assert!(ends(&mut cluster, 2, withheld()), "another end is another");
    assert_eq!(known(&cluster), withheld());
    assert!(ends(&mut cluster, 2, text("[]")), "it was found");
    assert_eq!(known(&cluster), text("[]"));
}

#[test]
fn a_worker_that_relies_on_what_is_not_known_is_asked_to_tell_it_anew() {
    let mut cluster = beginning();
    cluster.say(1, 0, Phase::Running);
    cluster.reconcile();
    assert!(ends(&mut cluster, 1, Some(Output::AsTold)));
    assert_eq!(cluster.phase(0), Some(Phase::Running), "its end is not believed by halves");
    let effects = cluster.state.reconcile(cluster.now).effects;
    let session = cluster.session(1);
    assert!(
        effects.contains(&Effect::RequestReport { worker: worker(1), session, anew: true }),
        "{effects:?}"
    );
    assert!(ends(&mut cluster, 1, text("{}")));
    assert_eq!((cluster.phase(0), known(&cluster)), (Some(Phase::Completed), text("{}")));
    assert_eq!(cluster.state.reconcile(cluster.now).effects, []);
}
