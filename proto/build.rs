//! Compiles `matricula/<area>/v1/*.proto` with protox, so that no system protoc is needed.

use std::path::PathBuf;

use prost::Message;

const AREAS: [&str; 11] = [
    "academics",
    "catalog",
    "common",
    "enrollments",
    "fees",
    "imports",
    "notifications",
    "ops",
    "participant",
    "registration",
    "seats",
];

/// The portal's API, whose streams wait long for small messages.
const OF_PORTALS: [&str; 2] = ["catalog", "registration"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = |area: &&str| format!("matricula/{area}/v1/{area}.proto");
    let files: Vec<String> = AREAS.iter().map(file).collect();
    for file in &files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("matricula_descriptor.bin");
    std::fs::write(out, descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    // Replaces the generated files of these areas.
    let of_portals = protox::compile(OF_PORTALS.iter().map(file), ["."])?;
    tonic_prost_build::configure().codec_path("crate::codec::SmallBufferCodec").compile_fds(of_portals)?;
    Ok(())
}
