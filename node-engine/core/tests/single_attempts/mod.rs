//! Single attempts: never started again, and what they said and wrote is told with their end.

use model::{InstanceReport, Output, Phase, ServiceSpec};
use node_core::Settings;

use crate::world::{World, assignment, instance, running, spec};

#[test]
fn what_has_a_single_attempt_is_not_started_again_whatever_it_ended_with() {
    let mut world = World::new(Settings { overlay: false });
    let once = ServiceSpec { one_shot: true, single_attempt: true, ..spec() };
    world.assign(assignment(1, [running(0)], once));
    world.settle();
    let id = world.engine.keys().next().expect("one was made").clone();
    world.exit(&id, 137, false);
    assert_eq!(world.phase(0), Some(Phase::Running), "its end is told with its last words");
    world.rest();
    assert_eq!(world.phase(0), Some(Phase::Completed));
    let told = world.report(0).and_then(|report| report.last_exit).expect("told");
    assert!(told.tail.starts_with("the last words of"), "{told:?}");
    let code = |world: &mut World| world.report(0).and_then(|report| report.last_exit).map(|exit| exit.code);
    assert_eq!(code(&mut world), Some(137));
    world.pass(600_000);
    world.rest();
    world.snatch(&id, false);
    world.rest();
    assert_eq!((world.phase(0), code(&mut world)), (Some(Phase::Completed), Some(137)));
}

/// A device with `count` instances that have a single attempt, which wrote `text` and ended.
fn that_wrote(count: u32, text: &str) -> World {
    let mut world = World::new(Settings { overlay: false });
    let once = ServiceSpec { one_shot: true, single_attempt: true, ..spec() };
    world.assign(assignment(1, (0..count).map(running), once));
    world.settle();
    for number in 0..count {
        world.outputs.insert(instance(number), Output::Text(text.into()));
    }
    for id in world.engine.keys().cloned().collect::<Vec<_>>() {
        world.exit(&id, 0, false);
    }
    world.rest();
    world
}

fn output(world: &mut World, number: u32) -> Option<Output> {
    world.report(number).and_then(|report| report.last_exit).and_then(|exit| exit.output)
}

#[test]
fn an_output_is_told_in_full_once_over_each_connection() {
    let mut world = that_wrote(1, "{}");
    assert_eq!(output(&mut world, 0), Some(Output::Text("{}".into())));
    assert_eq!(output(&mut world, 0), Some(Output::AsTold));
    world.node.tell_anew();
    assert_eq!(output(&mut world, 0), Some(Output::Text("{}".into())));
}

#[test]
fn a_report_has_room_for_so_many_outputs_and_the_others_are_in_the_next() {
    let long = "x".repeat(Output::MAX_BYTES);
    let fit = u32::try_from(Output::BYTES_IN_A_REPORT / Output::MAX_BYTES).expect("a small number");
    let mut world = that_wrote(fit + 1, &long);
    let before = world.node.revision();
    let first = world.node.report();
    assert_eq!(first.instances.len(), usize::try_from(fit).expect("a small number"));
    assert!(world.node.revision() > before, "there is more to say");
    let second = world.node.report();
    let told = |report: &InstanceReport| report.last_exit.as_ref().and_then(|exit| exit.output.clone());
    let full: Vec<_> = second
        .instances
        .iter()
        .filter(|report| told(report) != Some(Output::AsTold))
        .map(|it| it.id)
        .collect();
    assert_eq!(full, [instance(fit)]);
    assert_eq!(second.instances.len(), first.instances.len() + 1);
}

#[test]
fn an_output_is_read_again_after_a_restart_and_withheld_when_it_is_gone() {
    let mut world = that_wrote(1, "{}");
    let kept = world.node.history().instances[0].past.last_exit.clone();
    assert_eq!(kept.and_then(|exit| exit.output), Some(Output::AsTold), "it is not kept twice");
    world.restart(None);
    world.rest();
    assert_eq!(output(&mut world, 0), Some(Output::Text("{}".into())));
    world.restart(None);
    let id = world.engine.keys().next().expect("it is there").clone();
    world.snatch(&id, true);
    world.rest();
    assert_eq!(world.phase(0), Some(Phase::Completed));
    let gone = Output::Withheld("is not on the device any more".to_owned());
    assert_eq!(output(&mut world, 0), Some(gone));
}

#[test]
fn last_words_that_were_still_to_be_read_are_read_by_the_next_node_engine() {
    let mut world = World::new(Settings { overlay: false });
    world.assign(assignment(1, [running(0)], ServiceSpec { one_shot: true, single_attempt: true, ..spec() }));
    world.settle();
    world.outputs.insert(instance(0), Output::Text("{}".into()));
    let id = world.engine.keys().next().expect("one was made").clone();
    world.exit(&id, 0, false);
    world.restart(None);
    assert_ne!(world.phase(0), Some(Phase::Completed), "nobody has looked for them");
    world.rest();
    let report = world.report(0).expect("reported");
    let wrote = report.last_exit.and_then(|exit| exit.output);
    assert_eq!((report.phase, wrote), (Phase::Completed, Some(Output::Text("{}".into()))));
}
