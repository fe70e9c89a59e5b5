//! Whatever is done to a chain, the first record that is not as it was is found.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use crate::{
    Actor, Broken, Checkpoint, Entry, Head, LARGEST_RECORD, Object, Outcome, Reason, Record, Repeated, Start,
    Verified, Verifier, View, rfc3339,
};

fn entry(number: usize) -> Entry {
    let view = |state: &str| View::default().show("state", state).show("number", number).hide("key", state);
    let object = Object::of("thing", number.to_string(), Some(view("old")), Some(view("new \"\u{e9}\u{7}")));
    let actor = match number % 3 {
        0 => Actor::Anonymous,
        1 => Actor::Root,
        _ => Actor::User {
            id: "5".repeat(24),
            name: "kim".to_owned(),
            organization: "a".repeat(24),
            api_token: None,
        },
    };
    let outcome = match number % 2 {
        0 => Outcome::Done,
        _ => Outcome::Refused { error: "forbidden".to_owned(), status: Some(403) },
    };
    Entry {
        request: Some(format!("request-{number}")),
        actor,
        from: Some("192.0.2.1".parse().expect("an address")),
        action: "PUT /api/thing/{id}".to_owned(),
        parameters: BTreeMap::from([("id".to_owned(), number.to_string())]),
        outcome,
        objects: object.into_iter().collect(),
        more: 0,
        organizations: vec!["a".repeat(24)],
        repeated: number.is_multiple_of(4).then(|| Repeated { times: 3, until: rfc3339(7) }),
    }
}

fn chain_behind(mut head: Head, entries: impl IntoIterator<Item = Entry>) -> (Vec<Record>, Head) {
    let append = |entry| {
        let record = head.append(rfc3339(1_763_805_600_000 + head.sequence), entry);
        head = (&record).into();
        record
    };
    let records = entries.into_iter().map(append).collect();
    (records, head)
}

fn chain(length: usize) -> (Vec<Vec<u8>>, Head) {
    let (records, head) = chain_behind(Head::default(), (1..=length).map(entry));
    (records.iter().map(Record::line).collect(), head)
}

fn verify(start: Start, lines: &[Vec<u8>], newest: Option<Head>) -> Result<Verified, Broken> {
    let mut verifier = Verifier::new(start);
    for line in lines {
        verifier.check(line)?;
    }
    verifier.finish(newest)
}

fn from_the_beginning(lines: &[Vec<u8>], newest: Head) -> Result<Verified, Broken> {
    verify(Start::Behind(Head::default()), lines, Some(newest))
}

fn broken_at(verified: Result<Verified, Broken>) -> Option<u64> {
    verified.err().map(|broken| broken.sequence)
}

#[test]
fn what_was_written_is_whole_and_reads_as_it_was() {
    let (lines, head) = chain(9);
    let whole = Verified { records: 9, first: 1, last: head, is_anchored: true };
    assert_eq!(from_the_beginning(&lines, head), Ok(whole));
    assert_eq!(verify(Start::Anywhere, &lines, None), Ok(whole));
    let read = Verifier::new(Start::Anywhere).check(&lines[0]).expect("whole");
    assert_eq!(read.entry, entry(1));
    assert!(lines.iter().all(|line| !line.contains(&b'\n')), "each is one line");
}

#[test]
fn a_chain_of_nothing_is_whole() {
    let nothing = Verified { records: 0, first: 1, last: Head::default(), is_anchored: true };
    assert_eq!(from_the_beginning(&[], Head::default()), Ok(nothing));
}

proptest! {
    #[test]
    fn a_byte_that_is_another_is_found_in_its_record(length in 1_usize..8, place: prop::sample::Index, byte: u8) {
        let (mut lines, head) = chain(length);
        let all: usize = lines.iter().map(Vec::len).sum();
        let mut place = place.index(all);
        let mut changed = 0;
        while place >= lines[changed].len() {
            place -= lines[changed].len();
            changed += 1;
        }
        let was = std::mem::replace(&mut lines[changed][place], byte);
        let expected = (was != byte).then_some(changed as u64 + 1);
        prop_assert_eq!(broken_at(from_the_beginning(&lines, head)), expected);
    }

    #[test]
    fn a_byte_too_many_or_too_few_is_found_in_its_record(length in 1_usize..8, record: prop::sample::Index, place: prop::sample::Index, byte: Option<u8>) {
        let (mut lines, head) = chain(length);
        let record = record.index(length);
        let place = place.index(lines[record].len());
        match byte {
            Some(byte) => lines[record].insert(place, byte),
            None => drop(lines[record].remove(place)),
        }
        prop_assert_eq!(broken_at(from_the_beginning(&lines, head)), Some(record as u64 + 1));
    }

    #[test]
    fn records_that_were_taken_out_are_missed_at_the_first(length in 1_usize..12, from: prop::sample::Index, count in 1_usize..5) {
        let (mut lines, head) = chain(length);
        let from = from.index(length);
        lines.drain(from..length.min(from + count));
        prop_assert_eq!(broken_at(from_the_beginning(&lines, head)), Some(from as u64 + 1));
    }

    #[test]
    fn records_that_changed_places_are_found_at_the_first(length in 2_usize..12, one: prop::sample::Index, other: prop::sample::Index) {
        let (mut lines, head) = chain(length);
        let (one, other) = (one.index(length), other.index(length));
        lines.swap(one, other);
        let expected = (one != other).then_some(one.min(other) as u64 + 1);
        prop_assert_eq!(broken_at(from_the_beginning(&lines, head)), expected);
    }

    #[test]
    fn a_record_that_was_written_anew_is_found_at_the_next(length in 1_usize..8, forged: prop::sample::Index) {
        let (mut lines, head) = chain(length);
        let forged = forged.index(length);
        let record: Record = serde_json::from_slice(&lines[forged]).expect("a record");
        let before = Head { sequence: record.sequence - 1, hash: record.previous };
        lines[forged] = before.append(record.time, Entry { from: None, ..record.entry }).line();
        // Of the last nothing follows but what was known of it.
        let expected = (forged as u64 + 2).min(length as u64);
        prop_assert_eq!(broken_at(from_the_beginning(&lines, head)), Some(expected));
    }
}

#[test]
fn a_record_that_was_written_anew_is_found_even_if_the_next_names_its_new_hash() {
    let (mut lines, head) = chain(3);
    let record: Record = serde_json::from_slice(&lines[1]).expect("a record");
    let before = Head { sequence: 1, hash: record.previous };
    let forged = before.append(record.time, Entry { from: None, ..record.entry });
    lines[1] = forged.line();
    let next = String::from_utf8(lines[2].clone()).expect("text");
    lines[2] = next.replace(&record.hash.to_string(), &forged.hash.to_string()).into_bytes();
    let found = Broken { sequence: 3, reason: Reason::Content };
    assert_eq!(from_the_beginning(&lines, head), Err(found), "what it follows on is part of its hash");
}

#[test]
fn it_is_said_what_is_wrong() {
    let (lines, head) = chain(3);
    let reason = |lines: &[Vec<u8>]| from_the_beginning(lines, head).map_err(|broken| broken.reason);
    let text = String::from_utf8(lines[1].clone()).expect("text");
    let with = |line: String| [lines[0].clone(), line.into_bytes(), lines[2].clone()];
    assert_eq!(reason(&with(text.replace("kim", "tim"))), Err(Reason::Content));
    assert_eq!(
        reason(&with(text.replace("kim", "k\\u0069m"))),
        Err(Reason::Form),
        "the same, written otherwise"
    );
    assert_eq!(reason(&with(format!(" {text}"))), Err(Reason::Form));
    assert_eq!(reason(&with(text.replacen('{', "{\"other\":1,", 1))), Err(Reason::Form));
    assert_eq!(reason(&[lines[0].clone(), lines[2].clone()]), Err(Reason::Place(3)));
    assert_eq!(reason(&lines[..2]), Err(Reason::Missing));
    assert!(matches!(reason(&with("{}".to_owned())), Err(Reason::Unreadable(_))));
    let (other, _) = chain_behind(Head { sequence: 1, ..Head::default() }, [entry(2)]);
    assert_eq!(reason(&[lines[0].clone(), other[0].line()]), Err(Reason::Predecessor));
    // One that begins anywhere must still follow on nothing if it begins with the first.
    let forged = Head { sequence: 0, hash: head.hash }.append(rfc3339(0), entry(1)).line();
    let anywhere = verify(Start::Anywhere, &[forged], None);
    assert_eq!(anywhere, Err(Broken { sequence: 1, reason: Reason::Predecessor }));
}

#[test]
fn what_was_forgotten_on_purpose_is_not_missed_and_what_was_not_is() {
    let (first, head) = chain_behind(Head::default(), (1..=5).map(entry));
    let forgotten = Head::from(&first[2]);
    let (second, newest) = chain_behind(head, [Checkpoint(forgotten).entry(), entry(7)]);
    let lines: Vec<Vec<u8>> = first[3..].iter().chain(&second).map(Record::line).collect();
    let whole = Verified { records: 4, first: 4, last: newest, is_anchored: true };
    assert_eq!(verify(Start::Behind(forgotten), &lines, Some(newest)), Ok(whole));
    assert_eq!(verify(Start::Anywhere, &lines, None), Ok(whole));

    // One more was taken out: nothing says that it was forgotten.
    let missing = |verified| verified == Err(Broken { sequence: 5, reason: Reason::Beginning });
    assert!(missing(verify(Start::Behind((&first[3]).into()), &lines[1..], Some(newest))));
    // Nor does anybody but the root say so.
    let claimed = Entry { actor: Actor::Anonymous, ..Checkpoint((&first[3]).into()).entry() };
    let (third, later) = chain_behind(newest, [claimed]);
    let claimed: Vec<Vec<u8>> = lines[1..].iter().cloned().chain([third[0].line()]).collect();
    assert!(missing(verify(Start::Behind((&first[3]).into()), &claimed, Some(later))));
    let part = verify(Start::Anywhere, &lines[1..], None).expect("what is there is whole");
    assert_eq!((part.first, part.is_anchored), (5, false));
}

#[test]
fn a_record_is_never_larger_than_it_may_be() {
    let names: Vec<String> = (0..100).map(|number| format!("{number}{}", "n".repeat(500))).collect();
    let large = |number: usize| {
        let view = View::default().show("names", names.clone()).show("few", json!([1]));
        Object::of("thing", number.to_string(), None, Some(view))
    };
    let with = |count: usize| Entry { objects: (0..count).filter_map(large).collect(), ..entry(1) };
    let one = Head::default().append(rfc3339(0), with(2));
    assert!(one.line().len() <= LARGEST_RECORD, "{}", one.line().len());
    assert_eq!((one.entry.objects.len(), one.entry.more), (2, 0), "their details are left out first");
    assert_eq!(one.entry.objects[0].hidden, ["few", "names"]);
    // Of one that changed, both what it was and what it is.
    let view = |letter: &str| Some(View::default().show("names", vec![letter.repeat(200); 32]));
    let changed = |number: usize| Object::of("thing", number.to_string(), view("a"), view("b"));
    let two = Entry { objects: (0..2).filter_map(changed).collect(), ..entry(1) };
    let two = Head::default().append(rfc3339(0), two);
    let sides = |object: &Object| (object.before.clone(), object.after.clone());
    let empty = || Some(serde_json::Map::new());
    assert_eq!(
        two.entry.objects.iter().map(sides).collect::<Vec<_>>(),
        [(empty(), empty()), (empty(), empty())]
    );
    let many = Head::default().append(rfc3339(0), with(10_000));
    assert!(many.line().len() <= LARGEST_RECORD, "{}", many.line().len());
    assert_eq!(many.entry.objects.len() as u64 + many.entry.more, 10_000);
    assert!(many.entry.objects.len() > 50);
    assert!(Verifier::new(Start::Anywhere).check(&many.line()).is_ok());
}
