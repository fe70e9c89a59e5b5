//! See [`fleet::control`].

use clap::Parser;
use fleet::control::{Options, run};

fn main() -> anyhow::Result<()> {
    fleet::log();
    match run(&Options::parse())? {}
}
