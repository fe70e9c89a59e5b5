//! What a container is given, and what was given by those before it.

use std::collections::BTreeMap;

use model::Output;
use serde_json::{Map, Value, json};

use super::{Heard, RunId, Source, TaskRun, Told, Workflow};

/// Bytes of the variable with all inputs. Linux starts no process with a longer one than 128 KiB.
const MOST_INPUT_BYTES: usize = 96 << 10;
/// Where a container finds its inputs.
const INPUTS_FILE: &str = "/mangrove/inputs.json";

impl Workflow {
    /// The variables of an attempt, and the content of its file of inputs.
    pub(super) fn environment(&self, task_run: &TaskRun, item: u32) -> (BTreeMap<String, String>, String) {
        let run = task_run.id.run;
        let index = usize::try_from(item).unwrap_or(usize::MAX);
        let attempt = task_run.items.get(index).map_or(0, |item| item.attempts);
        let mut variables = task_run.spec.container.environment.clone();
        let mut give = |name: &str, value: String| _ = variables.insert(name.to_owned(), value);
        give("ORCA_INITIATOR", task_run.initiator.source.name().to_owned());
        give("ORCA_DATA", self.data_of(run, &task_run.initiator));
        give("MANGROVE_RUN_ID", run.to_string());
        give("MANGROVE_TASK", task_run.id.task.clone());
        give("MANGROVE_ATTEMPT", attempt.to_string());
        give("MANGROVE_INPUTS", self.short_inputs(task_run));
        give("MANGROVE_INPUTS_FILE", INPUTS_FILE.to_owned());
        give("MANGROVE_OUTPUT", Output::FILE.to_owned());
        if let Some(value) = task_run.items.get(index).and_then(|item| item.value.as_ref()) {
            give("MANGROVE_ITEM", value.to_string());
            give("MANGROVE_ITEM_INDEX", item.to_string());
        }
        (variables, self.inputs(task_run).to_string())
    }

    /// All that is known of those who started it, by their names.
    pub(super) fn inputs(&self, task_run: &TaskRun) -> Value {
        let run = task_run.id.run;
        let input = |heard: &Heard| {
            let told = match heard.told {
                Told::Fired => "fired",
                Told::Success => "success",
                Told::Failure => "failure",
            };
            json!({"result": told, "data": self.data_of(run, heard), "output": self.output_of(run, heard)})
        };
        by_name(task_run, input)
    }

    /// The data of those who started it, by their names; null where they are too long together, the longest first.
    fn short_inputs(&self, task_run: &TaskRun) -> String {
        let run = task_run.id.run;
        let Value::Object(mut inputs) = by_name(task_run, |heard| Value::String(self.data_of(run, heard)))
        else {
            return String::new();
        };
        loop {
            let text = Value::Object(inputs.clone()).to_string();
            let longest = inputs.values_mut().max_by_key(|value| value.as_str().map_or(0, str::len));
            match longest {
                Some(longest) if text.len() > MOST_INPUT_BYTES && longest.is_string() => {
                    *longest = Value::Null
                }
                Some(_) | None => return text,
            }
        }
    }

    /// What was said at its end by who was heard of: a text.
    pub(super) fn data_of(&self, run: RunId, heard: &Heard) -> String {
        match &heard.source {
            Source::Ignitor(_) => self.runs.get(&run).map(|run| run.data.clone()).unwrap_or_default(),
            Source::Task(_) => {
                // Of several items there is no one text.
                let only = self.heard_of(run, heard).filter(|part| part.spec.for_each.is_none());
                let outcome = only.and_then(|part| part.items.first()).and_then(|item| item.outcome.as_ref());
                outcome.map(|outcome| outcome.data.clone()).unwrap_or_default()
            }
        }
    }

    /// What was written by who was heard of; of several items a list with null for those that wrote nothing.
    pub(super) fn output_of(&self, run: RunId, heard: &Heard) -> Option<Value> {
        let part = self.heard_of(run, heard)?;
        let output = |item: &super::Item| item.outcome.as_ref().and_then(|outcome| outcome.output.clone());
        if part.spec.for_each.is_none() {
            return part.items.first().and_then(output);
        }
        Some(Value::Array(part.items.iter().map(|item| output(item).unwrap_or_default()).collect()))
    }
}

/// A task comes after an ignitor of the same name, and takes its place.
fn by_name(task_run: &TaskRun, value: impl Fn(&Heard) -> Value) -> Value {
    let mut named = Map::new();
    let (fired, ended): (Vec<&Heard>, Vec<&Heard>) =
        task_run.inputs.iter().partition(|heard| heard.told == Told::Fired);
    for heard in fired.into_iter().chain(ended) {
        named.insert(heard.source.name().to_owned(), value(heard));
    }
    Value::Object(named)
}
