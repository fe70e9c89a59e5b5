//! How new connections to a least used address are shared out. The kernel draws a place of the service's list by chance,
//! each as likely as the other (`Chain::Random`); an instance with twice the weight has twice as many places. Weights are
//! decided in `cluster-orchestrator/core/src/weights.rs`.

use model::{StableAddress, Weight};

/// A service may have so many places, or twice as many as instances if those are more: each place is an entry in the kernel
/// for either family. 32 instances always get exactly what their weights say.
const MOST_PLACES: usize = 256;

/// The list to draw from, as short as it can be: of instances with the same weight each has one place.
pub(crate) fn places(ready: &[(StableAddress, Weight)]) -> Vec<StableAddress> {
    let most = MOST_PLACES.max(2 * ready.len());
    let mut weights: Vec<Weight> = ready.iter().map(|(_, weight)| *weight).collect();
    let sum = |weights: &[Weight]| -> usize { weights.iter().map(|weight| weight.get() as usize).sum() };
    loop {
        let divisor = Weight::common_divisor(weights.iter().copied());
        divide(&mut weights, divisor);
        if sum(&weights) <= most {
            break;
        }
        // Coarser: whoever has the least gets a bit more.
        divide(&mut weights, 2);
    }
    let addresses = ready.iter().zip(weights);
    addresses.flat_map(|((address, _), weight)| (0..weight.get()).map(|_| *address)).collect()
}

/// Nobody is left with nothing: the least weight is 1.
fn divide(weights: &mut [Weight], divisor: u32) {
    weights.iter_mut().for_each(|weight| *weight = Weight::new(weight.get() / divisor));
}

#[cfg(test)]
mod tests {
    use model::AddressKind;
    use proptest::prelude::*;

    use super::*;

    fn weighted(weights: &[u32]) -> Vec<(StableAddress, Weight)> {
        let address = |slot| StableAddress::at(AddressKind::Instance, slot);
        (1..).map(address).zip(weights.iter().map(|weight| Weight::new(*weight))).collect()
    }

    /// How many places each has.
    fn shares(ready: &[(StableAddress, Weight)]) -> Vec<usize> {
        let places = places(ready);
        ready.iter().map(|(address, _)| places.iter().filter(|place| *place == address).count()).collect()
    }

    proptest! {
        #[test]
        fn the_share_of_each_is_exactly_that_of_its_weight(
            weights in prop::collection::vec(1_u32..=8, 1..=32),
        ) {
            let ready = weighted(&weights);
            let shares = shares(&ready);
            let total: usize = shares.iter().sum();
            let sum: u32 = weights.iter().sum();
            for (share, weight) in shares.iter().zip(&weights) {
                prop_assert_eq!(share * sum as usize, total * *weight as usize);
            }
        }

        #[test]
        fn however_many_there_are_each_has_a_place_and_no_more_is_taken_than_allowed(
            weights in prop::collection::vec(1_u32..=8, 1..=600),
        ) {
            let shares = shares(&weighted(&weights));
            prop_assert!(shares.iter().all(|share| *share > 0));
            prop_assert!(shares.iter().sum::<usize>() <= 256.max(2 * weights.len()));
            for (share, weight) in shares.iter().zip(&weights) {
                for (other_share, other_weight) in shares.iter().zip(&weights) {
                    prop_assert!(weight < other_weight || share >= other_share, "more weight is never less");
                }
            }
        }
    }

    #[test]
    fn equal_weights_take_one_place_each() {
        for weight in 1..=8 {
            assert_eq!(shares(&weighted(&[weight; 40])), [1; 40]);
        }
        assert_eq!(shares(&weighted(&[])), []);
    }

    #[test]
    fn a_large_service_still_leads_more_to_those_with_more() {
        let mut weights = vec![8; 999];
        weights.push(1);
        let shares = shares(&weighted(&weights));
        assert_eq!((shares[0], shares[999]), (2, 1));
    }
}
