//! The root's REST API as a test uses it.

use reqwest::{Client, Method};
use serde_json::{Value, json};

/// A logged-in client.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    client: Client,
    token: String,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, as text where it is not JSON.
    pub body: Value,
}

impl Answer {
    /// The body of a 200.
    ///
    /// # Panics
    /// When it is not one.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }
}

impl Api {
    /// Logs in as `Admin`.
    pub(crate) async fn log_in(base: String, client: Client, password: &str) -> Self {
        let api = Self { base, client, token: String::new() };
        let login = json!({"username": "Admin", "password": password});
        let answer = api.post("/api/auth/login", &login).await.ok();
        Self { token: answer["token"].as_str().expect("a token").to_owned(), ..api }
    }

    /// The same, logged in to an organisation as another user.
    ///
    /// # Panics
    /// When the root does not let the user in.
    pub async fn as_user(&self, name: &str, password: &str, organization: &str) -> Self {
        let login = json!({"username": name, "password": password, "organization_name": organization});
        let answer = self.anonymous().post("/api/auth/login", &login).await.ok();
        self.with_token(answer["token"].as_str().expect("a token"))
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// What it sends to show who it is.
    #[must_use]
    pub fn bearer(&self) -> &str {
        &self.token
    }

    /// The same with another client.
    pub(crate) fn with_client(&self, client: Client) -> Self {
        Self { client, ..self.clone() }
    }

    /// What it sends by.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The same without a token.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { token: String::new(), ..self.clone() }
    }

    /// Where the API is.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Any request.
    ///
    /// # Panics
    /// When there is no answer at all.
    pub async fn send(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.expect("the root answers");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a whole body");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, body }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// POST with a document.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    /// PUT with a document.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body.to_string())).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// A join token.
    pub async fn token(&self, wanted: Value) -> String {
        let answer = self.post("/api/tokens", &wanted).await.ok();
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// Creates the applications of an SLA; the id of the first service of the application named.
    pub async fn create(&self, sla: &Value) -> String {
        self.post("/api/application/", sla).await.ok();
        let name = &sla["applications"][0]["application_name"];
        let services = self.get("/api/services/").await.ok();
        let services = services.as_array().expect("a list");
        let service = services.iter().find(|service| service["app_name"] == *name).expect("its service");
        service["microserviceID"].as_str().expect("an id").to_owned()
    }

    /// Deploys one more instance; its number.
    pub async fn deploy(&self, service: &str) -> u64 {
        let answer = self.send(Method::POST, &format!("/api/service/{service}/instance"), None).await.ok();
        answer["instance_number"].as_u64().expect("a number")
    }

    /// One instance; null when there is none.
    pub async fn instance(&self, service: &str, number: u64) -> Value {
        let service = self.get(&format!("/api/service/{service}")).await.ok();
        let instances = service["instance_list"].as_array().expect("never null").clone();
        instances.into_iter().find(|instance| instance["instance_number"] == number).unwrap_or_default()
    }

    /// Waits until an instance has a status; the instance.
    pub async fn wait_for(&self, service: &str, number: u64, status: &str) -> Value {
        crate::wait_until(&format!("instance {number} to be {status}"), async || {
            let instance = self.instance(service, number).await;
            if instance["status"] == status { Ok(instance) } else { Err(instance.to_string()) }
        })
        .await
    }
}
