//! The smallest useful service: answers every HTTP GET with its own name. With a subcommand it does one other
//! simple thing, so that tests of the whole system can make instances that end, print, wait or show what they
//! were given. Serving itself is in `server`.

mod server;

use std::{
    env, fs,
    io::{self, Write as _},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

const USAGE: &str = "\
hello                       serve HTTP on PORT (8080 unless set)
hello exit CODE [MILLIS]    end with CODE, after MILLIS if given
hello print TEXT...         print TEXT and end
hello env                   print the environment, sorted, and end
hello cat PATH              print a file and end
hello call ADDRESS              ask an address such as 10.30.0.7:8080 once, print the answer and end
hello sleep                 do nothing until told to end
";

fn main() -> ExitCode {
    end_when_told();
    let arguments: Vec<String> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [] | ["serve"] => serve(),
        ["exit", code] => return exit(code, "0"),
        // The word `after` reads better in a descriptor, and may be left out.
        ["exit", code, millis] | ["exit", code, "after", millis] => return exit(code, millis),
        ["print", ref words @ ..] => say(format!("{}\n", words.join(" ")).as_bytes()),
        ["env"] => environment(),
        ["cat", path] => fs::read(path)
            .and_then(|content| say(&content))
            .map_err(|error| io::Error::new(error.kind(), format!("cannot print {path}: {error}"))),
        ["call", address] => server::ask(address).and_then(|answer| say(&answer)),
        ["sleep"] => loop {
            thread::park();
        },
        _ => return usage(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Ends the process the moment it is asked to. The kernel withholds signals without a handler from process 1,
/// which is what this is in a container.
fn end_when_told() {
    let always = Arc::new(AtomicBool::new(true));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, 0, always.clone())
            .expect("SIGTERM and SIGINT are signals a process may handle");
    }
}

fn serve() -> io::Result<()> {
    let port = match env::var("PORT") {
        Err(_) => 8080,
        Ok(text) => text.parse().map_err(|_| {
            let problem = format!("PORT is `{text}`: expected a number from 0 to 65535");
            io::Error::new(io::ErrorKind::InvalidInput, problem)
        })?,
    };
    let listener = server::listen(port)?;
    say(format!("listening on {}\n", listener.local_addr()?).as_bytes())?;
    server::serve(&listener, format!("Hello from {}\n", identity()))
}

/// The host's name, and which instance of what this is where the environment says so.
fn identity() -> String {
    // A container has its name in its kernel namespace even when its image has no files.
    let host = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| env::var("HOSTNAME").ok())
        .map_or("nowhere".to_owned(), |name| name.trim().to_owned());
    match env::var("MANGROVE_INSTANCE") {
        Ok(instance) if !instance.is_empty() => format!("{host} ({instance})"),
        Ok(_) | Err(_) => host,
    }
}

fn exit(code: &str, millis: &str) -> ExitCode {
    let (Ok(code), Ok(millis)) = (code.parse::<u8>(), millis.parse()) else { return usage() };
    thread::sleep(Duration::from_millis(millis));
    ExitCode::from(code)
}

fn environment() -> io::Result<()> {
    let mut lines: Vec<String> = env::vars_os()
        .map(|(name, value)| format!("{}={}\n", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    lines.sort();
    say(lines.concat().as_bytes())
}

fn usage() -> ExitCode {
    complain(USAGE);
    ExitCode::from(2)
}

/// Writes to stdout at once.
fn say(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Writes to stderr; there is nobody to tell when that fails.
fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "{}", text.trim_end()));
}
