//! `mangrove password` and `mangrove auth`: one's own password, what one may do, and API tokens.

use serde_json::json;

use crate::{
    args::{ApiTokenArguments, ApiTokenWhat, AuthWhat, Listing, PasswordArguments, TokenFormat},
    client::{Client, path_segment, with_query},
    commands::{
        get::{Columns, print, time_left},
        passwords::{self, Lines},
        token::revoke_all,
    },
    error::Error,
    objects::{self, ApiToken, Listed},
    output::{Output, Tone},
};

/// Sets another password for who is logged in, or for whom a reset token was made.
pub(crate) async fn password(
    client: &Client,
    output: &Output,
    arguments: PasswordArguments,
) -> Result<(), Error> {
    let mut lines = if arguments.password_stdin { Some(Lines::read()?) } else { None };
    if let Some(token) = arguments.reset_token {
        let new = new_password(lines.as_mut()).await?;
        client.put_openly("/api/user/", &json!({"token": token, "password": new})).await?;
        output.note("the password was set; run `mangrove login`");
        return Ok(());
    }
    let name = client.username().ok_or_else(|| Error::NotLoggedIn { root: client.root().to_owned() })?;
    let old = match &mut lines {
        Some(lines) => lines.next(),
        None => passwords::ask(&format!("Old password of {name}: "), "nothing was changed").await?,
    };
    let new = new_password(lines.as_mut()).await?;
    let path = format!("/api/user/{}", path_segment(&name).unwrap_or_default());
    client.post(&path, Some(&json!({"oldPassword": old, "newPassword": new}))).await?;
    output.note(&format!(
        "the password of {name} was changed; other logins and API tokens of {name} have ended"
    ));
    // This login has ended as well.
    client.log_in(&name, &new, client.organization().as_deref()).await
}

async fn new_password(lines: Option<&mut Lines>) -> Result<String, Error> {
    match lines {
        Some(lines) => Ok(lines.next()),
        None => passwords::ask_new("New password: ").await,
    }
}

/// Asks what one may do, or manages API tokens.
pub(crate) async fn run(client: &Client, output: &Output, what: AuthWhat) -> Result<(), Error> {
    match what {
        AuthWhat::CanI { verb, resource, cluster } => can_i(client, output, &verb, &resource, cluster).await,
        AuthWhat::Token { what } => match what {
            ApiTokenWhat::Create(arguments) => create(client, output, arguments).await,
            ApiTokenWhat::List(listing) => list(client, output, listing).await,
            ApiTokenWhat::Revoke { ids } => revoke_all(client, output, "/api/auth/tokens", &ids).await,
        },
    }
}

/// `yes` or `no` for a script; why not for people, and exit code 1.
async fn can_i(
    client: &Client,
    output: &Output,
    verb: &str,
    resource: &str,
    cluster: Option<String>,
) -> Result<(), Error> {
    let place = cluster.as_ref().map(|cluster| format!(" at cluster {cluster}")).unwrap_or_default();
    let asked = [("verb", verb.to_owned()), ("resource", resource.to_owned())];
    let asked: Vec<_> = asked.into_iter().chain(cluster.map(|cluster| ("cluster", cluster))).collect();
    let answer = client.get(&with_query("/api/auth/can-i", &asked)).await?;
    if answer["allowed"] == true {
        return output.data("yes");
    }
    output.data("no")?;
    let reason = answer["reason"].as_str().unwrap_or("the root does not say why");
    Err(Error::MayNot { action: format!("{verb} {resource}{place}"), reason: reason.to_owned() })
}

async fn create(client: &Client, output: &Output, arguments: ApiTokenArguments) -> Result<(), Error> {
    let mut request = json!({"name": arguments.name});
    if !arguments.scopes.is_empty() {
        request["scopes"] = json!(arguments.scopes);
    }
    if let Some(ttl) = arguments.ttl {
        request["ttl_seconds"] = json!(ttl.as_secs());
    }
    let created = client.post("/api/auth/tokens", Some(&request)).await?;
    match arguments.output {
        Some(TokenFormat::Json) => output.json(&created)?,
        None => output.data(client.field(&created, "token", "POST /api/auth/tokens")?)?,
    }
    let end = created["expires_at"].as_str().unwrap_or_default();
    let advice = format!(
        "Send it as `Authorization: Bearer TOKEN`. It is not shown again, and can be used until {end}."
    );
    output.note(&output.painted(Tone::Quiet, &advice));
    Ok(())
}

async fn list(client: &Client, output: &Output, listing: Listing) -> Result<(), Error> {
    let mut tokens: Vec<Listed<ApiToken>> = objects::list(client, "/api/auth/tokens").await?;
    tokens.sort_by_key(|item| (item.object.expires_at.clone(), item.object.id.clone()));
    let now = jiff::Timestamp::now();
    let columns = Columns {
        headings: &["NAME", "SCOPES", "EXPIRES IN", "ID", "EXPIRES AT"],
        narrow: 4,
        row: &|token: &ApiToken| {
            let scopes = token.scopes.as_ref().map_or_else(|| "all you may".to_owned(), |all| all.join(", "));
            let left = time_left(&token.expires_at, now);
            vec![token.name.clone(), scopes, left, token.id.clone(), token.expires_at.clone()]
        },
        name: &|token: &ApiToken| token.id.clone(),
        nothing: "you have no API tokens; `mangrove auth token create` makes one",
    };
    print(output, listing.output, &tokens, &columns)
}
