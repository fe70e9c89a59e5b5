//! The programs of the machine that the lab is made with: util-linux, iproute2, nftables, docker.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// Runs a program to its end; gives what it printed.
///
/// # Errors
/// It cannot be started, or fails: the error has its words.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    run_with(command, "")
}

/// As [`run`], with something to read.
pub(crate) fn run_with(command: &mut Command, input: &str) -> Result<String> {
    let told = told(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{told}`; `scripts/up` installs what it needs"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading all of it says why itself.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().with_context(|| format!("wait for `{told}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{told}` fails: {}{}", said.trim(), indented(input));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command with its arguments.
pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// `docker`, speaking to the engine behind a socket.
pub(crate) fn docker(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.arg("--host").arg(format!("unix://{}", socket.display())).args(arguments);
    // What the caller's docker is told by its environment concerns another engine.
    for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        command.env_remove(name);
    }
    command
}

fn told(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn indented(input: &str) -> String {
    if input.is_empty() { String::new() } else { format!("\nit was given:\n{}", input.trim_end()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_command_and_its_words() {
        let mut shell = command("sh", ["-c", "read line; echo \"no $line\" >&2; exit 1"]);
        let error = run_with(&mut shell, "way\n").expect_err("it fails").to_string();
        assert_eq!(
            error,
            "`sh -c read line; echo \"no $line\" >&2; exit 1` fails: no way\nit was given:\nway"
        );
        assert_eq!(run(&mut command("echo", ["a", "b"])).expect("it succeeds"), "a b\n");
    }
}
