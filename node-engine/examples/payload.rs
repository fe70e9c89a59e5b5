//! What the tests run in containers: a static program that does as its arguments say, in order.
//!
//! `say TEXT` prints, `env NAME` and `file PATH` print what they find, `exit CODE` ends, `wait` waits for SIGTERM,
//! `greet PORT` answers TCP connections until then, and `answer PORT STATUS` HTTP requests; `sick PORT` does so with 200
//! three times, and with 500 from then on, and `deaf` never ends by itself.

use std::{
    env, fs,
    io::{self, Write},
    process::ExitCode,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
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
            "deaf" => std::future::pending().await,
            "answer" | "sick" => {
                let listener =
                    TcpListener::bind(("0.0.0.0", object()?.parse().map_err(io::Error::other)?)).await?;
                let (mut left, status) = if verb == "sick" { (3, "500".to_owned()) } else { (0, object()?) };
                loop {
                    let mut connection = tokio::select! {
                        _ = terminated.recv() => break,
                        connection = listener.accept() => connection?.0,
                    };
                    let mut request = [0; 1024];
                    let _length = connection.read(&mut request).await?;
                    let status = if left > 0 { "200" } else { status.as_str() };
                    left = i32::max(left - 1, 0);
                    let answer = format!("HTTP/1.1 {status} As told\r\ncontent-length: 0\r\n\r\n");
                    connection.write_all(answer.as_bytes()).await?;
                }
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
