//! `mangrove logs`: what instances wrote, of several at once with their names before each line.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    args::LogsArguments,
    client::{Client, Stream},
    error::Error,
    objects::{self, Listed, Service},
    output::{Output, Tone},
    resolve,
};

/// Lines that wait to be printed: enough to keep reading while a terminal scrolls.
const WAITING_LINES: usize = 256;
/// A longer line is printed in parts, so that an instance that writes no line ends cannot fill the memory.
const LONGEST_LINE: usize = 64 << 10;
/// What the root answers about an instance that never had a container.
const NOT_STARTED: u16 = 409;

/// Prints the logs of one instance, or of all instances of a service.
pub(crate) async fn run(
    client: &Arc<Client>,
    output: &Output,
    arguments: LogsArguments,
) -> Result<(), Error> {
    let (name, number) = match resolve::split_instance(&arguments.target) {
        Ok((name, number)) => (name, Some(number)),
        Err(error) if arguments.target.contains('/') => return Err(error),
        Err(_) => (arguments.target.as_str(), None),
    };
    let services: Vec<Listed<Service>> = objects::list(client, "/api/services/").await?;
    let service = resolve::service(services.iter().map(|item| &item.object), name, arguments.app.as_deref())?;
    let existing: Vec<u64> = service.instances.iter().map(|instance| instance.number).collect();
    let chosen: Vec<u64> =
        existing.iter().copied().filter(|known| number.is_none_or(|number| number == *known)).collect();
    let paths = chosen
        .iter()
        .map(|number| (format!("{}/{number}", service.short_name()), path(&service.id, *number, &arguments)));
    match *paths.collect::<Vec<_>>() {
        [] => Err(Error::NoInstance { service: service.full_name(), number, existing }),
        [(_, ref path)] => copy(client, output, path).await,
        ref several => merge(client, output, several, arguments.follow).await,
    }
}

fn path(service_id: &str, number: u64, arguments: &LogsArguments) -> String {
    let tail = arguments.tail.map(|lines| format!("tail={lines}"));
    let follow = arguments.follow.then(|| "follow=true".to_owned());
    let query: Vec<String> = tail.into_iter().chain(follow).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/api/service/{service_id}/instance/{number}/logs{mark}{}", query.join("&"))
}

async fn copy(client: &Client, output: &Output, path: &str) -> Result<(), Error> {
    let mut stream = client.stream(path).await?;
    while let Some(chunk) = stream.chunk().await? {
        output.bytes(&chunk)?;
    }
    Ok(())
}

/// One after the other, or, when they never end, line by line as they come.
pub(super) async fn merge(
    client: &Arc<Client>,
    output: &Output,
    instances: &[(String, String)],
    follow: bool,
) -> Result<(), Error> {
    let (sender, mut receiver) = mpsc::channel(WAITING_LINES);
    let mut unfinished = Vec::new();
    let mut failed = 0;
    for (name, path) in instances {
        let stream = match client.stream(path).await {
            Ok(stream) => stream,
            Err(Error::Refused { status, message, .. }) => {
                // One that has not started has nothing to print, which is no failure of this command.
                failed += usize::from(status != NOT_STARTED);
                output.note(&output.painted(Tone::Doubtful, &format!("{name}: {message}")));
                continue;
            }
            Err(error) => return Err(error),
        };
        let reading = read_lines(stream, name.clone(), sender.clone());
        if follow {
            tokio::spawn(reading);
        } else {
            unfinished.push(reading);
        }
    }
    drop(sender);
    tokio::spawn(async {
        for reading in unfinished {
            reading.await;
        }
    });
    while let Some(line) = receiver.recv().await {
        match line {
            Ok(line) => output.bytes(&line)?,
            Err((name, error)) => {
                failed += 1;
                output.note(&output.painted(Tone::Doubtful, &format!("{name}: {error}")));
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(Error::Partly { failed, all: instances.len() }) }
}

type Line = Result<Vec<u8>, (String, Error)>;

/// Sends each line with the name before it; ends early when nobody listens any more.
async fn read_lines(mut stream: Stream, name: String, sender: mpsc::Sender<Line>) {
    let mut unfinished = Vec::new();
    loop {
        let chunk = match stream.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => {
                drop(sender.send(Err((name, error))).await);
                return;
            }
        };
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            unfinished.extend_from_slice(part);
            if part.ends_with(b"\n") || unfinished.len() > LONGEST_LINE {
                let line = prefixed(&name, &std::mem::take(&mut unfinished));
                if sender.send(Ok(line)).await.is_err() {
                    return;
                }
            }
        }
    }
    if !unfinished.is_empty() {
        drop(sender.send(Ok(prefixed(&name, &unfinished))).await);
    }
}

fn prefixed(name: &str, line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    [name.as_bytes(), b" | ", line, b"\n"].concat()
}
