//! As many requests as a server answers, from a client that does next to nothing with the answers, so that the server is
//! what is measured.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Kept connections, each of which asks again as soon as it is answered.
pub(super) const CONNECTIONS: usize = 16;

/// Answers per second to `GET path`. Every answer is read whole and must be a success.
pub(super) async fn rate(to: SocketAddr, path: &str, token: &str, length: Duration) -> Result<f64> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nauthorization: Bearer {token}\r\n\r\n");
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true).context("send small requests at once")?;
        connections.push(stream);
    }
    let start = Instant::now();
    let asking: Vec<_> = connections
        .into_iter()
        .map(|stream| tokio::spawn(ask_until(stream, request.clone().into_bytes(), start + length)))
        .collect();
    let mut answers = 0;
    for asking in asking {
        answers += asking.await.context("a connection's task ended")??;
    }
    Ok(f64::from(answers) / start.elapsed().as_secs_f64())
}

async fn ask_until(mut stream: TcpStream, request: Vec<u8>, end: Instant) -> Result<u32> {
    let mut answer = Vec::with_capacity(16 << 10);
    let mut answers = 0;
    while Instant::now() < end {
        stream.write_all(&request).await.context("send a request")?;
        answer.clear();
        loop {
            if whole_length(&answer)?.is_some_and(|length| answer.len() >= length) {
                break;
            }
            ensure!(stream.read_buf(&mut answer).await.context("read an answer")? > 0, "the server hung up");
        }
        answers += 1;
    }
    Ok(answers)
}

/// The bytes of an answer with its head; `None` until its head is there.
fn whole_length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end]).context("read the head of an answer")?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status != "HTTP/1.1 200 OK" {
        bail!("the server answers `{status}`");
    }
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("the server does not tell how long its answer is")?;
    Ok(Some(end + 4 + length.trim().parse::<usize>().context("read the length of an answer")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_head_says_so() {
        let length = |answer: &str| whole_length(answer.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"), Ok(None));
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), Ok(Some(43)));
        assert_eq!(
            length("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"),
            Err("the server answers `HTTP/1.1 401 Unauthorized`".to_owned())
        );
    }
}
