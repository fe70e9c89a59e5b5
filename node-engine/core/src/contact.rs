//! Services that must not run on a device that is cut off (`on_partition: stop_after`).

use model::{Desired, InstanceId, Moment, OnPartition, Span};

use crate::Node;

/// What being cut off means for an instance now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fence {
    /// Nothing.
    #[default]
    Open,
    /// What runs may go on, nothing may be started: the cluster has not been heard of since NodeEngine started.
    Unheard,
    /// Nothing may run.
    CutOff,
}

impl Node {
    /// Whether the shell has to keep asking the cluster for an echo.
    #[must_use]
    pub fn needs_contact(&self) -> bool {
        self.instances.keys().any(|id| self.stop_after(*id).is_some())
    }

    /// How long an instance may run without contact, if that is limited.
    pub(crate) fn stop_after(&self, id: InstanceId) -> Option<Span> {
        let wanted = self.instances.get(&id)?.assigned?;
        match wanted.desired {
            Desired::Removed => return None,
            Desired::Running => {}
        }
        match self.spec(id)?.survival.on_partition {
            OnPartition::StopAfter(after) => Some(after),
            OnPartition::ReplaceAfter(_) | OnPartition::Keep => None,
        }
    }

    /// What being cut off means for an instance at `now`, and when it will mean more unless contact is made.
    ///
    /// A device that was never in contact since it started may have been cut off for any time: it starts nothing.
    /// What it finds running gets the time once, counted from then.
    pub(crate) fn fence(&self, id: InstanceId, now: Moment) -> (Fence, Option<Moment>) {
        let Some(after) = self.stop_after(id) else { return (Fence::Open, None) };
        let open = if self.contact.is_some() { Fence::Open } else { Fence::Unheard };
        let closes = self.contact.unwrap_or(self.started).plus_millis(after.as_millis()).plus_millis(1);
        if now >= closes { (Fence::CutOff, None) } else { (open, Some(closes)) }
    }
}

/// The policy as a person wrote it, for details: `cut off from the cluster for 30 s (on_partition stop_after(30s))`.
pub(crate) fn cut_off_for(after: Span) -> String {
    let millis = after.as_millis();
    let time =
        if millis.is_multiple_of(1000) { format!("{} s", millis / 1000) } else { format!("{millis} ms") };
    format!("cut off from the cluster for {time} (on_partition stop_after({after}))")
}
