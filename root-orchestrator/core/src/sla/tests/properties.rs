//! What holds of every document.

use proptest::{collection, prelude::*, sample, strategy::ValueTree as _};

use super::*;

/// Names of fields, mostly known ones, so that documents reach deep into the parser.
fn names() -> impl Strategy<Value = String> {
    let known: Vec<&str> =
        fields::LEVELS.iter().flat_map(|level| level.fields).map(|field| field.name).collect();
    prop_oneof![8 => sample::select(known).prop_map(str::to_owned), 1 => ".{0,8}"]
}

fn texts() -> impl Strategy<Value = String> {
    const TELLING: &[&str] = &[
        "v2.0",
        "",
        "direct",
        "container",
        "vm",
        "80:80;81/udp",
        "A=b",
        "/a/b",
        "0644",
        "10s",
        "keep",
        "never",
    ];
    prop_oneof![4 => sample::select(TELLING).prop_map(str::to_owned), 1 => "[a-z0-9]{1,40}", 1 => ".*"]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (0_u64..5).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Eighths: the shortest text of other fractions may be read back as a neighbour.
        any::<i16>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        texts().prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            collection::vec((names(), inner), 0..6).prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

/// A service that is right but for, now and then, one of a few values.
fn services() -> impl Strategy<Value = Value> {
    let amount = || prop_oneof![4 => (0_u32..9).prop_map(Value::from), 1 => Just(Value::Null)];
    let ports = sample::select(&["", "80", "80:81/udp;80", "1:2;3:4", "80;80"][..]);
    let variables = collection::vec("[A-C]=[a-z]{0,3}", 0..3);
    let lists = sample::select(&["", "a", "a;b", ";c;"][..]);
    let policies = (
        sample::select(&["", "keep", "stop_after(5s)", "replace_after(1m)"][..]),
        sample::select(&["never", "90s"][..]),
        1_u32..4,
    );
    (amount(), amount(), ports, variables, lists, (any::<bool>(), policies), "[a-z]{1,3}").prop_map(
        |(memory, cores, port, environment, list, (flag, (on_partition, lost, failures)), name)| {
            service_with(json!({
                "microservice_name": name, "memory": memory, "vcpu": cores, "port": port,
                "environment": environment, "one_shot": flag, "privileged": !flag, "storage": 0, "state": "",
                "constraints": [
                    {"type": "direct", "cluster": list, "node": name},
                    {"type": "clusters", "allowed": [name, list]},
                    {"type": "geo", "location": format!("-{failures};{failures}.5"), "threshold": failures},
                ],
                "arch": [name],
                "added_files": [{"path": format!("/{name}"), "content": list, "mode": "0600"}],
                "instance_list": [], "description": name,
                "on_partition": on_partition, "on_rejoin": "", "cluster_lost_after": lost,
                "health": {"ready": {"tcp": {"port": 80}, "failures": failures}, "live": null},
                "update": {"max_surge": failures, "rollback": flag},
            }))
        },
    )
}

/// The document that says what was understood.
fn written(sla: &Sla) -> Value {
    let applications: Vec<Value> = sla
        .applications
        .iter()
        .map(|application| {
            let services = application.services.iter().map(|service| Value::Object(service.document.clone()));
            json!({
                "applicationID": application.id, "application_name": application.name,
                "application_namespace": application.namespace, "application_desc": application.description,
                "microservices": services.collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({"sla_version": VERSION, "customerID": sla.customer, "applications": applications})
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(body in collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&body));
    }

    #[test]
    fn no_json_is_too_strange_and_every_problem_names_its_place(service in values(), outside in values()) {
        for document in [sla_with(service), document_with("applications", outside)] {
            // Through text, so that what both ways in have to say is the same.
            let result = parsed(&document);
            prop_assert_eq!(&result, &parse_value(&document));
            let Err(errors) = result else { continue };
            for error in errors.iter() {
                let named = error.message.contains(&format!("`{}` ", error.path));
                prop_assert!(named && !error.path.is_empty(), "{:?}", error);
            }
        }
    }

    #[test]
    fn what_was_accepted_is_accepted_again_and_means_the_same(services in collection::vec(services(), 0..4)) {
        let document = application_with("microservices", Value::Array(services));
        let Ok(sla) = parsed(&document) else { return Ok(()) };
        prop_assert_eq!(parsed(&written(&sla)), Ok(sla));
    }
}

#[test]
fn the_documents_of_these_properties_are_accepted_often_enough() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let accepted = (0..200)
        .filter(|_| {
            let service = services().new_tree(&mut runner).expect("a service").current();
            parsed(&sla_with(service)).is_ok()
        })
        .count();
    assert!(accepted > 80, "only {accepted} of 200");
}
