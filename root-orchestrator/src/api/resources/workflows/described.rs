//! What clients are told of the fields of tasks, ignitors, runs and plugins (`kubectl explain`). What is refused is decided by
//! who reads them, in `crates/workflow/src/spec`; a test here sees to it that none of its fields is forgotten.

use root_core::WorkflowKind;
use serde_json::{Map, Value, json};

/// All of a kind.
pub(super) fn described(of: WorkflowKind) -> Value {
    let (description, spec, status) = match of {
        WorkflowKind::Task => {
            ("Runs a container to its end when what starts it happens.", task(), Some(task_status()))
        }
        WorkflowKind::Ignitor => ("Says when something begins.", ignitor(), Some(ignitor_status())),
        WorkflowKind::Run => (
            "What followed from one firing of an ignitor. Creating one fires the ignitor.",
            run(),
            Some(run_status()),
        ),
        WorkflowKind::Plugin => (
            "Is asked, by POST, to do what tasks name as an action and the root does not do by itself.",
            plugin(),
            None,
        ),
    };
    let mut described = object(description, [("spec", spec)]);
    described["required"] = json!(["spec"]);
    if let Some(status) = status {
        described["properties"]["status"] = status;
    }
    described
}

fn task() -> Value {
    let span = "such as 90s, 5m or 2h";
    let container = object(
        "The container.",
        [
            ("name", text("What it is called here.")),
            ("image", text("What it is made of.")),
            ("command", texts("The program; the image's entrypoint if left out.")),
            ("args", texts("Its arguments; the image's if left out.")),
            ("env", list("Variables.", object("A variable.", [("name", text("")), ("value", text(""))]))),
            ("resources", any("What it reserves: `requests` or `limits`, each with `cpu` and `memory`.")),
        ],
    );
    let backoff = object(
        "How long it waits before another attempt.",
        [
            ("initial", text(&format!("Before the first of them, {span}; a second if left out."))),
            ("factor", number("So many times as long before each further one, from 1 to 10; 2 if left out.")),
            ("max", text("At most so long; 5m if left out.")),
        ],
    );
    let containers = [("containers", list("One container.", container)), ("restartPolicy", text("Never."))];
    let template = [
        ("metadata", any("As in a template of Kubernetes; labels are heeded nowhere.")),
        ("spec", object("What runs.", containers)),
    ];
    let history = [
        ("successful", number("Runs in which it succeeded.")),
        ("failed", number("Runs in which it failed.")),
    ];
    let retry = [
        ("limit", number("Further attempts after one that failed; none if left out.")),
        ("backoff", backoff),
        ("onExitCodes", list("Only after these exit codes, and after none.", number("From 1 to 255."))),
    ];
    let for_each = [
        ("items", list("The items.", any("Any JSON."))),
        ("from", text("Or the task or ignitor that gave a list.")),
        ("parallelism", number("At most so many at a time.")),
    ];
    let actions = "a plugin by its name, or an object with one of `plugin`, `webhook`, `runTask`, `restartService`, \
                   `scaleService`, `rollbackService`, `setStatus`, `writeEvent`";
    let schema = |what: &str| object(what, [("schema", any("JSON Schema."))]);
    object(
        "What runs, after what, and what follows.",
        [
            ("description", text("For people.")),
            ("startOnIgnition", texts("Ignitors that start it.")),
            ("startOnSuccess", texts("Tasks that start it when they succeed.")),
            ("startOnFailure", texts("Tasks that start it when they fail.")),
            (
                "join",
                any(
                    "`any` of those starts it, as if left out; `all` do when all have come; or {expression: …}.",
                ),
            ),
            ("when", text("A condition at the start; else the task is skipped, and nothing follows.")),
            ("template", object("What runs.", template)),
            ("retry", object("Whether it is tried again.", retry)),
            ("timeout", text(&format!("Of one attempt, from when it is wanted, {span}; 24h if left out."))),
            (
                "concurrency",
                word(
                    &["allow", "skip", "queue", "replace"],
                    "While a run of the task is under way; allow if left out.",
                ),
            ),
            ("forEach", object("One instance for each item.", for_each)),
            ("inputs", schema("What it must be given.")),
            ("outputs", schema("What it must write to the file $MANGROVE_OUTPUT.")),
            (
                "placement",
                object(
                    "Where it may run.",
                    [
                        ("constraints", list("Those of a service.", any("One."))),
                        ("arch", texts("Architectures, as images name them.")),
                    ],
                ),
            ),
            ("historyLimits", object("How many runs are kept, 10 each if left out.", history)),
            ("maxHops", number("Starts that may follow from each other until this one; 100 if left out.")),
            ("successActions", list(&format!("What is done when it has succeeded: {actions}."), any("One."))),
            (
                "failureActions",
                list(&format!("What is done when it has failed for good: {actions}."), any("One.")),
            ),
        ],
    )
}

fn task_status() -> Value {
    object(
        "How it is; written by the root.",
        [
            ("state", word(&["Pending", "Running"], "Whether it runs.")),
            ("lastSuccess", date("When it last succeeded.")),
            ("lastFailure", date("When it last failed.")),
            ("failuresCount", number("Failures in a row.")),
            ("observedGeneration", number("Which generation of it that is about.")),
            ("conditions", list("TriggersFound: whether all that it lists is there.", any("A condition."))),
        ],
    )
}

fn ignitor() -> Value {
    let catch_up = [
        ("policy", word(&["skip", "one", "all"], "None, the last, or all of them.")),
        ("window", text("Of those so long ago at most; 1h if left out.")),
    ];
    let selector = [
        ("event", text("What happens, such as instance.failed.")),
        ("kind", text("To what kind of thing.")),
        ("name", text("To which.")),
        ("labels", any("To one that has these labels.")),
    ];
    object(
        "When it fires.",
        [
            ("description", text("For people.")),
            (
                "scheduled",
                text("NOW, a date of RFC 3339, or a cron expression of five fields; by hand if left out."),
            ),
            ("timeZone", text("Of the cron expression, by its name in the IANA database; UTC if left out.")),
            ("data", text("What the tasks that it starts are given.")),
            ("jitter", text("It fires up to so much later.")),
            ("catchUp", object("What is made up for that was missed while the root was away.", catch_up)),
            (
                "overlap",
                word(
                    &["allow", "skip", "queue", "replace"],
                    "While a run of it is in progress; allow if left out.",
                ),
            ),
            ("suspend", flag("Whether it fires by hand only.")),
            (
                "webhook",
                object(
                    "It fires when somebody calls who signs with a secret.",
                    [("secret", text("The secret of the organisation."))],
                ),
            ),
            ("on", list("It fires at these events.", object("All that is said must be so.", selector))),
        ],
    )
}

fn ignitor_status() -> Value {
    object(
        "How it is; written by the root.",
        [
            ("state", word(&["Active", "Suspended", "Completed"], "Whether it will fire.")),
            ("fired", number("How often it has fired.")),
            ("lastFired", date("When last.")),
            ("skipped", number("How often it did not, as a run was in progress or events came too fast.")),
            ("missed", number("How often it did not, as the root was away.")),
            ("message", text("Why it skips events.")),
            ("next", list("The next times.", date(""))),
            ("observedGeneration", number("Which generation of it that is about.")),
        ],
    )
}

fn run() -> Value {
    let mut retries = number("Add one to have what failed in it tried again.");
    (retries["minimum"], retries["maximum"]) = (json!(0), json!(1_000_000));
    let mut run = object(
        "Which ignitor fired, and what is asked of the run since.",
        [
            ("ignitor", text("The ignitor that fired.")),
            ("data", text("What its first tasks are given; the ignitor's if left out.")),
            ("cancel", flag("Set it to true to stop all of the run.")),
            ("retries", retries),
        ],
    );
    run["required"] = json!(["ignitor"]);
    run
}

fn run_status() -> Value {
    let part = [
        ("name", text("Of the task.")),
        ("round", number("How often it was started in this run until then.")),
        ("phase", text("Queued, Running, Succeeded, Failed, TimedOut, Cancelled or Skipped.")),
        ("since", date("Since when.")),
        ("detail", text("Why it is so.")),
        ("after", list("What started it.", any("A task or an ignitor, and how it ended."))),
        ("attempts", number("How many there were.")),
        ("exitCode", number("Of the last one.")),
        ("handled", flag("Whether another task was there for its failure.")),
        ("actions", any("How many of its actions were taken, wait or were given up, and why.")),
        ("items", any("With forEach: how many items ended how.")),
    ];
    object(
        "How it goes; written by the root.",
        [
            ("phase", text("Queued, Running, Cancelling, Succeeded, Failed or Cancelled.")),
            ("since", date("Since when.")),
            ("finished", date("When it was over.")),
            ("cause", any("Why it began: a schedule, a hand, a call from outside, or an event and to what.")),
            ("reason", text("Why it failed, in a word.")),
            ("message", text("Why it failed.")),
            ("tasks", list("What was started in it, the last 200.", object("A start of a task.", part))),
            ("omittedTasks", number("How many there were before those.")),
        ],
    )
}

fn plugin() -> Value {
    let (mut url, mut secret) =
        (text("Where; http or https."), text("The secret of the organisation that calls are signed with."));
    url["maxLength"] = json!(2048);
    (secret["minLength"], secret["maxLength"]) = (json!(1), json!(63));
    let mut plugin = object("Whom the root asks.", [("url", url), ("secret", secret)]);
    plugin["required"] = json!(["url"]);
    plugin
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn word(words: &[&str], description: &str) -> Value {
    json!({"type": "string", "enum": words, "description": description})
}

fn number(description: &str) -> Value {
    json!({"type": "integer", "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

fn date(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

fn list(description: &str, items: Value) -> Value {
    json!({"type": "array", "items": items, "description": description})
}

fn texts(description: &str) -> Value {
    list(description, json!({"type": "string"}))
}

fn object<const N: usize>(description: &str, fields: [(&str, Value); N]) -> Value {
    let fields: Map<String, Value> =
        fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect();
    json!({"type": "object", "description": description, "properties": fields})
}

/// What may be of several types.
fn any(description: &str) -> Value {
    json!({super::PRESERVE: true, "description": description})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::Timestamp;

    use super::*;

    #[test]
    fn every_field_that_is_read_is_described() {
        for (of, kind) in [(WorkflowKind::Task, "Task"), (WorkflowKind::Ignitor, "Ignitor")] {
            let document = json!({
                "apiVersion": workflow::API_VERSION, "kind": kind, "metadata": {"name": "one"},
                "spec": {"no field has such a name": 1},
            });
            let causes = of.check(&document, None, Timestamp(0)).expect_err("it is unknown");
            let said = causes.iter().find_map(|cause| cause.message.split_once("there are "));
            let read: BTreeSet<&str> = said.expect("it says which there are").1.split(", ").collect();
            let described = described(of);
            let fields = described["properties"]["spec"]["properties"].as_object().expect("fields");
            assert_eq!(read, fields.keys().map(String::as_str).collect(), "{kind}");
        }
    }
}
