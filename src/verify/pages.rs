//! Lists of the API that are longer than one answer.

use serde::Deserialize;
use serde_json::Value;

use crate::host::Host;
use crate::host::kube::{Connection, malformed};
use crate::model::cause::chain;

/// Items in one answer, at first: an answer is cut at 1 MiB, and a request with its certificate has some 5 KiB.
const AT_ONCE: usize = 128;
/// A cluster of 5000 nodes (kubernetes.io: "Considerations for large clusters") at 16 to an answer.
const MOST: usize = 320;

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

/// Every item of the list at `path`, page by page. `filter`: the rest of the query (`fieldSelector=…`), or nothing.
///
/// # Errors
/// A clause. Half a list is none: what is not in it would be taken for not being there.
pub fn items(host: &Host, to: &Connection, path: &str, filter: &str) -> Result<Vec<Value>, String> {
    let (mut all, mut next, mut at_once) = (Vec::new(), String::new(), AT_ONCE);
    for _ in 0..MOST {
        let from = if next.is_empty() { String::new() } else { format!("&continue={next}") };
        let asked = format!("{path}?limit={at_once}{from}{filter}");
        let answer = host.kube.get(to, &asked).map_err(|e| chain(&e))?;
        if answer.status != 200 {
            return Err(format!("{} answered {path} with {}", to.server, answer.status));
        }
        match serde_json::from_str::<Page>(&answer.body) {
            Ok(page) => {
                all.extend(page.items);
                next = page.metadata.next;
                if next.is_empty() {
                    return Ok(all);
                }
                if !next.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.=~".contains(&b)) {
                    return Err(format!("{} answered {path} with an odd token for what follows", to.server));
                }
            }
            // cut off: fewer at once
            Err(e) if e.is_eof() && at_once > 1 => at_once /= 2,
            Err(e) => {
                return Err(chain(&malformed(to.server.clone(), path.to_owned(), &e)));
            }
        }
    }
    Err(format!("the list {path} of {} does not end", to.server))
}
