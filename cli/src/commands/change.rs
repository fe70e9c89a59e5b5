//! `mangrove scale`, `update`, `rollback` and `history`: what changes a service that is deployed.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time;

use crate::{
    args::{HistoryArguments, RollbackArguments, ScaleArguments, UpdateArguments, Waiting},
    change::{Change, Goal, Verdict},
    client::Client,
    commands::{
        counted,
        get::{self, Columns},
        summary,
        watch::{Report, Watch},
    },
    error::Error,
    objects::{self, Listed, Revision, Service},
    output::{Output, clean},
    progress::{Entry, Progress},
    resolve,
    sla::read_service,
    terminal,
};

/// How often the clock in the headline moves.
const TICK: Duration = Duration::from_secs(1);

/// Makes a service so many instances.
pub(crate) async fn scale(
    client: &Arc<Client>,
    output: &Output,
    arguments: ScaleArguments,
) -> Result<(), Error> {
    let begun = Instant::now();
    let service = find(client, &arguments.service, arguments.app.as_deref()).await?;
    let wanted = arguments.instances;
    let before = service.staying().count();
    let path = format!("/api/service/{}/scale", service.id);
    client.post(&path, Some(&json!({"instances": wanted}))).await?;
    let name = service.full_name();
    output.note(&format!("{name}: {before} → {}", counted(wanted as usize, "instance")));
    let headline = format!("scaling {name}");
    let watching =
        Watching { client, output, service: &service, waiting: &arguments.waiting, headline, begun };
    watching.until(Goal::Scaled).await
}

/// Makes a service what a file says.
pub(crate) async fn update(
    client: &Arc<Client>,
    output: &Output,
    arguments: UpdateArguments,
) -> Result<(), Error> {
    let begun = Instant::now();
    let service = find(client, &arguments.service, arguments.app.as_deref()).await?;
    let wanted = read_service(&arguments.file, &service)?;
    let path = format!("/api/service/{}", service.id);
    let answer = client.put(&path, &wanted).await?;
    follow(client, output, &service, &arguments.waiting, &answer, begun).await
}

/// Makes a service what it was.
pub(crate) async fn roll_back(
    client: &Arc<Client>,
    output: &Output,
    arguments: RollbackArguments,
) -> Result<(), Error> {
    let begun = Instant::now();
    let service = find(client, &arguments.service, arguments.app.as_deref()).await?;
    let body = arguments.to.map_or_else(|| json!({}), |revision| json!({"revision": revision}));
    let path = format!("/api/service/{}/rollback", service.id);
    let answer = client.post(&path, Some(&body)).await?;
    follow(client, output, &service, &arguments.waiting, &answer, begun).await
}

/// Lists what a service was.
pub(crate) async fn history(
    client: &Client,
    output: &Output,
    arguments: HistoryArguments,
) -> Result<(), Error> {
    let service = find(client, &arguments.service, arguments.app.as_deref()).await?;
    let revisions = revisions(client, &service).await?;
    let now = jiff::Timestamp::now();
    let columns = Columns {
        headings: &["REVISION", "AGE", "STATE", "IMAGE", "WHY", "CREATED"],
        narrow: 5,
        row: &|revision: &Revision| {
            let state = match (revision.current, &revision.failed) {
                (true, _) => "current",
                (false, Some(_)) => "failed",
                (false, None) => "",
            };
            vec![
                revision.number.to_string(),
                get::age(&revision.created, now),
                state.to_owned(),
                revision.image.clone(),
                revision.failed.clone().unwrap_or_default(),
                revision.created.clone(),
            ]
        },
        name: &|revision: &Revision| revision.number.to_string(),
        nothing: "the root remembers no revisions",
    };
    get::print(output, arguments.listing.output, &revisions, &columns)
}

async fn find(client: &Client, name: &str, app: Option<&str>) -> Result<Service, Error> {
    let services: Vec<Listed<Service>> = objects::list(client, "/api/services/").await?;
    resolve::service(services.iter().map(|item| &item.object), name, app).cloned()
}

async fn revisions(client: &Client, service: &Service) -> Result<Vec<Listed<Revision>>, Error> {
    objects::list(client, &format!("/api/service/{}/revisions", service.id)).await
}

/// Follows a change of revision that the root has `answered`.
async fn follow(
    client: &Arc<Client>,
    output: &Output,
    service: &Service,
    waiting: &Waiting,
    answer: &Value,
    begun: Instant,
) -> Result<(), Error> {
    let name = service.full_name();
    let revision = answer["revision"].as_u64().ok_or_else(|| Error::Incomprehensible {
        root: client.root().to_owned(),
        request: format!("a change of {name}"),
        detail: "there is no `revision` in it".to_owned(),
    })?;
    let message = answer["message"].as_str().unwrap_or("accepted");
    output.note(&format!("{name}: {}", clean(message)));
    let headline = format!("changing {name} to revision {revision}");
    let watching = Watching { client, output, service, waiting, headline, begun };
    watching.until(Goal::Revision(revision)).await
}

/// The part of a change that can be interrupted without stopping it.
struct Watching<'a> {
    client: &'a Arc<Client>,
    output: &'a Output,
    service: &'a Service,
    waiting: &'a Waiting,
    headline: String,
    begun: Instant,
}

impl Watching<'_> {
    async fn until(&self, goal: Goal) -> Result<(), Error> {
        let application = self.service.application();
        if self.waiting.no_wait {
            self.output.note(&format!(
                "not waiting; `mangrove get instances --app {application}` shows how it goes"
            ));
            return Ok(());
        }
        let mut change = Change::of(&self.service.id, goal);
        self.watch(&mut change, goal).await?;
        for instance in change.service().into_iter().flat_map(Service::staying) {
            self.output.data(&summary(self.service, instance))?;
        }
        Ok(())
    }

    async fn watch(&self, change: &mut Change, goal: Goal) -> Result<(), Error> {
        let mut watch = Watch::of(self.client, [self.service.application_id.clone()]);
        let mut progress = Progress::new(io::stderr(), self.output.repaints, self.output.colours);
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        let deadline = self.begun + self.waiting.timeout;
        let mut failure: Option<String> = None;
        loop {
            self.show(&mut progress, change);
            let now = Instant::now();
            let name = || self.service.full_name();
            let wake = match change.verdict(now) {
                Verdict::Done => return Ok(()),
                Verdict::Refused => return Err(self.unplaced(change)),
                Verdict::Deleted => return Err(Error::DeletedMeanwhile { what: name() }),
                Verdict::Stalled(reason) => return Err(Error::Stalled { service: name(), reason }),
                Verdict::OtherRevision { revision, over } => {
                    let reason = match &failure {
                        Some(reason) => reason.clone(),
                        None => self.why_other(goal, revision).await?,
                    };
                    if over {
                        return Err(Error::RolledBack { service: name(), revision, reason });
                    }
                    if failure.is_none() {
                        progress.note(&format!("going back to revision {revision}: {reason}"));
                        failure = Some(reason);
                    }
                    deadline
                }
                Verdict::Waiting(wake) => wake.unwrap_or(deadline),
            };
            if now >= deadline {
                return Err(self.too_slow(change));
            }
            let wake = wake.min(deadline).min(now + TICK);
            tokio::select! {
                report = watch.next() => match report {
                    Some(Report::Service(service)) => change.observe(*service, Instant::now()),
                    Some(Report::Deleted(id)) => change.deleted(&id),
                    Some(Report::Lost(problem)) => progress.note(&format!("{problem}; trying again")),
                    Some(Report::Failed(error)) => return Err(error),
                    None => time::sleep_until(wake.into()).await,
                },
                () = time::sleep_until(wake.into()) => {}
                _ = &mut interrupted => return Err(Error::Interrupted(format!(
                    "the change goes on: `mangrove get instances --app {}` shows it",
                    self.service.application()
                ))),
            }
        }
    }

    /// Why the revision that was asked for is no longer the one of the service.
    async fn why_other(&self, goal: Goal, revision: u64) -> Result<String, Error> {
        let Goal::Revision(wanted) = goal else { return Ok(String::new()) };
        let revisions = revisions(self.client, self.service).await?;
        let failed = revisions.into_iter().find(|item| item.object.number == wanted);
        failed.and_then(|item| item.object.failed).ok_or_else(|| Error::Overtaken {
            service: self.service.full_name(),
            wanted,
            revision,
        })
    }

    fn show(&self, progress: &mut Progress<io::Stderr>, change: &Change) {
        let Some(service) = change.service() else { return };
        let entries: Vec<Entry> =
            service.instances.iter().map(|instance| Entry::of(service, instance)).collect();
        let seconds = self.begun.elapsed().as_secs();
        let state = service.rollout.as_ref().map(|rollout| format!("  {rollout}")).unwrap_or_default();
        progress.show(&format!("{}{state}  {seconds} s", self.headline), &entries, terminal::size());
    }

    fn unplaced(&self, change: &Change) -> Error {
        let name = self.service.full_name();
        let instances: Vec<String> =
            change.unsettled().map(|(_, instance)| format!("{name}/{}", instance.number)).collect();
        let runs = change.service().map_or(0, |service| service.staying().count() - instances.len());
        Error::Unplaced {
            application: self.service.application(),
            instances,
            give_up: format!("mangrove scale {name} {runs}"),
        }
    }

    fn too_slow(&self, change: &Change) -> Error {
        let states = change.unsettled().flat_map(|(service, it)| Entry::of(service, it).lines()).collect();
        let seconds = self.waiting.timeout.as_secs();
        Error::TooSlow { application: self.service.application(), seconds, states }
    }
}
