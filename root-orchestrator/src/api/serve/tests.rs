//! The port under clients that behave, that hang, and that mean no good.

use std::{net::Ipv4Addr, sync::Arc};

use axum::{
    body::Bytes,
    response::IntoResponse,
    routing::{get, post},
};
use futures_util::stream;
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::api::{body, error::Error};

/// For what should come at once, or is to be given up soon.
const SOON: Duration = Duration::from_secs(20);

/// Where that is served until the test ends.
async fn serving(router: Router, patience: Patience) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let shutdown = CancellationToken::new();
    tokio::spawn(serve_patiently(listener, Transport::Plain, router, shutdown, patience));
    address
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

/// What is answered until the connection is closed, which it is soon.
async fn all_of(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it is closed").expect("in good order");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn at_the_end_what_is_asked_already_is_answered_and_nothing_more() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        move || async move {
            begun.notify_one();
            go_on.notified().await;
            "done"
        }
    };
    let shutdown = CancellationToken::new();
    let router = Router::new().route("/", get(slow));
    let serving = tokio::spawn(serve(listener, Transport::Plain, router, shutdown.clone()));
    let mut stream = connect(address).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: root\r\n\r\n").await.expect("sent");
    begun.notified().await;
    shutdown.cancel();
    serving.await.expect("no panic").expect("it ends");
    assert!(TcpStream::connect(address).await.is_err(), "nobody is let in any more");
    go_on.notify_one();
    let answer = all_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("done"), "{answer}");
}

#[test]
fn who_speaks_no_tls_is_told_so_in_an_answer_that_is_whole() {
    let (head, body) = SPEAK_TLS.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.ends_with(&format!("content-length: {}\r\nconnection: close", body.len())), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["error"], "tls_only");
}

#[tokio::test]
async fn who_sends_no_whole_head_in_time_loses_the_place_and_so_does_who_asks_nothing_more() {
    let head = Duration::from_millis(200);
    let router = Router::new().route("/", get(async || "hello"));
    let address = serving(router, Patience { head, ..Patience::default() }).await;
    let mut silent = connect(address).await;
    all_of(&mut silent).await;

    let mut half = connect(address).await;
    half.write_all(b"GET / HTTP/1.1\r\nhost: root\r\nx-slow: ").await.expect("sent");
    let answer = all_of(&mut half).await;
    assert!(!answer.contains("200 OK"), "{answer}");

    let mut idle = connect(address).await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: root\r\n\r\n").await.expect("sent");
    let answer = all_of(&mut idle).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_refused_and_one_in_time_is_read() {
    let length = async |body: body::Body| -> Result<String, Error> { Ok(body?.len().to_string()) };
    let router = Router::new().route("/", post(length));
    let address = serving(router, Patience { body: Duration::from_millis(200), ..Patience::default() }).await;
    let head = b"POST / HTTP/1.1\r\nhost: root\r\ncontent-length: 10\r\n\r\n";
    let mut slow = connect(address).await;
    slow.write_all(head).await.expect("sent");
    slow.write_all(b"12345").await.expect("sent");
    let answer = all_of(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.contains("connection: close") && answer.contains(r#""error":"body_too_late""#),
        "{answer}"
    );

    let mut prompt = connect(address).await;
    prompt.write_all(head).await.expect("sent");
    prompt.write_all(b"1234567890").await.expect("sent");
    prompt.shutdown().await.expect("nothing more to ask");
    let answer = all_of(&mut prompt).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("10"), "{answer}");
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_loses_the_place() {
    // Nothing is ever sent by it: that it is dropped tells.
    let (held, is_gone) = oneshot::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(Some(held)));
    let endless = move || {
        let held = held.lock().expect("no panic").take();
        async move {
            let part = Bytes::from_static(&[b'x'; 65_536]);
            // Goes on for as long as somebody takes it, and is dropped with its connection.
            let parts = stream::unfold(held, move |held| {
                let part = part.clone();
                async move { Some((Ok::<_, io::Error>(part), held)) }
            });
            Body::from_stream(parts).into_response()
        }
    };
    let router = Router::new().route("/", get(endless));
    let address =
        serving(router, Patience { taking: Duration::from_millis(200), ..Patience::default() }).await;
    let mut stream = connect(address).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: root\r\n\r\n").await.expect("sent");
    let given_up = timeout(SOON, is_gone).await.expect("the answer is given up");
    assert!(given_up.is_err(), "it was dropped, and never sent");
}

#[tokio::test]
async fn what_is_told_does_not_wait_until_what_came_before_is_confirmed() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let _client = connect(listener.local_addr().expect("bound")).await;
    let (accepted, _) = accept(&listener).await;
    assert!(accepted.nodelay().expect("a connection"), "Nagle's algorithm is off");
}
