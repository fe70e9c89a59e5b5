//! Runs the built binary as a container runtime would, and talks to it as a client would.

#![expect(clippy::unwrap_used, reason = "this is all test code; a panic is a failed test")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

struct Server {
    process: Child,
    log: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let mut process = hello(&[])
            .env("PORT", "0")
            .env("MANGROVE_INSTANCE", "hello.default.hello.default/3")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let address: SocketAddr = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { process, log, port: address.port() }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap()
    }

    fn log_line(&mut self) -> String {
        let mut line = String::new();
        self.log.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn hello(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
    command.args(arguments);
    command
}

fn exchange(mut connection: TcpStream, request: &str) -> String {
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

#[test]
fn it_says_hello_with_its_host_and_instance_and_logs_it() {
    let mut server = Server::start();
    let answer = exchange(server.connect(), "GET /any HTTP/1.1\r\nHost: h\r\n\r\n");
    let body = format!("Hello from {} (hello.default.hello.default/3)\n", hostname());
    let expected = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(answer, expected);
    let line = server.log_line();
    assert!(line.starts_with("[::ffff:127.0.0.1]:"), "{line}");
    assert!(line.ends_with(" \"GET /any HTTP/1.1\" 200 OK\n"), "{line}");
}

#[test]
fn both_address_families_are_served() {
    let server = Server::start();
    let connection = TcpStream::connect((Ipv6Addr::LOCALHOST, server.port)).unwrap();
    let answer = exchange(connection, "GET / HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn a_slow_client_delays_nobody() {
    let server = Server::start();
    let mut slow = server.connect();
    slow.write_all(b"GET / HT").unwrap();
    let begun = Instant::now();
    assert!(exchange(server.connect(), "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK"));
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited for the slow client");
    assert!(exchange(slow, "TP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn other_methods_and_large_heads_are_refused() {
    let server = Server::start();
    let answer = exchange(server.connect(), "DELETE / HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{answer}");
    let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let answer = exchange(server.connect(), &large);
    assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
    let answer = exchange(server.connect(), "HEAD / HTTP/1.1\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\n"), "a HEAD has no body: {answer}");
}

#[test]
fn sigterm_ends_it_at_once_even_amid_a_request() {
    let mut server = Server::start();
    let mut unfinished = server.connect();
    unfinished.write_all(b"GET /").unwrap();
    let begun = Instant::now();
    kill_process(Pid::from_child(&server.process), Signal::TERM).unwrap();
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(2), "it took {:?}", begun.elapsed());
}

#[test]
fn a_call_prints_what_a_server_answers_and_fails_where_there_is_none() {
    let server = Server::start();
    let address = format!("127.0.0.1:{}", server.port);
    let called = hello(&["call", &address]).output().unwrap();
    let answer = String::from_utf8(called.stdout).unwrap();
    assert!(called.status.success() && answer.contains("\r\n\r\nHello from "), "{answer}");
    drop(server);
    let refused = hello(&["call", &address]).output().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && told.starts_with(&format!("cannot call {address}: ")), "{told}");
    let nowhere = hello(&["call", "nowhere"]).output().unwrap();
    assert!(!nowhere.status.success());
}

#[test]
fn sleeping_ends_on_sigterm() {
    let mut process = hello(&["sleep"]).spawn().unwrap();
    // Until the handler is installed the signal would end it too, with another outcome.
    let installed = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        u64::from_str_radix(&caught, 16).unwrap() & (1 << 14) != 0
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while !installed() {
        assert!(Instant::now() < deadline, "no handler of SIGTERM appeared");
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

fn outcome(output: Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn it_ends_with_the_code_asked_for() {
    assert_eq!(outcome(hello(&["exit", "7"]).output().unwrap()), (Some(7), String::new()));
    let begun = Instant::now();
    assert_eq!(outcome(hello(&["exit", "0", "after", "200"]).output().unwrap()), (Some(0), String::new()));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(outcome(hello(&["exit", "1", "10"]).output().unwrap()), (Some(1), String::new()));
    for wrong in [&["exit"][..], &["exit", "256"], &["exit", "1", "x"], &["dance"]] {
        assert_eq!(outcome(hello(wrong).output().unwrap()), (Some(2), String::new()), "{wrong:?}");
    }
}

#[test]
fn it_prints_what_it_was_given() {
    assert_eq!(outcome(hello(&["print", "a", "b c"]).output().unwrap()), (Some(0), "a b c\n".to_owned()));
    let environment = hello(&["env"]).env_clear().env("B", "2").env("A", "1").output().unwrap();
    assert_eq!(outcome(environment), (Some(0), "A=1\nB=2\n".to_owned()));
    let file = "hello.sla.json";
    let content = std::fs::read_to_string(file).unwrap();
    assert_eq!(outcome(hello(&["cat", file]).output().unwrap()), (Some(0), content));
    assert_eq!(outcome(hello(&["cat", "/nowhere"]).output().unwrap()), (Some(1), String::new()));
}

#[test]
fn a_wrong_port_is_told() {
    let output = hello(&[]).env("PORT", "http").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "PORT is `http`: expected a number from 0 to 65535\n"
    );
}
