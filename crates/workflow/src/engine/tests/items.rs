//! `forEach`, and outputs.

use model::Output;
use serde_json::json;

use super::*;
use crate::{ForEach, Items, Retry};

fn writing(output: &str) -> AttemptEnd {
    AttemptEnd { output: Some(Output::Text(output.into())), ..ended(0) }
}

fn each(items: Items, parallelism: u32) -> Option<ForEach> {
    Some(ForEach { items, parallelism })
}

#[test]
fn each_item_runs_and_the_next_is_given_the_outputs_of_all() {
    let mut world = World::new();
    let for_each = each(Items::Given(vec![json!("x"), json!({"y": 1}), json!(3)]), 2);
    world.task("train", TaskSpec { for_each, ..first() });
    world.task("serve", task(&["train"], &[]));
    world.fire("i");
    assert_eq!(world.names(), ["1-train-1-0-1", "1-train-1-1-1"], "two at once");
    assert_eq!(world.variable("1-train-1-1-1", "MANGROVE_ITEM"), "{\"y\":1}");
    assert_eq!(world.variable("1-train-1-1-1", "MANGROVE_ITEM_INDEX"), "1");
    world.end("1-train-1-1-1", writing("\"second\""));
    assert_eq!(world.names().last().map(String::as_str), Some("1-train-1-2-1"));
    world.end("1-train-1-0-1", writing("\"first\""));
    world.end("1-train-1-2-1", ended(0));
    let start = &world.started[&world.attempt("1-serve-1-0-1")];
    let inputs: Value = serde_json::from_str(&start.inputs).expect("JSON");
    assert_eq!(
        inputs,
        json!({"train": {"result": "success", "data": "", "output": ["first", "second", null]}})
    );
}

#[test]
fn an_item_that_fails_fails_the_task_when_all_have_ended() {
    let mut world = World::new();
    let for_each = each(Items::Given(vec![json!(1), json!(2)]), 10);
    let retry = Retry { limit: 1, ..Retry::default() };
    world.task("train", TaskSpec { for_each, retry, ..first() });
    let run = world.fire("i");
    world.end("1-train-1-0-1", ended(1));
    world.pass(1000);
    world.end("1-train-1-0-2", ended(1));
    assert_eq!(world.phase(run), RunPhase::Running);
    world.end("1-train-1-1-1", ended(0));
    assert_eq!(world.phase(run), RunPhase::Failed);
    let changes = world.workflow.retry(run, world.now).expect("something failed");
    world.turn(changes);
    assert_eq!(world.names()[3..], ["1-train-1-0-3"], "only the item that failed");
    world.end("1-train-1-0-3", ended(0));
    assert_eq!(world.phase(run), RunPhase::Succeeded);
}

#[test]
fn items_come_from_an_output_or_from_data() {
    for end in [writing("[1, 2]"), saying("[1, 2]")] {
        let mut world = World::new();
        world.task("list", first());
        let for_each = each(Items::From("list".to_owned()), 10);
        world.task("work", TaskSpec { for_each, ..task(&["list"], &[]) });
        world.fire("i");
        world.end("1-list-1-0-1", end);
        assert_eq!(world.names()[1..], ["1-work-1-0-1", "1-work-1-1-1"]);
    }
}

#[test]
fn no_items_are_done_at_once_and_no_list_is_a_failure() {
    for (data, phase) in [("[]", RunPhase::Succeeded), ("{}", RunPhase::Failed), ("", RunPhase::Failed)] {
        let mut world = World::new();
        world.task("list", first());
        let for_each = each(Items::From("list".to_owned()), 10);
        world.task("work", TaskSpec { for_each, ..task(&["list"], &[]) });
        let run = world.fire("i");
        world.end("1-list-1-0-1", saying(data));
        assert_eq!((world.phase(run), world.order.len()), (phase, 1), "{data}");
    }
}

#[test]
fn an_output_that_is_not_as_it_must_be_is_a_failure() {
    let long = format!("\"ok{}\"", "x".repeat(MAX_OUTPUT_BYTES));
    for (output, detail) in [
        (Some("\"ok\""), ""),
        (None, "it wrote no output, and its task says what it must be like"),
        (Some("\"no\""), "its output is not as it must be: it does not begin with \"ok\""),
        (Some("ok"), "its output is not JSON: expected value at line 1 column 1"),
        (Some(long.as_str()), "its output has 262148 bytes; all outputs of a task run may have 262144"),
    ]
    .map(|(text, detail)| (text.map(|text| Output::Text(text.into())), detail))
    .into_iter()
    .chain([
        (Some(Output::Withheld("has 1 bytes too many".to_owned())), "its output has 1 bytes too many"),
        (Some(Output::AsTold), "its output was told before, and is not known"),
    ]) {
        let mut world = World::new();
        world.task("one", TaskSpec { outputs: Some(json!("ok")), ..first() });
        let run = world.fire("i");
        world.end("1-one-1-0-1", AttemptEnd { output: output.clone(), ..ended(0) });
        let part = world.part(run, "one", 1);
        assert_eq!(part.detail, detail);
        assert_eq!(part.phase == TaskRunPhase::Succeeded, detail.is_empty(), "{output:?}");
    }
}

#[test]
fn data_is_cut_where_a_character_ends_and_has_no_nul() {
    let mut world = World::new();
    world.task("one", first());
    world.task("two", task(&["one"], &[]));
    world.fire("i");
    world.end("1-one-1-0-1", saying(&format!("\0a{}", "ä".repeat(4000))));
    let given = world.variable("1-two-1-0-1", "ORCA_DATA");
    assert_eq!((given.len(), given.starts_with("aä")), (4095, true));
}

#[test]
fn a_task_that_is_given_something_else_than_it_must_be_fails_without_a_start() {
    let mut world = World::new();
    world.task("one", TaskSpec { inputs: Some(json!("text")), ..first() });
    world.task("ill", task(&[], &["one"]));
    let run = world.fire("i");
    assert_eq!(world.names(), ["1-ill-1-0-1"]);
    let detail = "what it is given is not as it must be: it does not begin with \"text\"";
    assert_eq!(world.part(run, "one", 1).detail, detail);
}

#[test]
fn what_could_not_be_read_again_is_not_kept() {
    let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
    let mut world = World::new();
    world.task("one", first());
    world.task("ill", task(&[], &["one"]));
    world.task("each", TaskSpec { for_each: each(Items::From("i".to_owned()), 1), ..first() });
    world.ignitor("i", IgnitorSpec { data: deep.clone(), ..IgnitorSpec::by_hand() });
    let run = world.fire("i");
    assert_eq!(world.part(run, "each", 1).phase, TaskRunPhase::Failed);
    world.end("1-one-1-0-1", writing(&deep));
    assert_eq!(world.part(run, "one", 1).detail, "its output is nested deeper than 64");
    world.end("1-ill-1-0-1", AttemptEnd { exit: Exit::Code(1), ..writing(&deep) });
    world.restart_after(10);
    assert_eq!(world.phase(run), RunPhase::Failed);
}
