//! The rules of an SLA, one test each.

mod addresses;
mod changes;
mod clients;
mod constraints;
mod policies;
mod properties;
mod secrets;
mod values;

use model::{DirectConstraint, Mebibytes, Millicores, PortMapping, Protocol, Resources, Virtualization};
use serde_json::{Value, json};

use super::*;

/// A document with one application that has this one service.
fn sla_with(service: Value) -> Value {
    json!({
        "sla_version": "v2.0",
        "customerID": "Admin",
        "applications": [{
            "applicationID": "",
            "application_name": "shop",
            "application_namespace": "prod",
            "microservices": [service],
        }],
    })
}

/// The smallest service, with `extra` fields put in.
fn service_with(extra: Value) -> Value {
    let mut service = json!({
        "microservice_name": "web",
        "microservice_namespace": "front",
        "virtualization": "container",
        "code": "docker.io/library/nginx:latest",
    });
    let Value::Object(extra) = extra else { panic!("extra fields are an object") };
    service.as_object_mut().unwrap().extend(extra);
    service
}

fn parsed(document: &Value) -> Result<Sla, SlaErrors> {
    parse(document.to_string().as_bytes())
}

/// What a service with these fields becomes.
fn spec_with(extra: Value) -> ServiceSpec {
    let sla = parsed(&sla_with(service_with(extra))).unwrap_or_else(|errors| panic!("{errors}"));
    sla.applications[0].services[0].spec.clone()
}

/// The code, place and message of every problem.
fn problems_of(document: &Value) -> Vec<(SlaErrorCode, String, String)> {
    match parsed(document) {
        Ok(sla) => panic!("accepted: {sla:?}"),
        Err(errors) => {
            errors.iter().map(|error| (error.code, error.path.clone(), error.message.clone())).collect()
        }
    }
}

/// The problems of a service with these fields: code, place within the service, message without the place.
fn service_problems(extra: Value) -> Vec<(SlaErrorCode, String, String)> {
    const PREFIX: &str = "applications[0].microservices[0].";
    problems_of(&sla_with(service_with(extra)))
        .into_iter()
        .map(|(code, path, message)| {
            let place = path.strip_prefix(PREFIX).expect("the problem is in the service").to_owned();
            let is_wrong = message.strip_prefix(&format!("`{path}` ")).expect("the message names the place");
            (code, place, is_wrong.to_owned())
        })
        .collect()
}

fn one(code: SlaErrorCode, place: &str, is_wrong: &str) -> Vec<(SlaErrorCode, String, String)> {
    vec![(code, place.to_owned(), is_wrong.to_owned())]
}

/// A document changed at one place of its outermost object.
fn document_with(name: &str, value: Value) -> Value {
    let mut document = sla_with(service_with(json!({})));
    document[name] = value;
    document
}

/// The same in its application.
fn application_with(name: &str, value: Value) -> Value {
    let mut document = sla_with(service_with(json!({})));
    document["applications"][0][name] = value;
    document
}

#[test]
fn the_documentation_shows_the_fields_as_they_are() {
    let page = include_str!("../../../../../docs/sla.md");
    let (_, rest) = page.split_once("<!-- fields: begin -->\n").expect("the first mark");
    let (shown, _) = rest.split_once("<!-- fields: end -->").expect("the second mark");
    assert_eq!(shown, reference(), "replace what is between the marks in docs/sla.md");
}

#[test]
fn the_smallest_service_reserves_nothing() {
    assert_eq!(spec_with(json!({})), ServiceSpec::container("docker.io/library/nginx:latest"));
}

#[test]
fn every_honoured_field_reaches_the_spec() {
    let spec = spec_with(json!({
        "virtualization": "docker",
        "memory": 100, "vcpus": 2, "vgpus": 1, "storage": 50,
        "cmd": ["sh", "-c", ""],
        "environment": ["A=1", "EMPTY=", "EQUALS=a=b"],
        "port": "8080:80/tcp;53/udp",
        "one_shot": true,
        "privileged": true,
        "added_files": [{"path": "/etc/a", "content": "x", "mode": "0755"}, {"path": "/b", "content": ""}],
        "constraints": [
            {"type": "direct", "cluster": "munich", "node": "n1; n2;"},
            {"type": "geo", "location": "11.575;48.137", "threshold": 20.5},
        ],
        "arch": ["arm64", "amd64", ""],
    }));
    let expected = ServiceSpec {
        image: "docker.io/library/nginx:latest".to_owned(),
        virtualization: Virtualization::Container,
        resources: Resources {
            cpu: Millicores(2000),
            memory: Mebibytes(100),
            storage: Mebibytes(50),
            gpus: 1,
        },
        entry_point: Vec::new(),
        command: ["sh", "-c", ""].map(str::to_owned).to_vec(),
        environment: [("A", "1"), ("EMPTY", ""), ("EQUALS", "a=b")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ports: vec![
            PortMapping { host: 8080, container: 80, protocol: Protocol::Tcp },
            PortMapping { host: 53, container: 53, protocol: Protocol::Udp },
        ],
        one_shot: true,
        single_attempt: false,
        privileged: true,
        added_files: vec![
            model::AddedFile { path: "/etc/a".to_owned(), content: "x".to_owned(), mode: 0o755 },
            model::AddedFile { path: "/b".to_owned(), content: String::new(), mode: 0o644 },
        ],
        constraints: vec![DirectConstraint {
            clusters: vec!["munich".to_owned()],
            nodes: vec!["n1".to_owned(), "n2".to_owned()],
        }],
        distances: vec![model::DistanceConstraint {
            latitude: model::Microdegrees(48_137_000),
            longitude: model::Microdegrees(11_575_000),
            within_metres: 20_500,
        }],
        architectures: ["amd64", "arm64"].map(str::to_owned).into(),
        survival: model::Survival::default(),
        health: model::Health::default(),
        drain: model::Span::default(),
        secrets: Vec::new(),
        image_pull_secret: None,
    };
    assert_eq!(spec, expected);
}

#[test]
fn the_aliases_of_the_documentation_are_honoured() {
    let spec = spec_with(json!({
        "code": "", "image": "docker.io/library/redis", "vcpu": 3, "vgpu": 2, "env": ["A=1"], "enviroment": [],
    }));
    let mut expected = ServiceSpec::container("docker.io/library/redis");
    expected.resources = Resources { cpu: Millicores(3000), gpus: 2, ..Resources::default() };
    expected.environment = [("A".to_owned(), "1".to_owned())].into();
    assert_eq!(spec, expected);
}

#[test]
fn an_alias_may_repeat_the_field_and_not_contradict_it() {
    assert_eq!(spec_with(json!({"vcpu": 3, "vcpus": 3})).resources.cpu, Millicores(3000));
    assert_eq!(
        service_problems(json!({"vcpu": 3, "vcpus": 4})),
        one(SlaErrorCode::Conflict, "vcpus", "contradicts `vcpu`, another spelling of it: keep one of them")
    );
}

#[test]
fn every_alias_is_known_by_one_field_only() {
    for level in fields::LEVELS {
        let spellings: Vec<&str> = level
            .fields
            .iter()
            .flat_map(|field| [field.name].into_iter().chain(field.aliases.to_vec()))
            .collect();
        for spelling in &spellings {
            let count = spellings.iter().filter(|other| *other == spelling).count();
            assert_eq!(count, 1, "`{spelling}` of {}", level.noun);
        }
    }
}

#[test]
fn unknown_fields_are_refused_with_the_nearest_known_name() {
    let mut document = sla_with(service_with(json!({"microservce_name": "x", "cpu": 1})));
    document["sla_versions"] = json!(1);
    document["applications"][0]["application_nam"] = json!("x");
    let unknown = |path: &str, nearest: &str| {
        let message = format!("`{path}` is an unknown field; did you mean `{nearest}`?");
        (SlaErrorCode::UnknownField, path.to_owned(), message)
    };
    assert_eq!(
        problems_of(&document),
        [
            unknown("sla_versions", "sla_version"),
            unknown("applications[0].application_nam", "application_name"),
            unknown("applications[0].microservices[0].cpu", "vcpus"),
            unknown("applications[0].microservices[0].microservce_name", "microservice_name"),
        ]
    );
}

#[test]
fn a_field_at_the_wrong_place_is_sent_to_the_right_one() {
    assert_eq!(
        problems_of(&document_with("port", json!("80"))),
        one(
            SlaErrorCode::UnknownField,
            "port",
            "`port` is an unknown field; it belongs to a microservice, not to an SLA"
        )
    );
}

#[test]
fn a_field_like_no_other_is_answered_with_what_there_is() {
    assert_eq!(
        problems_of(&application_with("zzz", json!(1))),
        one(
            SlaErrorCode::UnknownField,
            "applications[0].zzz",
            "`applications[0].zzz` is an unknown field; remove it; an application may have: application_name, \
             application_namespace, applicationID, microservices"
        )
    );
}

#[test]
fn one_slip_of_the_pen_finds_every_field_of_four_letters_and_more() {
    for level in fields::LEVELS {
        let settable = level.fields.iter().filter(|field| field.support != fields::Support::ServerSet);
        for field in settable.filter(|field| field.name.len() >= 4) {
            let middle = field.name.len() / 2;
            let dropped = format!("{}{}", &field.name[..middle], &field.name[middle + 1..]);
            if level.find(&dropped).is_none() {
                assert_eq!(level.nearest(&dropped), Some(field.name), "`{dropped}` of {}", level.noun);
            }
        }
    }
}

#[test]
fn other_words_are_taken_for_no_field() {
    for word in ["tag", "entrypoint", "labels", "instances", "replicas", &"vcpus".repeat(100)] {
        assert_eq!(fields::SERVICE.nearest(word), None, "{word}");
    }
}

#[test]
fn missing_fields_are_named() {
    let document = json!({
        "sla_version": "v2.0",
        "applications": [{"application_name": "a", "application_namespace": null, "microservices": [{}]}],
    });
    let paths: Vec<_> = problems_of(&document).into_iter().map(|(code, path, _)| (code, path)).collect();
    let missing = |path: &str| (SlaErrorCode::MissingField, path.to_owned());
    assert_eq!(
        paths,
        [
            missing("applications[0].application_namespace"),
            missing("applications[0].microservices[0].microservice_name"),
            missing("applications[0].microservices[0].microservice_namespace"),
            missing("applications[0].microservices[0].virtualization"),
            missing("applications[0].microservices[0].code"),
        ]
    );
    let no_services = json!({
        "sla_version": "v2.0",
        "applications": [{"application_name": "a", "application_namespace": "b"}],
    });
    assert_eq!(
        problems_of(&no_services),
        one(
            SlaErrorCode::MissingField,
            "applications[0].microservices",
            "`applications[0].microservices` is missing: an application needs it (Its services; may be empty)"
        )
    );
}

#[test]
fn only_version_two_is_understood() {
    let refusal = |code, is_wrong: &str| one(code, "sla_version", &format!("`sla_version` {is_wrong}"));
    assert_eq!(
        problems_of(&json!({"applications": 1, "nonsense": 2})),
        refusal(SlaErrorCode::MissingField, "is missing: write \"v2.0\"")
    );
    assert_eq!(
        problems_of(&document_with("sla_version", json!("v1.0"))),
        refusal(
            SlaErrorCode::UnsupportedVersion,
            "must be \"v2.0\", but is \"v1.0\", which is not supported"
        )
    );
    assert_eq!(
        problems_of(&document_with("sla_version", json!(2.0))),
        refusal(SlaErrorCode::WrongType, "must be the string \"v2.0\", but is 2.0")
    );
}

#[test]
fn text_that_is_not_json_is_refused_with_line_and_column() {
    let refusal = |text: &str| parse(text.as_bytes()).expect_err("not JSON").first().clone();
    let expected = |message: &str| SlaError {
        code: SlaErrorCode::InvalidJson,
        path: String::new(),
        message: message.to_owned(),
    };
    assert_eq!(
        refusal("{\n  \"a\": 1,\n}"),
        expected("the SLA is not valid JSON: trailing comma at line 3 column 1")
    );
    assert_eq!(
        refusal("{\"port\": \"1\",\n \"port\": \"2\"}"),
        expected(
            "the SLA is not valid JSON: the field `port` is given twice in one object at line 2 column 7"
        )
    );
    for text in ["", "xx", "{", "\"\\ud800\"", "1e999", &"[".repeat(100_000), "{} {}"] {
        assert_eq!(refusal(text).code, SlaErrorCode::InvalidJson, "{text:.20}");
    }
    assert_eq!(parse(b"\"\xff\"").expect_err("not UTF-8").first().code, SlaErrorCode::InvalidJson);
}

#[test]
fn a_document_that_is_no_object_is_refused() {
    for (text, found) in [("[]", "a list"), ("null", "null"), ("1", "1"), ("\"a\"", "the string \"a\"")] {
        let errors = parse(text.as_bytes()).expect_err("no object");
        assert_eq!(errors.to_string(), format!("the SLA must be a JSON object, but is {found}"));
        assert_eq!(errors.first().code, SlaErrorCode::WrongType);
    }
}

#[test]
fn at_least_one_application_is_needed() {
    assert_eq!(
        problems_of(&document_with("applications", json!([]))),
        one(
            SlaErrorCode::InvalidValue,
            "applications",
            "`applications` is empty: describe at least one application"
        )
    );
}

#[test]
fn two_of_one_name_in_one_namespace_are_refused() {
    let mut document = sla_with(service_with(json!({})));
    document["applications"] = json!([
        {"application_name": "a", "application_namespace": "x", "microservices": []},
        {"application_name": "a", "application_namespace": "y", "microservices": [
            service_with(json!({})),
            service_with(json!({"microservice_namespace": "back"})),
            service_with(json!({})),
        ]},
        {"application_name": "a", "application_namespace": "x", "microservices": []},
    ]);
    assert_eq!(
        problems_of(&document),
        [
            (
                SlaErrorCode::Duplicate,
                "applications[1].microservices[2].microservice_name".to_owned(),
                "`applications[1].microservices[2].microservice_name` is a second microservice `web` in the \
                 namespace `front`: rename one"
                    .to_owned()
            ),
            (
                SlaErrorCode::Duplicate,
                "applications[2].application_name".to_owned(),
                "`applications[2].application_name` is a second application `a` in the namespace `x`: rename one"
                    .to_owned()
            ),
        ]
    );
}

#[test]
fn all_problems_are_told_up_to_a_bound_and_the_rest_is_counted() {
    let fields: serde_json::Map<_, _> = (0..25).map(|index| (format!("zz{index:02}"), json!(1))).collect();
    let errors = parsed(&sla_with(service_with(Value::Object(fields)))).expect_err("unknown fields");
    assert_eq!((errors.iter().count(), errors.omitted()), (SlaErrors::MAX_LISTED, 5));
    assert!(errors.to_string().ends_with("; and 5 more"), "{errors}");
}

#[test]
fn a_body_over_the_limit_is_refused_unread() {
    let body = vec![b' '; MAX_BODY_BYTES + 1];
    let errors = parse(&body).expect_err("too large");
    assert_eq!(errors.first().code, SlaErrorCode::TooLarge);
    assert_eq!(errors.to_string(), "the SLA must have at most 4194304 bytes, but has 4194305");
}

#[test]
fn a_body_full_of_unknown_fields_is_counted_to_its_end() {
    let mut text = String::from("{\"sla_version\":\"v2.0\"");
    for index in 0..100_000 {
        text.push_str(&format!(",\"microservice_{index}\":0"));
    }
    text.push('}');
    let errors = parse(text.as_bytes()).expect_err("unknown fields");
    assert_eq!(errors.omitted(), 100_000 + 1 - SlaErrors::MAX_LISTED);
}

#[test]
fn the_reference_lists_every_field_once() {
    let page = reference();
    let rows = page.lines().filter(|line| line.starts_with("| `")).count();
    let fields: usize = fields::LEVELS.iter().map(|level| level.fields.len()).sum();
    assert_eq!(rows, fields + fields::VIRTUALIZATIONS.len() + fields::CONSTRAINT_TYPES.len());
    assert!(
        page.contains("| `vcpus` | `vcpu` |  | honoured | Processor cores of each instance. |"),
        "{page}"
    );
}
