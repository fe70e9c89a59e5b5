//! The datapath on a real kernel, in network namespaces of the tests' own. Needs root.

mod cables;
mod changing;
mod closest;
mod draining;
mod hostile;
mod isolation;
mod lacking;
mod names;
mod nat;
mod passages;
mod posing;
mod services;
mod support;
mod underlay;
mod wireguard;
