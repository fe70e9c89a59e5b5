//! Documents as Oakestra's clients send them.

use super::*;

/// What a form that was left alone and a descriptor file full of defaults have in common.
fn defaults() -> Value {
    json!({
        "microserviceID": "",
        "cmd": [], "args": [], "enviroment": [], "environment": [""],
        "vgpus": 0, "vtpus": 0, "bandwidth_in": 0, "bandwidth_out": 0, "storage": 0,
        "state": "", "port": "", "target_node": "", "sla_violation_strategy": "none", "description": "",
        "added_files": [], "connectivity": [], "volumes": null,
        "addresses": {"rr_ip": "", "closest_ip": [], "instances": []},
        "constraints": [
            {"type": "latency", "area": "", "cluster": "", "node": "", "location": "",
             "threshold": "", "rigidness": 0, "convergence_time": ""},
            {"type": "clusters", "allowed": []},
        ],
    })
}

#[test]
fn defaults_that_clients_fill_in_ask_for_nothing() {
    assert_eq!(spec_with(defaults()), spec_with(json!({})));
}

#[test]
fn numbers_of_a_direct_constraint_may_be_left_empty() {
    let spec = spec_with(json!({"constraints": [
        {"type": "direct", "cluster": "munich", "node": "", "area": "", "threshold": "", "rigidness": "",
         "convergence_time": 0, "location": null, "needs": [], "allowed": []},
    ]}));
    let expected = DirectConstraint { clusters: vec!["munich".to_owned()], nodes: vec![] };
    assert_eq!(spec.constraints, [expected]);
}

#[test]
fn a_new_application_may_come_without_ids_description_and_customer() {
    let document = json!({
        "sla_version": "v2.0",
        "applications": [{"application_name": "blank", "application_namespace": "b", "microservices": []}],
    });
    let expected = Sla {
        customer: None,
        applications: vec![SlaApplication {
            id: None,
            name: "blank".to_owned(),
            namespace: "b".to_owned(),
            description: String::new(),
            services: vec![],
        }],
    };
    assert_eq!(parsed(&document), Ok(expected));
}

#[test]
fn adding_a_service_names_the_application() {
    let mut document = application_with("applicationID", json!("6b01503ab27188a5491fd344"));
    document["applications"][0]["application_desc"] = json!("A shop");
    document["applications"][0]["_id"] = json!({"$oid": "6b01503ab27188a5491fd344"});
    document["applications"][0]["userId"] = json!("Admin");
    document["args"] = json!([""]);
    let sla = parsed(&document).unwrap_or_else(|errors| panic!("{errors}"));
    let application = &sla.applications[0];
    assert_eq!(sla.customer.as_deref(), Some("Admin"));
    assert_eq!(application.id.as_deref(), Some("6b01503ab27188a5491fd344"));
    assert_eq!(application.description, "A shop");
}

#[test]
fn what_the_root_sets_is_ignored_when_a_client_sends_it_back() {
    let sent = json!({
        "_id": {"$oid": "6b01503ab27188a5491fd346"}, "job_name": "a.b.c.d", "applicationID": "x",
        "app_name": "a", "app_ns": "b", "service_name": "c", "service_ns": "d",
        "image": "docker.io/library/nginx:latest", "next_instance_progressive_number": 7,
        "instance_list": [{"instance_number": 0}], "service_ip_list": [{"IpType": "RR"}], "status": "RUNNING", "status_detail": "fine",
        "RR_ip": null, "microserviceID": "", "description": "kept", "state": "", "memory": 10,
    });
    let sla = parsed(&sla_with(service_with(sent))).unwrap_or_else(|errors| panic!("{errors}"));
    let expected = service_with(json!({
        "image": "docker.io/library/nginx:latest", "RR_ip": null, "description": "kept", "state": "",
        "memory": 10,
    }));
    assert_eq!(Value::Object(sla.applications[0].services[0].document.clone()), expected);
}
