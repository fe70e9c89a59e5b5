//! What is recorded, what is only counted, what is forgotten, and what no record shows.

use std::collections::BTreeMap;

use ::audit::{Actor, Outcome, Record, Repeated, Start, Verified, Verifier, rfc3339};
use model::{AddedFile, Check, Probe, Sealed, UserId};

use super::{
    membership::{ADA, BOB, EVE, as_member, people, user},
    *,
};
use crate::{
    AuditFilter, Call, Envelope, FORGOTTEN_AT_ONCE, NewApiToken, NewSecret, NewUser, PasswordReset,
    SecretKind, actor, seen_by,
};

/// The store, as far as it holds records.
#[derive(Default)]
struct Book(BTreeMap<u64, Record>);

impl Book {
    fn take(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::AuditRecord(number, record) = change {
                match record {
                    Some(record) => drop(self.0.insert(*number, Record::clone(record))),
                    None => drop(self.0.remove(number)),
                }
            }
        }
    }

    fn verify(&self, root: &Root) -> Verified {
        let ends = root.state.audit_ends();
        let mut verifier = Verifier::new(Start::Behind(ends.forgotten));
        for record in self.0.values() {
            verifier.check(&record.line()).expect("whole");
        }
        verifier.finish(Some(ends.newest)).expect("all of it")
    }

    fn text(&self) -> String {
        self.0.values().map(|record| String::from_utf8(record.line()).expect("text") + "\n").collect()
    }

    fn last(&self) -> &Record {
        self.0.values().next_back().expect("there is one")
    }
}

impl Root {
    /// As the shell does what a call wants.
    fn recorded(&mut self, book: &mut Book, call: Call, mut changes: Vec<Change>) {
        changes.extend(self.state.record(call, &changes, self.now.date));
        book.take(&changes);
        self.apply(changes);
    }

    /// As the shell notes how a call ended; whether it is a record.
    fn noted(&mut self, book: &mut Book, call: Call, outcome: Outcome) -> bool {
        let changes = self.state.note(call, outcome, self.now);
        book.take(&changes);
        let is_recorded = !changes.is_empty();
        self.apply(changes);
        is_recorded
    }

    /// Time goes by, and what becomes due is written down.
    fn later(&mut self, book: &mut Book, millis: u64) {
        self.now =
            Now { date: self.now.date.plus_millis(millis), moment: self.now.moment.plus_millis(millis) };
        book.take(&self.reconcile().changes);
    }

    fn call_of(&self, user: UserId, action: &str) -> Call {
        let rights = as_member(self, user);
        let name = self.state.user(user).expect("there").name.clone();
        Call {
            request: Some("r1".to_owned()),
            actor: actor(&rights, &name, None),
            from: Some("192.0.2.7".parse().expect("an address")),
            ..Call::of_root(action)
        }
    }
}

fn anonymous(parameter: &str) -> Call {
    Call {
        actor: Actor::Anonymous,
        from: Some("192.0.2.9".parse().expect("an address")),
        parameters: BTreeMap::from([("id".to_owned(), parameter.to_owned())]),
        ..Call::of_root("DELETE /api/application/{id}")
    }
}

fn refused() -> Outcome {
    Outcome::Refused { error: "forbidden".to_owned(), status: Some(403) }
}

#[test]
fn a_record_says_who_changed_what_and_is_a_change_like_those() {
    let (mut root, mut book) = (people(), Book::default());
    let eve = as_member(&root, EVE);
    let new = NewUser { user: user(UserId::from_bytes([7; 12]), "kim"), roles: [].into() };
    let changes = root.state.register(&eve, new).expect("allowed");
    let call = root.call_of(EVE, "POST /api/auth/register");
    root.recorded(&mut book, call.clone(), changes);
    let Record { sequence, time, entry, .. } = book.last();
    assert_eq!((*sequence, time), (1, &rfc3339(root.now.date.0)));
    assert_eq!((&entry.actor, entry.from, &entry.outcome), (&call.actor, call.from, &Outcome::Done));
    assert_eq!(entry.organizations, [ACME.to_string()]);
    let seen: Vec<(&str, &str, bool)> = entry
        .objects
        .iter()
        .map(|object| (object.kind.as_str(), object.name.as_str(), object.before.is_some()))
        .collect();
    assert_eq!(seen, [("user", "kim", false), ("organization", "acme", true)]);
    assert_eq!(entry.objects[0].hidden, ["password"]);
    let after = entry.objects[1].after.as_ref().expect("it is there");
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        [&format!("member.{}", "07".repeat(12))],
        "what changed alone"
    );

    // Two calls of one turn follow on each other.
    let (first, second) = (root.call_of(ADA, "one"), root.call_of(ADA, "two"));
    root.recorded(&mut book, first, vec![]);
    root.recorded(&mut book, second, vec![]);
    assert_eq!(book.verify(&root).records, 3);
}

#[test]
fn what_a_service_becomes_is_shown_but_for_what_its_user_wrote_freely() {
    let (mut root, mut book) = (people(), Book::default());
    let mut spec = small();
    spec.environment.insert("DB_PASSWORD".to_owned(), "hunter2".to_owned());
    spec.command = vec!["serve".to_owned(), "--key=hunter3".to_owned()];
    let check = Check::Exec { command: vec!["hunter6".to_owned()] };
    spec.health.live = Some(Probe::new(check));
    let content = "hunter4".to_owned();
    spec.added_files = vec![AddedFile { path: "/etc/key".to_owned(), content, mode: 0o600 }];
    let wanted = SlaApplication {
        id: None,
        name: "shop".to_owned(),
        namespace: "prod".to_owned(),
        description: String::new(),
        services: vec![neighbours::wanted(spec.clone(), &[])],
    };
    let author = author(ACME);
    let made = root.state.create_applications(&author, vec![wanted], &mut root.ids, root.now.date);
    let (made, changes) = made.expect("a new name");
    let call = root.call_of(BOB, "POST /api/application");
    root.recorded(&mut book, call.clone(), changes);
    let service = root.state.services_of(made[0]).next().expect("its service").clone();
    let names: Vec<&str> = book.last().entry.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, [&*service.written_names().to_string(), "shop"]);
    assert_eq!(book.last().entry.objects[0].organization, Some(ACME.to_string()), "also of one that is new");

    spec.image = "image:2".to_owned();
    spec.environment.insert("DB_PASSWORD".to_owned(), "hunter5".to_owned());
    let (_, changes) =
        root.state.update(&service, neighbours::wanted(spec, &[]), root.now.date).expect("its name");
    root.recorded(&mut book, call.clone(), changes);
    let changed = &book.last().entry.objects[0];
    let field =
        |side: &Option<serde_json::Map<_, _>>, name: &str| side.as_ref().and_then(|it| it.get(name).cloned());
    assert_eq!(field(&changed.before, "image"), Some("image".into()));
    assert_eq!(field(&changed.after, "image"), Some("image:2".into()));
    assert_eq!(changed.hidden, ["environment.DB_PASSWORD"], "that it changed is seen");
    assert_eq!(field(&changed.after, "memory"), None, "what stays is not repeated");

    let known = root.state.service(service.id).expect("there").clone();
    let changes = root.state.delete_service(&known, root.now.date);
    root.recorded(&mut book, call, changes);
    let gone = &book.last().entry.objects[0];
    assert_eq!((gone.kind.as_str(), gone.after.is_none()), ("service", true));
    assert!(!book.text().contains("hunter"), "{}", book.text());
}

#[test]
fn no_record_shows_a_secret_a_hash_or_a_token() {
    let (mut root, mut book) = (people(), Book::default());
    let ada = as_member(&root, ADA);
    let call = root.call_of(ADA, "anything");
    let sealed = |_| Envelope {
        key: "hunter-key".to_owned(),
        data_key: Sealed(b"hunter-data".to_vec()),
        value: Sealed(b"hunter-value".to_vec()),
    };
    let id = model::SecretId::from_bytes([5; 12]);
    let wanted = NewSecret { id, organization: ROOT, name: "key".to_owned(), kind: SecretKind::Opaque };
    let (_, changes) = root.state.create_secret(wanted, root.now.date, sealed).expect("a new name");
    root.recorded(&mut book, call.clone(), changes);
    let rotated = root.state.rotate_secret(ROOT, "key", SecretKind::Opaque, root.now.date, sealed);
    root.recorded(&mut book, call.clone(), rotated.expect("there").1);
    let versions =
        book.last().entry.objects[0].after.as_ref().and_then(|after| after.get("versions").cloned());
    assert_eq!(versions, Some(serde_json::json!([2])));

    let later = root.now.date.plus_millis(1_000_000);
    let token = NewApiToken {
        id: uuid(9),
        name: "build".to_owned(),
        scopes: None,
        secret_hash: "hunter-token".to_owned(),
        expires_at: later,
    };
    let changes = root.state.create_api_token(&ada, token, root.now.date).expect("allowed");
    root.recorded(&mut book, call.clone(), changes);
    let reset = PasswordReset { secret_hash: "hunter-reset".to_owned(), expires_at: later };
    let (_, changes) = root.state.offer_reset(&ada, "bob", reset).expect("allowed");
    root.recorded(&mut book, call.clone(), changes);
    assert_eq!(book.last().entry.objects[0].hidden, ["reset_token"]);
    let changes = root.state.change_own_password(BOB, "hunter-hash".to_owned());
    root.recorded(&mut book, call.clone(), changes);
    assert_eq!(book.last().entry.objects[0].hidden, ["password", "reset_token"]);
    let changes = root.state.end_session("hunter-session".to_owned(), later, root.now.date);
    root.recorded(&mut book, call.clone(), changes);
    assert_eq!(book.last().entry.objects[0].kind, "login");
    let wanted = crate::HookWish {
        name: "hook".to_owned(),
        url: "https://hooks.example/hunter-path".to_owned(),
        entity: "jobs".to_owned(),
        events: [crate::HookEvent::PostCreate].into(),
    };
    let made = root.state.create_hook(model::HookId::from_bytes([6; 12]), ROOT, wanted, Some(sealed));
    root.recorded(&mut book, call.clone(), made.expect("it is free").1);
    let made = &book.last().entry.objects[0];
    assert_eq!(made.after.as_ref().expect("it is new")["origin"], "https://hooks.example");
    assert_eq!(made.hidden, ["url"]);
    let token = Token {
        id: uuid(8),
        kind: JoinKind::Worker { cluster: None },
        secret_hash: "hunter-join".to_owned(),
        uses_left: 1,
        expires_at: later,
        used_by: vec![("hunter-print".to_owned(), crate::JoinedAs::Worker)],
    };
    root.recorded(&mut book, call, vec![Change::Token(token.id, Some(token))]);
    let text = book.text();
    assert!(!text.contains("hunter") && !text.contains("aHVudGVy"), "{text}");
    assert_eq!(book.verify(&root).records, 8);
}

#[test]
fn what_is_refused_again_is_counted_and_the_count_is_written_down() {
    let (mut root, mut book) = (people(), Book::default());
    assert!(root.noted(&mut book, anonymous("one"), refused()));
    for _ in 0..1000 {
        assert!(!root.noted(&mut book, anonymous("one"), refused()));
    }
    let elsewhere = Call { from: Some("192.0.2.10".parse().expect("an address")), ..anonymous("one") };
    assert!(root.noted(&mut book, elsewhere, refused()), "another address");
    let from = |address: &str| Call { from: address.parse().ok(), ..anonymous("six") };
    assert!(root.noted(&mut book, from("2001:db8::1"), refused()));
    assert!(!root.noted(&mut book, from("2001:db8::2"), refused()), "who has one of a /64 has all of it");
    assert!(root.noted(&mut book, anonymous("two"), refused()), "something else");
    root.later(&mut book, 59_999);
    assert_eq!(book.0.len(), 4);
    let last = rfc3339(BEGINNING.date.0);
    root.later(&mut book, 1);
    assert_eq!(book.0.len(), 6, "only what came again");
    let counted = |it: &&Record| it.entry.parameters["id"] == "one" && it.entry.repeated.is_some();
    let Record { entry, .. } = book.0.values().find(counted).expect("it is written down");
    assert_eq!(entry.repeated, Some(Repeated { times: 1000, until: last }));
    assert_eq!(entry.outcome, refused());
    assert!(root.noted(&mut book, anonymous("one"), refused()), "after a minute it is news");
    book.verify(&root);
}

#[test]
fn nobody_fills_the_disk_by_being_refused_and_nobody_hides_behind_another() {
    let (mut root, mut book) = (people(), Book::default());
    for minute in 0..60_u64 {
        for number in 0..500 {
            root.noted(&mut book, anonymous(&format!("{minute}.{number}")), refused());
        }
        root.later(&mut book, 60_000);
    }
    let most = 60 + 60 + 6;
    assert!(book.0.len() <= most, "{} records", book.0.len());
    let counted: u64 = book.0.values().map(|it| it.entry.repeated.as_ref().map_or(1, |it| it.times)).sum();
    assert_eq!(counted, 60 * 500, "each is in some record");
    for number in 0..500 {
        root.noted(&mut book, anonymous(&format!("again.{number}")), refused());
    }
    let call = root.call_of(BOB, "DELETE /api/application/{id}");
    assert!(root.noted(&mut book, call, refused()), "who is known has a budget of his own");
    assert!(root.noted(&mut book, root_call(), Outcome::Done), "what is done is always recorded");
    assert!(root.noted(&mut book, root_call(), Outcome::Done));
    book.verify(&root);
}

fn root_call() -> Call {
    Call::of_root("POST /api/cluster/{id}/rebalance")
}

#[test]
fn logins_are_recorded_once_a_minute_whoever_else_is_refused() {
    let (mut root, mut book) = (people(), Book::default());
    let login = || Call { is_routine: true, ..anonymous("kim") };
    for number in 0..1000 {
        root.noted(&mut book, anonymous(&number.to_string()), refused());
    }
    assert!(root.noted(&mut book, login(), Outcome::Done));
    assert!(!root.noted(&mut book, login(), Outcome::Done));
    root.later(&mut book, 60_000);
    assert!(root.noted(&mut book, login(), Outcome::Done));
    assert!(book.0.values().any(|it| it.entry.outcome == Outcome::Done && it.entry.repeated.is_some()));
}

#[test]
fn so_many_kinds_of_calls_are_remembered_and_no_more() {
    let (mut root, mut book) = (people(), Book::default());
    for number in 0..4096 {
        let login = Call { is_routine: true, ..anonymous(&number.to_string()) };
        assert!(root.noted(&mut book, login, Outcome::Done));
    }
    assert!(!root.noted(&mut book, anonymous("more"), refused()), "it is counted with others");
    root.later(&mut book, 600_000);
    assert_eq!(book.last().entry.action, "many calls");
}

#[test]
fn the_oldest_are_forgotten_and_what_is_left_is_whole() {
    let (mut root, mut book) = (people(), Book::default());
    root.state.keep_records(300);
    for _ in 0..2000 {
        let call = root.call_of(ADA, "again");
        root.recorded(&mut book, call, vec![]);
        book.take(&root.state.reconcile(root.now).changes);
        let kept = book.0.len() as u64;
        assert!(kept <= 300 + FORGOTTEN_AT_ONCE + 1, "{kept}");
    }
    let verified = book.verify(&root);
    assert!(verified.records >= 300 && verified.first > 1, "{verified:?}");
    assert!(verified.is_anchored);
    assert_eq!(root.state.audit_ends().forgotten.sequence % FORGOTTEN_AT_ONCE, 0);
}

#[test]
fn an_organisation_sees_what_is_its_own() {
    let (mut root, mut book) = (people(), Book::default());
    let ada = as_member(&root, ADA);
    let changes = root.state.delete_user(&ada, "bob").expect("allowed");
    let call = root.call_of(ADA, "DELETE /api/user/{name}");
    root.recorded(&mut book, call, changes);
    let entry = &book.last().entry;
    let acme = seen_by(entry.clone(), ACME).expect("it lost a member");
    let kinds: Vec<&str> = acme.objects.iter().map(|object| object.kind.as_str()).collect();
    assert_eq!((kinds, acme.from), (vec!["organization"], None), "not from where others come");
    assert_eq!(acme.organizations, [ACME.to_string()]);
    let ours = seen_by(entry.clone(), ROOT).expect("it did it");
    let kinds: Vec<&str> = ours.objects.iter().map(|object| object.kind.as_str()).collect();
    assert_eq!((kinds, ours.from), (vec!["user"], entry.from));
    assert_eq!(seen_by(entry.clone(), OrganizationId::from_bytes([3; 12])), None);
}

#[test]
fn records_are_found_by_organisation_user_and_time() {
    let (mut root, mut book) = (people(), Book::default());
    let call = root.call_of(EVE, "anything");
    root.recorded(&mut book, call, vec![]);
    let guess =
        Call { parameters: BTreeMap::from([("username".to_owned(), "eve".to_owned())]), ..anonymous("") };
    root.noted(&mut book, guess, refused());
    let [by_her, guessed] = book.0.values().collect::<Vec<_>>()[..] else { panic!("two records") };
    let none = AuditFilter::default;
    let organization = |id| AuditFilter { organization: Some(id), ..none() };
    let user = |user: &str| AuditFilter { user: Some(user.to_owned()), ..none() };
    let since = |at: Timestamp| AuditFilter { since: Some(rfc3339(at.0)), ..none() };
    for (filter, expected) in [
        (none(), (true, true)),
        (organization(ACME), (true, false)),
        (organization(ROOT), (false, false)),
        (user("eve"), (true, true)),
        (user(&EVE.to_string()), (true, false)),
        (user("bob"), (false, false)),
        (since(root.now.date), (true, true)),
        (since(root.now.date.plus_millis(1)), (false, false)),
    ] {
        assert_eq!((filter.admits(by_her), filter.admits(guessed)), expected, "{filter:?}");
    }
}
