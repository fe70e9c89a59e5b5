//! What was worked out lately and would take long to work out again, within a bound.

use std::{collections::HashMap, hash::Hash};

/// Remembers values up to a weight that is given with each. There are two generations: when the young one is full it
/// becomes the old one, and what nobody asked for meanwhile is forgotten. So both together weigh at most twice the room,
/// and the last value more.
#[derive(Debug)]
pub struct Remembered<K, V> {
    young: HashMap<K, Weighed<V>>,
    old: HashMap<K, Weighed<V>>,
    /// Of the young ones.
    weight: usize,
    room: usize,
}

#[derive(Debug)]
struct Weighed<V> {
    value: V,
    weight: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Remembered<K, V> {
    /// Nothing yet; a generation is full at `room`.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), weight: 0, room }
    }

    /// What is remembered, which stays so for another generation.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some(young) = self.young.get(key) {
            return Some(young.value.clone());
        }
        let Weighed { value, weight } = self.old.remove(key)?;
        self.put(key.clone(), value.clone(), weight);
        Some(value)
    }

    /// Remembers a value, in place of the one there was.
    pub fn put(&mut self, key: K, value: V, weight: usize) {
        if self.weight >= self.room {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        let before = self.young.insert(key, Weighed { value, weight });
        self.weight = self.weight + weight - before.map_or(0, |before| before.weight);
    }

    /// How many are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_and_the_rest_is_forgotten_in_time() {
        let mut remembered = Remembered::new(10);
        remembered.put("in use".to_owned(), 7, 1);
        for number in 0..100 {
            remembered.put(number.to_string(), number, 1);
            assert_eq!(remembered.get(&"in use".to_owned()), Some(7), "after {number}");
            assert_eq!(remembered.get(&number.to_string()), Some(number));
            assert!(remembered.count() <= 20, "{} after {number}", remembered.count());
        }
        assert_eq!(remembered.get(&"0".to_owned()), None);
    }

    #[test]
    fn heavy_values_take_the_room_of_many() {
        let mut remembered = Remembered::new(10);
        for number in 0..10 {
            remembered.put(number, (), 10);
        }
        assert_eq!(remembered.count(), 2);
    }

    #[test]
    fn a_value_that_is_put_again_weighs_once() {
        let mut remembered = Remembered::new(10);
        for value in 0..100 {
            remembered.put("one", value, 2);
        }
        assert_eq!((remembered.get(&"one"), remembered.count()), (Some(99), 1));
    }
}
