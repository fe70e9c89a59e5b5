//! Chosen addresses of services.

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
