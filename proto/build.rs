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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = AREAS.iter().map(|area| format!("matricula/{area}/v1/{area}.proto")).collect();
    for file in &files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("matricula_descriptor.bin");
    std::fs::write(out, descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
