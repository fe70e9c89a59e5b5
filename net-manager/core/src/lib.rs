//! The brain of NetManager: which instance has which address, and what the kernel must hold for it. Pure.
//!
//! ```text
//!   Command ──accept──► Changes ──apply──► NetworkState ──desired──► DesiredKernel ─┐
//!                                                                                   ├─reconcile──► Effects
//!   what the datapath read from the kernel ───────────────────────► ObservedKernel ─┘
//! ```
//!
//! Effects are safe to repeat; a lost one is asked for again at the next pass. The other half, which speaks netlink,
//! is `net-manager/src/datapath`.

mod carriers;
mod closest;
mod isolation;
mod kernel;
mod link;
mod names;
mod numbers;
mod others;
mod places;
mod presence;
mod reconcile;
mod rejection;
mod shares;
mod state;

pub use carriers::{Carrier, EngineReason, KERNEL_KEEPALIVE_SECONDS, KERNEL_PORT, Sign, Signs};
pub use closest::{Echo, EchoOver, Nearness, RoundTrip};
pub use isolation::{Isolation, Membership};
pub use kernel::{
    Chain, DesiredKernel, DirectLink, Effect, Element, Family, ForwardFilter, KernelPeer, Mac,
    ObservedKernel, ObservedLink, Path, Place, SecurePeer, gateway_of,
};
pub use link::{LinkName, LinkPlan, Namespace};
pub use names::{Answer, DomainName, NAME_SERVER, Names, Wanted, Zone, resolvers_of};
pub use reconcile::{forward_warnings, reconcile};
pub use rejection::Rejection;
pub use state::{AttachRequest, Attachment, Change, Command, NetworkState, TOLD_WITHIN_MILLIS};
