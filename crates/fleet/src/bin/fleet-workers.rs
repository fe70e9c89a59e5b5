//! See [`fleet::workers`].

use clap::Parser;
use fleet::workers::{Options, run};

fn main() -> anyhow::Result<()> {
    fleet::log();
    run(&Options::parse())
}
