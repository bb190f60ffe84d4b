//! The one writer of an instance: what waits becomes one transaction, tried again until it is answered.

use std::rc::Rc;

use matricula_engine::Recorded;

use super::executor::Entrant;
use super::{Owner, OwnerInput, reply};
use crate::broken::Broken;
use crate::clients::{Asker, Reply, Request};
use crate::env::Env;
use crate::names::ClientNo;
use crate::store::{Admission, Admitted, Append, Batch, StoreAnswer, StoreRequest};

/// First and longest delay between tries.
const RETRY_FIRST_MS: i64 = 20;
const RETRY_MAX_MS: i64 = 1_000;

#[derive(Default)]
pub(super) struct Writer {
    /// What waits for the next transaction.
    batch: Batch,
    entering: Vec<(ClientNo, Entrant)>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    batch: Rc<Batch>,
    entering: Vec<(ClientNo, Entrant)>,
    delay_ms: i64,
}

impl Owner {
    pub(super) fn write_admission(
        &mut self,
        env: &mut Env,
        client: ClientNo,
        request: Rc<Request>,
        first: Rc<Vec<Recorded>>,
        entrant: Entrant,
    ) {
        self.writer.batch.admissions.push(Admission { saga: entrant.saga, request, first });
        self.writer.entering.push((client, entrant));
        self.write_next(env);
    }

    pub(super) fn write_append(&mut self, env: &mut Env, append: Append) {
        self.writer.batch.appends.push(append);
        self.write_next(env);
    }

    fn write_next(&mut self, env: &mut Env) {
        let writer = &mut self.writer;
        if writer.under_way.is_some() || writer.batch.admissions.is_empty() && writer.batch.appends.is_empty() {
            return;
        }
        let batch = Rc::new(std::mem::take(&mut writer.batch));
        let entering = std::mem::take(&mut writer.entering);
        writer.under_way = Some(UnderWay { batch: batch.clone(), entering, delay_ms: RETRY_FIRST_MS });
        self.ask_store(env, StoreRequest::Write(batch));
    }

    pub(super) fn write_again(&mut self, env: &mut Env) {
        if let Some(under_way) = &self.writer.under_way {
            let request = StoreRequest::Write(under_way.batch.clone());
            self.ask_store(env, request);
        }
    }

    /// A transaction was answered.
    pub(super) fn write_ended(&mut self, env: &mut Env, batch: &Rc<Batch>, answer: StoreAnswer) {
        let Some(under_way) = &mut self.writer.under_way else { return };
        if let StoreAnswer::Written(admitted, appended) = answer {
            return self.written(env, batch, &admitted, &appended);
        }
        if env.is_broken(Broken::OwnerGivesUpWrites) {
            let (admitted, appended) = (Vec::new(), vec![false; batch.appends.len()]);
            return self.written(env, batch, &admitted, &appended);
        }
        let delay_ms = under_way.delay_ms;
        under_way.delay_ms = (delay_ms * 2).min(RETRY_MAX_MS);
        self.wake_me(env, delay_ms, OwnerInput::WriteAgain);
    }

    fn written(&mut self, env: &mut Env, batch: &Batch, admitted: &[Admitted], appended: &[bool]) {
        let Some(under_way) = self.writer.under_way.take() else { return };
        for ((client, entrant), admitted) in under_way.entering.into_iter().zip(admitted) {
            match *admitted {
                Admitted::New => {
                    reply(env, Asker::Client(client), Reply::Accepted { saga: entrant.saga });
                    self.admitted(env, entrant);
                }
                Admitted::Existing { saga, .. } => reply(env, Asker::Client(client), Reply::Accepted { saga }),
            }
        }
        for (append, stands) in batch.appends.iter().zip(appended) {
            self.appended(env, append.saga, *stands);
        }
        self.write_next(env);
    }
}
