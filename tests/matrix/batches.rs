//! Sends waiting calls of the same RPC in one, as the orchestrator does, for hundreds of sagas at a time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use matricula_engine::CallAnswer;
use matricula_registration::{RegistrationRequest, Registrations};
use matricula_runtime::{Call, Workload as _};
use tokio::sync::oneshot;

type Waiting = (Call<RegistrationRequest>, oneshot::Sender<CallAnswer>);

/// The calls of a registration, in batches.
pub struct Batches {
    registrations: Registrations,
    waiting: Mutex<HashMap<&'static str, Vec<Waiting>>>,
}

impl Batches {
    pub fn new(registrations: Registrations) -> Self {
        Self { registrations, waiting: Mutex::default() }
    }

    /// Makes a call, together with all calls that wait at the same moment.
    pub async fn call(&self, call: Call<RegistrationRequest>) -> CallAnswer {
        let step = self.registrations.definitions().of(&call.state).step(call.step);
        let (destination, rpc) = (step.destination, step.rpc(call.direction).expect("what is called exists"));
        let (reply, answer) = oneshot::channel();
        let is_first = self.queue(|waiting| {
            let queue = waiting.entry(rpc).or_default();
            queue.push((call, reply));
            queue.len() == 1
        });
        if is_first {
            tokio::task::yield_now().await;
            let batch = self.queue(|waiting| waiting.remove(rpc)).unwrap_or_default();
            let (calls, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let answers = match self.registrations.call(destination, rpc, &calls).await {
                Ok(answers) => answers,
                Err(error) => vec![CallAnswer::Unknown(error); calls.len()],
            };
            for (reply, answer) in replies.into_iter().zip(answers) {
                let _ = reply.send(answer);
            }
        }
        answer.await.expect("each call of a batch is answered")
    }

    fn queue<T>(&self, change: impl FnOnce(&mut HashMap<&'static str, Vec<Waiting>>) -> T) -> T {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
