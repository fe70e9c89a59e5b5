//! `mangrove login` and `mangrove logout`.

use crate::{
    args::LoginArguments,
    client::Client,
    commands::passwords,
    config::{ConfigFile, SavedLogin},
    error::Error,
    output::Output,
};

/// Logs in and remembers it.
pub(crate) async fn login(
    root: Option<&str>,
    config: ConfigFile,
    output: &Output,
    arguments: LoginArguments,
) -> Result<(), Error> {
    let client = Client::for_login(root, config)?;
    let LoginArguments { username, organization, password_stdin } = arguments;
    let question = format!("Password of {username} at {}: ", client.root());
    let password = passwords::own(&question, password_stdin).await?;
    client.log_in(&username, &password, organization.as_deref()).await?;
    output.note(&format!("logged in to {} as {}", client.root(), username));
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
