//! What somebody probably meant who wrote a name that does not exist.

use strsim::levenshtein;

/// The candidate that differs from `text` in at most a third of its letters.
pub fn nearest<'a, T: AsRef<str> + 'a>(text: &str, candidates: impl IntoIterator<Item = &'a T>) -> Option<String> {
    let letters = text.chars().count();
    let allowed = (letters / 3).max(1);
    // one whose length differs by more cannot be near: a text of any length costs nothing
    let like = |name: &&str| name.chars().count().abs_diff(letters) <= allowed;
    let near =
        candidates.into_iter().map(AsRef::as_ref).filter(like).map(|name| (levenshtein(text, name), name)).min()?;
    (near.0 <= allowed).then(|| near.1.to_owned())
}

/// `; did you mean X?`, or nothing.
pub fn question<'a, T: AsRef<str> + 'a>(text: &str, candidates: impl IntoIterator<Item = &'a T>) -> String {
    nearest(text, candidates).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_suggested_for_what_is_like_nothing() {
        assert_eq!(nearest("frobnicate", &["interval"]), None);
        assert_eq!(nearest(&"interval".repeat(100_000), &["interval"]), None, "at once, however long it is");
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
