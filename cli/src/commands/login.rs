//! `mangrove login` and `mangrove logout`.

use std::{env, io};

use crate::{
    args::LoginArguments,
    client::Client,
    config::{ConfigFile, SavedLogin},
    error::Error,
    output::Output,
    terminal,
};

/// Logs in and remembers it.
pub(crate) async fn login(
    root: Option<&str>,
    config: ConfigFile,
    output: &Output,
    arguments: LoginArguments,
) -> Result<(), Error> {
    let client = Client::for_login(root, config)?;
    let password = password(&client, &arguments).await?;
    client.log_in(&arguments.username, &password).await?;
    output.note(&format!("logged in to {} as {}", client.root(), arguments.username));
    Ok(())
}

/// Forgets the tokens; which root they were for stays remembered.
pub(crate) fn logout(config: &ConfigFile, output: &Output) -> Result<(), Error> {
    let saved = config.load().unwrap_or_default();
    if saved.token.is_none() && saved.refresh_token.is_none() {
        output.note("nobody was logged in");
        return Ok(());
    }
    config.save(&SavedLogin { token: None, refresh_token: None, ..saved.clone() })?;
    output.note(&format!("logged out of {}", saved.root));
    Ok(())
}

async fn password(client: &Client, arguments: &LoginArguments) -> Result<String, Error> {
    if arguments.password_stdin {
        let text = io::read_to_string(io::stdin())
            .map_err(|source| Error::File { file: "standard input".to_owned(), source })?;
        return Ok(text.trim_end_matches(['\n', '\r']).to_owned());
    }
    if let Ok(password) = env::var("MANGROVE_PASSWORD") {
        return Ok(password);
    }
    let question = format!("Password of {} at {}: ", arguments.username, client.root());
    match terminal::ask_secret(&question).await {
        Ok(password) => Ok(password),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            Err(Error::Interrupted("nobody was logged in".to_owned()))
        }
        Err(_) => Err(Error::NoPassword),
    }
}
