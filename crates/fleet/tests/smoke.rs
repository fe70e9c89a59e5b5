//! A small fleet does what a large one is measured doing.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use fleet::{
    control::PASSWORD,
    events::{Event, Status},
    ingest,
};
use serde_json::{Value, json};

const WORKERS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// A program of this crate; killed when dropped.
struct Program {
    child: Child,
    commands: ChildStdin,
    events: Receiver<Event>,
}

impl Program {
    fn start(path: &str, folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(path);
        command.arg("--folder").arg(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it was built");
        let output = child.stdout.take().expect("piped");
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let event = serde_json::from_str(&line.expect("text")).expect("an event");
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let commands = child.stdin.take().expect("piped");
        Self { child, commands, events }
    }

    fn control(folder: &Path) -> Self {
        Self::start(env!("CARGO_BIN_EXE_fleet-control"), folder, &["--clusters", "2"])
    }

    fn workers(folder: &Path) -> Self {
        let arguments = ["--workers", "20", "--report-millis", "200"];
        Self::start(env!("CARGO_BIN_EXE_fleet-workers"), folder, &arguments)
    }

    /// The first answer to an event; what was told instead if there is none in time.
    fn wait<T>(&self, what: &str, mut ask: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut last = VecDeque::new();
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => match ask(&event) {
                    Some(answer) => return answer,
                    None => last.push_back(event),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("waited in vain until {what}: {:?}", last.back())
                }
            }
            last.truncate(1);
        }
    }

    fn ready(&self) -> String {
        self.wait("the fleet is ready", |event| match event {
            Event::Ready { api } => Some(format!("http://{api}")),
            Event::Status(_) | Event::Arrived { .. } | Event::Attached { .. } | Event::Ingest(_) => None,
        })
    }

    fn status(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        self.wait(what, |event| match event {
            Event::Status(status) => is_so(status).then_some(*status),
            Event::Ready { .. } | Event::Arrived { .. } | Event::Attached { .. } | Event::Ingest(_) => None,
        })
    }

    fn say(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("it listens");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it can be killed");
    }
}

struct Api {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    base: String,
    bearer: String,
}

impl Api {
    fn log_in(base: String) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut api = Self { runtime, client: fleet::control::http_client(), base, bearer: String::new() };
        let answer = api.post("/api/auth/login", &json!({"username": "Admin", "password": PASSWORD}));
        api.bearer = answer["token"].as_str().expect("a token").to_owned();
        api
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let request = self
            .client
            .post(format!("{}{path}", self.base))
            .header("content-type", "application/json")
            .bearer_auth(&self.bearer)
            .body(body.to_string());
        let text = self.runtime.block_on(async {
            let answer = request.send().await.expect("an answer").error_for_status().expect("a success");
            answer.text().await.expect("a body")
        });
        serde_json::from_str(&text).expect("JSON")
    }

    fn create_service(&self) -> String {
        let sla = json!({
            "sla_version": "v2.0", "customerID": "Admin",
            "applications": [{
                "applicationID": "", "application_name": "fleet", "application_namespace": "test",
                "application_desc": "",
                "microservices": [{
                    "microserviceID": "", "microservice_name": "load", "microservice_namespace": "test",
                    "virtualization": "container", "code": "image", "memory": 32, "vcpus": 0,
                }],
            }],
        });
        self.post("/api/application", &sla)[0]["microservices"][0].as_str().expect("an id").to_owned()
    }
}

#[test]
fn a_small_fleet_places_instances_and_comes_back_after_a_kill_with_nothing_changed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let control = Program::control(folder.path());
    let api = Api::log_in(control.ready());
    let mut workers = Program::workers(folder.path());
    workers.status("all are connected", |status| status.connected == WORKERS);
    let service = api.create_service();
    workers.say("each");
    // The first cluster that reports workers has room; the rest is placed as others do.
    api.post(&format!("/api/service/{service}/scale"), &json!({"instances": 2 * WORKERS}));
    workers.wait("an arrival is told", |event| match event {
        Event::Arrived { service: of, number, at_nanos } => {
            assert!(*of == service && u64::from(*number) < 2 * WORKERS && *at_nanos > 0, "{event:?}");
            Some(())
        }
        Event::Ready { .. } | Event::Status(_) | Event::Attached { .. } | Event::Ingest(_) => None,
    });
    workers.say("bulk");
    let placed = workers.status("all have their orders", |status| status.instances == 2 * WORKERS);
    assert_eq!((placed.duplicates, placed.went_back), (0, 0));

    workers.say("mark");
    drop(control);
    workers.status("the cut is noticed", |status| status.connected < WORKERS);
    let control = Program::control(folder.path());
    control.ready();
    workers.status("all are back", |status| status.connected == WORKERS);
    // Some reports later whatever would be told anew has been.
    let reports = workers.status("a report", |_| true).reports;
    let after = workers.status("reports go on", |status| status.reports > reports + 5 * WORKERS);
    assert_eq!((after.duplicates, after.went_back), (0, 0));
    assert_eq!((after.instances, after.changing), (placed.instances, placed.changing));
    workers.say("attached");
    let count = workers.wait("times are told", |event| match event {
        Event::Attached { count, last_millis, .. } => {
            assert!(*last_millis > 0.0);
            Some(*count)
        }
        Event::Ready { .. } | Event::Status(_) | Event::Arrived { .. } | Event::Ingest(_) => None,
    });
    assert!(count as u64 >= WORKERS, "{count}");
}

#[test]
fn reports_that_are_measured_end_up_in_the_state() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store.sqlite");
    let arguments = ["--workers", "20", "--reports", "20", "--rounds", "1"];
    let options = ingest::Options::parse_from(
        ["fleet-ingest", "--store", store.to_str().expect("text")].into_iter().chain(arguments),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let measured = runtime.block_on(ingest::measure(&options)).expect("every report is found in the state");
    assert_eq!((measured.applied.len(), measured.decoded.len()), (1, 1));
    assert!((100.0..250.0).contains(&measured.bytes_per_report), "{}", measured.bytes_per_report);
    assert!(measured.applied[0] < measured.decoded[0], "{measured:?}");
}
