//! Compiles the protocol without a `protoc` binary.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["common", "enrolment", "neighbours", "root", "cluster"]
        .map(|name| format!("mangrove/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, [Path::new(".")])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::LeanCodec")
        .bytes(".mangrove.v1.LogChunk.data")
        .compile_fds(descriptors)?;
    Ok(())
}
