//! The one writer of an instance: what waits becomes one transaction, tried again until it is answered.

use std::rc::Rc;

use matricula_engine::Recorded;

use super::executor::Entrant;
use super::{OldInput, Owner};
use crate::broken::Broken;
use crate::clients::{Asker, Reply, Request};
use crate::env::Env;
use crate::replica::{InstanceInput, reply};
use crate::store::{Admission, Admitted, Append, Batch, StoreAnswer, StoreRequest};

/// First and longest delay between tries.
const RETRY_FIRST_MS: i64 = 20;
const RETRY_MAX_MS: i64 = 1_000;

#[derive(Default)]
pub(super) struct Writer {
    /// What waits for the next transaction.
    batch: Batch,
    entering: Vec<(Asker, Entrant)>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    batch: Rc<Batch>,
    entering: Vec<(Asker, Entrant)>,
    delay_ms: i64,
    tries: u32,
}

impl Owner {
    pub(super) fn write_admission(
        &mut self,
        env: &mut Env,
        asker: Asker,
        request: Rc<Request>,
        first: Rc<Vec<Recorded>>,
        entrant: Entrant,
    ) {
        self.writer.batch.admissions.push(Admission { saga: entrant.saga, request, first });
        self.writer.entering.push((asker, entrant));
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
        writer.under_way = Some(UnderWay { batch: batch.clone(), entering, delay_ms: RETRY_FIRST_MS, tries: 1 });
        self.send_write(env, batch, 1);
    }

    pub(super) fn write_again(&mut self, env: &mut Env) {
        if let Some(under_way) = &mut self.writer.under_way {
            under_way.tries += 1;
            let (batch, tries) = (under_way.batch.clone(), under_way.tries);
            self.send_write(env, batch, tries);
        }
    }

    fn send_write(&self, env: &mut Env, batch: Rc<Batch>, tries: u32) {
        self.send_transaction(env, StoreRequest::Write(batch), tries);
    }

    /// A transaction was answered.
    pub(super) fn write_ended(&mut self, env: &mut Env, batch: &Rc<Batch>, answer: StoreAnswer) {
        let Some(under_way) = &mut self.writer.under_way else { return };
        if let StoreAnswer::Written(admitted, appended) = answer {
            return self.written(env, batch, &admitted, &appended);
        }
        if env.is_broken(Broken::WritesAreGivenUp) {
            let (admitted, appended) = (Vec::new(), vec![false; batch.appends.len()]);
            return self.written(env, batch, &admitted, &appended);
        }
        let delay_ms = under_way.delay_ms;
        under_way.delay_ms = (delay_ms * 2).min(RETRY_MAX_MS);
        self.wake_me(env, delay_ms, InstanceInput::Old(OldInput::WriteAgain));
    }

    fn written(&mut self, env: &mut Env, batch: &Batch, admitted: &[Admitted], appended: &[bool]) {
        let Some(under_way) = self.writer.under_way.take() else { return };
        for ((asker, entrant), admitted) in under_way.entering.into_iter().zip(admitted) {
            match *admitted {
                Admitted::New => {
                    reply(env, asker, Reply::Accepted { saga: entrant.saga });
                    self.admitted(env, entrant);
                }
                Admitted::Existing { saga, .. } => reply(env, asker, Reply::Accepted { saga }),
            }
        }
        for (append, stands) in batch.appends.iter().zip(appended) {
            self.appended(env, append.saga, *stands);
        }
        self.write_next(env);
    }
}
