//! What tests deploy.

use serde_json::{Value, json};

/// An SLA with one application that has one service.
#[must_use]
pub fn sla(application: &str, service: Value) -> Value {
    json!({
        "sla_version": "v2.0",
        "customerID": "Admin",
        "applications": [{
            "applicationID": "",
            "application_name": application,
            "application_namespace": "test",
            "application_desc": "",
            "microservices": [service],
        }],
    })
}

/// The SLA of a small container.
#[must_use]
pub fn hello_sla(application: &str) -> Value {
    sla(
        application,
        json!({
            "microserviceID": "",
            "microservice_name": "hello",
            "microservice_namespace": "test",
            "virtualization": "container",
            "code": "mangrove/hello:latest",
            "memory": 32,
            "vcpus": 0,
        }),
    )
}
