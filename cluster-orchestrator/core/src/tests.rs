//! The rules of a cluster, one by one.
