//! The address plan: the root lends blocks to clusters, a cluster lends subnets to its workers, a worker gives
//! addresses to its instances. Pure: who holds what is a value that its daemon stores.
//!
//! ```text
//!   BlockPlan   10.18.0.0–10.29.255.255 as 192 × /20      fc00:: as 3776 × /114     root    → cluster
//!               then 10.32.0.0–10.255.255.255 as 3584 × /20
//!   SubnetPlan  a block as 64 × /26                       64 × /120                 cluster → worker
//!   HostPlan    a subnet: .1 is the worker, .2 to .62 its instances                 worker  → instance
//!   StablePlan  10.30.0.1–10.31.255.254                   fdff::/16                 root    → service, instance
//! ```
//!
//! The first three are one [`Pool`]: an owner keeps what it has, what was never used is given out first, and what was
//! released longest ago is used again first, so that late packets to an old owner rarely reach a new one.

mod block;
mod host;
mod pool;
mod service;
mod subnet;

pub use block::BlockPlan;
pub use host::{HostPlan, InstanceAddresses};
pub use pool::Pool;
pub use service::{NoAddress, StablePlan};
pub use subnet::{Lent, Subnet, SubnetPlan};

/// Nothing is left to give. The text names the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// Every block of the whole plan is lent.
    #[error(
        "all {limit} address blocks of the plan are lent to clusters; remove a cluster that is gone to free its blocks"
    )]
    Blocks {
        /// How many there are.
        limit: usize,
    },
    /// Every subnet of the cluster's blocks is lent.
    #[error(
        "all {limit} subnets of this cluster's {blocks} address blocks are lent to workers; \
         ask the root for another block or remove a worker that is gone"
    )]
    Subnets {
        /// How many there are.
        limit: usize,
        /// In how many blocks.
        blocks: usize,
    },
    /// The cluster has no block at all.
    #[error(
        "this cluster has no address block from the root yet; it gets one when it is connected to the root"
    )]
    NoBlock,
    /// Every address of the worker's subnet is in use.
    #[error(
        "all {limit} addresses of this worker's subnet {subnet} are in use; place the instance on another worker"
    )]
    Addresses {
        /// How many there are.
        limit: usize,
        /// Of which subnet.
        subnet: ipnet::Ipv4Net,
    },
}
