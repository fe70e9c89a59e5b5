//! The loop around every brain.
//!
//! ```text
//!   what waits outside ──► (first) take in ────────────────┐
//!   inputs ──► (all that wait) accept / observe ──► apply ─┤
//!                                                          ├─► one commit ──► replies, watchers, effects
//!                                        reconcile(now) ───┘
//! ```
//!
//! Guarantees: one task changes the state; what a turn changes is durable before a reader, a caller or an effect sees
//! it; inputs that arrive together share one commit. If the store fails, the loop ends with the error and the daemon
//! with it: the state in memory would no longer be what is stored.

mod documents;

use std::sync::Arc;

use model::{Brain, Moment, Now};
use store::{Store, StoreError, Write};
use tokio::sync::{Notify, RwLock, RwLockReadGuard, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use documents::{document, load_all};

/// Inputs that may wait: callers wait in turn beyond it, so a flood cannot fill the memory.
const QUEUE: usize = 1024;
/// Inputs of one turn: bounds the time readers wait for the commit.
const TURN: usize = 256;

type Reply = Box<dyn FnOnce() + Send>;
type Input<B> = Box<dyn FnOnce(&mut B, Now) -> Taken<B> + Send>;

/// What an input that was taken in asks for.
struct Taken<B: Brain> {
    changes: Vec<B::Change>,
    /// To be called when they are durable.
    reply: Option<Reply>,
    /// There may be something to decide since.
    news: bool,
}

/// The loop has ended; the daemon is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping; try again when it is back")]
pub struct Stopping;

/// How the rest of a daemon talks to its brain. Cheap to clone.
#[derive(Debug)]
pub struct Handle<B: Brain> {
    state: Arc<RwLock<B>>,
    inputs: mpsc::Sender<Input<B>>,
    bell: Arc<Notify>,
}

impl<B: Brain> Clone for Handle<B> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), inputs: self.inputs.clone(), bell: Arc::clone(&self.bell) }
    }
}

impl<B: Brain> Handle<B> {
    /// Reads the state as last made durable. Hold it briefly: the loop waits for it.
    pub async fn read(&self) -> RwLockReadGuard<'_, B> {
        self.state.read().await
    }

    /// Asks the brain for something. The answer comes when its changes are durable.
    ///
    /// # Errors
    /// The brain's own rejection inside; [`Stopping`] when there is no answer.
    pub async fn ask<T, E>(
        &self,
        accept: impl FnOnce(&B, Now) -> Result<(T, Vec<B::Change>), E> + Send + 'static,
    ) -> Result<Result<T, E>, Stopping>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let input: Input<B> = Box::new(move |brain, now| {
            let (changes, outcome) = match accept(brain, now) {
                Ok((value, changes)) => (changes, Ok(value)),
                Err(rejected) => (Vec::new(), Err(rejected)),
            };
            // The caller may have gone; what it asked for happens all the same.
            Taken { changes, reply: Some(Box::new(move || drop(reply.send(outcome)))), news: true }
        });
        self.inputs.send(input).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// Tells the brain what was seen.
    ///
    /// # Errors
    /// [`Stopping`] when nobody listens any more.
    pub async fn observe(
        &self,
        observe: impl FnOnce(&mut B, Now) -> Vec<B::Change> + Send + 'static,
    ) -> Result<(), Stopping> {
        let input: Input<B> =
            Box::new(move |brain, now| Taken { changes: observe(brain, now), reply: None, news: true });
        self.inputs.send(input).await.map_err(|_| Stopping)
    }

    /// Tells the brain what was seen, and waits until what follows from it is durable.
    ///
    /// # Errors
    /// [`Stopping`] when there is no answer.
    pub async fn observe_durably(
        &self,
        observe: impl FnOnce(&mut B, Now) -> Vec<B::Change> + Send + 'static,
    ) -> Result<(), Stopping> {
        let (reply, answer) = oneshot::channel();
        let input: Input<B> = Box::new(move |brain, now| {
            // Whoever has gone waits no more; `ok` of it is nothing.
            let reply: Reply = Box::new(move || reply.send(()).unwrap_or_default());
            Taken { changes: observe(brain, now), reply: Some(reply), news: true }
        });
        self.inputs.send(input).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// Tells the brain what comes all the time and rarely leaves anything to decide: then `notice` gives `None`. If
    /// nothing in a turn left anything, the brain is not asked before it wants to be.
    ///
    /// # Errors
    /// [`Stopping`] when nobody listens any more.
    pub async fn notice(
        &self,
        notice: impl FnOnce(&mut B, Now) -> Option<Vec<B::Change>> + Send + 'static,
    ) -> Result<(), Stopping> {
        let input: Input<B> = Box::new(move |brain, now| {
            let noticed = notice(brain, now);
            let news = noticed.is_some();
            Taken { changes: noticed.unwrap_or_default(), reply: None, news }
        });
        self.inputs.send(input).await.map_err(|_| Stopping)
    }

    /// Something has come that [`Surroundings::take_in`] reads: it does so with the next turn, which begins at once.
    pub fn ring(&self) {
        self.bell.notify_one();
    }
}

/// What surrounds a brain: where its documents are written, and what happens after a commit.
pub trait Surroundings<B: Brain>: Send {
    /// The stored form of a change.
    fn write(&self, change: &B::Change) -> Write;

    /// Reads what has come and still waits where it came, and tells the brain; whether that leaves something to decide.
    /// Called at the beginning of every turn, before anything that was told: a brain that judges who is silent must not
    /// overlook a word that has arrived. Must not wait for anything.
    fn take_in(&mut self, _brain: &mut B, _now: Now) -> bool {
        false
    }

    /// Called after every turn: `changes` are durable, `state` is what readers see now, `effects` are to be started.
    /// Must not wait for anything.
    fn after_commit(&mut self, state: &B, changes: &[B::Change], effects: Vec<B::Effect>);
}

/// A brain with its loop, not yet running.
#[derive(Debug)]
pub struct Control<B: Brain> {
    handle: Handle<B>,
    inputs: mpsc::Receiver<Input<B>>,
}

impl<B: Brain> Control<B> {
    /// Wraps a brain that holds what the store holds.
    #[must_use]
    pub fn new(brain: B) -> Self {
        let (inputs, waiting) = mpsc::channel(QUEUE);
        let handle = Handle { state: Arc::new(RwLock::new(brain)), inputs, bell: Arc::default() };
        Self { handle, inputs: waiting }
    }

    /// How to reach the brain.
    #[must_use]
    pub fn handle(&self) -> Handle<B> {
        self.handle.clone()
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// When the store fails, or another has taken it over: who is no longer heard must not go on talking.
    pub async fn run(
        self,
        store: Arc<dyn Store>,
        surroundings: impl Surroundings<B> + 'static,
        shutdown: CancellationToken,
    ) -> Result<(), StoreError> {
        // A task of its own: it is woken far more often than whatever else the caller waits for together with it.
        let lost = Arc::clone(&store);
        let turning = AbortOnDropHandle::new(tokio::spawn(self.turn_on(store, surroundings, shutdown)));
        let ended = tokio::select! {
            ended = turning => ended,
            error = lost.lost() => return Err(error),
        };
        match ended {
            Ok(ended) => ended,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is being taken down and the caller with it.
                Err(_) => Ok(()),
            },
        }
    }

    async fn turn_on(
        mut self,
        store: Arc<dyn Store>,
        mut surroundings: impl Surroundings<B>,
        shutdown: CancellationToken,
    ) -> Result<(), StoreError> {
        let mut waiting: Vec<Input<B>> = Vec::with_capacity(TURN);
        let mut wake_at = Some(daemon::present().moment);
        let bell = Arc::clone(&self.handle.bell);
        loop {
            let woken = async {
                match wake_at {
                    Some(moment) => tokio::time::sleep_until(daemon::instant_of(moment).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = bell.notified() => {}
                received = self.inputs.recv_many(&mut waiting, TURN) => if received == 0 { return Ok(()) },
                () = woken => {}
            }
            wake_at = self.turn(&mut waiting, wake_at, store.as_ref(), &mut surroundings).await?;
        }
    }

    /// Takes in what waits; when to be called again.
    async fn turn(
        &mut self,
        waiting: &mut Vec<Input<B>>,
        wake_at: Option<Moment>,
        store: &dyn Store,
        surroundings: &mut impl Surroundings<B>,
    ) -> Result<Option<Moment>, StoreError> {
        let now = daemon::present();
        let mut state = self.handle.state.write().await;
        let mut changes = Vec::new();
        let mut replies = Vec::with_capacity(waiting.len());
        let mut due = wake_at.is_some_and(|moment| moment <= now.moment);
        due |= surroundings.take_in(&mut state, now);
        for input in waiting.drain(..) {
            let taken = input(&mut state, now);
            taken.changes.iter().for_each(|change| state.apply(change.clone()));
            changes.extend(taken.changes);
            replies.extend(taken.reply);
            due |= taken.news;
        }
        if !due {
            return Ok(wake_at);
        }
        let plan = state.reconcile(now);
        changes.extend(plan.changes);
        if !changes.is_empty() {
            // Readers wait here, so that nobody sees what could still be lost.
            let writes = changes.iter().map(|change| surroundings.write(change)).collect();
            let revision = store.commit(last_of_each(writes)).await?;
            state.committed(&changes, revision.0);
        }
        let state = state.downgrade();
        replies.into_iter().for_each(|reply| reply());
        surroundings.after_commit(&state, &changes, plan.effects);
        Ok(plan.wake_at)
    }
}

/// Of several writes to one document only the last counts.
fn last_of_each(writes: Vec<Write>) -> Vec<Write> {
    let mut seen = std::collections::BTreeSet::new();
    let mut last: Vec<Write> =
        writes.into_iter().rev().filter(|write| seen.insert((write.collection, write.key.clone()))).collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::ready, sync::Mutex, time::Duration};

    use model::Plan;
    use store::{BoxFuture, Document, History, Page, Revision, SqliteStore};
    use tokio::sync::watch;

    use super::*;

    /// How often it was asked; it wants to be asked again after that long.
    struct Counting(u64, Option<u64>);

    impl Brain for Counting {
        type Change = ();
        type Effect = ();

        fn apply(&mut self, (): ()) {}

        fn reconcile(&mut self, now: Now) -> Plan<(), ()> {
            self.0 += 1;
            let mut plan = Plan::default();
            self.1.iter().for_each(|millis| plan.wake(now.moment.plus_millis(*millis)));
            plan
        }
    }

    struct Nothing;

    impl Surroundings<Counting> for Nothing {
        fn write(&self, (): &()) -> Write {
            unreachable!("nothing changes")
        }

        fn after_commit(&mut self, _: &Counting, _: &[()], _: Vec<()>) {}
    }

    /// A store that another has taken over.
    struct TakenOver;

    impl Store for TakenOver {
        fn list<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Document>, StoreError>> {
            Box::pin(ready(Err(StoreError::TakenOver)))
        }

        fn list_at<'a>(
            &'a self,
            collection: &'a str,
            _: Revision,
        ) -> BoxFuture<'a, Result<Vec<Document>, StoreError>> {
            self.list(collection)
        }

        fn page<'a>(
            &'a self,
            collection: &'a str,
            _: Page,
        ) -> BoxFuture<'a, Result<Vec<Document>, StoreError>> {
            self.list(collection)
        }

        fn commit(&self, _: Vec<Write>) -> BoxFuture<'_, Result<Revision, StoreError>> {
            Box::pin(ready(Err(StoreError::TakenOver)))
        }

        fn changes(&self, _: Revision, _: usize) -> BoxFuture<'_, Result<Vec<store::Change>, StoreError>> {
            Box::pin(ready(Err(StoreError::TakenOver)))
        }

        fn revisions(&self) -> watch::Receiver<Revision> {
            watch::channel(Revision(0)).1
        }

        fn lost(&self) -> BoxFuture<'_, StoreError> {
            Box::pin(ready(StoreError::TakenOver))
        }
    }

    #[tokio::test]
    async fn a_loop_whose_store_was_taken_over_ends_without_being_asked_for_anything() {
        let control = Control::new(Counting(0, None));
        let ended = control.run(Arc::new(TakenOver), Nothing, CancellationToken::new()).await;
        assert!(matches!(ended, Err(StoreError::TakenOver)), "{ended:?}");
    }

    /// The number of each input, as they were taken in.
    struct Ordered(Vec<usize>);

    impl Brain for Ordered {
        type Change = ();
        type Effect = ();

        fn apply(&mut self, (): ()) {}

        fn reconcile(&mut self, _: Now) -> Plan<(), ()> {
            Plan::default()
        }
    }

    /// What waits outside; each is read once.
    #[derive(Clone, Default)]
    struct Waiting(Arc<Mutex<Vec<usize>>>);

    impl Surroundings<Ordered> for Waiting {
        fn write(&self, (): &()) -> Write {
            unreachable!("nothing changes")
        }

        fn take_in(&mut self, brain: &mut Ordered, _: Now) -> bool {
            brain.0.append(&mut self.0.lock().expect("no panic"));
            false
        }

        fn after_commit(&mut self, _: &Ordered, _: &[()], _: Vec<()>) {}
    }

    /// Runs the loop while `talk` lasts.
    async fn run_ordered<T>(outside: Waiting, talk: impl AsyncFnOnce(&Handle<Ordered>) -> T) -> T {
        let control = Control::new(Ordered(Vec::new()));
        let handle = control.handle();
        let directory = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(&directory.path().join("store"), History::NONE).expect("a store");
        let running = control.run(Arc::new(store), outside, CancellationToken::new());
        tokio::select! {
            biased;
            talked = talk(&handle) => talked,
            ended = running => panic!("{ended:?}"),
        }
    }

    #[tokio::test]
    async fn what_waits_outside_is_taken_in_before_all_that_was_told() {
        const WAITING: usize = QUEUE - 1;
        const OUTSIDE: usize = usize::MAX;
        let outside = Waiting(Arc::new(Mutex::new(vec![OUTSIDE])));
        let order = run_ordered(outside, async |handle| {
            for number in 0..WAITING {
                let note = move |brain: &mut Ordered, _| {
                    brain.0.push(number);
                    None
                };
                handle.notice(note).await.expect("there is room");
            }
            handle.ask(|brain, _| Ok::<_, Infallible>((brain.0.clone(), vec![]))).await
        });
        let order = order.await.expect("it runs").expect("infallible");
        assert_eq!(order[0], OUTSIDE);
        assert_eq!(order[1..], (0..WAITING).collect::<Vec<_>>(), "the others stay in their order");
    }

    #[tokio::test]
    async fn a_ring_has_it_read_what_waits_outside() {
        let outside = Waiting::default();
        let rung = run_ordered(outside.clone(), async |handle| {
            // The first turn is over.
            handle.ask(|_, _| Ok::<_, Infallible>(((), vec![]))).await.expect("it runs").expect("infallible");
            outside.0.lock().expect("no panic").push(7);
            handle.ring();
            while handle.read().await.0 != [7] {
                tokio::task::yield_now().await;
            }
        });
        tokio::time::timeout(Duration::from_secs(10), rung).await.expect("it is read");
    }

    async fn asked_after(again: Option<u64>, notices: impl AsyncFnOnce(&Handle<Counting>)) -> u64 {
        let control = Control::new(Counting(0, again));
        let handle = control.handle();
        let directory = tempfile::tempdir().expect("a directory");
        let store =
            Arc::new(SqliteStore::open(&directory.path().join("store"), History::NONE).expect("a store"));
        let running = tokio::spawn(control.run(store, Nothing, CancellationToken::new()));
        while handle.read().await.0 == 0 {
            tokio::task::yield_now().await;
        }
        notices(&handle).await;
        let asked = handle.ask(|brain, _| Ok::<_, Infallible>((brain.0, vec![]))).await;
        running.abort();
        asked.expect("it runs").expect("infallible")
    }

    #[tokio::test]
    async fn what_leaves_nothing_to_decide_asks_for_no_decision() {
        let quiet = async |handle: &Handle<Counting>| {
            for _ in 0..10 {
                handle.notice(|_, _| None).await.expect("it runs");
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(asked_after(None, quiet).await, 1, "the first pass only");
        let news = async |handle: &Handle<Counting>| {
            handle.notice(|_, _| Some(Vec::new())).await.expect("it runs");
            while handle.read().await.0 == 1 {
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(asked_after(None, news).await, 2);
    }

    #[tokio::test]
    async fn time_passes_also_while_nothing_but_what_is_quiet_comes() {
        let began = std::time::Instant::now();
        let quiet = async |handle: &Handle<Counting>| {
            for _ in 0..20 {
                handle.notice(|_, _| None).await.expect("it runs");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let asked = asked_after(Some(50), quiet).await;
        // At the beginning, after each 50 ms, and for the question how often it was.
        let most = began.elapsed().as_millis() / 50 + 2;
        assert!(asked >= 3 && u128::from(asked) <= most, "asked {asked} times instead of {most}");
    }
}
