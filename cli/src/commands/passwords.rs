//! Where passwords come from: standard input, the environment or the terminal.

use std::{env, io};

use crate::{error::Error, terminal};

/// Lines of standard input, one password each.
pub(super) struct Lines(std::vec::IntoIter<String>);

impl Lines {
    /// Reads all of standard input, so that a whole line is one password, whatever is in it.
    pub(super) fn read() -> Result<Self, Error> {
        let text = io::read_to_string(io::stdin())
            .map_err(|source| Error::File { file: "standard input".to_owned(), source })?;
        Ok(Self(text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()))
    }

    /// The next one; nothing is an empty password, which the root refuses.
    pub(super) fn next(&mut self) -> String {
        self.0.next().unwrap_or_default()
    }
}

/// The password to log in with.
pub(super) async fn own(question: &str, from_stdin: bool) -> Result<String, Error> {
    if from_stdin {
        return Ok(Lines::read()?.next());
    }
    if let Ok(password) = env::var("MANGROVE_PASSWORD") {
        return Ok(password);
    }
    ask(question, "nobody was logged in").await
}

/// Asks on the terminal; `unchanged` tells what an interruption leaves as it was.
pub(super) async fn ask(question: &str, unchanged: &str) -> Result<String, Error> {
    match terminal::ask_secret(question).await {
        Ok(password) => Ok(password),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            Err(Error::Interrupted(unchanged.to_owned()))
        }
        Err(_) => Err(Error::NoPassword),
    }
}

/// A new password, asked for twice.
pub(super) async fn ask_new(question: &str) -> Result<String, Error> {
    const UNCHANGED: &str = "nothing was changed";
    let password = ask(question, UNCHANGED).await?;
    if ask("The same again: ", UNCHANGED).await? == password { Ok(password) } else { Err(Error::NotTheSame) }
}
