//! A rolling restart of all orchestrators under load. A client with the addresses of all three repeats retryable calls,
//! and gets no other errors.

use matricula_harness::{is_of_connection, retry_delay};

use super::{ALL, Load, block_in_place, check_outcomes, portals, setbacks, three};
use crate::campus::bundle;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_fails_no_click() {
    // A short lease, because an instance checks for sagas to adopt three times a lease.
    let mut system = three(&[("orchestrator.runtime.lease_ttl_ms", "1500")]).await;
    block_in_place(|| system.import(&bundle(&[("MANY", 20_000, ""), ("FEW", 10, "")], 20_000)));
    let portals = portals(&system);
    let load = Load::begin(&portals, 24, 20_000, |student| student as usize);
    load.more(100).await;
    for name in ALL {
        let code = block_in_place(|| system.terminate(name));
        assert_eq!(code, Some(0), "{name}:\n{}", system.log(name).join("\n"));
        load.more(50).await;
        block_in_place(|| system.restart(name));
        load.more(50).await;
    }
    let followed = load.end().await;
    eprintln!("{}", setbacks(&followed));
    check_outcomes(&followed, 10);
    for (status, _) in followed.iter().flat_map(|click| &click.setbacks) {
        assert!(is_of_connection(status) || retry_delay(status).is_some(), "it does not say when: {status:?}");
    }
    block_in_place(|| system.audit());
}
