//! Actions that others are asked to do over HTTP: which are to be called now. When one is called again, and for how long it is
//! tried, the engine says; the shell (`root-orchestrator/src/hooks/actions.rs`) only calls.
//!
//! Guarantees: a call is durable before it is made, and is made until it was taken or given up. All attempts of one have the
//! same delivery id. Of one organisation only some are under way at once, so none waits for the receivers of others.

use std::collections::{BTreeMap, BTreeSet};

use model::{Moment, Now, OrganizationId, SecretVersionId};
use serde_json::Value;
use workflow::{Action, CallId, Fact};

use super::{objects::key, wishes::ours};
use crate::{Change, Effect, SecretKind, State, WorkflowKind, reconcile::Plan};

/// Calls under way at once; of one organisation a part.
const MOST_UNDERWAY: usize = 32;
const MOST_UNDERWAY_OF_ONE: usize = 8;
/// One of which nothing was heard for so long may be made again. Longer than any attempt may take.
const LOST_MILLIS: u64 = 120_000;

/// A call as it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionCall {
    /// Which one; also the id of its delivery.
    pub id: CallId,
    /// Where.
    pub url: String,
    /// What it is signed with.
    pub secret: Option<SecretVersionId>,
    /// What is told.
    pub body: Value,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Those the engine has asked for. Each is a document, so there are no more than these.
    waiting: BTreeMap<OrganizationId, BTreeSet<CallId>>,
    underway: BTreeMap<CallId, (OrganizationId, Moment)>,
    /// Whose was the last to begin: the next is another's.
    served: Option<OrganizationId>,
}

impl Calls {
    pub(super) fn wait(&mut self, organization: OrganizationId, id: CallId) {
        self.waiting.entry(organization).or_default().insert(id);
    }

    /// The next that may begin.
    fn next(&mut self, now: Moment) -> Option<(OrganizationId, CallId)> {
        self.underway.retain(|_, (_, since)| since.plus_millis(LOST_MILLIS) > now);
        if self.underway.len() >= MOST_UNDERWAY {
            return None;
        }
        let has_room = |organization: &OrganizationId| {
            let own = self.underway.values().filter(|(whose, _)| whose == organization);
            own.count() < MOST_UNDERWAY_OF_ONE
        };
        let after = |id: &OrganizationId| self.served.is_some_and(|served| *id <= served);
        let free = self.waiting.keys().filter(|organization| has_room(organization));
        let organization = free.copied().min_by_key(|id| (after(id), *id))?;
        let own = self.waiting.get_mut(&organization)?;
        let id = own.pop_first()?;
        if own.is_empty() {
            self.waiting.remove(&organization);
        }
        self.served = Some(organization);
        Some((organization, id))
    }
}

impl State {
    /// Asks for the calls that may be made now; what could not be asked for is the answer.
    pub(super) fn offer_calls(&mut self, plan: &mut Plan, now: Now) -> Vec<Fact> {
        let mut failed = Vec::new();
        while let Some((organization, id)) = self.workflows.calls.next(now.moment) {
            let call = self.workflow().call(&id).filter(|call| call.is_due());
            let Some(action) = call.map(|call| call.action.clone()) else { continue };
            // It was asked for while it is under way.
            if self.workflows.calls.underway.contains_key(&id) {
                continue;
            }
            match self.action_call(organization, &id, &action) {
                Ok(call) => {
                    self.workflows.calls.underway.insert(id, (organization, now.moment));
                    plan.effects.push(Effect::CallAction(Box::new(call)));
                }
                Err(why) => failed.push(Fact::Called(id, Err(why))),
            }
        }
        failed
    }

    /// A call of an action has ended: it was taken, or why not.
    pub fn action_called(&mut self, id: CallId, outcome: Result<(), String>, now: Now) -> Vec<Change> {
        self.workflows.calls.underway.remove(&id);
        ours(self.workflows.engine.observe(Fact::Called(id, outcome), now))
    }

    /// Who is called, and with what. What is missing may be there when it is tried again.
    fn action_call(
        &self,
        organization: OrganizationId,
        id: &CallId,
        action: &Action,
    ) -> Result<ActionCall, String> {
        let mut body = self.workflow().about(id);
        let namespace = self.organization(organization).map(|organization| organization.name.as_str());
        body["namespace"] = Value::from(namespace.unwrap_or_default());
        body["action"] = Value::from(action.kind());
        let (url, secret) = match action {
            Action::Webhook { url, secret } => (url.clone(), secret.clone()),
            Action::Plugin { name, with } => {
                body["plugin"] = Value::from(name.as_str());
                body["with"] = with.clone().unwrap_or_default();
                self.plugin(organization, name)?
            }
            Action::RunTask { .. }
            | Action::RestartService { .. }
            | Action::ScaleService { .. }
            | Action::RollbackService { .. }
            | Action::SetStatus { .. }
            | Action::WriteEvent { .. } => return Err(format!("{} is not called", action.kind())),
        };
        let secret = secret.map(|name| self.signing_secret(organization, &name)).transpose()?;
        Ok(ActionCall { id: id.clone(), url, secret, body })
    }

    /// Where a plugin is, and what it is signed with.
    fn plugin(&self, organization: OrganizationId, name: &str) -> Result<(String, Option<String>), String> {
        let plugin = self.object(&key(WorkflowKind::Plugin, Some(organization), name));
        let spec = plugin.map(|seen| &seen.content["spec"]).ok_or_else(|| {
            format!("there is no plugin `{name}`; make an object of the kind Plugin with that name")
        })?;
        let text = |field: &str| spec[field].as_str().map(str::to_owned);
        Ok((text("url").unwrap_or_default(), text("secret")))
    }

    /// The newest version of a secret that somebody outside has, too.
    ///
    /// # Errors
    /// When the organisation has none of that name, or it is for something else.
    pub fn signing_secret(
        &self,
        organization: OrganizationId,
        name: &str,
    ) -> Result<SecretVersionId, String> {
        let secret = self.secret(organization, name).map_err(|rejected| rejected.to_string())?;
        match secret.kind {
            SecretKind::Opaque => Ok(secret.version(secret.newest())),
            SecretKind::Registry => {
                Err(format!("the secret `{name}` is a login at a registry, and signs nothing"))
            }
        }
    }
}
