//! What has happened to instances, services and clusters, for people who ask why: noted as documents change, dated at the
//! end of the turn, and kept in memory only.
//!
//! Guarantees: what happens again to the same counts, and is one event. An organisation has a bounded number of them; the
//! oldest go first, whatever others have. A restart forgets all: what is so now is said by the documents themselves.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use model::{ClusterId, InstanceId, Moment, Now, OrganizationId, Phase, ServiceId, Timestamp};

use crate::{Change, Document, Instance, ObjectKey, Service, State};

/// Events of one organisation: more than a person reads, and half a megabyte at most.
pub const MOST_EVENTS: usize = 1000;
/// Events are forgotten after an hour, as clients of Kubernetes expect.
const KEPT_MILLIS: u64 = 3_600_000;
/// Characters of a message that are kept.
const MESSAGE_LENGTH: usize = 500;

/// What, in one word.
pub(crate) type Reason = Cow<'static, str>;

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A document.
    Document(Document),
    /// An object.
    Object(ObjectKey),
}

impl From<Document> for About {
    fn from(document: Document) -> Self {
        Self::Document(document)
    }
}

/// Something that has happened, once or several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// No other event has it, also after a restart.
    pub number: u64,
    /// To what.
    pub about: About,
    /// Whose that is; what is the platform's is the first organisation's.
    pub organization: OrganizationId,
    /// How it is called.
    pub name: String,
    /// What, in one word.
    pub reason: Reason,
    /// Whether somebody should look.
    pub is_warning: bool,
    /// What, in a sentence.
    pub message: String,
    /// When it happened first, and last.
    pub first: Timestamp,
    /// See `first`.
    pub last: Timestamp,
    /// How often.
    pub count: u32,
    /// The commit since which it is known; none before the next one.
    pub revision: Option<u64>,
}

/// What was noted in this turn.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    pub(crate) about: About,
    pub(crate) reason: Reason,
    is_warning: bool,
    pub(crate) message: String,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Nothing happens while documents are read.
    is_listening: bool,
    noted: Vec<Noted>,
    /// So many of these were looked at for those who wait for them.
    looked_at: usize,
    /// In the order in which they happened last.
    all: BTreeMap<u64, Event>,
    /// Where each is.
    places: BTreeMap<(About, Reason), u64>,
    of: BTreeMap<OrganizationId, BTreeSet<u64>>,
    next: u64,
    /// Those that wait for a commit.
    unsettled: BTreeSet<u64>,
    /// Clusters that were told to be silent.
    silent: BTreeSet<ClusterId>,
}

impl Events {
    /// What was read from the store did not happen now.
    pub(crate) fn loaded(&mut self) {
        self.is_listening = true;
        self.noted.clear();
        self.looked_at = 0;
    }

    fn note(&mut self, about: Document, reason: &'static str, is_warning: bool, message: impl Into<String>) {
        self.write(about.into(), reason.into(), is_warning, message.into());
    }

    /// Notes what somebody has the root say.
    pub(crate) fn write(&mut self, about: About, reason: Reason, is_warning: bool, message: String) {
        let message = message.chars().take(MESSAGE_LENGTH).collect();
        self.noted.push(Noted { about, reason, is_warning, message });
    }

    /// What was noted since this was last asked.
    pub(crate) fn news(&mut self) -> Vec<Noted> {
        let before = std::mem::replace(&mut self.looked_at, self.noted.len());
        self.noted.get(before..).map(<[Noted]>::to_vec).unwrap_or_default()
    }

    fn remove(&mut self, place: u64) -> Option<Event> {
        let event = self.all.remove(&place)?;
        self.places.remove(&(event.about.clone(), event.reason.clone()));
        self.unsettled.remove(&place);
        crate::state::forget(&mut self.of, Some(event.organization), &place);
        Some(event)
    }

    fn insert(&mut self, event: Event) {
        let place = self.next;
        self.next += 1;
        self.places.insert((event.about.clone(), event.reason.clone()), place);
        self.of.entry(event.organization).or_default().insert(place);
        self.unsettled.insert(place);
        self.all.insert(place, event);
    }

    /// What is new is known as of this revision.
    pub(crate) fn committed(&mut self, revision: u64) {
        for place in std::mem::take(&mut self.unsettled) {
            if let Some(event) = self.all.get_mut(&place) {
                event.revision = Some(revision);
            }
        }
    }
}

impl State {
    /// What has happened, the oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.all.values()
    }

    /// Notes what a change says has happened. To be called before it is applied.
    pub(crate) fn witness(&mut self, change: &Change) {
        if !self.events.is_listening {
            return;
        }
        if let Change::Instance(id, after) = change {
            self.witness_instance(*id, after.as_ref());
        } else if let Change::Service(id, Some(after)) = change {
            self.witness_service(*id, after);
        } else if let Change::Cluster(id, Some(_)) = change
            && !self.clusters.contains_key(id)
        {
            self.events.note(Document::Cluster(*id), "Joined", false, "it is a cluster of this root now");
        }
    }

    fn witness_instance(&mut self, id: InstanceId, after: Option<&Instance>) {
        let (about, before) = (Document::Instance(id), self.instances.get(&id));
        let Some(after) = after else {
            if before.is_some() {
                self.events.note(about, "Removed", false, "it is gone");
            }
            return;
        };
        let mut told = Vec::new();
        if let Some(cluster) = after.cluster().filter(|is| before.and_then(Instance::cluster) != Some(*is)) {
            let name = self.clusters.get(&cluster).map_or_else(|| cluster.to_string(), |it| it.name.clone());
            told.push(("Scheduled", false, format!("given to the cluster {name}")));
        }
        let report = &after.report;
        if before.is_none_or(|before| before.report.phase != report.phase)
            && let Some((reason, is_warning)) = reason_of(report.phase)
        {
            let refusal = report.refusal.as_ref().map(|refusal| refusal.summary.clone());
            let said = Some(report.detail.clone()).filter(|detail| !detail.is_empty());
            let message = refusal.or(said).unwrap_or_else(|| format!("it is {}", report.phase));
            told.push((reason, is_warning, message));
        }
        if before.is_some_and(|before| before.report.restarts < report.restarts) {
            let code = report
                .last_exit
                .as_ref()
                .map_or_else(String::new, |exit| format!("; it ended with exit code {}", exit.code));
            told.push(("Restarted", true, format!("started again, {} times in all{code}", report.restarts)));
        }
        for (reason, is_warning, message) in told {
            self.events.note(about, reason, is_warning, message);
        }
    }

    fn witness_service(&mut self, id: ServiceId, after: &Service) {
        let Some(before) = self.services.get(&id) else { return };
        let about = Document::Service(id);
        let number = after.revision;
        match (&before.rollout, &after.rollout) {
            (_, Some(rollout)) if before.revision != number && rollout.is_rollback => {
                let failed = after.revision(rollout.from).and_then(|revision| revision.failed.as_deref());
                let message = format!(
                    "back to revision {number}, as revision {} failed: {}",
                    rollout.from,
                    failed.unwrap_or("it is not known why")
                );
                self.events.note(about, "RolledBack", true, message);
            }
            (_, Some(rollout)) if before.revision != number => {
                let message = format!("revision {number} replaces {}", rollout.from);
                self.events.note(about, "RolloutStarted", false, message);
            }
            (Some(before), Some(rollout)) if before.stalled != rollout.stalled => {
                if let Some(why) = rollout.stalled.clone() {
                    self.events.note(about, "RolloutStalled", true, why);
                }
            }
            (Some(_), None) => {
                let message = format!("all instances are of revision {number}");
                self.events.note(about, "RolloutFinished", false, message);
            }
            (_, Some(_)) | (None, None) => {}
        }
    }

    /// Notes which clusters have been silent for so long that one wonders.
    pub(crate) fn witness_silence(&mut self, now: Moment) {
        let is_long = |id: &&ClusterId| self.given_up_since(**id, now).is_some();
        let silent: BTreeSet<ClusterId> = self.silent.iter().filter(is_long).copied().collect();
        for id in silent {
            if self.events.silent.insert(id) {
                let message =
                    "nothing is heard of it; what it has is waited for, as long as each service says";
                self.events.note(Document::Cluster(id), "Silent", true, message);
            }
        }
    }

    /// Notes that a cluster that was silent reports.
    pub(crate) fn witness_report(&mut self, id: ClusterId) {
        if self.events.silent.remove(&id) {
            self.events.note(Document::Cluster(id), "Heard", false, "it reports again");
        }
    }

    /// Dates what has happened in this turn, and forgets what is long ago.
    pub(crate) fn keep_events(&mut self, now: Now) {
        self.events.looked_at = 0;
        for noted in std::mem::take(&mut self.events.noted) {
            let Some((organization, name)) = self.involved(&noted.about) else { continue };
            let Noted { about, reason, is_warning, message } = noted;
            let place = self.events.places.get(&(about.clone(), reason.clone())).copied();
            let before = place.and_then(|place| self.events.remove(place));
            let number = self.events.next.max(now.date.0);
            self.events.next = number;
            let event = match before {
                Some(before) => {
                    Event { message, last: now.date, count: before.count + 1, revision: None, ..before }
                }
                None => Event {
                    number,
                    about,
                    organization,
                    name,
                    reason,
                    is_warning,
                    message,
                    first: now.date,
                    last: now.date,
                    count: 1,
                    revision: None,
                },
            };
            self.events.insert(event);
            let own = self.events.of.get(&organization).filter(|own| own.len() > MOST_EVENTS);
            if let Some(oldest) = own.and_then(|own| own.first().copied()) {
                self.events.remove(oldest);
            }
        }
        let is_old = |event: &Event| now.date.millis_since(event.last) > KEPT_MILLIS;
        while let Some((&oldest, _)) = self.events.all.first_key_value().filter(|(_, event)| is_old(event)) {
            self.events.remove(oldest);
        }
    }

    /// Whose something is, and how it is called.
    pub(crate) fn involved(&self, about: &About) -> Option<(OrganizationId, String)> {
        let of_service = |id: ServiceId| {
            let service = self.services.get(&id)?;
            let application = self.applications.get(&service.application)?;
            Some((application.organization, service.written_names().to_string()))
        };
        let document = match about {
            About::Document(document) => document,
            About::Object(key) => return Some((key.organization?, key.name.clone())),
        };
        match *document {
            Document::Instance(id) => {
                let (organization, name) = of_service(id.service)?;
                Some((organization, format!("{name}-{}", id.number)))
            }
            Document::Service(id) => of_service(id),
            Document::Cluster(id) => Some((self.root_organization?, self.clusters.get(&id)?.name.clone())),
            Document::Application(_) | Document::Organization(_) => None,
        }
    }
}

/// What an instance that comes to be in a phase is told of with, and whether somebody should look.
const fn reason_of(phase: Phase) -> Option<(&'static str, bool)> {
    match phase {
        Phase::Running => Some(("Started", false)),
        Phase::Completed => Some(("Completed", false)),
        Phase::Dead => Some(("Dead", true)),
        Phase::Failed => Some(("Failed", true)),
        Phase::Lost => Some(("Lost", true)),
        Phase::Refused => Some(("FailedScheduling", true)),
        // On the way between those.
        Phase::Requested
        | Phase::ClusterScheduled
        | Phase::NodeScheduled
        | Phase::Creating
        | Phase::Undeploying
        | Phase::Removed => None,
    }
}
