//! Whether a candidate can take a request at all, and if not, the one reason a person should read first.

use std::{borrow::Cow, fmt};

use model::{Capability, Mebibytes, Millicores, PortMapping, Resources};

use crate::{Candidate, Request, candidate::Obstacles};

/// One of the amounts in [`Resources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceKind {
    /// Processor time, in millicores.
    Cpu,
    /// Disk space, in MiB.
    Storage,
    /// Whole graphics processors.
    Gpus,
    /// Main memory, in MiB.
    Memory,
}

impl ResourceKind {
    /// Every kind, in the order they are checked.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Storage, Self::Gpus, Self::Memory];

    /// The amount of this kind.
    #[must_use]
    pub const fn of(self, resources: &Resources) -> u32 {
        match self {
            Self::Cpu => resources.cpu.0,
            Self::Memory => resources.memory.0,
            Self::Storage => resources.storage.0,
            Self::Gpus => resources.gpus,
        }
    }

    /// An amount of this kind in words: `0.5 cores`, `512 MiB of memory`.
    #[must_use]
    pub fn in_words(self, amount: u32) -> String {
        match self {
            Self::Cpu => format!("{} cores", Millicores(amount)),
            Self::Memory => format!("{} of memory", Mebibytes(amount)),
            Self::Storage => format!("{} of storage", Mebibytes(amount)),
            Self::Gpus => format!("{amount} GPUs"),
        }
    }

    /// The same without the noun where the noun was just said: `0.5`, `512 MiB`.
    #[must_use]
    pub fn amount_in_words(self, amount: u32) -> String {
        match self {
            Self::Cpu => Millicores(amount).to_string(),
            Self::Memory | Self::Storage => Mebibytes(amount).to_string(),
            Self::Gpus => amount.to_string(),
        }
    }
}

/// Why a candidate cannot take a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The request names candidates, and not this one.
    NotSelected,
    /// It is not connected, so nobody knows what it has.
    Disconnected,
    /// It was told to take nothing new.
    Cordoned,
    /// It cannot do something that is needed.
    Lacks(Capability),
    /// Too little is left in all.
    Insufficient {
        /// Of what.
        what: ResourceKind,
        /// How much is asked for.
        needs: u32,
        /// How much is not reserved.
        has: u32,
    },
    /// Enough is left in all, and too little on any one of its workers.
    InsufficientOnOneWorker {
        /// Of what.
        what: ResourceKind,
        /// How much is asked for.
        needs: u32,
        /// The most that is not reserved on one worker.
        has: u32,
    },
    /// Each amount is left on some worker, and all of them on none.
    ScatteredOverWorkers,
    /// A port of the device that the request needs is taken.
    PortTaken(PortMapping),
    /// The caller's own check said no, in words that follow the candidate's name and a colon: "draining".
    Declined(Cow<'static, str>),
}

impl Reason {
    /// Too little of `what`, with how much is left in all and on the largest worker.
    pub(crate) const fn insufficient(what: ResourceKind, needs: u32, in_all: u32, on_one: u32) -> Self {
        if in_all < needs {
            Self::Insufficient { what, needs, has: in_all }
        } else {
            Self::InsufficientOnOneWorker { what, needs, has: on_one }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSelected => f.write_str("not among the names the service asks for"),
            Self::Disconnected => f.write_str("not connected"),
            Self::Cordoned => f.write_str("cordoned, takes nothing new"),
            Self::Lacks(Capability::Container) => f.write_str("cannot run containers"),
            Self::Lacks(Capability::Overlay) => f.write_str("has no overlay network, which NetManager gives"),
            Self::Insufficient { what, needs, has } => {
                write!(f, "needs {}, {} is free", what.in_words(*needs), what.amount_in_words(*has))
            }
            Self::InsufficientOnOneWorker { what, needs, has } => {
                let (needs, has) = (what.in_words(*needs), what.amount_in_words(*has));
                write!(f, "needs {needs} on one worker, its largest free is {has}")
            }
            Self::ScatteredOverWorkers => f.write_str("no single worker has all of it free at once"),
            Self::PortTaken(port) => {
                write!(f, "port {}/{} of the device is taken", port.host, port.protocol)
            }
            Self::Declined(why) => f.write_str(why),
        }
    }
}

/// Whether `candidate` can take `request`.
///
/// # Errors
/// The first reason in the order of [`Reason`]; among amounts, that of [`ResourceKind::ALL`].
pub fn filter(candidate: &Candidate, request: &Request) -> Result<(), Reason> {
    let stands = |obstacle: u64| candidate.obstacles & request.of_interest & obstacle != 0;
    if stands(Obstacles::NOT_SELECTED) {
        return Err(Reason::NotSelected);
    }
    if stands(Obstacles::DISCONNECTED) {
        return Err(Reason::Disconnected);
    }
    if stands(Obstacles::CORDONED) {
        return Err(Reason::Cordoned);
    }
    for (capability, missing) in Capability::ALL.into_iter().zip(Obstacles::MISSING) {
        if stands(missing) {
            return Err(Reason::Lacks(capability));
        }
    }
    let (free, largest) = (candidate.free(), candidate.largest());
    for what in ResourceKind::ALL {
        let needs = what.of(&request.resources);
        if what.of(&largest) < needs {
            return Err(Reason::insufficient(what, needs, what.of(&free), what.of(&largest)));
        }
    }
    Ok(())
}
