//! The brain as those reach it whose calls are recorded: what a call changes is committed together with the record of it.
//! What is recorded is decided in `core/src/audit.rs`; requests of the API get there by `api/calls.rs`, the calls of
//! clusters by `downlink.rs`. Reading the records is in `api/audit.rs`.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use audit::Outcome;
use control::Stopping;
use model::{Now, TokenId};
use root_core::{Call, Change, State, User, access::Rights, actor};
use tokio::sync::RwLockReadGuard;

use crate::Brain;

/// The brain, for one call. Cheap to clone; all clones are of that call.
#[derive(Debug, Clone)]
pub(crate) struct Audited {
    brain: Brain,
    ongoing: Arc<Ongoing>,
}

/// A call that has not ended yet.
#[derive(Debug)]
struct Ongoing {
    call: Mutex<Call>,
    is_recorded: AtomicBool,
}

impl Ongoing {
    fn call(&self) -> MutexGuard<'_, Call> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Audited {
    pub(crate) fn new(brain: Brain, call: Call) -> Self {
        let ongoing = Ongoing { call: Mutex::new(call), is_recorded: AtomicBool::new(false) };
        Self { brain, ongoing: Arc::new(ongoing) }
    }

    /// Notes what has come to be known of the call.
    pub(crate) fn describe(&self, describe: impl FnOnce(&mut Call)) {
        describe(&mut self.ongoing.call());
    }

    /// Notes who calls.
    pub(crate) fn is_of(&self, user: &User, rights: &Rights, api_token: Option<TokenId>) {
        self.describe(|call| call.actor = actor(rights, &user.name, api_token));
    }

    /// Reads the state as last made durable. Hold it briefly: the brain waits for it.
    pub(crate) async fn read(&self) -> RwLockReadGuard<'_, State> {
        self.brain.read().await
    }

    /// Asks the brain for something. If it agrees, its changes and the record of them are durable when the answer comes.
    pub(crate) async fn ask<T, E>(
        &self,
        accept: impl FnOnce(&State, Now) -> Result<(T, Vec<Change>), E> + Send + 'static,
    ) -> Result<Result<T, E>, Stopping>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let ongoing = Arc::clone(&self.ongoing);
        let accept = move |state: &State, now: Now| {
            let (value, mut changes) = accept(state, now)?;
            let call = ongoing.call().clone();
            let record = state.record(call, &changes, now.date);
            if !record.is_empty() {
                ongoing.is_recorded.store(true, Ordering::Release);
            }
            changes.extend(record);
            Ok((value, changes))
        };
        self.brain.ask(accept).await
    }

    /// The call has ended so. If there is no record of it yet, there will be when this returns, unless it is only counted.
    pub(crate) async fn ended(&self, outcome: Outcome) -> Result<(), Stopping> {
        if self.ongoing.is_recorded.load(Ordering::Acquire) {
            return Ok(());
        }
        let call = self.ongoing.call().clone();
        self.brain.observe_durably(move |state, now| state.note(call, outcome, now)).await
    }
}
