//! What the tests run in containers: a static program that does as its arguments say, in order.
//!
//! `say TEXT` prints, `env NAME` and `file PATH` print what they find, `exit CODE` ends, `wait` waits for SIGTERM,
//! `greet PORT` answers TCP connections until then.

use std::{
    env, fs,
    io::{self, Write},
    process::ExitCode,
};

use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<ExitCode> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut out = io::stdout();
    let mut arguments = env::args().skip(1);
    while let Some(verb) = arguments.next() {
        let mut object = || arguments.next().ok_or_else(|| io::Error::other(format!("`{verb}` of what?")));
        match verb.as_str() {
            "say" => writeln!(out, "{}", object()?)?,
            "env" => writeln!(out, "{}", env::var(object()?).unwrap_or_else(|_| "unset".to_owned()))?,
            "file" => writeln!(out, "{}", fs::read_to_string(object()?)?)?,
            "exit" => return Ok(ExitCode::from(object()?.parse::<u8>().map_err(io::Error::other)?)),
            "wait" => {
                terminated.recv().await;
            }
            "greet" => {
                let listener =
                    TcpListener::bind(("0.0.0.0", object()?.parse().map_err(io::Error::other)?)).await?;
                loop {
                    tokio::select! {
                        _ = terminated.recv() => break,
                        connection = listener.accept() => connection?.0.write_all(b"hello\n").await?,
                    }
                }
            }
            other => return Err(io::Error::other(format!("what is `{other}`?"))),
        }
    }
    Ok(ExitCode::SUCCESS)
}
