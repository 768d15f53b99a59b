//! What somebody probably meant who wrote a name that does not exist.

/// The candidate that differs from `text` in at most a third of its letters.
pub fn nearest<'a, T: AsRef<str> + 'a>(text: &str, candidates: impl IntoIterator<Item = &'a T>) -> Option<String> {
    let allowed = (text.chars().count() / 3).max(1);
    let near = candidates.into_iter().map(|c| (distance(text, c.as_ref()), c.as_ref())).min()?;
    (near.0 <= allowed).then(|| near.1.to_owned())
}

/// Levenshtein distance in characters: two rows, lengths bounded by what a key can be.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(80).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(80).enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (cb, pair) in b.iter().zip(row.windows(2)) {
            let [diagonal, above] = pair else { continue };
            let left = next.last().copied().unwrap_or(usize::MAX - 1);
            next.push((diagonal + usize::from(ca != *cb)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

/// `; did you mean X?`, or nothing.
pub fn question<'a, T: AsRef<str> + 'a>(text: &str, candidates: impl IntoIterator<Item = &'a T>) -> String {
    nearest(text, candidates).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, d) in
            [("", "", 0), ("abc", "abc", 0), ("kitten", "sitting", 3), ("", "abc", 3), ("renw", "renew", 1)]
        {
            assert_eq!(distance(a, b), d, "{a} {b}");
            assert_eq!(distance(b, a), d, "{b} {a}");
        }
    }

    #[test]
    fn nothing_is_suggested_for_what_is_like_nothing() {
        assert_eq!(nearest("frobnicate", &["interval"]), None);
    }

    #[test]
    fn a_slip_of_the_pen_is_answered_with_the_name_that_was_meant() {
        let names = ["apiserver", "apiserver-etcd-client", "admin.conf", "ca"];
        for (written, meant) in
            [("apiservr", "apiserver"), ("apiserver-etcd-clinet", "apiserver-etcd-client"), ("admin", "")]
        {
            let want = if meant.is_empty() { String::new() } else { format!("; did you mean {meant}?") };
            assert_eq!(question(written, &names), want);
        }
    }
}
