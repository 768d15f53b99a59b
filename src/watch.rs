//! `certwarden watch`: the certificates of the other layers, by a process of its own that has no privilege on the node. It follows
//! objects of the API, asks endpoints, and writes metrics; it changes nothing anywhere.

mod credential;
mod follow;
mod probes;
mod told;
mod wait;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use told::{found, render};

use crate::host::clock::{Clock as _, SystemClock};
use crate::host::fs::{FsError, Root};
use crate::host::kube::{Connection, KubeError};
use crate::host::notify;
use crate::model::cause::chain;
use crate::model::kubeconfig::KubeconfigError;
use crate::model::layers::{FEEDS, Layers, Overview, Standing, brief, overview, write};
use crate::model::policy::Policy;
use crate::observe::WATCH_METRICS_FILE;

/// What has changed is written no more often than so: a scrape comes every fifteen seconds at most.
const SETTLE: Duration = Duration::from_secs(5);
/// And written without a change so often, since time passes for what expires.
const REFRESH: Duration = Duration::from_secs(60);
/// For one feed of an overview.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("cannot read the kubeconfig")]
    Unreadable(#[source] FsError),
    #[error("the kubeconfig {} cannot be used", path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: KubeconfigError,
    },
    #[error("the kubeconfig {} cannot be used: {detail}", path.display())]
    Unusable { path: PathBuf, detail: &'static str },
    #[error("cannot use the credential")]
    Credential(#[source] KubeError),
    #[error("cannot begin")]
    Runtime(#[source] io::Error),
}

/// What all parts share.
struct Shared {
    root: Root,
    policy: Policy,
    to: Connection,
    layers: Mutex<Layers>,
    /// One list at a time: a page is the largest thing that is in memory.
    lists: Semaphore,
    /// Something is to be written.
    changed: tokio::sync::Notify,
}

impl Shared {
    fn new(root: Root, policy: Policy, kubeconfig: &Path) -> Result<Arc<Self>, WatchError> {
        let to = credential::connection(&root, kubeconfig)?;
        let (layers, changed) = (Mutex::default(), tokio::sync::Notify::new());
        Ok(Arc::new(Self { root, policy, to, layers, lists: Semaphore::new(1), changed }))
    }

    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Layers) -> T) -> T {
        let result = change(&mut self.layers());
        self.changed.notify_one();
        result
    }
}

/// Watches until it is ended.
///
/// # Errors
/// [`WatchError`]: only what is wrong from the start.
pub fn run(root: Root, policy: Policy, kubeconfig: &Path) -> Result<(), WatchError> {
    let shared = Shared::new(root, policy, kubeconfig)?;
    runtime()?.block_on(async {
        for feed in 0..FEEDS.len() {
            drop(tokio::spawn(follow::follow(Arc::clone(&shared), feed)));
        }
        probes::start(&shared);
        notify::ready();
        tell(&shared).await;
    });
    Ok(())
}

/// Looks once at everything.
///
/// # Errors
/// As [`run`].
pub fn once(root: Root, policy: Policy, kubeconfig: &Path) -> Result<Overview, WatchError> {
    let shared = Shared::new(root, policy, kubeconfig)?;
    let runtime = runtime()?;
    runtime.block_on(async {
        for feed in 0..FEEDS.len() {
            if tokio::time::timeout(PATIENCE, follow::list(&shared, feed)).await.is_err() {
                shared.with(|l| l.stand(feed, Standing::Down, "the list takes too long"));
            }
        }
        probes::all_once(&shared).await;
    });
    // a name that is still being resolved is not waited for
    runtime.shutdown_background();
    let now = SystemClock::default().now();
    Ok(overview(&shared.layers(), &shared.policy, now))
}

fn runtime() -> Result<tokio::runtime::Runtime, WatchError> {
    // one thread: what it does is wait
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WatchError::Runtime)
}

/// Writes the metrics whenever something has changed, and now and then.
async fn tell(shared: &Shared) {
    let clock = SystemClock::default();
    loop {
        let written = Instant::now();
        match publish(shared, &clock) {
            Ok(()) => {
                let (objects, text, down) = {
                    let layers = shared.layers();
                    let down = (0..FEEDS.len()).filter(|f| layers.standing(*f) == Standing::Down).count();
                    (layers.len(), layers.text() >> 10, down)
                };
                let trouble = if down == 0 { String::new() } else { format!("; {down} lists or watches fail") };
                notify::status(&format!("following {objects} objects by {text} KiB of text{trouble}"));
            }
            Err(e) => {
                tracing::warn!("the metrics are not written: {}", chain(&e));
                notify::status("cannot write the metrics");
            }
        }
        // the permit of a change that came meanwhile is kept
        let _ = tokio::time::timeout_at(written + REFRESH, shared.changed.notified()).await;
        tokio::time::sleep_until(written + SETTLE).await;
    }
}

fn publish(shared: &Shared, clock: &SystemClock) -> Result<(), FsError> {
    let now = clock.now();
    // systemd makes it (RuntimeDirectory=); this is for a person who starts it
    if let Some(directory) = Path::new(WATCH_METRICS_FILE).parent() {
        shared.root.create_dir_all(directory, 0o755)?;
    }
    let place = shared.root.place_without_links(Path::new(WATCH_METRICS_FILE))?;
    place.write_pieces(|out| {
        let mut text = Written { out, error: None };
        match write(&mut text, &shared.layers(), now) {
            Ok(()) => Ok(()),
            Err(fmt::Error) => Err(text.error.unwrap_or_else(|| io::ErrorKind::Other.into())),
        }
    })?;
    let brief = brief(&shared.layers(), &shared.policy, now);
    told::publish(&shared.root, &brief)
}

/// Text into a file.
struct Written<'a> {
    out: &'a mut dyn Write,
    error: Option<io::Error>,
}

impl fmt::Write for Written<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.out.write_all(s.as_bytes()).map_err(|e| {
            self.error = Some(e);
            fmt::Error
        })
    }
}

#[cfg(test)]
mod tests;
