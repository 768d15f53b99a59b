//! Asking endpoints, each at its own pace, a few at a time.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use super::Shared;
use super::wait::about;
use crate::host::clock::{Clock as _, SystemClock};
use crate::host::fs::MAX_FILE;
use crate::host::tls::probe::{Endpoint, look};
use crate::model::cause::chain;
use crate::model::layers::Leaf;
use crate::model::layers::probe::{Probed, Shown};
use crate::model::policy::Probe;

/// Threads; each waits for one endpoint.
const AT_ONCE: usize = 4;
/// For everything, name resolution included.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks each again and again.
pub(super) fn start(shared: &Arc<Shared>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for probe in shared.policy.probe.clone() {
        let (shared, places) = (Arc::clone(shared), Arc::clone(&places));
        drop(tokio::spawn(async move {
            loop {
                if let Ok(_place) = places.acquire().await {
                    ask(&shared, probe.clone()).await;
                }
                // not all at the same moment, and none later than it should be
                sleep(probe.interval.0 * 3 / 4 + about(probe.interval.0) / 4).await;
            }
        }));
    }
}

/// Asks each once.
pub(super) async fn all_once(shared: &Arc<Shared>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut all = JoinSet::new();
    for probe in shared.policy.probe.clone() {
        let (shared, places) = (Arc::clone(shared), Arc::clone(&places));
        all.spawn(async move {
            if let Ok(_place) = places.acquire().await {
                ask(&shared, probe).await;
            }
        });
    }
    while all.join_next().await.is_some() {}
}

async fn ask(shared: &Arc<Shared>, probe: Probe) {
    let (name, asked) = (probe.name.clone(), Arc::clone(shared));
    if let Ok(probed) = spawn_blocking(move || run(&asked, &probe)).await {
        shared.with(|l| l.probes.put(&name, probed));
    }
}

fn run(shared: &Shared, probe: &Probe) -> Probed {
    let began = Instant::now();
    let shown = shown(shared, probe);
    if let Err(why) = &shown {
        tracing::debug!("probe {}: {why}", probe.name);
    }
    Probed {
        at: SystemClock::default().now(),
        took: began.elapsed(),
        address: probe.address.clone(),
        secret: probe.secret.clone(),
        shown,
    }
}

fn shown(shared: &Shared, probe: &Probe) -> Result<Shown, String> {
    // read each time: a CA is exchanged too
    let ca = match probe.ca.as_path() {
        none if none == Path::new("") => None,
        path => Some(shared.root.read(path, MAX_FILE).map_err(|e| chain(&e))?),
    };
    let endpoint = Endpoint {
        address: &probe.address,
        name: Some(probe.server_name.as_str()).filter(|n| !n.is_empty()),
        starttls: probe.starttls,
        ca: ca.as_deref(),
    };
    let showed = look(&endpoint, LIMIT).map_err(|e| chain(&e))?;
    let leaf = Leaf::of(&showed.leaf.der).ok_or_else(|| "it showed no certificate".to_owned())?;
    Ok(Shown {
        leaf,
        subject: showed.leaf.subject,
        not_before: showed.leaf.not_before,
        not_after: showed.leaf.not_after,
        refused: showed.refused,
    })
}
