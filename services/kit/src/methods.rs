//! The RPCs of all our services, by the descriptors of the contract.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// Each RPC by its path, `/<package.Service>/<Method>`, with whether it answers by a stream.
pub(crate) static METHODS: LazyLock<HashMap<String, bool>> = LazyLock::new(|| {
    let descriptors = FileDescriptorSet::decode(matricula_proto::DESCRIPTOR_SET).unwrap_or_default();
    let mut methods = HashMap::new();
    for file in descriptors.file {
        for service in &file.service {
            let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| (path(method.name()), method.server_streaming())));
        }
    }
    methods
});
