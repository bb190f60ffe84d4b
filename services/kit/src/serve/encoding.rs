//! When answers are compressed. Most clients offer to take gzip with every call, asked or not; packing each small
//! answer would cost the server more than the network saves. A client that packs its own requests wants packed answers.

use tonic::codegen::http;

const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
const IDENTITY: &str = "identity";

/// The request, without the offer to take packed answers unless it is packed itself.
pub(super) fn answered_alike<B>(mut request: http::Request<B>) -> http::Request<B> {
    let is_packed = request.headers().get(ENCODING).is_some_and(|encoding| encoding != IDENTITY);
    if !is_packed {
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    request
}
