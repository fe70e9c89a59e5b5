//! The wire between daemons: messages generated from `mangrove/v1/*.proto`, and their conversion from and to the
//! types of `model` in one place.
//!
//! Everything that arrives is checked here once (`TryFrom`); what is inside the daemons is always valid.

mod codec;
mod convert;

pub use convert::{
    NetworkMessage, NetworkReader, WireError, network_hello, network_mailbox, network_message, read_mailbox,
    read_network_hello, relay_message,
};

/// Generated messages and services, version 1.
pub mod v1 {
    #![expect(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        unused_qualifications,
        reason = "generated code; the contracts are in the proto files"
    )]
    tonic::include_proto!("mangrove.v1");
}
