//! The process of a parent around its brain: what waits for the next turn, its store, and where it may break off.

use std::collections::VecDeque;

use model::Brain;

use crate::{
    queue::Millis,
    store::{Document, Store},
    world::Process,
};

/// Where a turn breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doom {
    /// Nothing of the turn is durable, and nobody hears of it.
    BeforeCommit,
    /// All of it is durable, and nobody hears of it.
    AfterCommit,
}

#[derive(Debug)]
pub(crate) struct Daemon<B: Brain, Input>
where
    B::Change: Document,
{
    /// `None` while the process is down.
    pub(crate) brain: Option<B>,
    pub(crate) store: Store<B::Change>,
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) process: Process,
    /// A turn is about to begin.
    pub(crate) turning: bool,
    /// The next turn is to ask the brain, whatever the inputs leave to decide.
    pub(crate) due: bool,
    /// When the earliest wake-up asked for comes.
    pub(crate) wakes_at: Option<Millis>,
    /// The next turn breaks off here.
    pub(crate) doom: Option<Doom>,
}

impl<B: Brain, Input> Daemon<B, Input>
where
    B::Change: Document,
{
    pub(crate) const fn new() -> Self {
        Self {
            brain: None,
            store: Store::new(),
            inbox: VecDeque::new(),
            process: Process { number: 0, started: 0, date_off: 0, date_off_at_start: 0 },
            turning: false,
            due: false,
            wakes_at: None,
            doom: None,
        }
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.brain.is_some()
    }

    /// All that is not durable is gone.
    pub(crate) fn end(&mut self) {
        self.brain = None;
        self.inbox.clear();
        self.turning = false;
        self.due = false;
        self.wakes_at = None;
        self.doom = None;
    }

    pub(crate) fn woken(&mut self, now: Millis, process: u32) {
        if process == self.process.number && self.wakes_at.is_some_and(|at| at <= now) {
            self.wakes_at = None;
            self.due = true;
        }
    }
}
