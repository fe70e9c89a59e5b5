//! One side of a link, for trying it by hand and for measuring: runs until it is killed, and says every five seconds how
//! the peer does.
//!
//! `side INTERFACE PORT OWN-PRIVATE-KEY PEER-PUBLIC-KEY PEER-ENDPOINT|- QUEUES ALLOWED...`

use std::{num::NonZeroUsize, thread, time::Duration};

use tunnel::{Peer, Settings, Tunnel};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, port, key, public_key, endpoint, queues, allowed @ ..] = &arguments[..] else {
        return Err("see the head of this example".into());
    };
    let tunnel = Tunnel::start(Settings {
        name: name.clone(),
        key: key.parse()?,
        port: port.parse()?,
        mtu: 1420,
        queues: Some(queues.parse::<NonZeroUsize>()?),
        relayed: None,
        asides: None,
    })?;
    let endpoints = if endpoint == "-" { Vec::new() } else { vec![endpoint.parse()?] };
    let allowed = allowed.iter().map(|network| network.parse()).collect::<Result<_, _>>()?;
    tunnel.set_peers(vec![Peer {
        public_key: public_key.parse()?,
        endpoints,
        relay: None,
        allowed,
        keepalive: None,
    }])?;
    while tunnel.is_running() {
        thread::sleep(Duration::from_secs(5));
        let lines = format!("{:?}\n{:?}\n", tunnel.status(), tunnel.drops());
        std::io::Write::write_all(&mut std::io::stdout(), lines.as_bytes())?;
    }
    Ok(())
}
