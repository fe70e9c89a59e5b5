//! What single workers have free, told without telling of every worker: the amounts that no other worker covers.

use std::cmp::Reverse;

use model::{ClusterAggregate, Resources};

use crate::ResourceKind;

/// The entries of `free` that no other entry covers, for [`ClusterAggregate::largest_free`].
///
/// Guarantees: every entry is one of `free`, so that what fits an entry fits a worker; the most of each kind is
/// among them; at most [`ClusterAggregate::LARGEST_FREE_ENTRIES`]; the same for any order of `free`. A list that
/// is full may leave out entries: those that have least of what they have least of.
#[must_use]
pub fn frontier(free: impl Iterator<Item = Resources>) -> Vec<Resources> {
    let mut corners: Vec<Resources> = Vec::new();
    for candidate in free {
        if corners.iter().any(|corner| corner.covers(&candidate)) {
            continue;
        }
        corners.retain(|corner| !candidate.covers(corner));
        corners.push(candidate);
    }
    corners.sort_by_key(|corner| Reverse(amounts(corner)));
    if corners.len() > ClusterAggregate::LARGEST_FREE_ENTRIES { most_useful(corners) } else { corners }
}

/// The most that any entry has, amount by amount, for [`crate::Candidate::cluster`].
#[must_use]
pub fn largest(frontier: &[Resources]) -> Resources {
    frontier.iter().fold(Resources::default(), |most, entry| most.max(entry))
}

/// Whether `request` fits on one worker for certain.
#[must_use]
pub fn fits_one(frontier: &[Resources], request: &Resources) -> bool {
    frontier.iter().any(|entry| entry.covers(request))
}

/// Whether `request` may fit on one worker: false only if there is none for certain. Differs from [`fits_one`]
/// where the list is full and may therefore have left out the worker that would do.
#[must_use]
pub fn may_fit_one(frontier: &[Resources], request: &Resources) -> bool {
    let full = frontier.len() >= ClusterAggregate::LARGEST_FREE_ENTRIES;
    fits_one(frontier, request) || (full && largest(frontier).covers(request))
}

/// The most of each kind first, then the most balanced; in the order they came in.
fn most_useful(corners: Vec<Resources>) -> Vec<Resources> {
    let most = largest(&corners);
    let mut kept = vec![false; corners.len()];
    for kind in ResourceKind::ALL {
        let best = (0..corners.len()).max_by_key(|&index| (kind.of(&corners[index]), Reverse(index)));
        if let Some(best) = best {
            kept[best] = true;
        }
    }
    let smallest_share = |corner: &Resources| {
        let share =
            |kind: ResourceKind| u64::from(kind.of(corner)) * 1_000_000 / u64::from(kind.of(&most).max(1));
        // A kind that nobody has tells nothing.
        ResourceKind::ALL.into_iter().filter(|kind| kind.of(&most) > 0).map(share).min()
    };
    let mut balanced: Vec<usize> = (0..corners.len()).filter(|&index| !kept[index]).collect();
    balanced.sort_by_key(|&index| (Reverse(smallest_share(&corners[index])), index));
    let room = ClusterAggregate::LARGEST_FREE_ENTRIES - kept.iter().filter(|kept| **kept).count();
    for index in balanced.into_iter().take(room) {
        kept[index] = true;
    }
    corners.into_iter().zip(kept).filter_map(|(corner, kept)| kept.then_some(corner)).collect()
}

fn amounts(resources: &Resources) -> [u32; 4] {
    ResourceKind::ALL.map(|kind| kind.of(resources))
}
