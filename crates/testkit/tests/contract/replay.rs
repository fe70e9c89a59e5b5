//! Asks a live root what Oakestra's was asked, in the same order, and compares status and shape.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::{Client, Method};
use root_orchestrator::HooksConfig;
use serde_json::Value;
use testkit::{Cluster, Root, Worker, wait_until};

use super::{
    recording::{Ask, Difference, Exchange, Intended, Step, intended, steps},
    shape::{lacking, part},
};

/// As the root of the tests has it.
const PASSWORD: &str = "correct horse";
/// Any page may ask.
const ORIGIN: &str = "http://dashboard.example";

/// How an answer compares with the recorded one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    AsRecorded,
    OtherStatus(u16),
    Lacks(BTreeSet<String>),
    NotEncodedTwice,
}

/// What the live root answered.
#[derive(Debug)]
struct Live {
    status: u16,
    /// Decoded, twice if it was encoded twice.
    body: Value,
    twice: bool,
    /// What is wrong with it whatever was asked.
    faults: Vec<String>,
}

struct Replay {
    root: Root,
    client: Client,
    /// What stands for names in braces.
    known: BTreeMap<String, String>,
    members: Vec<(Cluster, Worker)>,
    problems: Vec<String>,
}

#[tokio::test]
async fn what_oakestra_answered_is_answered_here_but_for_what_is_listed() {
    let intended = intended();
    let mut replay = Replay {
        // The recorded hooks lead to the device itself.
        root: Root::start_with_hooks(HooksConfig {
            hook_allow: vec!["127.0.0.1/32".parse().expect("a range")],
            ..HooksConfig::default()
        })
        .await,
        client: Client::new(),
        known: [("password".to_owned(), PASSWORD.to_owned())].into(),
        members: Vec::new(),
        problems: Vec::new(),
    };
    let mut unused: BTreeSet<&String> = intended.names().collect();
    for step in steps() {
        match step {
            Step::Exchange(exchange) => {
                unused.remove(&exchange.name);
                replay.compare(&exchange, &intended).await;
            }
            Step::Join { join } => {
                let cluster = replay.root.cluster(&join).await;
                let worker = cluster.worker(&replay.root.api, "worker").await;
                replay.members.push((cluster, worker));
            }
            Step::Ask(ask) => replay.prepare(&ask).await,
        }
    }
    replay
        .problems
        .extend(unused.into_iter().map(|name| format!("{name}: listed, and nothing recorded has that name")));
    let explained = intended.differences.iter().all(|difference| difference.because.len() > 10);
    assert!(explained, "a difference has no reason");
    assert!(
        replay.problems.is_empty(),
        "{} problems:\n{}",
        replay.problems.len(),
        replay.problems.join("\n")
    );
}

impl Intended {
    fn names(&self) -> impl Iterator<Item = &String> {
        let differences = self.differences.iter().flat_map(|difference| &difference.exchanges);
        differences.chain(&self.not_yet.paths).chain(&self.not_yet.people)
    }

    fn difference(&self, name: &str) -> Option<&Difference> {
        self.differences.iter().find(|difference| difference.exchanges.iter().any(|listed| listed == name))
    }
}

impl Difference {
    /// What the answer is to be without a token, or with the one that was recorded.
    fn verdict(&self) -> Verdict {
        if self.needs_token { Verdict::OtherStatus(401) } else { self.verdict_once_let_in() }
    }

    /// What it is to be with the token that it takes.
    fn verdict_once_let_in(&self) -> Verdict {
        match self.status {
            Some(status) => Verdict::OtherStatus(status),
            None if self.missing.is_empty() => Verdict::AsRecorded,
            None => Verdict::Lacks(self.missing.clone()),
        }
    }
}

impl Exchange {
    fn verdict(&self, live: &Live) -> Verdict {
        if live.status != self.status {
            return Verdict::OtherStatus(live.status);
        }
        if self.twice && !live.twice {
            return Verdict::NotEncodedTwice;
        }
        let lacks = self.answer.as_ref().map(|shape| lacking(shape, &live.body)).unwrap_or_default();
        if lacks.is_empty() { Verdict::AsRecorded } else { Verdict::Lacks(lacks) }
    }
}

impl Live {
    fn is_served(&self) -> bool {
        self.body["error"] != "no_such_path" && self.body["error"] != "no_such_method"
    }
}

impl Replay {
    async fn compare(&mut self, exchange: &Exchange, intended: &Intended) {
        let name = &exchange.name;
        let live = self.ask(exchange, &exchange.caller).await;
        self.learn(&exchange.learn, &live.body);
        let verdict = exchange.verdict(&live);
        let mut faults = live.faults.clone();
        let lists = [intended.not_yet.paths.contains(name), intended.not_yet.people.contains(name)];
        match (intended.difference(name), lists) {
            (None, [false, false]) if verdict == Verdict::AsRecorded => {}
            (None, [false, false]) => faults.push(format!("{verdict:?}, and no difference is listed")),
            (Some(difference), [false, false]) => {
                let expected = difference.verdict();
                if verdict != expected {
                    faults.push(format!("{verdict:?}, but listed is {expected:?}"));
                }
                if difference.needs_token {
                    let live = self.ask(exchange, "admin").await;
                    self.learn(&exchange.learn, &live.body);
                    let (verdict, expected) = (exchange.verdict(&live), difference.verdict_once_let_in());
                    if verdict != expected {
                        let body = &live.body;
                        faults.push(format!("with a token {verdict:?}, but listed is {expected:?}: {body}"));
                    }
                }
            }
            (None, [true, false]) if !live.is_served() => {}
            (None, [true, false]) => faults.push("served now: take it off `not_yet`".to_owned()),
            (None, [false, true]) if verdict != Verdict::AsRecorded => {}
            (None, [false, true]) => faults.push("as recorded now: take it off `not_yet`".to_owned()),
            _ => faults.push("listed more than once".to_owned()),
        }
        let asked = format!("{} {}", exchange.method, exchange.path);
        let told = faults
            .into_iter()
            .map(|fault| format!("{name} ({asked}): {fault}: {} {}", live.status, live.body));
        self.problems.extend(told);
    }

    async fn prepare(&mut self, ask: &Ask) {
        let exchange = Exchange {
            name: String::new(),
            caller: "admin".to_owned(),
            method: ask.method.clone(),
            path: ask.path.clone(),
            body: ask.body.clone(),
            text: None,
            status: 200,
            answer: None,
            twice: false,
            learn: BTreeMap::new(),
        };
        let body = match &ask.until {
            None => self.ask(&exchange, "admin").await.body,
            Some(until) => {
                let reached = async || {
                    let body = self.ask(&exchange, "admin").await.body;
                    if part(&body, &until.at) == Some(&until.is) { Ok(body) } else { Err(body.to_string()) }
                };
                wait_until(&exchange.path, reached).await
            }
        };
        self.learn(&ask.learn, &body);
    }

    fn learn(&mut self, parts: &BTreeMap<String, String>, body: &Value) {
        for (name, path) in parts {
            if let Some(text) = part(body, path).and_then(Value::as_str) {
                self.known.insert(name.clone(), text.to_owned());
            }
        }
    }

    fn filled(&self, text: &str) -> String {
        let fill =
            |text: String, (name, value): (&String, &String)| text.replace(&format!("{{{name}}}"), value);
        self.known.iter().fold(text.to_owned(), fill)
    }

    async fn ask(&self, exchange: &Exchange, caller: &str) -> Live {
        let method = Method::from_bytes(exchange.method.as_bytes()).expect("a method");
        let url = format!("{}{}", self.root.api.base(), self.filled(&exchange.path));
        let mut request = self.client.request(method, url).header("origin", ORIGIN);
        if caller == "garbage" {
            request = request.bearer_auth("garbage");
        } else if let Some(token) = self.known.get(&format!("{caller} token")) {
            request = request.bearer_auth(token);
        }
        let body =
            exchange.body.as_ref().map(|body| self.filled(&body.to_string())).or(exchange.text.clone());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await.expect("the root answers");
        let origin = answer.headers().get("access-control-allow-origin").cloned();
        let status = answer.status().as_u16();
        let mut live = read(status, &answer.text().await.expect("a whole body"));
        if origin.is_none_or(|origin| origin != ORIGIN) {
            live.faults.push("a page of another origin may not read it".to_owned());
        }
        live
    }
}

/// Clients take 200, or 201 for what is new, and JSON for success and nothing else, and show the `message` of what is none.
fn read(status: u16, text: &str) -> Live {
    let mut faults = Vec::new();
    let mut body: Value = serde_json::from_str(text).unwrap_or_else(|error| {
        faults.push(format!("no JSON: {error}"));
        Value::String(text.to_owned())
    });
    let inner = body.as_str().and_then(|text| serde_json::from_str(text).ok());
    let twice = inner.is_some();
    body = inner.unwrap_or(body);
    match status {
        200 | 201 => {}
        400..=499 => {
            if body["code"] != status || body["message"].as_str().is_none_or(str::is_empty) {
                faults.push("a refusal without `code` or `message`".to_owned());
            }
        }
        _ => faults.push("neither 200 or 201 nor a refusal".to_owned()),
    }
    Live { status, body, twice, faults }
}
