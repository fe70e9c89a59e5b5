//! Which failures of a pass over the kernel whoever asked for it hears of.

use model::InstanceId;
use net_core::{Effect, LinkName};

/// Whose success counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    Everything,
    Instance(InstanceId),
}

impl Wanted {
    pub(super) fn concerned_by(self, effect: &Effect) -> bool {
        let Self::Instance(id) = self else { return true };
        match effect {
            Effect::CreateLink(plan) | Effect::RepairLink(plan) => plan.instance == id,
            Effect::RemoveLink { name, .. } => *name == LinkName::of(id),
            Effect::InstallRuleset
            | Effect::ChangeElements { .. }
            | Effect::EndForbidden(_)
            | Effect::OpenDockerUser(_)
            | Effect::OpenDirect(_)
            | Effect::CloseDirect
            | Effect::SetSecure(_)
            | Effect::SetKernelPeers(_)
            | Effect::ChangePaths { .. }
            | Effect::ClaimSubnet(_)
            | Effect::OfferNames
            | Effect::WithdrawNames
            | Effect::ReleaseSubnet(_) => true,
        }
    }
}
