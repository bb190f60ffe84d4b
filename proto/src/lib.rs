//! Wire types and gRPC stubs of Matricula, generated from the `.proto` files beside this crate.
//!
//! These files document the API: for every RPC its effect, its errors and whether it may be repeated. The crate
//! contains little else, so that clients need no other crate.

#![allow(missing_docs, reason = "generated code carries the comments of the .proto files")]
#![allow(clippy::all, reason = "generated code")]

pub mod codec;

/// Serialized `FileDescriptorSet` of all files, for server reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/matricula_descriptor.bin"));

macro_rules! area {
    ($area:ident, $package:literal) => {
        pub mod $area {
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    };
}

area!(academics, "matricula.academics.v1");
area!(catalog, "matricula.catalog.v1");
area!(common, "matricula.common.v1");
area!(enrollments, "matricula.enrollments.v1");
area!(fees, "matricula.fees.v1");
area!(imports, "matricula.imports.v1");
area!(notifications, "matricula.notifications.v1");
area!(ops, "matricula.ops.v1");
area!(participant, "matricula.participant.v1");
area!(registration, "matricula.registration.v1");
area!(seats, "matricula.seats.v1");
