//! Who may do what, with a real root: every route by every kind of caller (`routes.rs`, with its table in `routes.txt`),
//! organisations that try to get at each other's (`tenants.rs`), what they keep and are told (`keeping.rs`), logins and tokens
//! (`logins.rs`), roles for one cluster (`clusters.rs`), certificates (`certificates.rs`, with the table of the protocol's methods in `methods.txt`), and what is
//! recorded of all that (`audit.rs`).

mod audit;
mod certificates;
mod clusters;
mod keeping;
mod logins;
mod routes;
mod tenants;

use serde_json::{Value, json};
use testkit::{Api, Root};

/// A root with two organisations.
///
/// `acme` has `eve`, its administrator, and `bob`, who deploys; `other` has `mallory`, its administrator.
struct Site {
    root: Root,
    acme: String,
    eve: Api,
    bob: Api,
    mallory: Api,
}

impl Site {
    async fn start() -> Self {
        Self::of(Root::start().await).await
    }

    async fn of(root: Root) -> Self {
        let [acme, other] = [organization(&root.api, "acme").await, organization(&root.api, "other").await];
        let people = [
            (&acme, "acme", "eve", "Admin"),
            (&other, "other", "mallory", "Admin"),
            (&acme, "acme", "bob", "Application_Provider"),
        ];
        let mut logins = Vec::new();
        for (id, name, user, role) in people {
            let made = register(&root.api, user, &[]).await;
            enlist(&root.api, id, &made, role).await;
            logins.push(root.api.as_user(user, &password(user), name).await);
        }
        let [eve, mallory, bob] = logins.try_into().expect("three");
        Self { root, acme, eve, bob, mallory }
    }

    /// The administrator of the platform.
    fn ada(&self) -> &Api {
        &self.root.api
    }
}

fn password(user: &str) -> String {
    format!("secret of {user}")
}

async fn organization(ada: &Api, name: &str) -> String {
    let id = ada.post("/api/organization/", &json!({"name": name, "member": []})).await.ok();
    let id = id.as_str().expect("a text").to_owned();
    serde_json::from_str(&id).expect("a text within a text, as the dashboard reads it")
}

/// The user as the API shows it.
async fn register(by: &Api, name: &str, roles: &[&str]) -> Value {
    let user = json!({
        "name": name, "password": password(name), "email": "", "created_at": "22/11/2026 09:00", "roles": roles,
    });
    by.post("/api/auth/register", &user).await.ok()
}

/// Makes a user a member of an organisation, and of no other.
async fn enlist(ada: &Api, organization: &str, user: &Value, role: &str) {
    let id = user["_id"]["$oid"].as_str().expect("an id");
    let all = ada.get("/api/organization/").await.ok();
    for known in all.as_array().expect("a list") {
        let known_id = known["_id"]["$oid"].as_str().expect("an id");
        let members = known["member"].as_array().expect("a list").clone();
        let mut members: Vec<Value> = members.into_iter().filter(|member| member["user_id"] != id).collect();
        if known_id == organization {
            members.push(json!({"user_id": id, "roles": [role]}));
        }
        ada.put(&format!("/api/organization/{known_id}"), &json!({"member": members})).await.ok();
    }
}

/// An application with one service, by who asks; the ids of both.
async fn deploy(api: &Api, name: &str) -> (String, String) {
    let sla = json!({
        "sla_version": "v2.0", "customerID": "",
        "applications": [{
            "applicationID": "", "application_name": name, "application_namespace": "prod", "application_desc": "",
            "microservices": [{
                "microserviceID": "", "microservice_name": "web", "microservice_namespace": "prod",
                "virtualization": "container", "code": "docker.io/library/nginx:1.27", "memory": 16, "vcpus": 0,
            }],
        }],
    });
    let all = api.post("/api/application/", &sla).await.ok();
    let made =
        all.as_array().expect("a list").iter().find(|one| one["application_name"] == name).expect("listed");
    let id = made["applicationID"].as_str().expect("an id").to_owned();
    (id, made["microservices"][0].as_str().expect("an id").to_owned())
}
