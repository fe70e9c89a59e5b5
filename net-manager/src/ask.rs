//! `NetManager status`: asks the running one.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{
    local_key,
    secure::LinkPath,
    status::{Link, Status},
};

/// The answer comes from this device; longer means it is stuck.
const DEADLINE: Duration = Duration::from_secs(5);

/// Says where the NetManager on `port` is, and its instances when the key at `key_file` can be read.
///
/// # Errors
/// When none answers.
pub fn describe_status(port: u16, key_file: &Path) -> anyhow::Result<String> {
    let status: Status = serde_json::from_str(&get(port, "/status", "")?).context("read the answer")?;
    let shown = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut lines = vec![
        format!("state      {}", serde_json::to_value(status.state)?.as_str().unwrap_or_default()),
        format!("worker     {}", shown(status.worker_id.map(|id| id.to_string()))),
        format!("subnet v4  {}", shown(status.subnet_v4)),
        format!("subnet v6  {}", shown(status.subnet_v6)),
        format!("instances  {}", status.instances),
    ];
    if !status.detail.is_empty() {
        lines.push(format!("detail     {}", status.detail));
    }
    if let (true, Ok(key)) = (status.instances > 0, local_key::read(key_file)) {
        let instances: Vec<serde_json::Value> =
            serde_json::from_str(&get(port, "/instances", &format!("Authorization: Bearer {key}\r\n"))?)?;
        for instance in instances {
            let list = |field: &str| -> String {
                let items = instance[field].as_array().cloned().unwrap_or_default();
                items.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join(" ")
            };
            let id = instance["id"].as_str().unwrap_or_default();
            lines.push(format!("  {id}  {}  {}", list("addresses"), list("ports")));
        }
    }
    if let Ok(key) = local_key::read(key_file) {
        let links: Vec<Link> =
            serde_json::from_str(&get(port, "/links", &format!("Authorization: Bearer {key}\r\n"))?)?;
        lines.push(format!("links      {}", links.len()));
        lines.extend(links.iter().map(describe_link));
    }
    Ok(lines.join("\n"))
}

fn describe_link(link: &Link) -> String {
    let Link { worker_id, way, path, endpoint, last_handshake_seconds, received, sent, .. } = link;
    let Link { round_trip_microseconds, silent, .. } = link;
    let path = match path {
        Some(LinkPath::Relayed) => ", relayed by".to_owned(),
        Some(path) => format!(", {path}"),
        None => String::new(),
    };
    let state = match (way.as_str(), last_handshake_seconds) {
        ("direct", _) => String::new(),
        (_, Some(ago)) => format!("  keys of {ago} s ago, {received} B in, {sent} B out"),
        (_, None) => "  no answer yet: is its UDP port open, or that of the relay?".to_owned(),
    };
    let distance = match round_trip_microseconds {
        Some(micros) => format!("  {}.{} ms there and back", micros / 1000, micros % 1000 / 100),
        None if *silent => "  no answer to echoes: is ICMPv6 let in there?".to_owned(),
        None => String::new(),
    };
    format!("  {worker_id}  {way}{path}  {endpoint}{state}{distance}")
}

/// One request over one connection; HTTP/1.0, so that the answer ends with it.
fn get(port: u16, path: &str, headers: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!("no NetManager answers on 127.0.0.1:{port}; start it, or pass its --port")
    })?;
    stream.set_read_timeout(Some(DEADLINE)).context("set a deadline")?;
    write!(stream, "GET {path} HTTP/1.0\r\n{headers}\r\n").context("ask")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer on that port is not HTTP")?;
    if !head.starts_with("HTTP/1.0 200") && !head.starts_with("HTTP/1.1 200") {
        bail!("NetManager refused: {body}");
    }
    Ok(body.to_owned())
}
