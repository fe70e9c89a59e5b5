//! Oakestra's root API as it was recorded, replayed against a live root. What differs on purpose is in
//! `contract/differences.json`, with its reason; nothing else may.

#[cfg(test)]
mod contract {
    mod recording;
    mod replay;
    mod shape;
}
