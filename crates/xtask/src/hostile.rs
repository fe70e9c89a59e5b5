//! What a peer may send is fed to what reads it: each message of the protocol is decoded by a target of `fuzz/`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::check::Finding;

const PROTOCOL: &str = "proto/mangrove/v1";
const TARGETS: &str = "fuzz/src/targets";

/// A finding for each message that no target decodes.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let (protocol, targets) = (texts(&root.join(PROTOCOL))?, texts(&root.join(TARGETS))?);
    let sent: BTreeSet<&str> = protocol.iter().flat_map(|text| sent_in(text)).collect();
    Ok(not_fed(&sent, &targets.concat()))
}

/// Of every file in a folder.
fn texts(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<PathBuf>, _>>();
    let paths = paths.with_context(|| format!("list {}", folder.display()))?;
    paths
        .iter()
        .map(|path| fs::read_to_string(path).with_context(|| format!("read {}", path.display())))
        .collect()
}

/// What the methods of a file of the protocol take and return.
fn sent_in(text: &str) -> impl Iterator<Item = &str> {
    let methods = text.lines().filter(|line| line.trim_start().starts_with("rpc "));
    let brackets = methods.flat_map(|line| line.split('(').skip(1));
    let inside = brackets.filter_map(|part| Some(part.split_once(')')?.0));
    inside.map(|message| message.trim_start_matches("stream ").trim())
}

fn not_fed(sent: &BTreeSet<&str>, targets: &str) -> Vec<Finding> {
    let missing = sent.iter().filter(|message| !targets.contains(&format!("v1::{message}::decode(")));
    let finding = |message: &&str| {
        Finding::new(
            PROTOCOL,
            &format!("no target of fuzz/ decodes `{message}`"),
            "feed it to who reads it, in a target there is or in a new one; see docs/testing.md",
        )
    };
    missing.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: &str = "service Link {\n  // rpc in words.\n  rpc Connect(stream Up) returns (stream Down);\n  rpc Ask(Question) \
                           returns (Answer);\n}\n";

    #[test]
    fn a_message_that_no_target_decodes_is_found() {
        let sent: BTreeSet<&str> = sent_in(METHODS).collect();
        assert_eq!(sent, BTreeSet::from(["Up", "Down", "Question", "Answer"]));
        let fed = "v1::Up::decode(bytes) v1::Down::decode(bytes) v1::Answer::decode(bytes)";
        let problems: Vec<_> = not_fed(&sent, fed).into_iter().map(|finding| finding.problem).collect();
        assert_eq!(problems, ["no target of fuzz/ decodes `Question`"]);
    }

    #[test]
    fn every_message_of_the_protocol_is_fed_to_who_reads_it() {
        assert_eq!(check(Path::new("../..")).expect("both are there"), []);
    }
}
