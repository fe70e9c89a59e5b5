//! Which probe of a running container is due, and what its answers mean. What is asked is in `model::Health`; who asks
//! is the shell.

use model::{Health, Moment, Probe};

use crate::Ticket;

/// An instance that has not been ready yet is asked again after this, then after twice as long each time, up to its interval.
/// Most listen some milliseconds after they were started, and whoever waits for them should not wait for a probe.
const SOON_MILLIS: u64 = 25;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Start,
    Ready,
    Live,
}

/// All that is known of the health of one run of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Probing {
    start: Asked,
    ready: Asked,
    live: Asked,
    started: bool,
    /// By the ready probe; stays until it has failed often enough.
    is_ready: bool,
}

/// One probe and its answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Asked {
    /// `None` before it was ever asked.
    due: Option<Moment>,
    under_way: Option<(Ticket, Moment)>,
    has_succeeded: bool,
    /// In a row.
    failures: u32,
    last_failure: Option<String>,
}

impl Probing {
    /// Goes on from what an earlier NodeEngine knew of the same run.
    pub(crate) fn known(started: bool, ready: bool) -> Self {
        let asked = Asked { has_succeeded: ready, ..Asked::default() };
        Self { started: started || ready, is_ready: ready, ready: asked, ..Self::default() }
    }

    pub(crate) const fn has_started(&self) -> bool {
        self.started
    }

    /// The probes to ask now, and when the next of the others is due.
    pub(crate) fn due<'a>(
        &self,
        health: &'a Health,
        now: Moment,
    ) -> (Vec<(Purpose, &'a Probe)>, Option<Moment>) {
        let (mut due, mut next) = (Vec::new(), None::<Moment>);
        for (purpose, probe) in self.applicable(health) {
            let asked = self.asked(purpose);
            if asked.under_way.is_some() {
                continue;
            }
            match asked.due.filter(|at| *at > now) {
                Some(at) => next = Some(next.map_or(at, |earlier| earlier.min(at))),
                None => due.push((purpose, probe)),
            }
        }
        (due, next)
    }

    /// A probe was handed out.
    pub(crate) fn ask(&mut self, purpose: Purpose, ticket: Ticket, now: Moment) {
        self.asked_mut(purpose).under_way = Some((ticket, now));
    }

    /// Whether a probe of this run with that ticket is under way.
    pub(crate) fn awaits(&self, ticket: Ticket) -> bool {
        self.purpose_of(ticket).is_some()
    }

    fn purpose_of(&self, ticket: Ticket) -> Option<Purpose> {
        let of_ticket = |asked: &Asked| asked.under_way.is_some_and(|(under_way, _)| under_way == ticket);
        let purposes = [Purpose::Start, Purpose::Ready, Purpose::Live];
        purposes.into_iter().find(|purpose| of_ticket(self.asked(*purpose)))
    }

    /// A probe came back; `None` when nobody knows what the answer would have been. One of another run changes
    /// nothing.
    pub(crate) fn answer(
        &mut self,
        health: &Health,
        ticket: Ticket,
        answer: Option<Result<(), String>>,
        now: Moment,
    ) {
        let Some(purpose) = self.purpose_of(ticket) else { return };
        let probe = probe_of(health, purpose);
        let asked = self.asked_mut(purpose);
        let Some((_, begun)) = asked.under_way.take() else { return };
        let interval = probe.map_or(0, |probe| probe.interval.as_millis());
        let soon = SOON_MILLIS.saturating_mul(1_u64.checked_shl(asked.failures).unwrap_or(u64::MAX));
        let is_new = purpose == Purpose::Ready && !asked.has_succeeded;
        let wait = if is_new && !matches!(answer, Some(Ok(()))) { interval.min(soon) } else { interval };
        asked.due = Some(begun.plus_millis(wait).max(now));
        match answer {
            None => {}
            Some(Ok(())) => {
                asked.failures = 0;
                asked.has_succeeded = true;
                asked.last_failure = None;
                match purpose {
                    Purpose::Start => self.started = true,
                    Purpose::Ready => self.is_ready = true,
                    Purpose::Live => {}
                }
            }
            Some(Err(reason)) => {
                asked.failures = asked.failures.saturating_add(1);
                asked.last_failure = Some(reason);
                let counts = probe.is_none_or(|probe| asked.failures >= probe.failures);
                if purpose == Purpose::Ready && counts {
                    self.is_ready = false;
                }
            }
        }
    }

    /// Why it cannot be counted on, if so.
    pub(crate) fn unready_because(&self, health: &Health) -> Option<String> {
        let not_yet = |what: &str, asked: &Asked| match &asked.last_failure {
            Some(reason) => format!("not ready: {reason}"),
            None => format!("not ready: its {what} probe has not succeeded yet"),
        };
        if health.start.is_some() && !self.started {
            return Some(not_yet("start", &self.start));
        }
        (health.ready.is_some() && !self.is_ready).then(|| not_yet("ready", &self.ready))
    }

    /// Why it has to be restarted, if so.
    pub(crate) fn restart_because(&self, health: &Health) -> Option<String> {
        self.applicable(health).find_map(|(purpose, probe)| {
            let name = match purpose {
                Purpose::Start => "start",
                Purpose::Live => "live",
                Purpose::Ready => return None,
            };
            let asked = self.asked(purpose);
            let reason = asked.last_failure.as_deref().filter(|_| asked.failures >= probe.failures)?;
            let times =
                if asked.failures == 1 { "once".to_owned() } else { format!("{} times", asked.failures) };
            Some(format!("its {name} probe failed {times}: {reason}"))
        })
    }

    /// Until the start probe has succeeded, the others are not asked.
    fn applicable<'a>(&self, health: &'a Health) -> impl Iterator<Item = (Purpose, &'a Probe)> + use<'a> {
        let starting = health.start.is_some() && !self.started;
        let purposes: &[Purpose] =
            if starting { &[Purpose::Start] } else { &[Purpose::Ready, Purpose::Live] };
        purposes.iter().filter_map(|purpose| Some((*purpose, probe_of(health, *purpose)?)))
    }

    const fn asked(&self, purpose: Purpose) -> &Asked {
        match purpose {
            Purpose::Start => &self.start,
            Purpose::Ready => &self.ready,
            Purpose::Live => &self.live,
        }
    }

    const fn asked_mut(&mut self, purpose: Purpose) -> &mut Asked {
        match purpose {
            Purpose::Start => &mut self.start,
            Purpose::Ready => &mut self.ready,
            Purpose::Live => &mut self.live,
        }
    }
}

const fn probe_of(health: &Health, purpose: Purpose) -> Option<&Probe> {
    match purpose {
        Purpose::Start => health.start.as_ref(),
        Purpose::Ready => health.ready.as_ref(),
        Purpose::Live => health.live.as_ref(),
    }
}
