//! A slow connection to a service, on a thread of its own, so that it does not delay the load.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use matricula_chaos::proxy::{Fault, Proxy};
use tokio::sync::oneshot;

/// A proxy that delays everything. It ends when this is dropped.
pub(crate) struct SlowConnection {
    url: String,
    _stop: oneshot::Sender<()>,
}

impl SlowConnection {
    /// Starts one that delays a call by this much: each piece of its request and of its answer by half of it. A message
    /// in several pieces is delayed more.
    ///
    /// # Panics
    /// When no port is free.
    pub(crate) fn to(server: &str, by: Duration) -> Self {
        let server: SocketAddr = server.parse().expect("a process prints its address");
        let (sender, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let proxy = Proxy::start(server).await.expect("a port is free");
                proxy.set(Fault::Delay(by / 2));
                let _ = sender.send(proxy.address());
                let _ = stopped.await;
            });
        });
        let address = address.recv().expect("the proxy starts");
        Self { url: format!("http://{address}"), _stop: stop }
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
