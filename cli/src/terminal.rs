//! What only a terminal can do: ask, ask for a secret, and say how large it is.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Rows and columns of the terminal behind stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// The size of the terminal behind stderr; the classic 24 × 80 when it does not know.
pub(crate) fn size() -> Size {
    match tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            Size { rows: size.ws_row.into(), columns: size.ws_col.into() }
        }
        Ok(_) | Err(_) => Size { rows: 24, columns: 80 },
    }
}

/// Asks for a line that is not shown while it is typed. Fails when the process has no terminal.
pub(crate) async fn ask_secret(question: &str) -> io::Result<String> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let hidden = HiddenEcho::on(terminal.try_clone()?)?;
    terminal.write_all(question.as_bytes())?;
    let reader = terminal.try_clone()?;
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = line => line.expect("reading a line does not panic"),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.and(Err(io::Error::from(io::ErrorKind::Interrupted)))
        }
    };
    drop(hidden);
    terminal.write_all(b"\n")?;
    Ok(line?.trim_end_matches(['\n', '\r']).to_owned())
}

/// Turns the echo of a terminal off for as long as it lives.
struct HiddenEcho {
    terminal: File,
    before: Termios,
}

impl HiddenEcho {
    fn on(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for HiddenEcho {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        tcsetattr(&self.terminal, OptionalActions::Flush, &self.before).unwrap_or_default();
    }
}
