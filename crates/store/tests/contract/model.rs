//! Chance commits, several at a time, with faults on the way and openings in between, compared with a model that keeps
//! every state there ever was.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any},
    prop_oneof,
    test_runner::{Config, TestRunner},
};
use store::{Document, Expect, History, Revision, Store, StoreError, Write};
use tokio::runtime::Handle;

use crate::{
    places::{Place, THINGS, open_at},
    relay::{Fault, Relay},
};

#[derive(Debug, Clone)]
enum Step {
    /// These commits, at the same time.
    Commit(Vec<Vec<Wish>>),
    /// Something happens to what is sent next; only where there is a network.
    Fault(Fault),
    /// The store is opened while it is open.
    OpenAgain,
}

#[derive(Debug, Clone)]
struct Wish {
    key: u8,
    value: Option<u8>,
    expected: Expected,
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    Anything,
    Absent,
    /// The revision it has before all commits of the step.
    Present,
    /// One it never has.
    Another,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let expected = prop_oneof![
        4 => Just(Expected::Anything),
        1 => Just(Expected::Absent),
        2 => Just(Expected::Present),
        1 => Just(Expected::Another),
    ];
    let wish = (0..4_u8, any::<Option<u8>>(), expected).prop_map(|(key, value, expected)| Wish {
        key,
        value,
        expected,
    });
    let fault = prop_oneof![
        Just(Fault::LoseRequest("log")),
        Just(Fault::LoseAnswer("log")),
        Just(Fault::LoseRequest("versions")),
        Just(Fault::LoseAnswer("versions")),
    ];
    let step = prop_oneof![
        10 => vec(vec(wish, 0..4), 1..4).prop_map(Step::Commit),
        1 => fault.prop_map(Step::Fault),
        1 => Just(Step::OpenAgain),
    ];
    vec(step, 1..25)
}

pub(crate) async fn chance_commits_and_openings_agree_with_a_model(place: Place) {
    let cases = match place {
        Place::Sqlite(_) => 40,
        // Every lost connection costs half a second.
        Place::MongoDb(_) => 10,
    };
    let runtime = Handle::current();
    let checking = tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        runner.run(&steps(), |steps| {
            runtime.block_on(follow(&place, steps));
            Ok(())
        })
    });
    checking.await.expect("no panic").unwrap_or_else(|found| panic!("{found}"));
}

type State = BTreeMap<String, (Revision, Vec<u8>)>;

/// A store and what should be in it.
struct Trial {
    place: Place,
    relay: Option<Relay>,
    store: Arc<dyn Store>,
    /// As of every revision that was acknowledged; the last is now.
    states: BTreeMap<Revision, State>,
}

impl Trial {
    async fn new(like: &Place) -> Self {
        let (place, relay) = match like {
            Place::Sqlite(_) => (Place::sqlite(), None),
            Place::MongoDb(database) => (Place::mongodb(), Some(Relay::to(database.address()).await)),
        };
        let store = open(&place, relay.as_ref()).await;
        let states = BTreeMap::from([(*store.revisions().borrow(), State::new())]);
        Self { place, relay, store, states }
    }

    fn now(&self) -> &State {
        self.states.last_key_value().expect("the first").1
    }

    async fn commit(&mut self, wishes: Vec<Vec<Wish>>) {
        let before = self.now().clone();
        let commits: Vec<Vec<Write>> =
            wishes.iter().map(|commit| commit.iter().map(|wish| wish.write(&before)).collect()).collect();
        let answers = join_all(commits.iter().map(|writes| self.store.commit(writes.clone()))).await;
        for (writes, answer) in commits.iter().zip(answers) {
            let newest = *self.states.last_key_value().expect("the first").0;
            match after(self.now(), Revision(newest.0 + 1), writes) {
                _ if writes.is_empty() => assert_eq!(answer.expect("nothing is refused"), newest),
                Ok(state) => {
                    let revision = answer.expect("as expected");
                    assert_eq!(revision, Revision(newest.0 + 1));
                    self.states.insert(revision, state);
                }
                Err(key) => {
                    assert!(
                        matches!(&answer, Err(StoreError::Conflict { key: found, .. }) if *found == key),
                        "{answer:?}"
                    );
                }
            }
        }
        self.ensure_listed().await;
    }

    async fn open_again(&mut self) {
        self.store = open(&self.place, self.relay.as_ref()).await;
        // Opening may be a revision.
        let now = self.now().clone();
        self.states.insert(*self.store.revisions().borrow(), now);
        self.ensure_listed().await;
    }

    async fn ensure_listed(&self) {
        assert_eq!(&state(self.store.list(THINGS).await.expect("listed")), self.now());
    }

    /// Every state there was can be listed, and whoever knew one comes to the present by the changes since.
    async fn ensure_history(&self) {
        for (revision, expected) in &self.states {
            assert_eq!(&state(self.store.list_at(THINGS, *revision).await.expect("kept")), expected);
            let mut known = expected.clone();
            for change in self.store.changes(*revision, usize::MAX).await.expect("kept") {
                let before = match change.value {
                    Some(value) => known.insert(change.key, (change.revision, value)),
                    None => known.remove(&change.key),
                };
                assert_eq!(change.before.map(|version| (version.revision, version.value)), before);
            }
            assert_eq!(&known, self.now());
        }
    }
}

async fn follow(place: &Place, steps: Vec<Step>) {
    let mut trial = Trial::new(place).await;
    for step in steps {
        match step {
            Step::Commit(wishes) => trial.commit(wishes).await,
            Step::Fault(fault) => trial.relay.iter().for_each(|relay| relay.expect(fault)),
            Step::OpenAgain => trial.open_again().await,
        }
    }
    trial.ensure_history().await;
    trial.open_again().await;
    trial.ensure_history().await;
}

async fn open(place: &Place, relay: Option<&Relay>) -> Arc<dyn Store> {
    match (place, relay) {
        (Place::MongoDb(database), Some(relay)) => {
            let url = database.url_by(relay.address);
            Arc::new(open_at(&url, "the tests", History::USUAL).await.expect("a store"))
        }
        (Place::Sqlite(_) | Place::MongoDb(_), _) => place.open().await,
    }
}

impl Wish {
    fn write(&self, before: &State) -> Write {
        let key = format!("key {}", self.key);
        let expect = match self.expected {
            Expected::Anything => Expect::Anything,
            Expected::Absent => Expect::Absent,
            Expected::Present => {
                before.get(&key).map_or(Expect::Absent, |(revision, _)| Expect::Revision(*revision))
            }
            Expected::Another => Expect::Revision(Revision(u64::from(u32::MAX))),
        };
        Write { collection: THINGS, key, value: self.value.map(|value| vec![value]), expect }
    }
}

/// What a commit makes of a state, or the key of what is not as it expects.
fn after(before: &State, revision: Revision, writes: &[Write]) -> Result<State, String> {
    let mut state = before.clone();
    for write in writes {
        let found = state.get(&write.key).map(|(revision, _)| *revision);
        let as_expected = match write.expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Revision(expected) => found == Some(expected),
        };
        if !as_expected {
            return Err(write.key.clone());
        }
        match &write.value {
            Some(value) => drop(state.insert(write.key.clone(), (revision, value.clone()))),
            None => drop(state.remove(&write.key)),
        }
    }
    Ok(state)
}

fn state(documents: Vec<Document>) -> State {
    documents.into_iter().map(|it| (it.key, (it.revision, it.value))).collect()
}
