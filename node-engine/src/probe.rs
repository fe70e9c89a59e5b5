//! Asks one running container once whether it works. When to ask, and what the answers mean, is `node-core`'s business.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http_body_util::Empty;
use hyper::{Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use model::{Check, Probe};
use node_core::{ContainerId, Outcome};
use tokio::{net::TcpStream, time::timeout};

use crate::runtime::{ContainerRuntime, Executed, RuntimeError};

/// What a command wrote is told in a detail up to here.
const OUTPUT_CHARACTERS: usize = 160;

/// Asks, and waits for the answer as long as the probe allows.
pub(crate) async fn ask(
    runtime: &dyn ContainerRuntime,
    container: &ContainerId,
    address: Option<IpAddr>,
    probe: &Probe,
) -> Outcome {
    let patience = Duration::from_millis(probe.timeout.as_millis());
    let port = match &probe.check {
        Check::Exec { command } => return execute(runtime, container, command, patience).await,
        Check::Http { port, .. } | Check::Tcp { port } => *port,
    };
    let address = match address {
        Some(address) => address,
        None => match runtime.address(container).await {
            Ok(Some(address)) => address,
            Ok(None) => return Outcome::Probed(Err("it has no address to ask it at".to_owned())),
            Err(error) => return unasked(&error),
        },
    };
    let target = SocketAddr::new(address, port);
    let (what, answer) = match &probe.check {
        Check::Http { path, .. } => {
            (format!("GET http://{target}{path}"), timeout(patience, get(target, path)).await)
        }
        Check::Tcp { .. } | Check::Exec { .. } => {
            (format!("connecting to {target}"), timeout(patience, connect(target)).await)
        }
    };
    Outcome::Probed(match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => Err(format!("{what} {reason}")),
        Err(_) => Err(format!("{what} was not answered within {}", probe.timeout)),
    })
}

async fn execute(
    runtime: &dyn ContainerRuntime,
    container: &ContainerId,
    command: &[String],
    patience: Duration,
) -> Outcome {
    let what = command.first().map_or("", String::as_str);
    Outcome::Probed(match runtime.exec(container, command, patience).await {
        Ok(Executed::Ended { code: 0, .. }) => Ok(()),
        Ok(Executed::Ended { code, output }) => {
            let said: String = output.chars().take(OUTPUT_CHARACTERS).collect();
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            let colon = if said.is_empty() { "" } else { ": " };
            Err(format!("`{what}` ended with code {code}{colon}{said}"))
        }
        Ok(Executed::TimedOut) => Err(format!("`{what}` did not end within {} ms", patience.as_millis())),
        Err(RuntimeError::Refused { detail }) => Err(format!("`{what}` cannot be run: {detail}")),
        Err(error) => return unasked(&error),
    })
}

/// The engine is at fault, not the container.
fn unasked(error: &RuntimeError) -> Outcome {
    tracing::debug!(%error, "a container cannot be probed");
    Outcome::Lost
}

async fn connect(target: SocketAddr) -> Result<(), String> {
    TcpStream::connect(target).await.map(drop).map_err(|error| failed(&error))
}

async fn get(target: SocketAddr, path: &str) -> Result<(), String> {
    let stream = TcpStream::connect(target).await.map_err(|error| failed(&error))?;
    let broke = |error: hyper::Error| format!("failed: {}", daemon::chain(&error));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let request = Request::get(path)
        .header(header::HOST, target.to_string())
        .header(header::USER_AGENT, "Mangrove")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("cannot be asked: {error}"))?;
    let mut sending = std::pin::pin!(sender.send_request(request));
    // The connection ends with this function, whatever of the body is still to come.
    let response = tokio::select! {
        response = &mut sending => response,
        // It ends as soon as the answer is there, or for want of one.
        _ended = connection => sending.await,
    };
    let response = response.map_err(broke)?;
    let status = response.status();
    if (StatusCode::OK.as_u16()..400).contains(&status.as_u16()) {
        return Ok(());
    }
    Err(format!("answered {}", status.as_u16()))
}

/// In the kernel's own words, without the number.
fn failed(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    format!("failed: {}", words.to_lowercase())
}

#[cfg(test)]
mod tests {
    use model::Span;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::runtime::fake::FakeRuntime;

    async fn ask_with(runtime: &FakeRuntime, check: Check) -> Outcome {
        let probe = Probe { timeout: Span::from_millis(300), ..Probe::new(check) };
        ask(runtime, &ContainerId("c1".to_owned()), None, &probe).await
    }

    async fn asked(check: Check) -> Result<(), String> {
        let outcome = ask_with(&FakeRuntime::new(), check).await;
        let Outcome::Probed(answer) = outcome else { panic!("{outcome:?}") };
        answer
    }

    /// Answers one request on a port of its own; the port and the request.
    async fn answering(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("the probe listens");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (port, served)
    }

    fn http(port: u16) -> Check {
        Check::Http { port, path: "/ready?now".to_owned() }
    }

    #[tokio::test]
    async fn any_status_from_200_to_399_is_a_success() {
        let (port, served) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(asked(http(port)).await, Ok(()));
        let request = served.await.expect("served");
        assert!(request.starts_with("GET /ready?now HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{request}");
        for (answer, expected) in [
            ("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", None),
            ("HTTP/1.1 399 Odd\r\ncontent-length: 5\r\n\r\n", None),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Some("answered 404")),
            ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", Some("answered 503")),
        ] {
            let (port, _) = answering(answer).await;
            let expected =
                expected.map(|expected| format!("GET http://127.0.0.1:{port}/ready?now {expected}"));
            assert_eq!(asked(http(port)).await.err(), expected);
        }
    }

    #[tokio::test]
    async fn nonsense_silence_and_refusal_are_failures_in_words() {
        let (port, _) = answering("220 mail\r\n").await;
        let nonsense = asked(http(port)).await.expect_err("no HTTP");
        assert!(
            nonsense.starts_with(&format!("GET http://127.0.0.1:{port}/ready?now failed: ")),
            "{nonsense}"
        );
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = silent.local_addr().expect("bound").port();
        let expected = format!("GET http://127.0.0.1:{port}/ready?now was not answered within 300ms");
        assert_eq!(asked(http(port)).await, Err(expected));
        assert_eq!(asked(Check::Tcp { port }).await, Ok(()), "it accepts connections");
        drop(silent);
        let expected = format!("connecting to 127.0.0.1:{port} failed: connection refused");
        assert_eq!(asked(Check::Tcp { port }).await, Err(expected));
    }

    #[tokio::test]
    async fn a_command_succeeds_with_code_zero_and_an_engine_that_is_down_proves_nothing() {
        let runtime = FakeRuntime::new();
        let check = || Check::Exec { command: vec!["check".to_owned(), "me".to_owned()] };
        assert_eq!(ask_with(&runtime, check()).await, Outcome::Probed(Ok(())));
        runtime.answer_command(&["check", "me"], 2);
        let failed = Outcome::Probed(Err("`check` ended with code 2".to_owned()));
        assert_eq!(ask_with(&runtime, check()).await, failed);
        runtime.go_down();
        assert_eq!(ask_with(&runtime, check()).await, Outcome::Lost);
        assert_eq!(ask_with(&runtime, http(1)).await, Outcome::Lost);
    }
}
