//! Listing, exporting and checking the records of who changed what.

use audit::{Actor, Entry, Head, Outcome, Record, rfc3339};
use serde_json::{Value, json};

use crate::{Home, done, failed, fake_root::FakeRoot, finish_with_input};

fn records() -> Vec<Record> {
    let mut head = Head::default();
    let append = |number: u64| {
        let entry = Entry {
            request: Some(format!("r{number}")),
            actor: Actor::Anonymous,
            from: None,
            action: "POST /api/auth/login".to_owned(),
            parameters: [].into(),
            outcome: Outcome::Done,
            objects: Vec::new(),
            more: 0,
            organizations: Vec::new(),
            repeated: None,
        };
        let record = head.append(rfc3339(1_763_805_600_000 + number), entry);
        head = (&record).into();
        record
    };
    (1..=3).map(append).collect()
}

fn lines() -> String {
    records().iter().map(|record| String::from_utf8(record.line()).unwrap() + "\n").collect()
}

fn kept(first: u64) -> String {
    let last = records()[2].hash;
    let more = if first == 1 {
        String::new()
    } else {
        format!("records before {first} are not in it: check them in the export that has them\n")
    };
    format!(
        "the last has the hash {last}: who keeps it elsewhere can tell later that these are still they\n{more}"
    )
}

#[test]
fn an_export_is_checked_without_a_root() {
    let home = Home::new();
    let file = home.file("audit.jsonl", &lines());
    assert_eq!(
        home.run(&["audit", "verify", "--file", &file]),
        done("3 records from 1 to 3: whole\n", &kept(1))
    );
    let rest: String = lines().split_inclusive('\n').skip(1).collect();
    let read = finish_with_input(&mut home.mangrove(&["audit", "verify", "--file", "-"]), &rest);
    assert_eq!(read, done("2 records from 2 to 3: whole\n", &kept(2)));
}

#[test]
fn the_first_broken_record_of_an_export_is_told() {
    let home = Home::new();
    let whole = lines();
    let text: Vec<&str> = whole.split_inclusive('\n').collect();
    for (content, sequence, reason) in [
        (whole.replace("\"r2\"", "\"r9\""), 2, "what it says does not have the hash it has"),
        (
            format!("{}{}", text[0], text[2]),
            2,
            "record 3 is in its place: records were taken out, put in or moved",
        ),
        (
            format!("{}{}", text[0], whole),
            2,
            "record 1 is in its place: records were taken out, put in or moved",
        ),
        (whole.replace('\n', " \n"), 1, "it is not written as records are"),
    ] {
        let file = home.file("audit.jsonl", &content);
        let expected = format!(
            "error: the records of {file} are not whole; record {sequence} is the first that is broken: {reason}\n  \
             hint: what comes from there on proves nothing: compare with an export from before, or with a backup of \
             the root's state directory\n"
        );
        assert_eq!(home.run(&["audit", "verify", "-f", &file]), failed(1, &expected));
    }
    let missing = home.run(&["audit", "verify", "--file", "/nowhere/audit.jsonl"]);
    assert_eq!(missing.code, 2, "{}", missing.stderr);
}

#[test]
fn what_the_root_finds_is_told() {
    let root = FakeRoot::start();
    let home = Home::logged_in_to(&root);
    root.state().audit = json!({
        "whole": true, "broken": null, "records": 3, "first": 1, "last": 3, "hash": records()[2].hash,
    });
    assert_eq!(home.run(&["audit", "verify"]), done("3 records from 1 to 3: whole\n", &kept(1)));
    root.state().audit = json!({"whole": false, "broken": {"sequence": 7, "reason": "it was eaten"}});
    let broken = home.run(&["audit", "verify"]);
    assert_eq!(broken.code, 1);
    assert!(
        broken.stderr.contains("record 7 is the first that is broken: it was eaten"),
        "{}",
        broken.stderr
    );
}

#[test]
fn records_are_listed_page_by_page() {
    let root = FakeRoot::start();
    let home = Home::logged_in_to(&root);
    let record = |sequence: u64, more: Value| {
        let mut record = json!({
            "sequence": sequence, "time": "2026-11-22T10:00:00.000Z", "actor": {"kind": "user", "name": "kim"},
            "from": "192.0.2.1", "action": "DELETE /api/application/{id}", "result": "done", "request": "r",
            "objects": [{"kind": "application", "name": "shop", "before": {}}],
        });
        more.as_object().unwrap().iter().for_each(|(key, value)| record[key] = value.clone());
        record
    };
    let refused = json!({
        "result": "refused", "error": "forbidden", "objects": [], "actor": {"kind": "anonymous"},
        "repeated": {"times": 7, "until": ""},
    });
    root.state().audit_pages = [
        json!({"records": [record(9, json!({}))], "next": 5}),
        json!({"records": [record(3, refused)], "next": null}),
    ]
    .into();
    root.requests();
    let listed = home.run(&["audit", "list", "--user", "kim & co", "--since", "2026-11-22T10:00:00+01:00"]);
    assert_eq!(
        listed,
        done(
            "NUMBER   TIME                       WHO         FROM        CALL                           RESULT                    CHANGED\n\
             9        2026-11-22T10:00:00.000Z   kim         192.0.2.1   DELETE /api/application/{id}   done                      application shop\n\
             3        2026-11-22T10:00:00.000Z   anonymous   192.0.2.1   DELETE /api/application/{id}   forbidden, 7 times more   -\n",
            ""
        )
    );
    let asked = "GET /api/v1/audit?user=kim+%26+co&since=2026-11-22T10%3A00%3A00%2B01%3A00";
    assert_eq!(root.requests(), [format!("{asked}&limit=50"), format!("{asked}&limit=49&before=5")]);
}

#[test]
fn an_export_is_passed_on_as_it_comes() {
    let root = FakeRoot::start();
    let home = Home::logged_in_to(&root);
    root.state().audit_lines = lines();
    root.requests();
    assert_eq!(home.run(&["audit", "export", "--after", "7"]), done(&lines(), ""));
    assert_eq!(root.requests(), ["GET /api/v1/audit/export?after=7"]);
}
