//! The other side of the rate of reads: hyper that answers every request with the same bytes and looks at nothing, on as
//! many threads as the root has.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    thread,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Builder};

/// As `root-orchestrator` has it.
const THREADS: usize = 2;

/// Serves `body` until this program ends; where.
pub(crate) fn start(body: String) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a port")?;
    listener.set_nonblocking(true).context("use a port without waiting")?;
    let address = listener.local_addr().context("read the port")?;
    let body = Bytes::from(body);
    let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.context("start a runtime")?;
    let serving = move || {
        let Err(error) = runtime.block_on(serve(listener, body));
        eprintln!("bare hyper ended: {error:#}");
    };
    thread::Builder::new().name("bare-hyper".to_owned()).spawn(serving).context("start a thread")?;
    Ok(address)
}

async fn serve(listener: std::net::TcpListener, body: Bytes) -> Result<Infallible> {
    let listener = TcpListener::from_std(listener).context("use a port")?;
    loop {
        let (stream, _) = listener.accept().await.context("accept a connection")?;
        stream.set_nodelay(true).context("send small answers at once")?;
        let body = body.clone();
        let answer = service_fn(move |_: Request<Incoming>| {
            let answer = Response::builder()
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))
                .expect("a constant head is well formed");
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        // That a client hangs up is its affair.
        tokio::spawn(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::api::hammer;

    #[test]
    fn bare_hyper_answers_who_hammers_it() {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let rate = runtime.block_on(async {
            let peer = start("{}".to_owned()).expect("a free port");
            hammer::rate(peer, "/any", "token", Duration::from_millis(50)).await.expect("answers")
        });
        assert!(rate > 0.0);
    }
}
