//! What a container with a single attempt gives to those who come after it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a single attempt wrote to the file of its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// All of it: at most [`Output::MAX_BYTES`].
    Text(Arc<str>),
    /// It cannot be told: what of it is so, as the end of a sentence about it.
    Withheld(String),
    /// As it was told before, over the same connection or by an earlier process.
    AsTold,
}

impl Output {
    /// Where the container finds the file; its variable `MANGROVE_OUTPUT` says so.
    pub const FILE: &'static str = "/mangrove/output.json";
    /// As much may be written to it: enough for what decides what follows. What is larger is data, and has stores of its
    /// own.
    pub const MAX_BYTES: usize = 256 << 10;
    /// Bytes of all outputs in one report, which has to fit into a message of 64 MiB with all else it tells.
    pub const BYTES_IN_A_REPORT: usize = 16 << 20;

    /// What a file of so many bytes holds, of which `content` was read: all, or more than [`Output::MAX_BYTES`]. Nothing
    /// if nothing was written.
    #[must_use]
    pub fn read(content: Vec<u8>, bytes: u64) -> Option<Self> {
        let most = Self::MAX_BYTES;
        if content.is_empty() {
            return None;
        }
        if content.len() > most {
            return Some(Self::Withheld(format!("has {bytes} bytes; it may have {most}")));
        }
        Some(match String::from_utf8(content) {
            Ok(text) => Self::Text(text.into()),
            Err(error) => {
                let place = error.utf8_error().valid_up_to();
                Self::Withheld(format!("is not text: byte {place} is not part of a character of UTF-8"))
            }
        })
    }

    /// The bytes it adds to a report.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Withheld(_) | Self::AsTold => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_all_text_or_withheld_for_a_reason() {
        let withheld = |why: &str| Some(Output::Withheld(why.to_owned()));
        let most = vec![b'1'; Output::MAX_BYTES];
        assert_eq!(Output::read(Vec::new(), 0), None);
        assert_eq!(Output::read(b"{}\n".to_vec(), 3), Some(Output::Text("{}\n".into())));
        assert_eq!(Output::read(most.clone(), 262_144).map(|output| output.bytes()), Some(262_144));
        let more = [&most[..], b"1"].concat();
        assert_eq!(Output::read(more, 1 << 30), withheld("has 1073741824 bytes; it may have 262144"));
        let why = "is not text: byte 1 is not part of a character of UTF-8";
        assert_eq!(Output::read(b"1\xff".to_vec(), 2), withheld(why));
    }
}
