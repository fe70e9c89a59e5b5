//! The table of who may do what, and what API tokens are limited to.

use std::collections::BTreeSet;

use super::*;
use crate::access::{
    Kind, Of, Refused, Rights, Role, Scope, Verb, Verdict, join_token_owner, may, may_lend, may_somewhere,
    usual_owner,
};
use model::UserId;

const SOMEBODY: UserId = UserId::from_bytes([1; 12]);

fn rights(organization: OrganizationId, roles: &[Role]) -> Rights {
    let roles = roles.iter().copied().collect();
    Rights { user: SOMEBODY, organization, in_root: organization == ROOT, roles, scopes: None }
}

fn scoped(rights: Rights, scopes: &[&str]) -> Rights {
    Rights { scopes: Some(scopes.iter().map(|scope| scope.parse().expect("a scope")).collect()), ..rights }
}

/// What somebody may do without naming whose: `verb:kind`.
fn allowed(rights: &Rights) -> Vec<String> {
    let all = Kind::ALL.into_iter().flat_map(|kind| Verb::ALL.map(|verb| (verb, kind)));
    all.filter(|(verb, kind)| may(rights, *verb, *kind, usual_owner(rights, *kind)) == Verdict::Allowed)
        .map(|(verb, kind)| Scope::Action(verb, kind).to_string())
        .collect()
}

fn of(kind: &str, verbs: &[&str]) -> Vec<String> {
    verbs.iter().map(|verb| format!("{verb}:{kind}")).collect()
}

const ALL: [&str; 4] = ["get", "create", "update", "delete"];

#[test]
fn everybody_may_look_at_definitions_and_keep_api_tokens() {
    let anybody = [of("resource-definition", &["get"]), of("api-token", &ALL)].concat();
    assert_eq!(allowed(&rights(ACME, &[])), anybody);
    assert_eq!(allowed(&rights(ROOT, &[])), anybody);
}

#[test]
fn each_role_may_what_it_is_for_in_its_organisation() {
    let anybody =
        || [of("resource-definition", &["get"]), of("cluster", &["get"]), of("api-token", &ALL)].concat();
    let kept = ["application", "service", "secret", "hook", "custom-resource"];
    let applications = kept.map(|kind| of(kind, &ALL)).concat();
    let provider = [applications.clone(), of("quota", &["get"]), anybody()].concat();
    assert_eq!(allowed(&rights(ACME, &[Role::ApplicationProvider])), provider);
    let people = [
        of("application", &["get"]),
        of("service", &["get"]),
        of("secret", &["get"]),
        of("hook", &["get"]),
        of("custom-resource", &["get"]),
        of("user", &ALL),
        of("organization", &["get", "update"]),
        of("quota", &["get"]),
        anybody(),
        of("audit", &["get"]),
    ];
    assert_eq!(allowed(&rights(ACME, &[Role::OrganizationAdmin])), people.concat());
    let admin = [
        applications,
        of("user", &ALL),
        of("organization", &["get", "update"]),
        of("quota", &["get"]),
        anybody(),
        of("audit", &["get"]),
    ];
    assert_eq!(allowed(&rights(ACME, &[Role::Admin])), admin.concat());
}

#[test]
fn the_platform_is_for_the_providers_of_the_first_organisation() {
    let platform = [
        of("resource-definition", &["get"]),
        of("cluster", &ALL),
        of("worker", &ALL),
        of("join-token", &ALL),
        of("api-token", &ALL),
        of("metrics", &["get"]),
    ];
    assert_eq!(allowed(&rights(ROOT, &[Role::InfrastructureProvider])), platform.concat());
    let elsewhere = rights(ACME, &[Role::InfrastructureProvider, Role::Admin]);
    for kind in [Kind::Worker, Kind::JoinToken, Kind::Metrics] {
        assert_ne!(may(&elsewhere, Verb::Get, kind, Of::Platform), Verdict::Allowed, "{kind:?}");
    }
}

/// What somebody may do at a cluster: `verb:kind`.
fn allowed_at(rights: &Rights, cluster: ClusterId) -> Vec<String> {
    let all = Kind::ALL.into_iter().flat_map(|kind| Verb::ALL.map(|verb| (verb, kind)));
    all.filter(|(_, kind)| kind.is_of_clusters())
        .filter(|(verb, kind)| may(rights, *verb, *kind, Of::Cluster(cluster)) == Verdict::Allowed)
        .map(|(verb, kind)| Scope::Action(verb, kind).to_string())
        .collect()
}

fn shop() -> ClusterId {
    uuid(21)
}

fn yard() -> ClusterId {
    uuid(22)
}

fn of_shop() -> Role {
    Role::InfrastructureProviderOf(shop())
}

#[test]
fn a_role_for_one_cluster_is_for_nothing_else() {
    let at_one = rights(ROOT, &[of_shop()]);
    let all = ["cluster", "worker", "join-token"].map(|kind| of(kind, &ALL)).concat();
    assert_eq!(allowed_at(&at_one, shop()), all);
    assert_eq!(allowed_at(&at_one, yard()), [""; 0]);
    assert_eq!(allowed(&at_one), allowed(&rights(ROOT, &[])), "nothing of the platform");
    assert_eq!(allowed_at(&rights(ROOT, &[]), shop()), [""; 0], "what was not given is refused");
    assert_eq!(allowed_at(&rights(ACME, &[of_shop()]), shop()), [""; 0], "only in `root`");
    assert_eq!(allowed_at(&rights(ROOT, &[Role::InfrastructureProvider]), yard()), all);
    assert_eq!(may_somewhere(&at_one, Verb::Create, Kind::JoinToken), Verdict::Allowed);
    assert_eq!(may_somewhere(&at_one, Verb::Get, Kind::Cluster), Verdict::Allowed);
    assert_ne!(may_somewhere(&rights(ROOT, &[]), Verb::Get, Kind::Cluster), Verdict::Allowed);
    assert_ne!(may_somewhere(&at_one, Verb::Get, Kind::Metrics), Verdict::Allowed);
    assert_ne!(may_somewhere(&rights(ROOT, &[]), Verb::Get, Kind::Worker), Verdict::Allowed);
}

#[test]
fn clusters_are_looked_at_by_who_deploys_to_them_wherever_that_is() {
    for role in [Role::Admin, Role::OrganizationAdmin, Role::ApplicationProvider] {
        assert_eq!(allowed_at(&rights(ACME, &[role]), shop()), ["get:cluster"], "{role}");
        let more = rights(ROOT, &[role, of_shop()]);
        assert_eq!(may(&more, Verb::Get, Kind::Cluster, Of::Cluster(yard())), Verdict::Allowed, "{role}");
    }
    let elsewhere = rights(ACME, &[Role::InfrastructureProvider]);
    assert_eq!(allowed_at(&elsewhere, shop()), [""; 0]);
}

#[test]
fn a_join_token_is_of_the_cluster_it_is_for_alone() {
    for (kind, of) in [
        (JoinKind::Worker { cluster: Some(shop()) }, Of::Cluster(shop())),
        (JoinKind::Worker { cluster: None }, Of::Platform),
        (JoinKind::Cluster { name: "shop".to_owned() }, Of::Platform),
    ] {
        assert_eq!(join_token_owner(&kind), of, "{kind:?}");
    }
}

#[test]
fn a_role_for_one_cluster_is_given_by_who_holds_it_or_more() {
    let other = Role::InfrastructureProviderOf(yard());
    let holds = |held: &[Role]| {
        [of_shop(), other, Role::InfrastructureProvider].map(|role| rights(ROOT, held).holds(role))
    };
    assert_eq!(holds(&[of_shop()]), [true, false, false]);
    assert_eq!(holds(&[Role::InfrastructureProvider]), [true, true, true]);
    assert_eq!(holds(&[Role::Admin]), [true, true, true]);
    assert_eq!(holds(&[Role::OrganizationAdmin]), [false, false, false]);

    let of_one = of_shop().to_string();
    let limited = scoped(rights(ROOT, &[Role::InfrastructureProvider]), &[&of_one]);
    assert_eq!(allowed_at(&limited, yard()), [""; 0]);
    assert_eq!(allowed_at(&limited, shop()).len(), 12);
    assert_eq!(may_somewhere(&limited, Verb::Get, Kind::JoinToken), Verdict::Allowed);
    assert!(limited.holds(of_shop()) && !limited.holds(other));

    let at_one = rights(ROOT, &[of_shop()]);
    assert!(may_lend(&at_one, Scope::Role(of_shop())) && !may_lend(&at_one, Scope::Role(other)));
    assert!(may_lend(&at_one, Scope::Action(Verb::Update, Kind::Worker)));
    let by_action = scoped(at_one, &["update:worker"]);
    assert_eq!(allowed_at(&by_action, shop()), ["update:worker"]);
    assert_eq!(allowed_at(&by_action, yard()), [""; 0]);
}

#[test]
fn an_admin_of_the_first_organisation_may_everything_everywhere_and_of_another_nothing_elsewhere() {
    let (platform, acme) = (rights(ROOT, &[Role::Admin]), rights(ACME, &[Role::Admin]));
    for kind in Kind::ALL {
        for verb in Verb::ALL {
            for of in [Of::Platform, Of::Organization(ACME), Of::Person(UserId::from_bytes([9; 12]))] {
                assert_eq!(may(&platform, verb, kind, of), Verdict::Allowed, "{verb:?} {kind:?} {of:?}");
            }
            assert_eq!(may(&acme, verb, kind, Of::Organization(ROOT)), Verdict::Hidden, "{verb:?} {kind:?}");
            let others = may(&acme, verb, kind, Of::Person(UserId::from_bytes([9; 12])));
            assert!(matches!(others, Verdict::Refused(_)), "{verb:?} {kind:?}");
        }
    }
}

#[test]
fn a_refusal_says_what_it_takes() {
    let refused = |rights: &Rights, verb, kind| match may(rights, verb, kind, usual_owner(rights, kind)) {
        Verdict::Refused(refused) => refused.to_string(),
        Verdict::Allowed | Verdict::Hidden => panic!("it is to be refused"),
    };
    assert_eq!(
        refused(&rights(ACME, &[]), Verb::Create, Kind::Application),
        "You have not enough permissions! To create a resource of kind `application` takes the role \
         Application_Provider or Admin in the organisation you are logged in to."
    );
    let at_another = |verb, kind| may(&rights(ROOT, &[of_shop()]), verb, kind, Of::Cluster(yard()));
    let needs = "the role Infrastructure_Provider (of all clusters or of that one) or Admin in the organisation `root`";
    let why = Refused::Role { verb: Verb::Update, kind: Kind::Worker, needs: needs.to_owned() };
    assert_eq!(at_another(Verb::Update, Kind::Worker), Verdict::Refused(why));
    let needs = "the role Organization_Admin or Application_Provider or Admin in the organisation you are logged in to, \
                 or Infrastructure_Provider (of all clusters or of that one) or Admin in the organisation `root`";
    let why = Refused::Role { verb: Verb::Get, kind: Kind::Cluster, needs: needs.to_owned() };
    assert_eq!(at_another(Verb::Get, Kind::Cluster), Verdict::Refused(why));
    let limited = scoped(rights(ACME, &[Role::Admin]), &["get:application"]);
    assert_eq!(
        may(&limited, Verb::Delete, Kind::Application, Of::Organization(ACME)),
        Verdict::Refused(Refused::Scope { verb: Verb::Delete, kind: Kind::Application })
    );
}

#[test]
fn a_token_may_what_its_user_may_and_its_scopes_say() {
    let admin = rights(ACME, &[Role::Admin]);
    assert_eq!(allowed(&scoped(admin.clone(), &["get:service"])), ["get:service"]);
    let provider = scoped(admin.clone(), &["Application_Provider"]);
    let kinds = ["application", "service", "secret", "hook", "custom-resource"];
    let looks = ["quota", "resource-definition", "cluster"].map(|kind| of(kind, &["get"]));
    assert_eq!(allowed(&provider), [kinds.map(|kind| of(kind, &ALL)).concat(), looks.concat()].concat());
    // What its user may not, its scopes do not give.
    assert_eq!(allowed(&scoped(rights(ACME, &[]), &["Admin", "get:service"])), allowed(&rights(ACME, &[])));
    // The platform's administrator keeps its reach, not its power.
    let everywhere = scoped(rights(ROOT, &[Role::Admin]), &["get:service"]);
    assert_eq!(may(&everywhere, Verb::Get, Kind::Service, Of::Organization(ACME)), Verdict::Allowed);
    assert_eq!(allowed(&everywhere), ["get:service"]);
}

#[test]
fn nobody_lends_more_than_they_hold() {
    let scope = |text: &str| text.parse::<Scope>().expect("a scope");
    let provider = rights(ACME, &[Role::ApplicationProvider]);
    for (text, may) in [
        ("Application_Provider", true),
        ("Admin", false),
        ("Infrastructure_Provider", false),
        ("update:service", true),
        ("get:user", false),
        ("update:worker", false),
    ] {
        assert_eq!(may_lend(&provider, scope(text)), may, "{text}");
    }
    let holds =
        |rights: &Rights| Role::ALL.into_iter().filter(|role| rights.holds(*role)).collect::<Vec<_>>();
    assert_eq!(holds(&rights(ACME, &[Role::Admin])), Role::ALL);
    assert_eq!(holds(&provider), [Role::ApplicationProvider]);
    assert_eq!(holds(&scoped(rights(ROOT, &[Role::Admin]), &["update:user"])), []);
    let narrowed = scoped(rights(ROOT, &[Role::Admin]), &["Application_Provider"]);
    assert_eq!(holds(&narrowed), [Role::ApplicationProvider]);
}

#[test]
fn words_are_read_as_they_are_written() {
    let scopes: BTreeSet<Scope> = ["Organization_Admin", "delete:join-token"]
        .iter()
        .map(|text| text.parse().expect("a scope"))
        .collect();
    for scope in &scopes {
        assert_eq!(scope.to_string().parse(), Ok(*scope));
    }
    let stored = serde_json::to_string(&Role::OrganizationAdmin).expect("it serialises");
    assert_eq!(stored, "\"Organization_Admin\"", "what the API writes is what is stored");
    let of_one = format!("Infrastructure_Provider@{}", shop());
    assert_eq!(of_one.parse(), Ok(of_shop()));
    assert_eq!(serde_json::to_value(of_shop()).expect("it serialises"), of_one);
    let (for_none, of_applications) =
        ("Infrastructure_Provider@", format!("Application_Provider@{}", shop()));
    let twice = format!("{of_one}@{}", shop());
    for wrong in ["", "admin", "get", "get:", "get:everything", "*:*", for_none, &of_applications, &twice] {
        assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
    }
}
