//! Follows the services of applications through the root's event stream, across lost connections.

use std::{sync::Arc, time::Duration};

use serde::Deserialize as _;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet, time};

use crate::{
    client::{Client, Stream},
    error::Error,
    objects::Service,
    sse,
};

/// The root says something every 15 s; a stream silent for two of these is dead. A new one begins with the state of
/// everything, so nothing is missed.
const LONGEST_SILENCE: Duration = Duration::from_secs(35);
/// Between two attempts to connect; doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// Reports that wait to be looked at: more than the services of any sensible application.
const WAITING_REPORTS: usize = 64;

/// What the root says while applications are watched.
#[derive(Debug)]
pub(crate) enum Report {
    /// A service as it is now.
    Service(Box<Service>),
    /// The service of this id is gone.
    Deleted(String),
    /// The connection is lost and will be made again.
    Lost(String),
    /// Watching has become impossible.
    Failed(Error),
}

/// Reports about applications; ends the watching when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    reports: mpsc::Receiver<Report>,
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Watches the applications of these ids. Begins with the state of every service.
    pub(crate) fn of(client: &Arc<Client>, application_ids: impl IntoIterator<Item = String>) -> Self {
        let (sender, reports) = mpsc::channel(WAITING_REPORTS);
        let mut tasks = JoinSet::new();
        for id in application_ids {
            tasks.spawn(follow(client.clone(), id, sender.clone()));
        }
        Self { reports, _tasks: tasks }
    }

    /// The next report; `None` once every application has told of its failure. Safe to drop while waiting.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        self.reports.recv().await
    }
}

async fn follow(client: Arc<Client>, application_id: String, reports: mpsc::Sender<Report>) {
    let path = format!("/api/watch?application={application_id}");
    let mut pause = RETRY.0;
    let mut told = false;
    loop {
        let problem = match client.stream(&path).await {
            Ok(stream) => {
                (pause, told) = (RETRY.0, false);
                match forward(stream, &reports).await {
                    Ok(()) => None,
                    Err(Stopped::NobodyListens) => return,
                    Err(Stopped::Stream(error)) => Some(error),
                }
            }
            Err(error) => Some(error),
        };
        let report = match problem {
            None => None,
            Some(error) if error.is_passing() => (!told).then(|| Report::Lost(error.to_string())),
            Some(error) => {
                drop(reports.send(Report::Failed(error)).await);
                return;
            }
        };
        if let Some(report) = report {
            told = true;
            if reports.send(report).await.is_err() {
                return;
            }
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

enum Stopped {
    NobodyListens,
    Stream(Error),
}

/// Forwards until the stream ends or falls silent.
async fn forward(mut stream: Stream, reports: &mpsc::Sender<Report>) -> Result<(), Stopped> {
    let mut parser = sse::Parser::default();
    loop {
        let Ok(chunk) = time::timeout(LONGEST_SILENCE, stream.chunk()).await else { return Ok(()) };
        let Some(chunk) = chunk.map_err(Stopped::Stream)? else { return Ok(()) };
        let events = parser
            .push(&chunk)
            .map_err(|sse::TooLarge| Stopped::Stream(stream.nonsense("an event has no end".to_owned())))?;
        for event in events {
            if let Some(report) = read(&event).map_err(|detail| Stopped::Stream(stream.nonsense(detail)))? {
                reports.send(report).await.map_err(|_| Stopped::NobodyListens)?;
            }
        }
    }
}

fn read(event: &sse::Event) -> Result<Option<Report>, String> {
    let data = || serde_json::from_str::<Value>(&event.data).map_err(|error| error.to_string());
    match event.kind.as_str() {
        "service" => match Service::deserialize(data()?) {
            Ok(service) => Ok(Some(Report::Service(Box::new(service)))),
            Err(error) => Err(error.to_string()),
        },
        "deleted" => Ok(data()?["id"].as_str().map(|id| Report::Deleted(id.to_owned()))),
        // Newer roots may say more.
        _ => Ok(None),
    }
}
