//! See [`fleet::ingest`].

use clap::Parser;
use fleet::ingest::{Options, run};

fn main() -> anyhow::Result<()> {
    fleet::log();
    run(&Options::parse())
}
