//! The command `mangrove`: parses its arguments and hands them to the library.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cli::args::Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the kernel grants a process its first event queue");
    let code = runtime.block_on(cli::run(arguments));
    // A prompt still waiting for its line must not keep an interrupted command alive.
    runtime.shutdown_background();
    code
}
