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
        root.state.create_applications("user", vec![wanted], &mut root.ids, root.now.date).is_ok()
    };
    assert!(!again(&mut root));
    let changes = root.state.delete_application(&application, root.now.date);
    root.apply(changes);
    assert!(again(&mut root));
    assert_eq!(root.state.services_of(application.id).count(), 0);
}

#[test]
fn names_belong_to_their_owner() {
    let mut root = Root::new();
    let application = |services| SlaApplication {
        id: None,
        name: "shop".to_owned(),
        namespace: "prod".to_owned(),
        description: String::new(),
        services,
    };
    let create = |root: &mut Root, owner: &str| {
        let created =
            root.state.create_applications(owner, vec![application(vec![])], &mut root.ids, BEGINNING.date);
        created.map(|(_, changes)| root.apply(changes))
    };
    assert_eq!(create(&mut root, "alice"), Ok(()));
    assert_eq!(create(&mut root, "bob"), Ok(()), "another user's application of that name is another one");
    assert!(matches!(create(&mut root, "alice"), Err(Rejected::ApplicationExists { .. })));
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
