//! Lists of the API that are longer than one answer.

use serde::Deserialize;
use serde_json::Value;

use crate::host::Host;
use crate::host::kube::{Connection, malformed};
use crate::model::cause::chain;

/// Items in one answer, at first and at most: an answer is cut at 1 MiB, and a request with its certificate has some 5 KiB.
const AT_ONCE: usize = 128;
/// Answers to one list. Whoever may create objects can make each too large to be read, and hide no other by that: it costs
/// up to three answers. A cluster of 5000 nodes (kubernetes.io: "Considerations for large clusters") needs some hundred.
const MOST: usize = 8192;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("{server} answered {path} with {status}")]
    Answered { server: String, path: String, status: u16 },
    #[error("{0}")]
    Unusable(String),
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: Metadata,
    items: Vec<Value>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default, rename = "continue")]
    next: String,
}

/// What of a list without its items.
#[derive(Deserialize)]
struct Head {
    metadata: Metadata,
}

/// Every item of the list at `path`, page by page. `filter`: the rest of the query (`fieldSelector=…`), or nothing. An object
/// that is larger than an answer may be is left out.
///
/// # Errors
/// A clause. Half a list is none: what is not in it would be taken for not being there.
pub fn items(host: &Host, to: &Connection, path: &str, filter: &str) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    each(host, to, path, filter, &mut |item| all.push(item)).map_err(|e| e.to_string())?;
    Ok(all)
}

/// The same one by one, so that no more than a page is held. How many objects were left out, because they are larger than an
/// answer may be.
///
/// # Errors
/// As [`items`].
pub fn each(
    host: &Host,
    to: &Connection,
    path: &str,
    filter: &str,
    take: &mut dyn FnMut(Value),
) -> Result<usize, Failed> {
    let (mut next, mut at_once, mut left_out) = (String::new(), AT_ONCE, 0);
    for _ in 0..MOST {
        let from = if next.is_empty() { String::new() } else { format!("&continue={next}") };
        let asked = format!("{path}?limit={at_once}{from}{filter}");
        let answer = host.kube.get(to, &asked).map_err(|e| Failed::Unusable(chain(&e)))?;
        if answer.status != 200 {
            return Err(Failed::Answered { server: to.server.clone(), path: path.to_owned(), status: answer.status });
        }
        let head = match serde_json::from_str::<Page>(&answer.body) {
            Ok(page) => {
                page.items.into_iter().for_each(&mut *take);
                at_once = (at_once * 2).min(AT_ONCE);
                page.metadata
            }
            // cut off: fewer at once
            Err(e) if e.is_eof() && at_once > 1 => {
                at_once /= 2;
                continue;
            }
            // one alone is too large: the next begins where the part that came says
            Err(e) => {
                let head = head(&answer.body)
                    .filter(|_| e.is_eof())
                    .ok_or_else(|| Failed::Unusable(chain(&malformed(to.server.clone(), path.to_owned(), &e))))?;
                left_out += 1;
                head
            }
        };
        next = head.next;
        if next.is_empty() {
            return Ok(left_out);
        }
        if !next.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.=~".contains(&b)) {
            let why = format!("{} answered {path} with an odd token for what follows", to.server);
            return Err(Failed::Unusable(why));
        }
    }
    Err(Failed::Unusable(format!("the list {path} of {} does not end", to.server)))
}

/// What stands before the items of a list that was cut off in them: the API server writes a list's own metadata first
/// (kubernetes: `staging/src/k8s.io/api/core/v1/types.go:NodeList`). Inside a string these quotes could not stand unescaped.
fn head(cut: &str) -> Option<Metadata> {
    let (before, _) = cut.split_once("\"items\":")?;
    let closed = format!("{}}}", before.trim_end().strip_suffix(',')?);
    serde_json::from_str(&closed).ok().map(|head: Head| head.metadata)
}

#[cfg(test)]
mod tests {
    use super::head;

    #[test]
    fn what_a_list_says_of_itself_is_read_although_its_item_was_cut_off() {
        let cut = |before: &str| head(&format!(r#"{before}"items":[{{"metadata":{{"name":"x"#)).map(|m| m.next);
        assert_eq!(cut(r#"{"kind":"NodeList","metadata":{"resourceVersion":"1","continue":"abc"},"#).unwrap(), "abc");
        assert_eq!(cut(r#"{"metadata":{"resourceVersion":"1"},"#).unwrap(), "", "it was the last one");
        // not the token of something inside the object, nor one that is guessed
        assert_eq!(cut("{"), None);
        assert_eq!(head(r#"{"metadata":{"continue":"abc"#).map(|m| m.next), None);
        assert_eq!(cut(r#"{"kind":"\"items\":[","metadata":{"continue":"c"},"#).unwrap(), "c");
    }
}
