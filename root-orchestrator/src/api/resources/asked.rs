//! What a request of the resource API says beside its path and body.

use ::resources::{Status, options::Options, table::Include};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use utoipa::IntoParams;

use super::{
    super::Context,
    answer::{Failure, Form},
};

/// See the module's description.
#[derive(Debug)]
pub(in crate::api) struct Asked {
    pub(super) options: Options,
    pub(super) form: Form,
    pub(super) content_type: Option<String>,
    /// Who is said to own what is written, if the request does not say.
    agent: String,
}

/// What the query of a list or a watch says of what is wanted; [`Asked`] reads it with all else.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "only its description is of use")]
pub(in crate::api) struct Selection {
    /// Which labels, such as `app=shop`
    label_selector: Option<String>,
    /// Which fields, such as `metadata.name=one`
    field_selector: Option<String>,
    /// How many at once
    limit: Option<u32>,
    /// Where the list before ended
    #[param(rename = "continue")]
    continues: Option<String>,
}

impl Asked {
    /// Who is said to own what is written.
    pub(super) fn manager(&self) -> &str {
        if self.options.manager.is_empty() { &self.agent } else { &self.options.manager }
    }
}

impl FromRequestParts<Context> for Asked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, Failure> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let pairs = || pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        let options = Options::read(pairs())?;
        let include = pairs().find(|(name, _)| *name == "includeObject").map_or("", |(_, value)| value);
        let form = Form::wanted(&parts.headers, Include::named(include))?;
        let content_type = text(&parts.headers, header::CONTENT_TYPE).map(str::to_owned);
        let agent = text(&parts.headers, header::USER_AGENT).unwrap_or_default();
        let agent = agent.split(['/', ' ']).next().filter(|name| !name.is_empty()).unwrap_or("unknown");
        let agent = agent.chars().take(128).collect();
        Ok(Self { options, form, content_type, agent })
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether a client accepts all kinds in one document; the word of the version it wants that in.
pub(super) fn wants_aggregated(headers: &HeaderMap) -> Option<&'static str> {
    let accept = text(headers, header::ACCEPT).unwrap_or_default();
    let wanted = |range: &str| {
        let has = |word: &str| range.split(';').any(|part| part.trim() == word);
        let version = ["v2", "v2beta1"].into_iter().find(|version| has(&format!("v={version}")));
        version.filter(|_| has("as=APIGroupDiscoveryList"))
    };
    // The first that is accepted counts.
    accept.split(',').map(str::trim).find_map(|range| match range {
        "application/json" => Some(None),
        range => wanted(range).map(Some),
    })?
}

/// The body of a request, or why there is none.
pub(super) fn body(body: super::super::body::Body) -> Result<bytes::Bytes, Failure> {
    body.map_err(|rejection| {
        let error: super::super::error::Error = rejection.into();
        Failure(Status::from(error))
    })
}
