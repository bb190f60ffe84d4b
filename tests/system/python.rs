//! A portal in Python registers a student, with the `.proto` files only.
//!
//! Needs `python3` with grpcio and grpcio-tools (`pip install grpcio grpcio-tools`); without them it prints so and does
//! nothing.

use std::process::Command;

use matricula_harness::System;

#[test]
fn a_portal_in_python_registers_a_student() {
    let imports = Command::new("python3").args(["-c", "import grpc, grpc_tools"]).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: python3 with grpcio and grpcio-tools is not here (pip install grpcio grpcio-tools)");
        return;
    }
    let system = System::up_with(&["--students", "100", "--sections", "20"], &[]);
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new("python3")
        // Leaves no compiled file beside the source.
        .arg("-B")
        .arg(format!("{root}/tests/python/client.py"))
        .args(["--target", system.address("orchestrator"), "--protos", &format!("{root}/proto")])
        .args(["--student", "S000001"])
        .output()
        .expect("python3 runs");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("watched: ENROLLED") && said.contains("listed: "), "{said}{complained}");
    system.audit();
}
