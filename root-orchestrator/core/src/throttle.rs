//! Slows down who guesses passwords. The first failures of an account from an address cost nothing; from then on each
//! doubles how long the next attempt from there has to wait. A success forgets them, and is never counted: who logs in
//! on every command is not slowed down, and whoever guesses elsewhere does not lock the user out.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use model::Moment;

/// People mistype; programs guess thousands of times.
const FREE_FAILURES: u32 = 5;
/// After the first failure that costs something.
const FIRST_WAIT_MILLIS: u64 = 1000;
/// Twelve guesses an hour are as good as none.
const LONGEST_WAIT_MILLIS: u64 = 300_000;
/// Failures are forgotten this long after the last.
const FORGOTTEN_AFTER_MILLIS: u64 = 3_600_000;
/// Accounts and addresses remembered; about a megabyte. Of more, those are forgotten first that failed longest ago.
const MOST_REMEMBERED: usize = 8192;
/// Of a name that is given; no user has a longer one.
const NAME_BYTES: usize = 64;

/// Who failed where.
type Key = (String, IpAddr);

/// Failures of one account from one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failures {
    count: u32,
    last: Moment,
}

impl Failures {
    /// When the next attempt is taken.
    fn over(self) -> Moment {
        let Some(doublings) = self.count.checked_sub(FREE_FAILURES) else { return self.last };
        // Sixteen are more than the longest wait already.
        let wait = FIRST_WAIT_MILLIS << doublings.min(16);
        self.last.plus_millis(wait.min(LONGEST_WAIT_MILLIS))
    }
}

/// See the module's description. In memory only: a restart forgets.
#[derive(Debug, Default)]
pub struct Throttle {
    failures: BTreeMap<Key, Failures>,
}

impl Throttle {
    /// Whether an attempt is taken now.
    ///
    /// # Errors
    /// Milliseconds to wait.
    pub fn admit(&self, account: &str, from: IpAddr, now: Moment) -> Result<(), u64> {
        let known = self.failures.get(&key(account, from));
        match known.map_or(0, |failures| failures.over().millis_since(now)) {
            0 => Ok(()),
            wait => Err(wait),
        }
    }

    /// The password was wrong.
    pub fn failed(&mut self, account: &str, from: IpAddr, now: Moment) {
        let key = key(account, from);
        let count = match self.failures.get(&key) {
            Some(before) if now.millis_since(before.last) < FORGOTTEN_AFTER_MILLIS => before.count,
            Some(_) | None => 0,
        };
        self.failures.insert(key, Failures { count: count.saturating_add(1), last: now });
        if self.failures.len() > MOST_REMEMBERED {
            self.make_room(now);
        }
    }

    /// The password was right.
    pub fn succeeded(&mut self, account: &str, from: IpAddr) {
        self.failures.remove(&key(account, from));
    }

    /// Forgets what is old, or else the oldest half, so that it is not looked for at every failure.
    fn make_room(&mut self, now: Moment) {
        self.failures.retain(|_, failures| now.millis_since(failures.last) < FORGOTTEN_AFTER_MILLIS);
        if self.failures.len() > MOST_REMEMBERED {
            let mut times: Vec<Moment> = self.failures.values().map(|failures| failures.last).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            self.failures.retain(|_, failures| failures.last > middle);
        }
    }
}

fn key(account: &str, from: IpAddr) -> Key {
    let mut end = account.len().min(NAME_BYTES);
    while !account.is_char_boundary(end) {
        end -= 1;
    }
    (account[..end].to_owned(), network_of(from))
}

/// The addresses that are as good as one.
pub(crate) fn network_of(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        // Whoever has one address of a /64 has all of them.
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        IpAddr::V4(address) => IpAddr::V4(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const BEGINNING: Moment = Moment(10_000_000);

    fn after(failures: u32) -> Throttle {
        let mut throttle = Throttle::default();
        (0..failures).for_each(|_| throttle.failed("alice", HERE, BEGINNING));
        throttle
    }

    #[test]
    fn each_failure_beyond_the_free_ones_doubles_the_wait_up_to_a_limit() {
        let wait = |failures| after(failures).admit("alice", HERE, BEGINNING).err();
        assert_eq!([4, 5, 6, 7].map(wait), [None, Some(1000), Some(2000), Some(4000)]);
        assert_eq!([20, 100, 10_000].map(wait), [Some(300_000); 3]);
    }

    #[test]
    fn the_wait_ends() {
        let throttle = after(6);
        assert_eq!(throttle.admit("alice", HERE, BEGINNING.plus_millis(1999)), Err(1));
        assert_eq!(throttle.admit("alice", HERE, BEGINNING.plus_millis(2000)), Ok(()));
    }

    #[test]
    fn who_guesses_elsewhere_locks_nobody_out() {
        let throttle = after(100);
        assert_eq!(throttle.admit("alice", THERE, BEGINNING), Ok(()));
        assert_eq!(throttle.admit("bob", HERE, BEGINNING), Ok(()));
    }

    #[test]
    fn a_success_forgets_the_failures() {
        let mut throttle = after(4);
        throttle.succeeded("alice", HERE);
        (0..4).for_each(|_| throttle.failed("alice", HERE, BEGINNING));
        assert_eq!(throttle.admit("alice", HERE, BEGINNING), Ok(()));
        // However often it succeeds, nothing is remembered.
        (0..1000).for_each(|_| throttle.succeeded("bob", HERE));
        assert_eq!(throttle.failures.len(), 1);
    }

    #[test]
    fn an_hour_forgets_them_too() {
        let mut throttle = after(100);
        let later = BEGINNING.plus_millis(FORGOTTEN_AFTER_MILLIS);
        throttle.failed("alice", HERE, later);
        assert_eq!(throttle.admit("alice", HERE, later), Ok(()));
    }

    #[test]
    fn whoever_has_a_network_of_ipv6_is_one_and_mapped_addresses_are_those_of_ipv4() {
        let mut throttle = Throttle::default();
        for number in 0..5_u8 {
            let from: IpAddr = format!("2001:db8::{number}").parse().expect("an address");
            throttle.failed("alice", from, BEGINNING);
            throttle.failed("bob", "::ffff:192.0.2.1".parse().expect("an address"), BEGINNING);
        }
        let other: IpAddr = "2001:db8::ffff".parse().expect("an address");
        assert_eq!(throttle.admit("alice", other, BEGINNING), Err(1000));
        assert_eq!(throttle.admit("bob", HERE, BEGINNING), Err(1000));
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let mut throttle = Throttle::default();
        let mut now = BEGINNING;
        for number in 0..3 * MOST_REMEMBERED {
            now = now.plus_millis(1);
            throttle.failed(&format!("user{number}"), HERE, now);
            assert!(throttle.failures.len() <= MOST_REMEMBERED);
        }
        assert!(throttle.failures.contains_key(&key(&format!("user{}", 3 * MOST_REMEMBERED - 1), HERE)));
        throttle.failed(&"é".repeat(1000), HERE, now);
        assert!(throttle.failures.keys().all(|(name, _)| name.len() <= NAME_BYTES));
    }
}
