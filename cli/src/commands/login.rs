//! `mangrove login` and `mangrove logout`.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    args::LoginArguments,
    client::Client,
    commands::passwords,
    config::{ConfigFile, SavedLogin},
    error::Error,
    output::{Output, clean},
};

/// Who asks too often, or whom nobody answers, waits so much longer: the standard's word.
const SLOWER: Duration = Duration::from_secs(5);

/// Logs in and remembers it.
pub(crate) async fn login(
    root: Option<&str>,
    config: ConfigFile,
    output: &Output,
    arguments: LoginArguments,
) -> Result<(), Error> {
    let client = Client::for_login(root, config)?;
    let LoginArguments { username, organization, password_stdin, oidc } = arguments;
    if oidc {
        return login_at_provider(&client, output, organization.as_deref()).await;
    }
    let question = format!("Password of {username} at {}: ", client.root());
    let password = passwords::own(&question, password_stdin).await?;
    client.log_in(&username, &password, organization.as_deref()).await?;
    output.note(&format!("logged in to {} as {}", client.root(), username));
    Ok(())
}

/// Logs in by a browser that may be anywhere, at the identity provider of the root, and remembers it.
async fn login_at_provider(
    client: &Client,
    output: &Output,
    organization: Option<&str>,
) -> Result<(), Error> {
    let begun = client.begin_device_login(organization).await?;
    let address = begun.verification_uri_complete.as_ref().unwrap_or(&begun.verification_uri);
    output.note(&format!("open {} in a browser and log in there", clean(address)));
    output.note(&format!("the code is {}; it is good for {} s", clean(&begun.user_code), begun.expires_in));
    let end = Instant::now() + Duration::from_secs(begun.expires_in);
    let mut interval = Duration::from_secs(begun.interval);
    loop {
        let next = Instant::now() + interval;
        if next > end {
            return Err(Error::LoginUnfinished { seconds: begun.expires_in });
        }
        tokio::time::sleep_until(next).await;
        match client.finish_device_login(&begun.device_code, organization).await {
            Ok(()) => break,
            Err(Error::Refused { code, .. }) if code == "authorization_pending" => {}
            Err(Error::Refused { code, .. }) if code == "slow_down" => interval += SLOWER,
            Err(error) if error.is_passing() => interval += SLOWER,
            Err(error) => return Err(error),
        }
    }
    let name = client.username().unwrap_or_default();
    output.note(&format!("logged in to {} as {}", client.root(), clean(&name)));
    Ok(())
}

/// Ends the login at the root and forgets the tokens; which root they were for stays remembered.
pub(crate) async fn logout(config: ConfigFile, output: &Output) -> Result<(), Error> {
    let saved = config.load().unwrap_or_default();
    let Some(refresh_token) = &saved.refresh_token else {
        output.note("nobody was logged in");
        return Ok(());
    };
    let ended = Client::for_login(Some(&saved.root), config.clone())?.log_out(refresh_token).await;
    config.save(&SavedLogin { token: None, refresh_token: None, ..saved.clone() })?;
    output.note(&format!("logged out of {}", saved.root));
    // Whoever has a copy of the tokens could still use them if the root was not told.
    ended
}
