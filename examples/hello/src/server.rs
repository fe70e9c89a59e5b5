//! HTTP/1.1 as far as one fixed answer needs it: one request per connection, a thread each.

use std::{
    io::{self, Read, Write as _},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// For a whole request, and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Linux sends the first packet of a connection again after a second.
const BEFORE_THE_SECOND_PACKET: Duration = Duration::from_millis(900);
/// What usual servers accept.
const LARGEST_HEAD: usize = 8 << 10;
/// Threads answering at once: at 64 KiB of stack each they fit the 32 MiB the example reserves.
const MOST_CONNECTIONS: usize = 256;
const STACK: usize = 64 << 10;

/// Listens on every address of both families, or of IPv4 where there is no IPv6.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).or_else(|first| {
        TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).map_err(|second| {
            let problem = format!("cannot listen on [::]:{port} ({first}) nor on 0.0.0.0:{port} ({second})");
            io::Error::new(second.kind(), problem)
        })
    })
}

/// Answers every GET with `text`, for ever.
pub(crate) fn serve(listener: &TcpListener, text: String) -> io::Result<()> {
    let text: Arc<str> = text.into();
    let active = Arc::new(AtomicUsize::new(0));
    loop {
        let connection = match listener.accept() {
            Ok((connection, _)) => connection,
            Err(_) => {
                // The peer left already, or the process has no descriptor to spare; both pass.
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        if active.load(Ordering::Relaxed) >= MOST_CONNECTIONS {
            continue;
        }
        active.fetch_add(1, Ordering::Relaxed);
        let (text, finished) = (text.clone(), Finished(active.clone()));
        // A thread that cannot be made drops the connection and the count with it.
        drop(thread::Builder::new().stack_size(STACK).spawn(move || {
            let _finished = finished;
            handle(&connection, &text);
        }));
    }
}

/// What the server at an address answers. It is asked once: the kernel would send a first packet that is lost again, and by
/// then this has failed.
pub(crate) fn ask(address: &str) -> io::Result<Vec<u8>> {
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot call {address}: {error}"));
    let to = address.parse().map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let mut connection = TcpStream::connect_timeout(&to, BEFORE_THE_SECOND_PACKET).map_err(failed)?;
    connection.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    connection.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).map_err(failed)?;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        return Ok(answer);
    }
    Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it does not answer 200")))
}

/// Takes itself off the count when it goes.
struct Finished(Arc<AtomicUsize>);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn handle(connection: &TcpStream, text: &str) {
    let peer = connection.peer_addr().map_or("unknown".to_owned(), |peer| peer.to_string());
    let outcome = read_head(connection).and_then(|head| {
        let (status, body) = match &head {
            Head::Whole(head) => respond(head, text),
            Head::TooLarge => ("431 Request Header Fields Too Large", "the request is too large\n"),
        };
        answer(connection, status, body, head.wants_body()).map(|()| (head.first_line(), status))
    });
    let line = match outcome {
        Ok((request, status)) => format!("{peer} \"{request}\" {status}\n"),
        Err(error) => format!("{peer} left: {error}\n"),
    };
    // A log nobody reads must not stop the service.
    drop(crate::say(line.as_bytes()));
}

fn respond<'a>(head: &str, text: &'a str) -> (&'static str, &'a str) {
    match head.split(' ').next() {
        Some("GET" | "HEAD") => ("200 OK", text),
        Some(_) | None => ("405 Method Not Allowed", "only GET is answered here\n"),
    }
}

enum Head {
    Whole(String),
    TooLarge,
}

impl Head {
    /// The request line, safe to print.
    fn first_line(&self) -> String {
        match self {
            Self::Whole(head) => head.lines().next().unwrap_or_default().escape_default().to_string(),
            Self::TooLarge => "a request of more than 8 KiB".to_owned(),
        }
    }

    fn wants_body(&self) -> bool {
        match self {
            Self::Whole(head) => !head.starts_with("HEAD "),
            Self::TooLarge => true,
        }
    }
}

/// Reads up to the empty line, within the patience for the whole of it.
fn read_head(mut connection: &TcpStream) -> io::Result<Head> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !is_complete(&head) {
        if head.len() > LARGEST_HEAD {
            return Ok(Head::TooLarge);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no whole request in 5 s"));
        }
        connection.set_read_timeout(Some(left))?;
        let count = match connection.read(&mut buffer) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no whole request")),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        head.extend_from_slice(&buffer[..count]);
    }
    Ok(Head::Whole(String::from_utf8_lossy(&head).into_owned()))
}

fn is_complete(head: &[u8]) -> bool {
    head.windows(4).any(|bytes| bytes == b"\r\n\r\n") || head.windows(2).any(|bytes| bytes == b"\n\n")
}

fn answer(mut connection: &TcpStream, status: &str, body: &str, with_body: bool) -> io::Result<()> {
    connection.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    let sent = if with_body { body } else { "" };
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{sent}"
    );
    connection.write_all(text.as_bytes())?;
    connection.shutdown(Shutdown::Write)?;
    drain(connection)
}

/// Takes what the client still sends, so that closing does not throw away the answer before it is read.
fn drain(mut connection: &TcpStream) -> io::Result<()> {
    const MOST: usize = 64 << 10;
    connection.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut buffer = [0; 1024];
    let mut taken = 0;
    while taken < MOST {
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => taken += count,
        }
    }
    Ok(())
}
