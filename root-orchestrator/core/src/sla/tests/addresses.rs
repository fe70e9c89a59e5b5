//! Chosen addresses of services, and who may connect to them.

use super::*;

#[test]
fn an_address_is_chosen_from_those_of_services() {
    let chosen = |address: &str| service_problems(json!({"addresses": {"rr_ip": address}}));
    // Accepted, and no concern of those who run it.
    assert_eq!(spec_with(json!({"addresses": {"rr_ip": "10.30.0.1"}})), spec_with(json!({})));
    for wrong in ["10.18.0.1", "10.30.0.0", "fdff::1", "any"] {
        let is_wrong = format!("must be an IPv4 address from 10.30.0.1 to 10.31.255.254, but is \"{wrong}\"");
        assert_eq!(chosen(wrong), one(SlaErrorCode::InvalidValue, "addresses.rr_ip", &is_wrong));
    }
    assert_eq!(
        service_problems(json!({"addresses": {"closest_ip": "10.30.0.1", "rr_ip_v6": "", "rr_ipv4": ""}})),
        [
            (
                SlaErrorCode::NotSupported,
                "addresses.closest_ip".to_owned(),
                "is not supported yet (a chosen IPv4 address of the closest instance): remove the field"
                    .to_owned()
            ),
            (
                SlaErrorCode::UnknownField,
                "addresses.rr_ipv4".to_owned(),
                "is an unknown field; did you mean `rr_ip`?".to_owned()
            ),
        ]
    );
    let blank = json!({"addresses": {"rr_ip": "", "closest_ip": [], "instances": {"from": "", "to": ""}}});
    assert_eq!(spec_with(blank), spec_with(json!({})));
}

#[test]
fn callers_are_applications_or_everybody() {
    let callers = |extra: Value| {
        let sla = parsed(&sla_with(service_with(extra))).unwrap_or_else(|errors| panic!("{errors}"));
        let callers = &sla.applications[0].services[0].allowed_callers;
        callers.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(callers(json!({})), Vec::<String>::new());
    assert_eq!(callers(json!({"allowed_callers": []})), Vec::<String>::new());
    assert_eq!(callers(json!({"allowed_callers": ["till.prod", "*", "till.prod"]})), ["*", "till.prod"]);

    let long = format!("{}.prod", "a".repeat(31));
    for wrong in ["till", "till.prod.web", "till-2.prod", "", long.as_str()] {
        let is_wrong = format!(
            "must be an application as `application.namespace`, each of 1 to 30 letters or digits, or `*` for all, \
             but is \"{wrong}\""
        );
        let problems = service_problems(json!({"allowed_callers": ["till.prod", wrong]}));
        assert_eq!(problems, one(SlaErrorCode::InvalidValue, "allowed_callers[1]", &is_wrong));
    }
    let problems = service_problems(json!({"allowed_callers": "till.prod"}));
    let is_wrong = "must be a list of strings, but is the string \"till.prod\"";
    assert_eq!(problems, one(SlaErrorCode::WrongType, "allowed_callers", is_wrong));
}
