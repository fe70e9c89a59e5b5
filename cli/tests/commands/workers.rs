//! What concerns the workers of a cluster.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{Home, done, failed, fake_root::FakeRoot, finished};

fn worker(name: &str, scheduling: &str, instances: u64) -> Value {
    json!({
        "id": format!("id-{name}"), "name": name, "alive": true, "silent_ms": 340, "lost_after_ms": 1500,
        "loss_percent": 7, "scheduling": scheduling, "instances": instances,
        "free": {"cpu_millicores": 1500, "memory_mb": 512, "storage_mb": 10},
        "allocatable": {"cpu_millicores": 4000, "memory_mb": 2048, "storage_mb": 20},
    })
}

fn draining(instances: u64) -> (u16, Value) {
    (200, json!([worker("edge-1", "open", 3), worker("edge-2", "draining", instances)]))
}

fn away() -> (u16, Value) {
    (503, json!({"message": "the cluster is not connected"}))
}

fn telling(answers: Vec<(u16, Value)>) -> (FakeRoot, Home) {
    let root = FakeRoot::start();
    root.state().workers = answers.into();
    let home = Home::logged_in_to(&root);
    (root, home)
}

const BEGUN: &str = "north: it is begun (2 instances)\n";

#[test]
fn workers_are_listed_with_how_they_are() {
    let mut silent = worker("edge-9", "cordoned", 0);
    (silent["alive"], silent["silent_ms"]) = (json!(false), Value::Null);
    let (root, home) = telling(vec![(200, json!([silent, worker("edge-1", "open", 3)]))]);
    assert_eq!(
        home.run(&["get", "workers", "north"]),
        done(
            "NAME     ALIVE   SILENT   LOST AFTER   LOSS   SCHEDULING   INSTANCES   CPU FREE   MEMORY FREE\n\
             edge-1   yes     0.3s     1.5s         7 %    open         3           1.5/4.0    512/2048 MiB\n\
             edge-9   no      -        1.5s         7 %    cordoned     0           1.5/4.0    512/2048 MiB\n",
            ""
        )
    );
    assert_eq!(root.requests(), ["GET /api/cluster/north/workers"]);
    assert_eq!(home.run(&["get", "worker", "north", "-o", "name"]), done("north/edge-1\nnorth/edge-9\n", ""));
    root.state().workers.clear();
    assert_eq!(
        home.run(&["get", "workers", "a b"]),
        failed(
            1,
            "error: the root refused GET /api/cluster/a%20b/workers: there is no cluster `nowhere` (404)\n"
        )
    );
}

#[test]
fn a_drain_is_followed_until_nothing_is_left() {
    let (root, home) = telling(vec![draining(2), away(), draining(1), draining(0)]);
    assert_eq!(
        home.run(&["drain", "north/edge-2"]),
        done(
            "",
            &format!(
                "{BEGUN}north/edge-2  draining  2 instances left\n\
                 the root refused GET /api/cluster/north/workers: the cluster is not connected (503); trying again\n\
                 north/edge-2  draining  1 instance left\nnorth/edge-2  draining  0 instances left\n\
                 nothing is left on north/edge-2\n"
            )
        )
    );
    assert_eq!(root.requests()[0], "POST /api/cluster/north/worker/edge-2/drain");
}

#[test]
fn a_drain_that_does_not_end_says_what_to_do() {
    let (_root, home) = telling(vec![draining(1)]);
    assert_eq!(
        home.run(&["drain", "north/id-edge-2", "--timeout", "1s"]),
        failed(
            1,
            &format!(
                "{BEGUN}north/id-edge-2  draining  1 instance left\n\
                 error: worker north/id-edge-2 has 1 instance left after 1 s\n  \
                 hint: nothing else can take them, or they take long to start: `mangrove get workers north` shows \
                 what is free, `mangrove uncordon north/id-edge-2` ends the drain\n"
            )
        )
    );
}

#[test]
fn a_drain_that_somebody_ends_is_no_success() {
    let (_root, home) = telling(vec![draining(1)]);
    let drained = home.run(&["drain", "north/edge-1"]);
    assert_eq!(drained.code, 1);
    let told = "error: the drain was ended before it was done: worker north/edge-1 takes instances again and has 3 \
                instances\n";
    assert!(drained.stderr.ends_with(told), "{}", drained.stderr);
}

#[test]
fn interrupting_a_drain_leaves_it_going() {
    let (_root, home) = telling(vec![draining(1)]);
    let mut command = home.mangrove(&["drain", "north/edge-2"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("1 instance left")), "it ended before it was interrupted");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said: Vec<String> = lines.collect();
    assert_eq!(
        said,
        [
            "interrupted; the drain goes on: `mangrove get workers north` shows it, `mangrove uncordon north/edge-2` \
          ends it"
        ]
    );
    assert_eq!(finished(child.wait_with_output().unwrap()), failed(130, ""));
}

#[test]
fn the_other_wishes_are_passed_on() {
    let (root, home) = telling(vec![]);
    assert_eq!(home.run(&["cordon", "north/edge-1"]), done("", BEGUN));
    assert_eq!(home.run(&["uncordon", "north/a b/c"]), done("", BEGUN));
    assert_eq!(home.run(&["rebalance", "north"]), done("", BEGUN));
    assert_eq!(
        home.run(&["forget", "north/edge-1", "--yes"]),
        done("", "north: it is forgotten (2 instances)\n")
    );
    assert_eq!(home.run(&["drain", "north/edge-1", "--no-wait"]).code, 0);
    assert_eq!(
        root.requests(),
        [
            "POST /api/cluster/north/worker/edge-1/cordon",
            "POST /api/cluster/north/worker/a%20b%2Fc/uncordon",
            "POST /api/cluster/north/rebalance",
            "DELETE /api/cluster/north/worker/edge-1",
            "POST /api/cluster/north/worker/edge-1/drain",
        ]
    );
}

#[test]
fn what_is_no_worker_or_unconfirmed_is_not_sent() {
    let (root, home) = telling(vec![]);
    for text in ["edge-1", "north/", "/edge-1", "north/..", "../edge-1"] {
        let cordoned = home.run(&["cordon", text]);
        assert_eq!((cordoned.code, cordoned.stdout.as_str()), (2, ""), "{text}: {cordoned:?}");
    }
    assert_eq!(
        home.run(&["forget", "north/edge-1"]),
        failed(
            2,
            "error: forget worker north/edge-1 and what runs on it needs a confirmation, and there is no terminal to \
             ask on\n  hint: pass --yes\n"
        )
    );
    assert_eq!(root.requests(), Vec::<String>::new());
    assert_eq!(
        home.run(&["cordon", "north/stranger"]),
        failed(
            1,
            "error: the root refused POST /api/cluster/north/worker/stranger/cordon: the cluster has no worker \
             `stranger` (409)\n"
        )
    );
}
