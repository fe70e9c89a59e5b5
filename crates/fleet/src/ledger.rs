//! Which simulated worker has which instance, so that one that is at two of them, or goes back, is found.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use model::{Generation, InstanceId};

/// Locks that 100,000 workers do not wait for.
const PARTS: usize = 64;

type Part = HashMap<InstanceId, (usize, Generation)>;

/// Who has what.
#[derive(Debug)]
pub(crate) struct Ledger {
    parts: Vec<Mutex<Part>>,
}

/// What an entry in the ledger found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Nobody else has it.
    Fine,
    /// Another worker has it.
    Duplicate,
    /// It was given out in a newer generation before.
    WentBack,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| Mutex::default()).collect() }
    }
}

impl Ledger {
    pub(crate) fn take(&self, worker: usize, id: InstanceId, generation: Generation) -> Entry {
        let mut part = self.part(id).lock().unwrap_or_else(PoisonError::into_inner);
        match part.insert(id, (worker, generation)) {
            Some((_, before)) if before > generation => Entry::WentBack,
            Some((holder, _)) if holder != worker => Entry::Duplicate,
            Some(_) | None => Entry::Fine,
        }
    }

    pub(crate) fn release(&self, worker: usize, id: InstanceId) {
        let mut part = self.part(id).lock().unwrap_or_else(PoisonError::into_inner);
        if part.get(&id).is_some_and(|(holder, _)| *holder == worker) {
            part.remove(&id);
        }
    }

    fn part(&self, id: InstanceId) -> &Mutex<Part> {
        &self.parts[id.number as usize % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use model::ServiceId;

    use super::*;

    #[test]
    fn an_instance_at_two_workers_or_of_an_older_generation_is_found() {
        let ledger = Ledger::default();
        let id = InstanceId { service: ServiceId::from_bytes([1; 12]), number: 7 };
        assert_eq!(ledger.take(1, id, Generation(5)), Entry::Fine);
        assert_eq!(ledger.take(1, id, Generation(6)), Entry::Fine);
        assert_eq!(ledger.take(2, id, Generation(7)), Entry::Duplicate);
        assert_eq!(ledger.take(2, id, Generation(6)), Entry::WentBack);
        ledger.release(1, id);
        assert_eq!(ledger.take(1, id, Generation(6)), Entry::Duplicate, "2 still has it");
        ledger.release(1, id);
        assert_eq!(ledger.take(2, id, Generation(6)), Entry::Fine);
    }
}
