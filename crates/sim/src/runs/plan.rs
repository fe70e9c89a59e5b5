//! The tasks of every run, and which containers a run takes. One succeeds, two follow, and a fourth waits for both; the second
//! sometimes fails and is tried again, and if it fails for good a fifth is there for it.

use model::Now;
use root_core::{Change, State};
use serde_json::{Value, json};
use workflow::{Rejected, RunId};

use crate::wishes::ORGANIZATION;

const IGNITOR: &str = "i";
/// Attempts of the second task.
const ATTEMPTS: u32 = 2;

fn document(kind: &str, name: &str, mut spec: Value) -> Value {
    if kind == "Task" {
        spec["template"] = json!({"spec": {"containers": [{"name": "c", "image": "tool"}]}});
    }
    json!({"apiVersion": workflow::API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Writes the tasks and their ignitor.
pub(super) fn write(brain: &State, now: Now) -> Result<Vec<Change>, String> {
    let tasks = [
        ("a", json!({"startOnIgnition": [IGNITOR]})),
        ("b", json!({"startOnSuccess": ["a"], "retry": {"limit": ATTEMPTS - 1}})),
        ("c", json!({"startOnSuccess": ["a"]})),
        ("d", json!({"startOnSuccess": ["b", "c"], "join": "all"})),
        ("e", json!({"startOnFailure": ["b"]})),
    ];
    let in_words = |causes: Vec<workflow::Cause>| causes.first().map(ToString::to_string).unwrap_or_default();
    let ignitor = document("Ignitor", IGNITOR, json!({}));
    let (_, mut changes) = brain.set_ignitor(ORGANIZATION, &ignitor, now).map_err(in_words)?;
    for (name, spec) in tasks {
        let (_, more) = brain.set_task(ORGANIZATION, &document("Task", name, spec)).map_err(in_words)?;
        changes.extend(more);
    }
    Ok(changes)
}

pub(super) fn fire(brain: &State, now: Now) -> Result<(RunId, Vec<Change>), Rejected> {
    brain.fire(ORGANIZATION, IGNITOR, None, now)
}

/// How a container ends, by the name of its attempt.
pub(super) fn exit_code(seed: u64, name: &str) -> i64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, mix);
    let is_second = name.split('-').nth(1) == Some("b");
    i64::from(is_second && (hash >> 32) % 10 < 3)
}

/// All that a run starts, by the names of their attempts.
pub(super) fn containers(seed: u64, run: RunId) -> Vec<String> {
    let named = |task: &str, attempt: u32| format!("{run}-{task}-1-0-{attempt}");
    let mut names = vec![named("a", 1), named("c", 1)];
    for attempt in 1..=ATTEMPTS {
        let name = named("b", attempt);
        let succeeds = exit_code(seed, &name) == 0;
        names.push(name);
        if succeeds {
            names.push(named("d", 1));
            return names;
        }
    }
    names.push(named("e", 1));
    names
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn runs_go_in_all_ways_there_are() {
        let ways: BTreeSet<usize> = (1..100).map(|run| containers(1, RunId(run)).len()).collect();
        assert_eq!(ways, BTreeSet::from([4, 5]));
        let is_given_up = |run: &u64| containers(1, RunId(*run)).iter().any(|name| name.contains("-e-"));
        assert!((1..100).any(|run| is_given_up(&run)) && !(1..100).all(|run| is_given_up(&run)));
    }
}
