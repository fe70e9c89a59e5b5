//! The shape of every daemon's brain.

use crate::{Moment, Now};

/// A pure state machine. Inputs (a core's own methods) change state and return what must become durable; only
/// [`Brain::reconcile`] asks for effects. The loop that drives it is in `crates/control`.
pub trait Brain: Send + Sync + 'static {
    /// One durable document that becomes something else.
    type Change: Clone + Send + Sync + 'static;
    /// Something for the shell to do, safe to repeat.
    type Effect: Send + 'static;

    /// Takes on a change. Infallible.
    fn apply(&mut self, change: Self::Change);

    /// Hears at which revision changes it took on became durable: before anybody else does.
    fn committed(&mut self, _changes: &[Self::Change], _revision: u64) {}

    /// Compares desired with observed. Changes in the plan are applied already.
    ///
    /// Guarantees: called again without news before [`Plan::wake_at`], the plan has no changes and no effects.
    fn reconcile(&mut self, now: Now) -> Plan<Self::Change, Self::Effect>;
}

/// What to make durable, and what to do after that.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<Change, Effect> {
    /// To be committed before anybody can see them.
    pub changes: Vec<Change>,
    /// To be done then.
    pub effects: Vec<Effect>,
    /// When to be asked again if nothing happens before; `None` when only news can change anything.
    pub wake_at: Option<Moment>,
}

impl<Change, Effect> Default for Plan<Change, Effect> {
    fn default() -> Self {
        Self { changes: Vec::new(), effects: Vec::new(), wake_at: None }
    }
}

impl<Change, Effect> Plan<Change, Effect> {
    /// Asks to be asked again at `at`, or earlier.
    pub fn wake(&mut self, at: Moment) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}
