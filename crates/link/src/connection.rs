//! What every connection between daemons is set to, at both ends.

use std::{io, time::Duration};

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// How long nothing may be heard of the other kernel before it is asked.
const IDLE: Duration = Duration::from_secs(10);
const BETWEEN_PROBES: Duration = Duration::from_secs(1);
/// At a loss of 30 % both ways, all are lost once in a million times.
const PROBES: u32 = 20;
/// When a connection to a host that is gone ends: of what was sent nothing arrives, and no probe is answered.
const GONE: Duration = Duration::from_secs(30);

/// Has the kernels find out that the other host is gone. They answer each other without waking a process and without
/// encrypting anything: with pings of HTTP/2, a cluster that has a hundred thousand idle workers does little else.
pub(crate) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, IDLE)?;
    sockopt::set_tcp_keepintvl(stream, BETWEEN_PROBES)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    let millis = u32::try_from(GONE.as_millis()).expect("30 000");
    sockopt::set_tcp_user_timeout(stream, millis)?;
    Ok(())
}
