//! `NetManager status` and `NetManager logs`: ask the running one.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use net_core::Carrier;

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
        format!(
            "passages   {}",
            if status.passages { "yes" } else { "no: the log says what the kernel lacks" }
        ),
        format!("certificate {}", shown(status.certificate_seconds_left.map(days_left))),
    ];
    if !status.detail.is_empty() {
        lines.push(format!("detail     {}", status.detail));
    }
    if let (true, Ok(key)) = (status.instances > 0, local_key::read(key_file)) {
        let instances: Vec<serde_json::Value> =
            serde_json::from_str(&get(port, "/instances", &bearer(&key))?)?;
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
        let links: Vec<Link> = serde_json::from_str(&get(port, "/links", &bearer(&key))?)?;
        lines.push(format!("links      {}", links.len()));
        lines.extend(links.iter().map(describe_link));
    }
    Ok(lines.join("\n"))
}

fn days_left(seconds: u64) -> String {
    match seconds {
        0 => "has ended".to_owned(),
        _ => format!("ends in {} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn describe_link(link: &Link) -> String {
    let Link { worker_id, way, path, endpoint, last_handshake_seconds, received, sent, .. } = link;
    let Link { round_trip_microseconds, silent, carrier, engine_reason, .. } = link;
    let carrier = match (carrier, engine_reason) {
        (Some(Carrier::Kernel), _) => " by the kernel".to_owned(),
        (Some(Carrier::Engine), Some(reason)) => format!(" by the engine ({reason})"),
        (Some(Carrier::Engine), None) => " by the engine".to_owned(),
        (None, _) => String::new(),
    };
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
    format!("  {worker_id}  {way}{carrier}{path}  {endpoint}{state}{distance}")
}

/// Writes the last lines of the log of the NetManager on `port` to `out`; with `follow` those to come too.
///
/// # Errors
/// When none answers, or the key at `key_file` cannot be read.
pub fn show_logs(port: u16, key_file: &Path, follow: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let stream = connect(port).context(
        "only a running NetManager tells its last lines; what one wrote that has ended is where its standard error \
         went, /var/log/mangrove/net-manager.log with scripts/up",
    )?;
    let key = local_key::read(key_file).context("show the log, which needs root")?;
    let mut answer = ask(&stream, &format!("/logs?follow={follow}"), &bearer(&key))?;
    if follow {
        stream.set_read_timeout(None).context("wait for more lines")?;
    }
    let mut line = String::new();
    while answer.read_line(&mut line).context("read the answer")? > 0 {
        out.write_all(line.as_bytes()).context("write the log")?;
        line.clear();
    }
    Ok(())
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!("no NetManager answers on 127.0.0.1:{port}; start it, or pass its --port")
    })?;
    stream.set_read_timeout(Some(DEADLINE)).context("set a deadline")?;
    Ok(stream)
}

fn get(port: u16, path: &str, headers: &str) -> anyhow::Result<String> {
    let mut body = String::new();
    ask(&connect(port)?, path, headers)?.read_to_string(&mut body).context("read the answer")?;
    Ok(body)
}

/// One request over one connection; HTTP/1.0, so that the answer ends with it. What is read from then on is the body.
fn ask<'a>(mut stream: &'a TcpStream, path: &str, headers: &str) -> anyhow::Result<BufReader<&'a TcpStream>> {
    write!(stream, "GET {path} HTTP/1.0\r\n{headers}\r\n").context("ask")?;
    let mut answer = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = answer.read_line(&mut head).with_context(|| {
            format!("no answer within {} s; look at its log and the load of this device", DEADLINE.as_secs())
        })?;
        if read == 0 {
            bail!("the answer on that port is not HTTP; is it NetManager's?");
        }
    }
    if !head.starts_with("HTTP/1.0 200") && !head.starts_with("HTTP/1.1 200") {
        let mut body = String::new();
        answer.read_to_string(&mut body).context("read the answer")?;
        bail!("NetManager refused: {body}");
    }
    Ok(answer)
}
