//! The REST API at its edges: who may, what is refused and how, both forms of a path.

use reqwest::{Client, Method, header::HeaderValue};
use serde_json::{Value, json};
use testkit::{Root, hello_sla, sla};

#[tokio::test]
async fn nothing_but_logging_in_and_what_leads_to_it_works_without_a_token() {
    let root = Root::start().await;
    let anonymous = root.api.anonymous();
    let description = root.api.get("/docs/openapi.json").await.ok();
    assert_eq!(description["openapi"], "3.1.0");
    let mut tried = 0;
    for (path, operations) in description["paths"].as_object().expect("paths") {
        let path = path.replace("{id}", "000000000000000000000000").replace("{number}", "0");
        let path = path.replace("{user}", "x").replace("{application}", "x");
        for method in operations.as_object().expect("operations").keys() {
            let leads_to_a_login = path.starts_with("/api/auth/oidc/");
            if ["/api/auth/login", "/api/user", "/.well-known/jwks.json", "/version"].contains(&&*path)
                || leads_to_a_login
            {
                continue;
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let answer = anonymous.send(method.clone(), &path, Some("{}".to_owned())).await;
            // Clients of Kubernetes are refused in their own form.
            let by_kubernetes = answer.body["kind"] == "Status";
            // Whoever calls an ignitor signs the call instead.
            let (word, expected) = match &*path {
                "/api/v1/ignitors/{organization}/{ignitor}/calls" => ("error", "not_signed"),
                _ if by_kubernetes => ("reason", "Unauthorized"),
                _ => ("error", "no_token"),
            };
            assert_eq!((answer.status, &answer.body[word]), (401, &json!(expected)), "{method} {path}");
            tried += 1;
        }
    }
    assert!(tried >= 18, "only {tried} operations are described");
}

#[tokio::test]
async fn a_wrong_password_or_token_is_refused() {
    let root = Root::start().await;
    for login in [
        json!({"username": "Admin", "password": "guess"}),
        json!({"username": "Nobody", "password": "guess"}),
    ] {
        let answer = root.api.anonymous().post("/api/auth/login", &login).await;
        assert_eq!((answer.status, &answer.body["error"]), (401, &json!("wrong_credentials")));
    }
    let answer = root.api.anonymous().post("/api/auth/login", &json!({"username": "Admin"})).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body["message"].as_str().expect("a text").contains("password"), "{}", answer.body);
}

#[tokio::test]
async fn a_bad_document_names_its_field_and_nothing_is_stored() {
    let root = Root::start().await;
    let with = |field: &str, value: Value| {
        let mut document = hello_sla("shop");
        document["applications"][0]["microservices"][0][field] = value;
        document.to_string()
    };
    let service = |name: &str| hello_sla("shop")["applications"][0]["microservices"][0][name].clone();
    let long = "x".repeat(31);
    let cases = [
        ("{", 400, "line 1"),
        ("[]", 422, "object"),
        ("{}", 422, "sla_version"),
        (&with("microservce_name", json!("x")), 422, "did you mean `microservice_name`"),
        (&with("memory", json!("much")), 422, "microservices[0].memory"),
        (&with("memory", json!(-1)), 422, "microservices[0].memory"),
        (&with("microservice_name", json!(long)), 422, "microservices[0].microservice_name"),
        (&with("port", json!("80:80;80:81")), 422, "microservices[0].port"),
        (&with("port", json!("99999")), 422, "microservices[0].port"),
        (&with("bandwidth_in", json!(100)), 422, "bandwidth_in"),
        (&with("virtualization", json!("unikernel")), 422, "virtualization"),
        (
            &with("constraints", json!([{"type": "latency", "area": "a", "threshold": 1}])),
            422,
            "nobody measures",
        ),
        (&with("volumes", json!([{"volume_id": "a", "csi_driver": "b"}])), 422, "microservices[0].volumes"),
    ];
    assert_eq!(service("memory"), json!(32));
    for (document, status, named) in cases {
        let answer = root.api.send(Method::POST, "/api/application/", Some((*document).to_owned())).await;
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(answer.status == status && message.contains(named), "{document}: {answer:?}");
    }
    let large = "x".repeat(5 << 20);
    let answer = root.api.send(Method::POST, "/api/application/", Some(large)).await;
    assert_eq!((answer.status, &answer.body["error"]), (413, &json!("too_large")));
    assert_eq!(root.api.get("/api/applications/").await.ok(), json!([]));
    assert_eq!(root.api.get("/api/services/").await.ok(), json!([]));
}

#[tokio::test]
async fn the_same_document_twice_is_a_conflict_and_changes_nothing() {
    let root = Root::start().await;
    root.api.create(&hello_sla("shop")).await;
    let before = root.api.get("/api/services/").await.ok();
    let answer = root.api.post("/api/application/", &hello_sla("shop")).await;
    assert_eq!((answer.status, &answer.body["error"]), (409, &json!("application_exists")));
    assert_eq!(root.api.get("/api/services/").await.ok(), before);
}

#[tokio::test]
async fn services_are_added_to_an_application_by_its_id() {
    let root = Root::start().await;
    let service = root.api.create(&hello_sla("shop")).await;
    let application = root.api.get(&format!("/api/service/{service}")).await.ok()["applicationID"].clone();
    let mut more = sla("shop", hello_sla("shop")["applications"][0]["microservices"][0].clone());
    more["applications"][0]["applicationID"] = application.clone();
    let answer = root.api.post("/api/service/", &more).await;
    assert_eq!((answer.status, &answer.body["error"]), (409, &json!("service_exists")));
    more["applications"][0]["microservices"][0]["microservice_name"] = json!("second");
    let added = root.api.post("/api/service/", &more).await.ok();
    assert_eq!(added["deployed_services"], json!([{"service_name": "second", "status": 200}]));
    let listed = root.api.get(&format!("/api/services/{}", application.as_str().expect("an id"))).await.ok();
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_change_of_an_application_changes_its_description_and_nothing_else() {
    let root = Root::start().await;
    let service = root.api.create(&hello_sla("shop")).await;
    let before = root.api.get("/api/applications").await.ok()[0].clone();
    let path = format!("/api/application/{}", before["applicationID"].as_str().expect("an id"));
    let put = async |body: Value| root.api.send(Method::PUT, &path, Some(body.to_string())).await;
    let mut expected = before.clone();
    expected["application_desc"] = json!("sells things");
    // Oakestra's dashboard sends the whole application back, its command line some of it.
    for body in [expected.clone(), json!({"application_name": "shop"}), json!({"microservices": null})] {
        assert_eq!(put(body).await.ok(), json!({"message": "Application is updated"}));
        assert_eq!(root.api.get(&path).await.ok(), expected);
    }
    let somebody = json!({"userId": "somebody", "microservices": [], "application_desc": null});
    put(somebody).await.ok();
    assert_eq!(root.api.get(&path).await.ok(), expected);
    assert_eq!(root.api.get(&format!("/api/service/{service}")).await.status, 200);
    for (body, status, named) in [
        (json!({"application_name": "other"}), 409, "application_name is `shop`"),
        (json!({"application_namespace": "other"}), 409, "application_namespace is `test`"),
        (json!({"application_descr": "x"}), 422, "application_descr"),
        (json!({"application_desc": "x".repeat(4097)}), 422, "application_desc must have at most 4096"),
    ] {
        let answer = put(body).await;
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(answer.status == status && message.contains(named), "{answer:?}");
    }
    assert_eq!(root.api.get(&path).await.ok(), expected);
}

#[tokio::test]
async fn no_authorization_is_too_strange_to_be_refused_in_words() {
    let root = Root::start().await;
    // {"alg":"none"}, {"alg":"HS256"} and a claim of Admin, unsigned and signed by nobody.
    let (none, claims) =
        ("eyJhbGciOiJub25lIn0", "eyJzdWIiOiJBZG1pbiIsInR5cGUiOiJhY2Nlc3MiLCJleHAiOjk5OTk5OTk5OTl9");
    let signed = "eyJhbGciOiJIUzI1NiJ9";
    for header in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "bearer x.y.z".to_owned(),
        "Basic QWRtaW46QWRtaW4=".to_owned(),
        "Bearer ..".to_owned(),
        "Bearer a.b.c.d".to_owned(),
        format!("Bearer {none}.{claims}."),
        format!("Bearer {none}.{claims}.AAAA"),
        format!("Bearer {signed}.{claims}.AAAA"),
        format!("Bearer {}", "A".repeat(4096)),
        "Bearer \u{fc}".to_owned(),
    ] {
        let value = HeaderValue::from_bytes(header.as_bytes()).expect("a header may have it");
        let request = Client::new().get(format!("{}/api/applications", root.api.base()));
        let answer = request.header("authorization", value).send().await.expect("the root answers");
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_str(&answer.text().await.expect("a whole body")).expect("JSON");
        assert_eq!(status, 401, "{header}: {body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{header}: {body}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_404_with_a_message() {
    let root = Root::start().await;
    let id = "000000000000000000000000";
    for (method, path) in [
        (Method::GET, format!("/api/application/{id}")),
        (Method::DELETE, format!("/api/application/{id}")),
        (Method::GET, "/api/service/not-an-id".to_owned()),
        (Method::DELETE, format!("/api/service/{id}")),
        (Method::POST, format!("/api/service/{id}/instance")),
        (Method::DELETE, format!("/api/service/{id}/instance/0")),
        (Method::GET, format!("/api/services/{id}")),
        (Method::GET, "/nowhere".to_owned()),
        (Method::GET, "/api/application/%ff".to_owned()),
        (Method::PUT, format!("/api/application/{id}")),
        (Method::DELETE, "/api/tokens/none".to_owned()),
    ] {
        let answer = root.api.send(method.clone(), &path, Some("{}".to_owned())).await;
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(answer.status == 404 && message.len() > 10, "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn both_forms_of_a_path_are_answered_without_a_redirect_from_any_origin() {
    let root = Root::start().await;
    for path in ["/api/applications", "/api/applications/", "/api/applications?", "/api/clusters/active/"] {
        root.api.get(path).await.ok();
    }
    let preflight = Client::new()
        .request(Method::OPTIONS, format!("{}/api/applications/", root.api.base()))
        .header("Origin", "http://dashboard.example")
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "authorization,content-type")
        .send()
        .await
        .expect("the root answers");
    assert_eq!(preflight.status(), 200);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "http://dashboard.example");
    assert_eq!(preflight.headers()["access-control-allow-headers"], "authorization,content-type");
}

#[tokio::test]
async fn the_api_describes_itself_on_a_page_that_loads_from_here_alone() {
    let root = Root::start().await;
    let fetch = async |path: &str| {
        let answer = reqwest::get(format!("{}{path}", root.api.base())).await.expect("the root answers");
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.expect("a text")
    };
    for path in ["/api/docs", "/api/docs/"] {
        let page = fetch(path).await;
        assert!(page.contains("./swagger-ui-bundle.js") && !page.contains("https://"), "{page}");
    }
    assert!(fetch("/api/docs/swagger-initializer.js").await.contains("/docs/openapi.json"));
    assert!(fetch("/api/docs/swagger-ui-bundle.js").await.len() > 100_000);
}

#[tokio::test]
async fn a_watcher_hears_of_every_change() {
    let root = Root::start().await;
    let service = root.api.create(&hello_sla("shop")).await;
    let shown = root.api.get(&format!("/api/service/{service}")).await.ok();
    let application = shown["applicationID"].as_str().expect("an id");
    let login = json!({"username": "Admin", "password": "correct horse"});
    let token = root.api.post("/api/auth/login", &login).await.ok()["token"].clone();
    let mut stream = Client::new()
        .get(format!("{}/api/watch?application={application}", root.api.base()))
        .bearer_auth(token.as_str().expect("a token"))
        .send()
        .await
        .expect("the root answers");
    let mut heard = String::new();
    let mut hear = async |what: &str| {
        while !heard.contains(what) {
            let piece = stream.chunk().await.expect("no error").expect("not the end");
            heard.push_str(&String::from_utf8_lossy(&piece));
        }
        heard.clear();
    };
    hear("event: service").await;
    root.api.deploy(&service).await;
    hear("TargetClusterNotFound").await;
    root.api.delete(&format!("/api/service/{service}")).await.ok();
    hear("event: deleted").await;
}
