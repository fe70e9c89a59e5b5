//! Bodies that change a service.

use super::*;

const SHOWN: Shown<'static> = Shown { id: "6b01503ab27188a5491fd346", image: "docker.io/library/nginx:1" };

fn change(document: &Value) -> Result<SlaChange, SlaErrors> {
    parse_change(document.to_string().as_bytes(), SHOWN)
}

fn first_problem(document: &Value) -> (SlaErrorCode, String, String) {
    let errors = change(document).expect_err("refused");
    let first = errors.first();
    (first.code, first.path.clone(), first.message.clone())
}

#[test]
fn a_service_alone_and_in_an_sla_are_the_same_change() {
    let service = service_with(json!({"memory": 10}));
    let alone = change(&service).unwrap_or_else(|errors| panic!("{errors}"));
    let whole = change(&sla_with(service)).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(alone.application, None);
    assert_eq!(whole.application, Some(("shop".to_owned(), "prod".to_owned())));
    assert_eq!(alone.service, whole.service);
    assert_eq!(alone.service.spec.resources.memory, Mebibytes(10));
}

#[test]
fn what_the_root_shows_may_be_sent_back_with_a_change_in_it() {
    let sent = json!({
        "code": "docker.io/library/nginx:2", "image": SHOWN.image, "microserviceID": SHOWN.id,
        "_id": {"$oid": SHOWN.id}, "revision": 3, "rollout": {"from": 2}, "status": "RUNNING",
        "instance_list": [{"instance_number": 0}],
    });
    for document in [service_with(sent.clone()), sla_with(service_with(sent))] {
        let service = change(&document).unwrap_or_else(|errors| panic!("{errors}")).service;
        assert_eq!(service.spec.image, "docker.io/library/nginx:2");
        let kept = service_with(json!({"code": "docker.io/library/nginx:2"}));
        assert_eq!(Value::Object(service.document), kept);
    }
    let only_image = json!({"code": null, "image": SHOWN.image});
    let service = change(&service_with(only_image)).map(|change| change.service.spec.image);
    assert_eq!(service, Ok(SHOWN.image.to_owned()), "null is no other image");
}

#[test]
fn the_id_of_another_service_is_refused() {
    let (code, path, _) = first_problem(&service_with(json!({"microserviceID": "6b01503ab27188a5491fd347"})));
    assert_eq!((code, path.as_str()), (SlaErrorCode::InvalidValue, "microserviceID"));
}

#[test]
fn problems_are_named_by_their_place_in_what_was_sent() {
    let wrong = service_with(json!({"memory": -1}));
    assert_eq!(
        first_problem(&wrong),
        (
            SlaErrorCode::InvalidValue,
            "memory".to_owned(),
            "`memory` must be an integer from 0 to 4294967295, but is -1".to_owned()
        )
    );
    assert_eq!(first_problem(&sla_with(wrong)).1, "applications[0].microservices[0].memory");
    let not_an_object =
        (SlaErrorCode::WrongType, String::new(), "the SLA must be a JSON object, but is a list".to_owned());
    assert_eq!(first_problem(&json!([])), not_an_object);
    assert_eq!(first_problem(&json!({"sla_version": "v1.0"})).0, SlaErrorCode::UnsupportedVersion);
    assert_eq!(parse_change(b"{", SHOWN).expect_err("no JSON").first().code, SlaErrorCode::InvalidJson);
}

#[test]
fn an_sla_with_more_or_less_than_one_service_is_refused() {
    let with = |services: Value| application_with("microservices", services);
    let two = json!([service_with(json!({})), service_with(json!({"microservice_name": "b"}))]);
    for (document, applications, services) in [(with(json!([])), 1, 0), (with(two), 1, 2)] {
        let message = format!(
            "`applications` must be one application with one microservice, the one to change, but has \
             {applications} and {services}"
        );
        let expected = (SlaErrorCode::InvalidValue, "applications".to_owned(), message);
        assert_eq!(first_problem(&document), expected);
    }
}
