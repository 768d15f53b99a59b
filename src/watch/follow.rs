//! Following the objects of one feed: a list by pages, then a watch from there, and again whenever the server forgets where we are
//! (kubernetes: "Efficient detection of changes"). All that comes is bounded, and no failure is final.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::wait::{BackOff, about};
use crate::host::kube::KubeError;
use crate::host::kube::stream::{Stream, open};
use crate::model::cause::chain;
use crate::model::layers::{Change, FEEDS, Layers, Malformed, Standing, change, list_page};
use crate::model::plain;

/// Objects of a page; fewer where they are large.
const PAGE: u32 = 100;
/// Bytes of a page, or of one change. etcd takes no object beyond 1.5 MiB (`--max-request-bytes`), which JSON makes longer by a third
/// (base64), and managed fields by as much.
const LARGEST: usize = 4 << 20;
/// For the body of a page.
const PAGE_LIMIT: Duration = Duration::from_secs(60);
/// For a whole list; others wait for it. etcd forgets a list's beginning after five minutes (kube-apiserver:
/// `--etcd-compaction-interval`), so that the next page is then refused.
const LIST_LIMIT: Duration = Duration::from_secs(600);
/// The server ends a watch after so long, or half as much more; without an end it is taken for dead.
const WATCH: Duration = Duration::from_secs(300);
/// What the server may be late with that.
const LATE: Duration = Duration::from_secs(30);
/// A watch that ends sooner has not gone well, whatever it says.
const SOON: Duration = Duration::from_secs(10);
/// A kind that the cluster does not have may be installed.
const ABSENT: Duration = Duration::from_secs(300);

/// Why a list or a watch ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Kube(#[from] KubeError),
    #[error("the answer cannot be used: {0}")]
    Malformed(#[from] Malformed),
    #[error("the API server answered {status}{detail}")]
    Status { status: u16, detail: String },
    #[error("one object is larger than any may be")]
    TooLarge,
    #[error("the list takes longer than {}s", LIST_LIMIT.as_secs())]
    Endless,
    /// 404: no such kind.
    #[error("the cluster has no such objects")]
    Absent,
    /// 410: what was seen last is too old to go on from.
    #[error("the API server has forgotten where we were")]
    Gone,
}

/// Follows for ever.
pub(super) async fn follow(shared: Arc<Shared>, feed: usize) {
    // only a watch that went well resets it: a server that lets list and not watch is not listed without end
    let mut back_off = BackOff::new();
    loop {
        match list(&shared, feed).await {
            Ok(version) => watch(&shared, feed, version, &mut back_off).await,
            Err(Trouble::Absent) => sleep(about(ABSENT)).await,
            Err(_) => back_off.wait().await,
        }
    }
}

/// Lists everything once, and says how that went.
pub(super) async fn list(shared: &Shared, feed: usize) -> Result<String, Trouble> {
    let result = match shared.lists.acquire().await {
        Ok(_one_at_a_time) => timeout(LIST_LIMIT, pages(shared, feed)).await.unwrap_or(Err(Trouble::Endless)),
        Err(_) => Err(Trouble::Endless), // never: nobody closes it
    };
    match &result {
        Ok(_) => well(shared, feed, |l| l.listed(feed)),
        Err(trouble) => failed(shared, feed, trouble),
    }
    result
}

/// Tells that a trouble is over, when the last one is.
fn well(shared: &Shared, feed: usize, stand: impl FnOnce(&mut Layers)) {
    let over = shared.with(|l| {
        let before = l.standing(feed);
        stand(l);
        before == Standing::Down && !any_down(l)
    });
    if over {
        tracing::info!("everything is followed again");
    }
}

fn any_down(layers: &Layers) -> bool {
    (0..FEEDS.len()).any(|f| layers.standing(f) == Standing::Down)
}

fn failed(shared: &Shared, feed: usize, trouble: &Trouble) {
    let what = FEEDS.get(feed).map_or("", |f| f.path);
    if matches!(trouble, Trouble::Absent) {
        tracing::debug!("{what}: {trouble}");
        return well(shared, feed, |l| l.stand(feed, Standing::Absent, ""));
    }
    let why = chain(trouble);
    // told once, and again after it has been well; a server that is away is away for all
    let away = matches!(trouble, Trouble::Kube(KubeError::Unreachable { .. }));
    let told = shared.with(|l| {
        let told = l.standing(feed) == Standing::Down || (away && any_down(l));
        l.stand(feed, Standing::Down, &why);
        told
    });
    if told {
        tracing::debug!("{what}: {why}");
    } else {
        tracing::warn!("{what} cannot be followed: {why}");
    }
}

async fn pages(shared: &Shared, feed: usize) -> Result<String, Trouble> {
    shared.layers().begin(feed);
    let (mut more, mut size) = (None, PAGE);
    loop {
        let path = list_path(feed, size, more.as_deref());
        let (status, answer) = open(&shared.to, &path).await?;
        let body = match status {
            200 => answer.whole(LARGEST, PAGE_LIMIT).await?,
            _ => return Err(unwanted(status, answer).await),
        };
        let Some(body) = body else {
            if size == 1 {
                return Err(Trouble::TooLarge);
            }
            size = (size / 8).max(1);
            continue;
        };
        let (version, next) = {
            let mut layers = shared.layers();
            list_page(&body, |raw| layers.put(feed, raw, false))?
        };
        size = (size * 2).min(PAGE);
        match next {
            None => return Ok(version),
            Some(next) => more = Some(next),
        }
    }
}

/// What is wrong with an answer that is none; its body may say so.
async fn unwanted(status: u16, answer: Stream) -> Trouble {
    match status {
        404 => return Trouble::Absent,
        410 => return Trouble::Gone,
        _ => {}
    }
    let body = answer.whole(64 << 10, Duration::from_secs(5)).await.ok().flatten();
    let message = body.and_then(|b| {
        let status: serde_json::Value = serde_json::from_slice(&b).ok()?;
        let text = status.get("message")?.as_str()?;
        Some(plain::line(text, plain::CLAUSE))
    });
    Trouble::Status { status, detail: message.map(|m| format!(": {m}")).unwrap_or_default() }
}

fn list_path(feed: usize, limit: u32, more: Option<&str>) -> String {
    let mut path = with_selector(feed);
    path += "limit=";
    path += &limit.to_string();
    if let Some(more) = more {
        path += "&continue=";
        path += &encoded(more);
    }
    path
}

fn with_selector(feed: usize) -> String {
    let Some(feed) = FEEDS.get(feed) else { return String::new() };
    match feed.selector {
        "" => format!("{}?", feed.path),
        selector => format!("{}?fieldSelector={selector}&", feed.path),
    }
}

/// A value of a query (RFC 3986 §2.3).
fn encoded(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Watches from `version` on until everything is to be listed again.
async fn watch(shared: &Shared, feed: usize, mut version: String, back_off: &mut BackOff) {
    loop {
        let began = Instant::now();
        let mut heard = false;
        let result = watch_once(shared, feed, &mut version, &mut heard).await;
        let fine = heard || began.elapsed() > SOON;
        if fine {
            back_off.reset();
        }
        match result {
            Ok(()) if fine => {}
            Ok(()) => back_off.wait().await,
            Err(Trouble::Gone) => {
                tracing::debug!("{}: {}", FEEDS.get(feed).map_or("", |f| f.path), Trouble::Gone);
                if !fine {
                    back_off.wait().await; // a server that always says so is not asked without a pause
                }
                return;
            }
            // cut, restarted, hung: the same again from where we were, and no word about it if that goes well
            Err(Trouble::Kube(KubeError::Unreachable { .. })) if heard => back_off.wait().await,
            Err(trouble) => {
                failed(shared, feed, &trouble);
                back_off.wait().await;
                if !matches!(trouble, Trouble::Kube(KubeError::Unreachable { .. })) {
                    return;
                }
            }
        }
    }
}

/// One watch. `heard` if anything came by it.
async fn watch_once(shared: &Shared, feed: usize, version: &mut String, heard: &mut bool) -> Result<(), Trouble> {
    let time = WATCH.mul_f64(0.5) + about(WATCH) / 2;
    let path = format!(
        "{}watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
        with_selector(feed),
        encoded(version),
        time.as_secs()
    );
    let until = Instant::now() + time + LATE;
    let (status, mut answer) = open(&shared.to, &path).await?;
    if status != 200 {
        return Err(unwanted(status, answer).await);
    }
    well(shared, feed, |l| l.stand(feed, Standing::Up, ""));
    loop {
        let read = |line: &[u8]| read_line(shared, feed, line);
        match answer.line(LARGEST, until, read).await? {
            None => return Ok(()),
            Some(seen) => {
                if let Some(seen) = seen? {
                    *version = seen;
                    *heard = true;
                }
            }
        }
    }
}

/// What a line says, taken in; how far we are by it.
fn read_line(shared: &Shared, feed: usize, line: &[u8]) -> Result<Option<String>, Trouble> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    match change(line)? {
        Change::Put(raw, version) => {
            shared.with(|l| l.put(feed, &raw, true));
            Ok(Some(version))
        }
        Change::Gone(raw, version) => {
            shared.with(|l| l.remove(feed, &raw));
            Ok(Some(version))
        }
        Change::Bookmark(version) => Ok(Some(version)),
        Change::Failed { code: 410, .. } => Err(Trouble::Gone),
        Change::Failed { code, message } => Err(Trouble::Status { status: code, detail: format!(": {message}") }),
    }
}

#[cfg(test)]
mod tests;
