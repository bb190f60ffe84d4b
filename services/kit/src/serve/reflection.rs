//! gRPC reflection, in both versions that clients speak: the services that the port has, and the files that they
//! import. `with_service_name` of tonic-reflection lists only these services, but it describes every service of the
//! files. A client must not be offered a service that the port does not have. So the descriptors of the others are
//! removed here.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::codec::CompressionEncoding;
use tonic::service::RoutesBuilder;
use tonic_reflection::pb::{v1, v1alpha};
use tonic_reflection::server::{Builder, Error};

/// What every port has beside the services of its role.
const OF_EVERY_PORT: [&str; 3] =
    ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// Adds reflection for these services.
pub(super) fn add_to(routes: &mut RoutesBuilder, services: &[&'static str]) -> Result<(), Error> {
    let served: BTreeSet<&str> = services.iter().copied().chain(OF_EVERY_PORT).collect();
    let files = files(&served)?;
    let builder = || {
        // The set has what is served, the two reflection services among it.
        Builder::configure().include_reflection_service(false).register_file_descriptor_set(files.clone())
    };
    let (v1, v1alpha) = (builder().build_v1()?, builder().build_v1alpha()?);
    routes
        .add_service(v1.accept_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Gzip))
        .add_service(v1alpha.accept_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Gzip));
    Ok(())
}

/// The files of these services with all that they import, and no other service.
fn files(served: &BTreeSet<&str>) -> Result<FileDescriptorSet, Error> {
    let sets = [
        matricula_proto::DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        v1::FILE_DESCRIPTOR_SET,
        v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut known: BTreeMap<String, FileDescriptorProto> = BTreeMap::new();
    let mut open = Vec::new();
    for set in sets {
        for mut file in FileDescriptorSet::decode(set)?.file {
            let package = file.package().to_owned();
            file.service.retain(|service| served.contains(format!("{package}.{}", service.name()).as_str()));
            if !file.service.is_empty() {
                open.push(file.name().to_owned());
            }
            known.entry(file.name().to_owned()).or_insert(file);
        }
    }
    let mut found = FileDescriptorSet::default();
    while let Some(file) = open.pop().and_then(|name| known.remove(&name)) {
        open.extend(file.dependency.iter().filter(|name| known.contains_key(*name)).cloned());
        // Each once, also when many import it.
        open.sort_unstable();
        open.dedup();
        found.file.push(file);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_served_is_described() {
        let seats = "matricula.seats.v1.SeatService";
        let served: BTreeSet<&str> = [seats].into_iter().chain(OF_EVERY_PORT).collect();
        let files = files(&served).expect("the descriptors are sound").file;
        let names: BTreeSet<String> = files
            .iter()
            .flat_map(|file| file.service.iter().map(|service| format!("{}.{}", file.package(), service.name())))
            .collect();
        assert_eq!(names.iter().map(String::as_str).collect::<BTreeSet<_>>(), served);
        let there: BTreeSet<&str> = files.iter().map(FileDescriptorProto::name).collect();
        assert_eq!(there.len(), files.len(), "each file once");
        for file in &files {
            for import in &file.dependency {
                assert!(there.contains(import.as_str()), "{} imports {import}, which is not there", file.name());
            }
        }
        assert!(!there.iter().any(|name| name.contains("fees")), "{there:?}");
    }
}
