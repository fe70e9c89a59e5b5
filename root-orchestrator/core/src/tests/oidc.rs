//! What an identity provider's word makes of somebody, and what it does not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    membership::{ADA, BOB, as_member, people, user},
    *,
};
use crate::{
    Call, NewApiToken, Organization, PasswordReset, PeopleChange, PeopleRejected, Session, User, UserChange,
    access::Role,
    oidc::{
        API_TOKEN_REST_MILLIS, ClaimError, Claims, Confirmed, Expected, FETCH_AGAIN_MILLIS, Grant,
        GrantError, KEYS_LAST_MILLIS, KeysAge, LEEWAY_SECONDS, NoGrant, OLDEST_SECONDS, ProviderIdentity,
        ProviderLogin, ProviderToken, granted,
    },
};
use model::{Moment, UserId};

const ISSUER: &str = "https://id.example";
const NOW: u64 = 100_000;
const KIM: UserId = UserId::from_bytes([0x41; 12]);

fn claims(value: Value) -> Claims {
    let Value::Object(claims) = value else { panic!("{value} is no object") };
    Claims::new(claims)
}

/// A good token, with changes; `null` leaves a claim out.
fn said(changes: Value) -> Claims {
    let mut token = json!({
        "iss": ISSUER, "sub": "kim", "aud": "mangrove", "exp": NOW + 600, "iat": NOW, "nonce": "once",
    });
    for (name, value) in changes.as_object().expect("an object") {
        token[name] = value.clone();
    }
    let mut token = token.as_object().expect("an object").clone();
    token.retain(|_, value| !value.is_null());
    Claims::new(token)
}

fn check(changes: Value) -> Result<String, ClaimError> {
    let now = Timestamp(NOW * 1000);
    let expected = Expected { issuer: ISSUER, client_id: "mangrove", nonce: Some("once"), now };
    said(changes).check(&expected).map(|identity| {
        assert_eq!(identity.issuer, ISSUER);
        identity.subject
    })
}

#[test]
fn a_token_counts_for_us_now_and_for_this_login() {
    let good = Ok("kim".to_owned());
    let missing = |name| Err(ClaimError::Missing(name));
    let issuer = |said: &str| Err(ClaimError::Issuer(said.to_owned()));
    let cases = [
        (json!({}), good.clone()),
        (json!({"iss": "https://id.example/"}), issuer("https://id.example/")),
        (json!({"iss": null}), missing("iss")),
        (json!({"aud": "another"}), Err(ClaimError::Audience)),
        (json!({"aud": ["another"]}), Err(ClaimError::Audience)),
        (json!({"aud": []}), Err(ClaimError::Audience)),
        (json!({"aud": null}), missing("aud")),
        (json!({"aud": [7, "mangrove"]}), missing("aud")),
        (json!({"aud": ["mangrove"]}), good.clone()),
        (json!({"aud": ["mangrove", "another"]}), Err(ClaimError::AuthorizedParty)),
        (json!({"aud": ["mangrove", "another"], "azp": "mangrove"}), good.clone()),
        (json!({"aud": ["mangrove", "another"], "azp": "another"}), Err(ClaimError::AuthorizedParty)),
        (json!({"azp": "another"}), Err(ClaimError::AuthorizedParty)),
        (json!({"azp": 7}), Err(ClaimError::AuthorizedParty)),
        (json!({"exp": null}), missing("exp")),
        (json!({"exp": "soon"}), missing("exp")),
        (json!({"exp": NOW - LEEWAY_SECONDS}), Err(ClaimError::Expired)),
        (json!({"exp": NOW - LEEWAY_SECONDS + 1}), good.clone()),
        (json!({"exp": 100_000.5}), good.clone()),
        (json!({"exp": -1}), missing("exp")),
        (json!({"exp": u64::MAX}), good.clone()),
        (json!({"iat": null}), missing("iat")),
        (json!({"iat": NOW + LEEWAY_SECONDS}), good.clone()),
        (json!({"iat": NOW + LEEWAY_SECONDS + 1}), Err(ClaimError::Future)),
        (json!({"iat": NOW - OLDEST_SECONDS - LEEWAY_SECONDS}), good.clone()),
        (json!({"iat": NOW - OLDEST_SECONDS - LEEWAY_SECONDS - 1}), Err(ClaimError::Old)),
        (json!({"nbf": NOW + LEEWAY_SECONDS + 1}), Err(ClaimError::Future)),
        (json!({"nbf": NOW}), good),
        (json!({"nonce": null}), missing("nonce")),
        (json!({"nonce": "twice"}), Err(ClaimError::Nonce)),
        (json!({"sub": null}), missing("sub")),
        (json!({"sub": ""}), missing("sub")),
        (json!({"sub": "x".repeat(256)}), missing("sub")),
        (json!({"sub": 7}), missing("sub")),
    ];
    for (changes, wanted) in cases {
        assert_eq!(check(changes.clone()), wanted, "{changes}");
    }
}

#[test]
fn what_is_said_elsewhere_is_about_the_same_user_and_changes_nothing_that_was_signed() {
    let signed = said(json!({"groups": ["a"]}));
    let elsewhere = claims(json!({"sub": "eve", "groups": ["b"]}));
    assert_eq!(signed.clone().with(elsewhere), Err(ClaimError::Subject));
    assert_eq!(signed.clone().with(claims(json!({"groups": ["b"]}))), Err(ClaimError::Missing("sub")));
    let more = signed.with(claims(json!({"sub": "kim", "groups": ["b"], "email": "kim@id.example"})));
    let more = more.expect("the same user");
    assert_eq!((more.find("groups"), more.text("email")), (Some(&json!(["a"])), Ok("kim@id.example")));
}

#[test]
fn grants_are_written_as_claim_value_organisation_and_roles() {
    let grant = |text: &str| text.parse::<Grant>().map(|grant| grant.to_string());
    assert_eq!(grant("groups=ops:root:Admin"), Ok("groups=ops:root:Admin".to_owned()));
    let several = "groups=urn:x:ops:acme two:Application_Provider,Organization_Admin";
    let sorted = "groups=urn:x:ops:acme two:Organization_Admin,Application_Provider";
    assert_eq!(grant(several), Ok(sorted.to_owned()));
    for text in [
        "",
        "groups",
        "groups=ops",
        "groups=ops:root",
        "=ops:root:Admin",
        "groups=:root:Admin",
        "groups=ops::Admin",
    ] {
        assert_eq!(grant(text), Err(GrantError::Shape), "{text}");
    }
    assert_eq!(grant("groups=ops:root:King"), Err(GrantError::Role("King".to_owned())));
    assert_eq!(grant("groups=ops:root:"), Err(GrantError::Role(String::new())));
}

#[test]
fn who_is_said_nothing_of_is_given_nothing() {
    let grants = [
        "groups=ops:root:Admin",
        "groups=devs:acme:Application_Provider",
        "groups=leads:acme:Organization_Admin",
        "realm_access.roles=deployer:acme:Application_Provider",
        "email=kim@id.example:root:Infrastructure_Provider",
        "employee=true:other:Organization_Admin",
    ]
    .map(|text| text.parse::<Grant>().expect("a grant"));
    let given = |value: Value| {
        let given = granted(&grants, &claims(value));
        given.into_iter().map(|(name, roles)| format!("{name}{roles:?}")).collect::<Vec<_>>().join(" ")
    };
    for nothing in [
        json!({}),
        json!({"groups": []}),
        json!({"groups": ["OPS", "op", "ops "]}),
        json!({"groups": "ops-of-another"}),
        json!({"groups": {"ops": true}}),
        json!({"Groups": ["ops"]}),
        json!({"email": "kim@id.example"}),
        json!({"email": "kim@id.example", "email_verified": "true"}),
        json!({"employee": 1}),
    ] {
        assert_eq!(given(nothing.clone()), "", "{nothing}");
    }
    assert_eq!(given(json!({"groups": "ops"})), "root{Admin}");
    let both = json!({"groups": ["devs", "x", "leads"]});
    assert_eq!(given(both), "acme{OrganizationAdmin, ApplicationProvider}");
    assert_eq!(given(json!({"realm_access": {"roles": ["deployer"]}})), "acme{ApplicationProvider}");
    assert_eq!(
        given(json!({"email": "kim@id.example", "email_verified": true})),
        "root{InfrastructureProvider}"
    );
    assert_eq!(given(json!({"employee": true})), "other{OrganizationAdmin}");
}

#[test]
fn keys_are_fetched_when_they_are_old_or_missing_and_not_all_the_time() {
    let at = |millis| Moment(50_000 + millis);
    let mut age = KeysAge::default();
    assert!(age.must_fetch(true, at(0)), "there are none");
    age.trying(at(0));
    assert!(!age.are_good(at(0)));
    assert!(!age.must_fetch(false, at(FETCH_AGAIN_MILLIS - 1)), "it failed a moment ago");
    assert!(age.must_fetch(false, at(FETCH_AGAIN_MILLIS)));
    age.trying(at(FETCH_AGAIN_MILLIS));
    age.fetched(at(FETCH_AGAIN_MILLIS));
    let last = FETCH_AGAIN_MILLIS + KEYS_LAST_MILLIS;
    assert!(age.are_good(at(last - 1)) && !age.must_fetch(true, at(last - 1)));
    assert!(age.must_fetch(false, at(2 * FETCH_AGAIN_MILLIS)), "a key that is not known");
    assert!(!age.must_fetch(false, at(2 * FETCH_AGAIN_MILLIS - 1)), "and another right after");
    assert!(!age.are_good(at(last)), "one that was withdrawn counts no longer");
    assert!(age.must_fetch(true, at(last)));
}

fn confirmed(subject: &str, name: &str, given: &[(&str, &[Role])]) -> Confirmed {
    let given = given.iter().map(|(name, roles)| ((*name).to_owned(), roles.iter().copied().collect()));
    Confirmed {
        identity: ProviderIdentity { issuer: ISSUER.to_owned(), subject: subject.to_owned() },
        name: name.to_owned(),
        email: "kim@id.example".to_owned(),
        given: given.collect(),
    }
}

fn log_in(root: &mut Root, who: &Confirmed, wanted: Option<&str>) -> Result<Session, NoGrant> {
    let fresh = user(KIM, "");
    let now = root.now.date;
    let (session, mut changes) = root.state.log_in_confirmed(who, wanted, "s".to_owned(), &fresh, now);
    if let Ok(session) = &session {
        changes.extend(root.state.keep_provider_login(login(session), now));
    }
    root.apply(changes);
    session
}

fn login(session: &Session) -> ProviderLogin {
    ProviderLogin {
        id: session.id.clone(),
        user: session.user,
        token: ProviderToken::Refresh("sealed".to_owned()),
        asked_at: Timestamp(0),
        expires_at: Timestamp(u64::MAX),
    }
}

/// Name and memberships.
fn seen(root: &Root, id: UserId) -> Option<(String, BTreeMap<String, BTreeSet<Role>>)> {
    let memberships = root.state.organizations_of(id).map(|it| (it.name.clone(), it.members[&id].clone()));
    Some((root.state.user(id)?.name.clone(), memberships.collect()))
}

#[test]
fn who_is_given_nothing_is_not_let_in_and_nothing_is_kept() {
    let mut root = people();
    let users = root.state.users().count();
    let nothing = log_in(&mut root, &confirmed("kim", "kim", &[]), None);
    assert_eq!(nothing, Err(NoGrant::Nothing("kim".to_owned())));
    let nowhere = confirmed("kim", "kim", &[("gone", &[Role::Admin])]);
    assert_eq!(log_in(&mut root, &nowhere, None), Err(NoGrant::Nothing("kim".to_owned())));
    let elsewhere = confirmed("kim", "kim", &[("acme", &[Role::ApplicationProvider])]);
    let refused = log_in(&mut root, &elsewhere, Some("root"));
    assert_eq!(refused, Err(NoGrant::Organization("root".to_owned())));
    assert_eq!(root.state.users().count(), users);
}

#[test]
fn who_somebody_is_is_issuer_and_subject_never_a_name_or_an_address() {
    let mut root = people();
    // Somebody who calls herself as the administrator does.
    let who = confirmed("kim", "ada", &[("acme", &[Role::ApplicationProvider])]);
    let session = log_in(&mut root, &who, None).expect("let in");
    assert_eq!((session.user, session.organization), (KIM, ACME));
    let memberships = BTreeMap::from([("acme".to_owned(), BTreeSet::from([Role::ApplicationProvider]))]);
    assert_eq!(seen(&root, KIM), Some(("ada-41414141".to_owned(), memberships.clone())));
    assert_eq!(root.state.user_named("ada").map(|user| user.id), Some(ADA));
    assert_eq!(root.state.user(KIM).map(|user| user.password_hash.as_str()), Some(""));
    // Another name and address later are still the same user.
    let later = Confirmed { name: "kim".to_owned(), email: "k@id.example".to_owned(), ..who.clone() };
    assert_eq!(log_in(&mut root, &later, None).map(|session| session.user), Ok(KIM));
    assert_eq!(seen(&root, KIM), Some(("ada-41414141".to_owned(), memberships)));
    // The same subject of another provider is somebody else.
    let other = ProviderIdentity { issuer: "https://other.example".to_owned(), ..who.identity };
    assert_eq!(root.state.user_of_provider(&other), None);
}

#[test]
fn names_that_cannot_be_ones_are_made_such() {
    let names = [("k i/m\u{1b}é", "kim"), ("", "user"), ("..", "user"), ("é", "user")];
    for (wanted, name) in names {
        let mut root = people();
        let who = confirmed("kim", wanted, &[("acme", &[Role::ApplicationProvider])]);
        log_in(&mut root, &who, None).expect("let in");
        assert_eq!(seen(&root, KIM).map(|(name, _)| name), Some(name.to_owned()), "{wanted:?}");
    }
    let mut root = people();
    log_in(&mut root, &confirmed("kim", &"x".repeat(99), &[("acme", &[])]), None).expect("let in");
    assert_eq!(seen(&root, KIM).map(|(name, _)| name.len()), Some(48));
}

#[test]
fn a_login_is_to_what_is_asked_for_else_to_root_else_to_the_first() {
    let both: [(&str, &[Role]); 2] = [("acme", &[Role::ApplicationProvider]), ("root", &[Role::Admin])];
    let mut root = people();
    assert_eq!(log_in(&mut root, &confirmed("kim", "kim", &both), None).map(|it| it.organization), Ok(ROOT));
    let named = log_in(&mut root, &confirmed("kim", "kim", &both), Some("acme"));
    assert_eq!(named.map(|it| it.organization), Ok(ACME));
}

#[test]
fn what_the_provider_says_no_more_is_lost_at_the_next_confirmation() {
    let mut root = people();
    let before: [(&str, &[Role]); 2] = [("acme", &[Role::Admin]), ("root", &[Role::Admin])];
    let session = log_in(&mut root, &confirmed("kim", "kim", &before), Some("acme")).expect("let in");
    let less = confirmed("kim", "kim", &[("acme", &[Role::ApplicationProvider])]);
    let changes = root.state.confirm(&login(&session), &less, root.now.date);
    root.apply(changes);
    let roles = root.state.resume(&session).map(|rights| rights.roles);
    assert_eq!(roles, Some(BTreeSet::from([Role::ApplicationProvider])));
    assert_eq!(root.state.rights(KIM, ROOT), None);
    let changes = root.state.confirm(&login(&session), &confirmed("kim", "kim", &[]), root.now.date);
    root.apply(changes);
    assert_eq!(root.state.resume(&session), None, "no organisation, no login");
    // Others keep what they have.
    assert_eq!(root.state.rights(BOB, ACME).map(|rights| rights.roles.len()), Some(1));
}

#[test]
fn what_the_provider_decides_nobody_decides_here() {
    let mut root = people();
    let given: [(&str, &[Role]); 2] = [("acme", &[Role::ApplicationProvider]), ("root", &[Role::Admin])];
    log_in(&mut root, &confirmed("kim", "kim", &given), None).expect("let in");
    let ada = as_member(&root, ADA);
    let refused = Err(PeopleRejected::OfProvider("kim".to_owned()));
    let change = |change: UserChange| root.state.change_user(&ada, "kim", change);
    assert_eq!(
        change(UserChange { roles: Some([Role::OrganizationAdmin].into()), ..UserChange::default() }),
        refused
    );
    assert_eq!(change(UserChange { password_hash: Some("x".to_owned()), ..UserChange::default() }), refused);
    let reset = PasswordReset { secret_hash: "x".to_owned(), expires_at: Timestamp(u64::MAX) };
    assert_eq!(root.state.offer_reset(&ada, "kim", reset).map(|(_, changes)| changes), refused);
    let members = |id| root.state.organization(id).map(|it| it.members.clone()).expect("there");
    let mut without = members(ACME);
    without.remove(&KIM);
    assert_eq!(root.state.change_organization(&ada, ACME, None, Some(without)), refused);
    let new = Organization {
        id: OrganizationId::from_bytes([9; 12]),
        name: "new".to_owned(),
        members: BTreeMap::from([(KIM, BTreeSet::new())]),
        quota: crate::Quota::default(),
    };
    assert_eq!(root.state.create_organization(&ada, new), refused);
    // The last administrator who logs in here stays one, as the provider may take the other at any time.
    let mut others = members(ROOT);
    others.remove(&ADA);
    let last = root.state.change_organization(&ada, ROOT, None, Some(others));
    assert_eq!(last, Err(PeopleRejected::LastAdmin));
    // Who is deleted leaves nothing behind.
    let changes = root.state.delete_user(&ada, "kim").expect("an administrator may");
    root.apply(changes);
    assert_eq!((seen(&root, KIM), root.state.provider_login("s")), (None, None));
}

#[test]
fn the_end_of_a_login_and_its_time_forget_what_the_provider_is_asked_with() {
    let mut root = people();
    let who = confirmed("kim", "kim", &[("acme", &[Role::ApplicationProvider])]);
    let session = log_in(&mut root, &who, None).expect("let in");
    assert!(root.state.provider_login("s").is_some());
    let changes = root.state.end_session("s".to_owned(), Timestamp(u64::MAX), root.now.date);
    root.apply(changes);
    assert_eq!((root.state.provider_login("s"), root.state.resume(&session)), (None, None));
    let soon = ProviderLogin { id: "old".to_owned(), expires_at: Timestamp(10), ..login(&session) };
    let forgotten = Change::People(PeopleChange::ProviderLogin("old".to_owned(), None));
    let changes = root.state.keep_provider_login(soon, Timestamp(5));
    root.apply(changes);
    assert!(!root.state.keep_provider_login(login(&session), Timestamp(9)).contains(&forgotten));
    assert!(root.state.keep_provider_login(login(&session), Timestamp(10)).contains(&forgotten));
}

#[test]
fn api_tokens_of_a_user_rest_while_the_provider_was_not_asked_for_a_day() {
    let mut root = people();
    let who = confirmed("kim", "kim", &[("acme", &[Role::ApplicationProvider])]);
    let session = log_in(&mut root, &who, None).expect("let in");
    let rights = root.state.resume(&session).expect("good");
    let token = NewApiToken {
        id: uuid(7),
        name: "build".to_owned(),
        scopes: None,
        secret_hash: "hash".to_owned(),
        expires_at: Timestamp(u64::MAX),
    };
    let then = root.now.date;
    let changes = root.state.create_api_token(&rights, token, then).expect("few");
    root.apply(changes);
    let good = |root: &Root, now| root.state.token_rights(uuid(7), "hash", now).is_some();
    assert!(good(&root, then.plus_millis(API_TOKEN_REST_MILLIS - 1)));
    let late = then.plus_millis(API_TOKEN_REST_MILLIS);
    assert!(!good(&root, late));
    let changes = root.state.confirm(&login(&session), &who, late);
    root.apply(changes);
    assert!(good(&root, late), "who comes back wakes them");
}

#[test]
fn a_confirmation_is_recorded_when_it_changes_something() {
    let mut root = people();
    let who = confirmed("kim", "kim", &[("acme", &[Role::ApplicationProvider])]);
    let session = log_in(&mut root, &who, None).expect("let in");
    let later = root.now.date.plus_millis(600_000);
    let recorded = |who: &Confirmed| {
        let call = Call { is_routine: true, ..Call::of_root("refresh") };
        let changes = root.state.confirm(&login(&session), who, later);
        !root.state.record(call, &changes, later).is_empty()
    };
    assert!(!recorded(&who), "it comes every ten minutes for each user");
    assert!(recorded(&confirmed("kim", "kim", &[])));
}

#[test]
fn users_from_before_log_in_here() {
    let kept = json!({"id": "414141414141414141414141", "name": "old", "password_hash": "hash"});
    let old: User = serde_json::from_value(kept.clone()).expect("readable");
    assert_eq!(old.provider, None);
    let written = serde_json::to_value(&old).expect("writable");
    assert_eq!(written.get("provider"), None);
}
