//! What the targets share: how bytes become messages, and what holds for a brain whatever it was told.

use data_encoding::BASE64;
use model::{Brain, Moment, Now, Timestamp};

/// When everything begins.
pub(crate) const BEGINNING: Now = Now { date: Timestamp(1_000_000), moment: Moment(5_000_000) };

/// The parts of an input, each with a number that chooses what it is: that number, a length in two bytes, and as many
/// bytes as it says or there are.
pub(crate) fn parts(data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let [choice, high, low, after @ ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (part, left) = after.split_at(length);
        rest = left;
        Some((*choice, part))
    })
}

/// Later, by as much as `choice` says: at once up to some seconds.
pub(crate) fn later(now: Now, choice: u8) -> Now {
    let millis = 700 * u64::from(choice >> 4);
    Now { date: now.date.plus_millis(millis), moment: now.moment.plus_millis(millis) }
}

/// Takes on changes and does what follows.
///
/// # Panics
/// When the brain breaks its word: a second pass without news finds something to do.
pub(crate) fn settle<B: Brain>(brain: &mut B, changes: Vec<B::Change>, now: Now) {
    changes.into_iter().for_each(|change| brain.apply(change));
    brain.reconcile(now);
    let again = brain.reconcile(now);
    assert!(
        again.changes.is_empty() && again.effects.is_empty(),
        "a second pass without news finds something to do"
    );
}

/// What is genuine, changed as an input says: it is read as places, in two bytes each, and what is put there.
pub(crate) fn changed(genuine: &[u8], data: &[u8]) -> Vec<u8> {
    let mut changed = genuine.to_vec();
    for change in data.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]])) % changed.len();
        changed[place] = change[2];
    }
    changed
}

/// The text form of a certificate, or of a request for one.
pub(crate) fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", BASE64.encode(der))
}

/// What is in the first of a text of [`pem`], or of one that is made by others.
pub(crate) fn from_pem(text: &str) -> Vec<u8> {
    let lines = text.lines().skip(1).take_while(|line| !line.starts_with('-'));
    BASE64.decode(lines.collect::<String>().as_bytes()).expect("it is Base64 between two lines")
}
