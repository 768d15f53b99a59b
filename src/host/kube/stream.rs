//! Answers that are taken piece by piece: pages of a list, and the lines of a watch, which never ends by itself. What one piece may
//! hold is bounded, and buffers are zeroed, since there are other people's keys in them.

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::https::{classify, client, connector, request};
use super::{Connection, KubeError};
use crate::model::cause::chain;

/// What a buffer begins with; most lines and pages fit.
const FIRST: usize = 64 << 10;

/// An answer that has begun.
pub struct Stream {
    server: String,
    path: String,
    body: Incoming,
    /// What has come of the next piece.
    buffer: Zeroizing<Vec<u8>>,
    /// Of that, how much has no end of a line.
    searched: usize,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("path", &self.path).finish_non_exhaustive()
    }
}

/// GET; the status, and what follows. `to.limit` is for connect, handshake and head.
///
/// # Errors
/// [`KubeError`]; an HTTP error status is none, except 401.
pub async fn open(to: &Connection, path: &str) -> Result<(u16, Stream), KubeError> {
    let setup = |detail: String| KubeError::Setup { server: to.server.clone(), detail };
    let request = request(to, Method::GET, path, "", String::new())?;
    let connector = connector(to).map_err(|e| setup(chain(&e)))?;
    let answer = tokio::time::timeout(to.limit, client(connector, Some(FIRST)).request(request)).await;
    let unreachable = |detail: String| KubeError::Unreachable { server: to.server.clone(), detail };
    let response = match answer {
        Err(_) => return Err(unreachable(format!("no answer within {}s", to.limit.as_secs()))),
        Ok(Err(e)) => return Err(classify(to, &e)),
        Ok(Ok(response)) => response,
    };
    let status = response.status().as_u16();
    if status == 401 {
        return Err(KubeError::Unauthorized { server: to.server.clone() });
    }
    let (server, path) = (to.server.clone(), path.to_owned());
    let buffer = Zeroizing::new(Vec::new());
    Ok((status, Stream { server, path, body: response.into_body(), buffer, searched: 0 }))
}

impl Stream {
    /// All of it; None if it is more than `most` bytes.
    ///
    /// # Errors
    /// [`KubeError::Unreachable`] if it does not end within `limit`, or ends before its time.
    pub async fn whole(mut self, most: usize, limit: Duration) -> Result<Option<Zeroizing<Vec<u8>>>, KubeError> {
        let until = Instant::now() + limit;
        while self.more(until).await? {
            if self.buffer.len() > most {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer))
    }

    /// The next line, without its end, through `read`; None: the answer has ended, or has begun a line that it did not end.
    ///
    /// # Errors
    /// [`KubeError::Unreachable`] if none comes until `until`, [`KubeError::Malformed`] if it is longer than `most` bytes.
    pub async fn line<T>(
        &mut self,
        most: usize,
        until: Instant,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, KubeError> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|b| *b == b'\n') {
                let end = self.searched + at;
                let result = read(self.buffer.get(..end).unwrap_or_default());
                self.forget(end + 1);
                return Ok(Some(result));
            }
            self.searched = self.buffer.len();
            if self.searched > most {
                let (server, path) = (self.server.clone(), self.path.clone());
                return Err(KubeError::Malformed { server, path, detail: format!("a line of more than {most} bytes") });
            }
            if !self.more(until).await? {
                return Ok(None);
            }
        }
    }

    /// Takes `count` bytes away; a buffer that was needed once is not kept.
    fn forget(&mut self, count: usize) {
        let rest = self.buffer.get(count..).unwrap_or_default();
        let mut left = Zeroizing::new(Vec::with_capacity(rest.len()));
        left.extend_from_slice(rest);
        self.buffer = left;
        self.searched = 0;
    }

    /// Whether something has come.
    async fn more(&mut self, until: Instant) -> Result<bool, KubeError> {
        let unreachable = |detail: String| KubeError::Unreachable { server: self.server.clone(), detail };
        match timeout_at(until, self.body.frame()).await {
            Err(_) => Err(unreachable("the answer does not go on".into())),
            Ok(None) => Ok(false),
            Ok(Some(Err(e))) => Err(unreachable(format!("the answer broke off: {}", chain(&e)))),
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    append(&mut self.buffer, data);
                }
                Ok(true)
            }
        }
    }
}

/// A vector that grows by itself leaves copies of what is in it behind.
fn append(buffer: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let wanted = buffer.len() + data.len();
    if wanted > buffer.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(wanted.max(buffer.capacity() * 2).max(FIRST)));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(data);
}
