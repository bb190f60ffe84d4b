//! Sagas that are forgotten, and what comes late of them.

use matricula_proto::participant::v1::ForgetSagasRequest;
use matricula_proto::participant::v1::participant_service_server::ParticipantService as _;
use tonic::{Code, Request};

use super::*;
use crate::participant::STALE_AFTER_MS;
use crate::participant::barrier::Purge;
use crate::time;

async fn purge(service: &Service, sagas: &[&SagaId]) -> Result<i64, tonic::Status> {
    let saga_ids = sagas.iter().map(|saga| saga.as_str().to_owned()).collect();
    let purge = Purge { database: service.test.database.clone() };
    let answer = purge.forget_sagas(Request::new(ForgetSagasRequest { saga_ids })).await?;
    Ok(answer.into_inner().rows)
}

/// The same operation, of an orchestrator that knew so long ago that it drives the saga.
fn aged(operation: Operation<Command>, age_ms: i64) -> Operation<Command> {
    Operation { owner_alive_at: Some(time::now().plus_ms(-age_ms)), ..operation }
}

#[tokio::test]
async fn all_rows_of_a_saga_go_and_no_others() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let sagas: Vec<SagaId> = (0..450).map(|_| SagaId::generate()).collect();
        let counted = sagas.iter().map(|saga| operation(saga, Direction::Forward, What::Count)).collect();
        service.writer.write(counted).await.expect("it is written");
        written(&service.writer, operation(&sagas[1], Direction::Compensation, What::Count)).await;
        let tombstone = SagaId::generate();
        written(&service.writer, operation(&tombstone, Direction::Compensation, What::Count)).await;

        let ended: Vec<&SagaId> = sagas[..440].iter().chain([&tombstone]).collect();
        assert_eq!(purge(&service, &ended).await.expect("purged"), 441, "{backend:?}: more than one commit takes");
        assert_eq!(purge(&service, &ended).await.expect("purged"), 0, "{backend:?}: again");
        assert_eq!(purge(&service, &[]).await.expect("purged"), 0, "{backend:?}: nothing");
        for (index, saga) in sagas.iter().enumerate() {
            let expect = if index < 440 { "none" } else { "answered" };
            assert_eq!(service.record(saga).await, expect, "{backend:?}: {index}");
        }
        assert_eq!(service.record(&tombstone).await, "none", "{backend:?}");
        assert_eq!(service.value("a").await, 449, "{backend:?}: what they did stays");
    }
}

/// What the margin between the end of a saga and the purge is for.
#[tokio::test]
async fn what_comes_late_takes_effect_at_most_once() {
    let old = STALE_AFTER_MS + 1;
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let (done, never) = (SagaId::generate(), SagaId::generate());
        let action = |saga: &SagaId| operation(saga, Direction::Forward, What::Count);
        assert_eq!(written(&service.writer, action(&done)).await, "done");
        // As long as the row is there a duplicate is answered from it, however old it is.
        assert_eq!(written(&service.writer, aged(action(&done), old)).await, "done", "{backend:?}");
        assert_eq!(service.value("a").await, 1, "{backend:?}");

        purge(&service, &[&done]).await.expect("purged");
        for saga in [&done, &never] {
            for direction in [Direction::Forward, Direction::Compensation] {
                let late = aged(operation(saga, direction, What::Count), old);
                assert_eq!(written(&service.writer, late).await, "not yet", "{backend:?}: {direction:?}");
                assert_eq!(service.record(saga).await, "none", "{backend:?}: nothing is left of it");
            }
        }
        assert_eq!(service.value("a").await, 1, "{backend:?}");

        // A call that is not that old is decided; so is one of a person, who is not asked.
        assert_eq!(written(&service.writer, aged(action(&never), old / 2)).await, "done", "{backend:?}");
        assert_eq!(written(&service.writer, action(&SagaId::generate())).await, "done", "{backend:?}");
        // A clock that is behind makes a call come from the future.
        assert_eq!(written(&service.writer, aged(action(&SagaId::generate()), -old)).await, "done", "{backend:?}");
    }
}

#[tokio::test]
async fn bounds() {
    let service = Service::new(Backend::Sqlite).await;
    let saga = SagaId::generate();
    let many = purge(&service, &[&saga; 1_001]).await.expect_err("too many");
    assert_eq!(many.code(), Code::InvalidArgument, "{many:?}");
    let bad = purge(&service, &[&saga, &SagaId::stored("a b".to_owned())]).await.expect_err("no id");
    assert!(bad.code() == Code::InvalidArgument && bad.message().contains("saga_ids[1]"), "{bad:?}");
}
