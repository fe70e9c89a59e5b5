//! The rules of the root, one by one.
