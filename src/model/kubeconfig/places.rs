//! Where a scalar's value stands in a YAML text, in whatever form it is written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// More copies of one credential in a file than this are not looked at.
const MOST: usize = 8;

/// The text with the value exchanged for `new`, once for each place where it stands: on one line, on several of a block or a
/// quoted scalar, or encoded once more (`!!binary`).
pub(super) fn exchanged(text: &str, value: &str, new: &str) -> Vec<Zeroizing<String>> {
    let plain = found(text, value.trim_matches(['\n', '\r']), new);
    if !plain.is_empty() {
        return plain;
    }
    found(text, &STANDARD.encode(value), &STANDARD.encode(new))
}

fn found(text: &str, value: &str, new: &str) -> Vec<Zeroizing<String>> {
    let Some(first) = value.lines().next().filter(|l| !l.is_empty()) else { return Vec::new() };
    // a quoted scalar may break its first line anywhere
    let head = first.get(..first.len().min(4)).unwrap_or(first);
    let starts = text.match_indices(head).map(|(at, _)| at);
    let places = starts.filter_map(|at| Some((at, at + length(text.get(at..)?, value)?)));
    places
        .take(MOST)
        .filter_map(|(from, to)| {
            let (before, after) = (text.get(..from)?, text.get(to..)?);
            let mut out = Zeroizing::new(String::with_capacity(before.len() + new.len() + after.len()));
            out.push_str(before);
            out.push_str(new);
            out.push_str(after);
            Some(out)
        })
        .collect()
}

/// How much of the beginning of `text` says `value`, where line ends may be added or written in another way.
fn length(text: &str, value: &str) -> Option<usize> {
    let mut rest = text;
    let mut value = value.chars().filter(|c| *c != '\n' && *c != '\r').peekable();
    while let Some(wanted) = value.peek() {
        if let Some(after) = rest.strip_prefix(*wanted) {
            rest = after;
            value.next();
            continue;
        }
        // an escaped line end, a line end of a block, `\n` in double quotes
        let after = rest.strip_prefix('\\').unwrap_or(rest);
        rest = if let Some(line) = after.strip_prefix("\r\n").or_else(|| after.strip_prefix('\n')) {
            line.trim_start_matches([' ', '\t'])
        } else {
            rest.strip_prefix("\\n").or_else(|| rest.strip_prefix("\\r"))?
        };
    }
    Some(text.len() - rest.len())
}
