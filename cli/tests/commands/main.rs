//! Runs the built command against a root played by `fake_root`, and looks at everything a user or a script
//! sees: stdout, stderr, the exit code and the saved login.

#![expect(clippy::unwrap_used, reason = "this is all test code; a panic is a failed test")]

mod audit;
mod certs;
mod changes;
mod deploy;
mod fake_root;
mod hooks;
mod login;
mod people;
mod reads;
mod secrets;
mod updates;
mod workers;
mod workflows;

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A user's home: the saved login and files to deploy.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A home where `login` has been done.
    fn logged_in_to(root: &fake_root::FakeRoot) -> Self {
        let home = Self::new();
        let login = finish(home.mangrove(&["login", "--root", &root.url]).env("MANGROVE_PASSWORD", "secret"));
        assert_eq!(login.code, 0, "{login:?}");
        home
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("mangrove/config.json")
    }

    fn mangrove(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mangrove"));
        command.args(arguments).env_clear().env("XDG_CONFIG_HOME", self.0.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.mangrove(arguments))
    }
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
struct Finished {
    code: i32,
    stdout: String,
    stderr: String,
}

fn finish(command: &mut Command) -> Finished {
    finished(command.output().unwrap())
}

fn finish_with_input(command: &mut Command, input: &str) -> Finished {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    finished(child.wait_with_output().unwrap())
}

fn finished(output: std::process::Output) -> Finished {
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn done(stdout: &str, stderr: &str) -> Finished {
    Finished { code: 0, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

fn failed(code: i32, stderr: &str) -> Finished {
    Finished { code, stdout: String::new(), stderr: stderr.to_owned() }
}
