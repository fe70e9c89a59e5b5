//! The two ways out of the command: data to stdout, and what is said about it to stderr.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::error::Error;

/// Writes for this process, in colour only where a terminal shows it and nobody minds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Whether stderr can be repainted.
    pub(crate) repaints: bool,
    /// Whether stderr takes colours.
    pub(crate) colours: bool,
}

/// The colours in use, by what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Doubtful,
    Quiet,
}

impl Tone {
    /// `text` in this colour.
    pub(crate) fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Good => "32",
            Self::Bad => "31",
            Self::Doubtful => "33",
            Self::Quiet => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

impl Output {
    /// The output of this process, judging by its terminal and environment.
    pub(crate) fn of_this_process() -> Self {
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let repaints = io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { repaints, colours: repaints && !no_colour }
    }

    /// A line of data.
    pub(crate) fn data(&self, line: &str) -> Result<(), Error> {
        writeln!(io::stdout().lock(), "{line}").map_err(Error::Output)
    }

    /// Bytes of data, at once.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Error::Output)
    }

    /// A JSON value.
    pub(crate) fn json(&self, value: &Value) -> Result<(), Error> {
        self.data(&format!("{value:#}"))
    }

    /// Rows under headings. Cells show no control characters.
    pub(crate) fn table(&self, headings: &[&str], rows: Vec<Vec<String>>) -> Result<(), Error> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(headings);
        for row in rows {
            table.add_row(row.iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { clean(cell) }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        self.data(&table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n"))
    }

    /// A line for the person watching. That nobody can read it is no reason to fail.
    pub(crate) fn note(&self, line: &str) {
        drop(writeln!(io::stderr().lock(), "{line}"));
    }

    /// Tells of a failure and of what to do about it.
    pub(crate) fn failure(&self, error: &Error) {
        if error.exit_code() == 0 {
            return;
        }
        // Leaving is the user's own decision, and no error.
        let label = if matches!(error, Error::Interrupted(_)) { "" } else { "error: " };
        let (label, hint) = (self.painted(Tone::Bad, label), self.painted(Tone::Quiet, "hint:"));
        self.note(&format!("{label}{error}"));
        if let Some(advice) = error.hint() {
            self.note(&format!("  {hint} {advice}"));
        }
    }

    /// `text` in a tone, if stderr takes colours.
    pub(crate) fn painted(&self, tone: Tone, text: &str) -> String {
        if self.colours && !text.is_empty() { tone.paint(text) } else { text.to_owned() }
    }

    /// Asks for a yes on the terminal; without one, `what` stays undone.
    pub(crate) fn confirm(&self, what: &str) -> Result<bool, Error> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Error::Unconfirmed { what: what.to_owned() });
        }
        let mut stderr = io::stderr().lock();
        let mut answer = String::new();
        write!(stderr, "{what}? [y/N] ")
            .and_then(|()| stderr.flush())
            .and_then(|()| io::stdin().read_line(&mut answer))
            .map_err(Error::Output)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
    }
}

/// The same on one line and without anything a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
