//! When answers are compressed: if the request is. Most clients offer gzip with every call, and tonic compresses each
//! answer for a client that offers it. That would cost the server more than the network saves.

use tonic::codegen::http;

const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
const IDENTITY: &str = "identity";

/// The request without the offer of compressed answers, unless it is compressed itself.
pub(super) fn answered_alike<B>(mut request: http::Request<B>) -> http::Request<B> {
    let is_compressed = request.headers().get(ENCODING).is_some_and(|encoding| encoding != IDENTITY);
    if !is_compressed {
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    request
}
