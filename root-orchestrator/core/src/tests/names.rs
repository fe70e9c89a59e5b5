//! Who may have which name.

use super::*;

#[test]
fn a_name_is_free_again_when_its_application_is_gone_and_never_before() {
    let mut root = Root::new();
    let service = root.service(small());
    let application = root.state.service(service).expect("it exists").application;
    let application = root.state.application(application).expect("it exists").clone();
    let again = |root: &mut Root| {
        let wanted = SlaApplication {
            id: None,
            name: application.name.clone(),
            namespace: application.namespace.clone(),
            description: String::new(),
            services: vec![],
        };
        root.state.create_applications(&author(ROOT), vec![wanted], &mut root.ids, root.now.date).is_ok()
    };
    assert!(!again(&mut root));
    let changes = root.state.delete_application(&application, root.now.date);
    root.apply(changes);
    assert!(again(&mut root));
    assert_eq!(root.state.services_of(application.id).count(), 0);
}

pub(super) fn shop(services: Vec<SlaService>) -> SlaApplication {
    SlaApplication {
        id: None,
        name: "shop".to_owned(),
        namespace: "prod".to_owned(),
        description: String::new(),
        services,
    }
}

pub(super) fn create(
    root: &mut Root,
    organization: OrganizationId,
    wanted: SlaApplication,
) -> Result<ApplicationId, Rejected> {
    let created =
        root.state.create_applications(&author(organization), vec![wanted], &mut root.ids, BEGINNING.date);
    created.map(|(ids, changes)| {
        root.apply(changes);
        ids[0]
    })
}

#[test]
fn names_belong_to_their_organisation() {
    let mut root = Root::new();
    assert!(create(&mut root, ROOT, shop(vec![])).is_ok());
    assert!(
        create(&mut root, ACME, shop(vec![])).is_ok(),
        "another organisation's of that name is another one"
    );
    assert!(matches!(create(&mut root, ROOT, shop(vec![])), Err(Rejected::ApplicationExists { .. })));
}

#[test]
fn applications_of_two_organisations_with_the_same_names_are_apart() {
    let mut root = Root::new();
    let callers = ["till.prod", "*"];
    let services = || vec![neighbours::wanted(small(), &callers)];
    let ids =
        [ROOT, ACME].map(|organization| create(&mut root, organization, shop(services())).expect("new"));
    let [ours, theirs] = ids.map(|id| root.state.services_of(id).next().expect("its service").clone());

    assert_eq!(ours.names.application_namespace, "prod");
    let theirs_is_told_as = format!("prod-{ACME}");
    assert_eq!(theirs.names.application_namespace, theirs_is_told_as);
    let told = |service: &crate::Service| {
        service.allowed_callers.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(&ours), ["*", "till.prod"]);
    assert_eq!(told(&theirs), ["*".to_owned(), format!("till.{theirs_is_told_as}")]);

    // Whoever wrote them reads what was written.
    assert_eq!(theirs.written_names(), ours.written_names());
    let written: Vec<String> = theirs.written_callers().map(|caller| caller.to_string()).collect();
    assert_eq!(written, callers.map(str::to_owned).into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn a_changed_list_of_callers_stays_in_the_organisation() {
    let mut root = Root::new();
    let id = create(&mut root, ACME, shop(vec![neighbours::wanted(small(), &[])])).expect("new");
    let service = root.state.services_of(id).next().expect("its service").clone();
    let wanted = neighbours::wanted(small(), &["till.prod"]);
    let (_, changes) = root.state.update(&service, wanted, BEGINNING.date).expect("it may change");
    root.apply(changes);
    let callers = &root.state.service(service.id).expect("still there").allowed_callers;
    assert_eq!(callers.iter().map(ToString::to_string).collect::<Vec<_>>(), [format!("till.prod-{ACME}")]);
}

#[test]
fn a_description_is_all_that_a_description_changes() {
    let mut root = Root::new();
    let service = root.service(small());
    let application = root.state.service(service).expect("it exists").application;
    let before = root.state.application(application).expect("it exists").clone();
    let changes = root.state.describe(&before, "sells things".to_owned());
    root.apply(changes);
    let expected = Application { description: "sells things".to_owned(), ..before.clone() };
    assert_eq!(root.state.application(application), Some(&expected));
    assert_eq!(root.state.services_of(application).count(), 1);
    assert_eq!(root.state.describe(&expected, expected.description.clone()), []);
}
