//! Measures the cost of the wire format: encodes and decodes the largest batches of a registration.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use matricula_proto::common::v1::operation_result::Outcome;
use matricula_proto::common::v1::{Done, Operation, OperationResult, ReservedCourse};
use matricula_proto::registration::v1::SubmitRegistrationRequest;
use matricula_proto::seats::v1::{HoldSeatsOperation, HoldSeatsRequest, HoldSeatsResponse};
use prost::Message;

/// Operations per RPC at full load.
const OPERATIONS: usize = 100;

fn course(number: usize) -> ReservedCourse {
    ReservedCourse {
        section_id: format!("C{number:03}-L1"),
        course_id: format!("C{number:03}"),
        component: String::new(),
        credits_hundredths: 300,
        term_id: "2026-fall".to_owned(),
        closed_section_override_id: String::new(),
    }
}

fn request() -> HoldSeatsRequest {
    let operation = |number: usize| HoldSeatsOperation {
        operation: Some(Operation {
            saga_id: format!("01a20394-7ebb-7176-8acb-{number:012}"),
            step: "hold_seats".to_owned(),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            tracestate: String::new(),
            owner_alive_at: Some(prost_types::Timestamp { seconds: 1_795_651_200, nanos: 123_000_000 }),
        }),
        student_id: format!("S{number:06}"),
        sections: vec![course(number)],
    };
    HoldSeatsRequest { operations: (0..OPERATIONS).map(operation).collect() }
}

fn response() -> HoldSeatsResponse {
    let done = |number| Done { added: vec![course(number)], ..Done::default() };
    let result = |number| OperationResult { outcome: Some(Outcome::Done(done(number))) };
    HoldSeatsResponse { results: (0..OPERATIONS).map(result).collect() }
}

fn submission() -> SubmitRegistrationRequest {
    SubmitRegistrationRequest {
        idempotency_key: "S000007-1".to_owned(),
        student_id: "S000007".to_owned(),
        adds: vec!["C001-L1".to_owned()],
        wait_ms: 30_000,
        ..SubmitRegistrationRequest::default()
    }
}

fn message<M: Message + Default>(criterion: &mut Criterion, name: &str, message: &M) {
    let bytes = message.encode_to_vec();
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(message).encode_to_vec()));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| M::decode(black_box(bytes.as_slice())).expect("it is whole"))
    });
    group.finish();
}

fn codec(criterion: &mut Criterion) {
    message(criterion, "one submission", &submission());
    message(criterion, "100 holds", &request());
    message(criterion, "100 results", &response());
}

criterion_group!(benches, codec);
criterion_main!(benches);
