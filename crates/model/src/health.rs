//! How it is found out whether an instance works. Carried out by NodeEngine.

use serde::{Deserialize, Serialize};

use crate::Span;

/// The probes of a service. Without any, the image's own HEALTHCHECK counts, as readiness and as liveness; without
/// that, an instance is ready when it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Until it succeeds once after a start, the others are not asked; when it has failed too often, the instance is
    /// restarted.
    pub start: Option<Probe>,
    /// Whether the instance may be counted on.
    pub ready: Option<Probe>,
    /// When it fails too often, the instance is restarted.
    pub live: Option<Probe>,
}

impl Health {
    /// Whether the service says nothing of its own.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start.is_none() && self.ready.is_none() && self.live.is_none()
    }
}

/// One question asked again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// Time between two attempts; at least 100 ms.
    pub interval: Span,
    /// An answer that takes longer is a failure.
    pub timeout: Span,
    /// So many failures in a row count; at least 1.
    pub failures: u32,
}

impl Probe {
    /// Asked every second, answered within one, three failures count.
    #[must_use]
    pub const fn new(check: Check) -> Self {
        Self { check, interval: Span::from_secs(1), timeout: Span::from_secs(1), failures: 3 }
    }
}

/// What is asked of an instance, at its own address or inside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// `GET` of the path: any status from 200 to 399 is a success.
    Http {
        /// Port inside the instance.
        port: u16,
        /// Begins with `/`.
        path: String,
    },
    /// The port accepts a connection.
    Tcp {
        /// Port inside the instance.
        port: u16,
    },
    /// A command inside the instance ends with code 0.
    Exec {
        /// The command and its arguments; not empty.
        command: Vec<String>,
    },
}
