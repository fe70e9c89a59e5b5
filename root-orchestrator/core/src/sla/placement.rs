//! Where something may run that is no service of a document: the fields by which a service says so, and no others.

use std::collections::BTreeSet;

use model::{DirectConstraint, DistanceConstraint};
use serde_json::{Map, Value};

use super::{SlaErrors, constraints, error::Problems, fields::PLACEMENT, read::Fields, service};

/// Where it may run. All of it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Names of clusters and workers.
    pub constraints: Vec<DirectConstraint>,
    /// How far from places.
    pub distances: Vec<DistanceConstraint>,
    /// Processor architectures, any of which will do.
    pub architectures: BTreeSet<String>,
}

/// Parses an object with the fields `constraints` and `arch` of a service, which is at `path` in its document.
///
/// # Errors
/// All its problems, each with its place.
pub fn parse_placement(path: &str, object: &Map<String, Value>) -> Result<Placement, SlaErrors> {
    let mut problems = Problems::default();
    let fields = Fields::read(&PLACEMENT, path, object, &mut problems);
    let (constraints, distances) = constraints::read(&fields, &mut problems);
    let architectures = service::architectures(&fields, &mut problems);
    problems.into_result(Placement { constraints, distances, architectures })
}
