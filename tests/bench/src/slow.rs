//! A slow way to a service, on a thread of its own: it takes no turn of the load's.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use matricula_chaos::proxy::{Fault, Proxy};
use tokio::sync::oneshot;

/// A proxy that is late with everything. It ends when this is dropped.
pub(crate) struct SlowWay {
    url: String,
    _stop: oneshot::Sender<()>,
}

impl SlowWay {
    /// Starts one that makes a call slower by this much, half of it on each way.
    ///
    /// # Panics
    /// When no port is free.
    pub(crate) fn to(server: &str, by: Duration) -> Self {
        let server: SocketAddr = server.parse().expect("a process prints its address");
        let (told, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let proxy = Proxy::start(server).await.expect("a port is free");
                proxy.set(Fault::Delay(by / 2));
                let _ = told.send(proxy.address());
                let _ = stopped.await;
            });
        });
        let address = address.recv().expect("the proxy starts");
        Self { url: format!("http://{address}"), _stop: stop }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
