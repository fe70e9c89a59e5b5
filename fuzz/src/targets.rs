//! What is fed with hostile input, by its name.

mod access_token;
mod beats;
mod certificate;
mod cluster;
mod enrolment;
mod id_token;
mod names;
mod netcfg;
mod network;
mod node;
mod relay;
mod root;
mod schema;
mod sealing;
mod sla;
mod tunnel;
mod workflow;

/// Takes one input. What must not be panics.
pub(crate) type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 17] = [
    ("access_token", access_token::take),
    ("beats", beats::take),
    ("certificate", certificate::take),
    ("cluster", cluster::take),
    ("enrolment", enrolment::take),
    ("id_token", id_token::take),
    ("names", names::take),
    ("netcfg", netcfg::take),
    ("network", network::take),
    ("node", node::take),
    ("relay", relay::take),
    ("root", root::take),
    ("schema", schema::take),
    ("sealing", sealing::take),
    ("sla", sla::take),
    ("tunnel", tunnel::take),
    ("workflow", workflow::take),
];

/// The target of that name.
pub(crate) fn named(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
